import { isRecord } from "../../src/base/guards.ts";

// The rules by which kstatus (sigs.k8s.io/cli-utils, used by Flux and kpt) computes the status of an object that is none
// of Kubernetes' own kinds, in its order: deletion, generation, Reconciling and Stalled, Ready, and Current otherwise.

export type KubeObject = {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly spec: unknown;
  readonly status?: unknown;
};

export type Kstatus = "Current" | "InProgress" | "Failed" | "Terminating";

export function kstatusOf({ metadata, status }: KubeObject): Kstatus {
  const { deletionTimestamp, generation } = metadata;
  if (typeof deletionTimestamp === "string" && deletionTimestamp !== "") return "Terminating";
  const observed = isRecord(status) ? status["observedGeneration"] : undefined;
  // An object that does not say what was observed counts as observed.
  if (generation !== undefined && observed !== undefined && observed !== generation) return "InProgress";
  const conditions = isRecord(status) && Array.isArray(status["conditions"]) ? status["conditions"] : [];
  for (const { type, status: is } of conditions) {
    if (type === "Reconciling" && is === "True") return "InProgress";
    if (type === "Stalled" && is === "True") return "Failed";
  }
  const ready = conditions.find(({ type }) => type === "Ready");
  // Whether Ready False is still making progress cannot be known, so it counts as if it were.
  return ready === undefined || ready.status === "True" ? "Current" : "InProgress";
}
