import { seconds } from "../base/time.ts";
import { exponential } from "../runtime/backoff.ts";
import type { RuntimeDeps } from "../runtime/deps.ts";
import { createLatch } from "../runtime/latch.ts";
import type { HubHealthMonitor } from "./health.ts";
import type { DeviceHub } from "./hub.ts";

export type ProbeDeps = Pick<RuntimeDeps, "clock" | "random"> & {
  readonly hub: Pick<DeviceHub, "getTwin">;
  readonly monitor: Pick<HubHealthMonitor, "shouldProbe" | "onShouldProbe">;
  /** A device whose twin can be read; that there is no such twin is an answer as well. */
  readonly anyDevice: () => string;
};

/**
 * Reads one twin as soon as calls fail, and again until they do not, so that an outage and its end are known in seconds
 * and not at the next sweep. Until `signal` aborts.
 */
export async function runProbe(deps: ProbeDeps, signal: AbortSignal): Promise<void> {
  const { clock, random, hub, monitor, anyDevice } = deps;
  const backoff = exponential(seconds(1), seconds(15), random);
  let wanted = createLatch();
  monitor.onShouldProbe(() => wanted.open());
  let attempts = 0;
  while (!signal.aborted) {
    if (!monitor.shouldProbe()) {
      attempts = 0;
      wanted = createLatch();
      await wanted.opened(signal);
      continue;
    }
    attempts += 1;
    await clock.sleep(backoff(attempts), signal);
    if (!signal.aborted && monitor.shouldProbe())
      await hub.getTwin({ device: anyDevice(), module: null }, "normal", signal);
  }
}
