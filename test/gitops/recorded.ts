import { GROUP, type Resource, VERSION } from "../../src/api/resource.ts";
import { timestampOf } from "../../src/base/time.ts";
import type { Kstatus, KubeObject } from "./kstatus.ts";
import { recordedDeployments } from "./recorded-deployments.ts";
import { recordedDevices } from "./recorded-devices.ts";
import { recordedReleases } from "./recorded-releases.ts";

// Objects of every kind in every phase and with every reason of Ready, with the status that the product's own report
// functions give them.

/** What Argo CD shows. */
export type Health = "Healthy" | "Progressing" | "Degraded" | "Suspended";

export type Recorded = {
  /** What is the matter, in words that are a file name as well. */
  readonly name: string;
  readonly kind: "EdgeDevice" | "ModelRelease" | "InferenceDeployment";
  readonly object: KubeObject;
  /** The reason of Ready; `null`: there is no such condition yet. */
  readonly reason: string | null;
  readonly kstatus: Kstatus;
  readonly health: Health;
};

export async function recordedObjects(): Promise<readonly Recorded[]> {
  const cases = [...recordedDevices(), ...(await recordedReleases()), ...recordedDeployments()];
  return cases.map(({ name, kind, resource, expected }) => ({
    name,
    kind,
    object: objectOf(kind, resource),
    reason: expected[0],
    kstatus: expected[1],
    health: expected[2],
  }));
}

/** As the API server gives it: with the status that it fills in where there is none. */
function objectOf(kind: Recorded["kind"], resource: Resource<unknown, unknown>): KubeObject {
  const { name, namespace, uid, generation, createdAt, deleting, finalizers, labels, annotations } = resource;
  const map = (of: Readonly<Record<string, string>>, key: string) =>
    Object.keys(of).length === 0 ? {} : { [key]: of };
  return {
    apiVersion: `${GROUP}/${VERSION}`,
    kind,
    metadata: {
      name,
      namespace,
      uid,
      generation,
      creationTimestamp: timestampOf(createdAt),
      ...(deleting ? { deletionTimestamp: "2026-01-10T00:00:00Z" } : {}),
      ...(finalizers.length === 0 ? {} : { finalizers }),
      ...map(labels, "labels"),
      ...map(annotations, "annotations"),
    },
    spec: resource.spec,
    status: resource.status ?? { observedGeneration: -1 },
  };
}
