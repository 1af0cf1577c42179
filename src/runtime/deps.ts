import type { Clock } from "../base/time.ts";
import type { Log, Meter } from "../telemetry/telemetry.ts";

/** The dependencies of everything that runs in the background. */
export type RuntimeDeps = {
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
  /** 0 ≤ x < 1; for jitter. */
  readonly random: () => number;
};
