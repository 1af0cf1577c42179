import { createHash } from "node:crypto";
import type { JsonObject, JsonValue } from "../../base/json.ts";
import type { ModuleSpec } from "./manifest.ts";

export type RuntimeStatus = "unknown" | "backoff" | "running" | "unhealthy" | "stopped" | "failed" | "dead";

/** A module on an edge device as its agent knows it. Times are milliseconds, `null` for what never happened. */
export type Container = {
  readonly name: string;
  spec: ModuleSpec;
  status: RuntimeStatus;
  exitCode: number;
  description: string;
  startedAt: number | null;
  exitedAt: number | null;
  restartedAt: number | null;
  /** Since it last ran well for long enough. */
  restarts: number;
  /** Number of the run: what was planned for an older one is dropped. */
  run: number;
};

export function newContainer(name: string, spec: ModuleSpec): Container {
  return {
    name,
    spec,
    status: "stopped",
    exitCode: 0,
    description: "",
    startedAt: null,
    exitedAt: null,
    restartedAt: null,
    restarts: 0,
    run: 0,
  };
}

const FIRST_DELAY = 10_000;
const LONGEST_DELAY = 300_000;
const MOST_RESTARTS = 20;
/** How long a module has to run until its restarts are forgotten. */
export const INTENSIVE_CARE = 600_000;

/** Milliseconds until the next start, after so many restarts. */
export function restartDelay(restarts: number): number {
  return Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** restarts);
}

/** What becomes of a module whose program has ended. */
export function statusAfterExit(
  { restartPolicy }: ModuleSpec,
  exitCode: number,
  restarts: number,
): "backoff" | "failed" | "stopped" {
  const again =
    restartPolicy === "always" ||
    restartPolicy === "on-unhealthy" ||
    (restartPolicy === "on-failure" && exitCode !== 0);
  if (again) return restarts >= MOST_RESTARTS ? "failed" : "backoff";
  return exitCode === 0 ? "stopped" : "failed";
}

/** A module in the agent's report. */
export function containerDocument(container: Container, offset: number): JsonObject {
  const { spec } = container;
  return {
    ...specDocument(spec),
    settings: { ...spec.settings, image: spec.image, imageHash: imageHash(spec.image) },
    runtimeStatus: container.status,
    exitCode: container.exitCode,
    statusDescription: container.description,
    restartCount: container.restarts,
    ...timesOf(
      {
        lastStartTimeUtc: container.startedAt,
        lastExitTimeUtc: container.exitedAt,
        lastRestartTimeUtc: container.restartedAt,
      },
      offset,
    ),
  };
}

/** A module that is wanted and has no container yet. */
export function missingDocument(spec: ModuleSpec): JsonObject {
  return { ...specDocument(spec), settings: spec.settings, runtimeStatus: "unknown", restartCount: 0 };
}

function specDocument({ status, restartPolicy, imagePullPolicy, startupOrder, version, env }: ModuleSpec) {
  return {
    type: "docker",
    status,
    restartPolicy,
    imagePullPolicy,
    startupOrder,
    ...(version !== null && { version }),
    env,
  };
}

/** `offset` is by how much the device's clock is ahead. */
export function timesOf(
  times: Readonly<Record<string, number | null>>,
  offset: number,
): Record<string, JsonValue> {
  return Object.fromEntries(
    Object.entries(times).flatMap(([name, at]) =>
      at === null ? [] : [[name, new Date(at + offset).toISOString()]],
    ),
  );
}

export function imageHash(image: string): string {
  return `sha256:${createHash("sha256").update(image).digest("hex")}`;
}
