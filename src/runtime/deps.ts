import type { Clock } from "../base/time.ts";
import type { Log, Meter } from "../telemetry/telemetry.ts";

/** What everything that runs by itself is handed. */
export type RuntimeDeps = {
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
  /** 0 ≤ x < 1; for jitter. */
  readonly random: () => number;
};
