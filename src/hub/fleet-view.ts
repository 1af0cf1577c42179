import type { Attempt, Fault } from "../base/fault.ts";
import { err, ok } from "../base/result.ts";
import { type Clock, type Millis, millis, seconds } from "../base/time.ts";
import type { RuntimeDeps } from "../runtime/deps.ts";
import { eachLimited } from "../runtime/each-limited.ts";
import { createLatch } from "../runtime/latch.ts";
import { linkedSignal } from "../runtime/linked-signal.ts";
import { createFleetMap, type FleetMap } from "./fleet-map.ts";
import { createHubHealth, watchHealth } from "./health.ts";
import type { DeviceHub, FleetView, HubHealth, Lane, TwinRef } from "./hub.ts";
import { runProbe } from "./probe.ts";
import { runSweeps } from "./sweep.ts";

// An informer for the hub.
//
//   sweep    reads the whole fleet, page by page, again and again (sweep.ts).
//   refresh  the fast lane: reads the twins of a few devices now.
//   note     takes what another caller's request has just returned.
//   probe    reads one twin as soon as calls fail (probe.ts).

export type FleetViewOptions = RuntimeDeps & {
  readonly hub: DeviceHub;
  /** Pause between the end of a sweep and the start of the next. */
  readonly interval?: Millis;
};

export type RunningFleetView = {
  readonly view: FleetView;
  /** The same hub; calls through it are part of what `view.health()` judges by, so all callers should use this one. */
  readonly hub: DeviceHub;
  /** Sweeps until `signal` aborts. */
  readonly run: (signal: AbortSignal) => Promise<void>;
  /**
   * Resolves after the first whole sweep, or when it is known that the hub cannot be reached: an operator that starts
   * during an outage must still say so. Until a whole sweep has ended, health says that the hub is not reachable.
   */
  readonly synced: (signal: AbortSignal) => Promise<void>;
};

type Listener = (device: string, deployments: readonly string[]) => void;

const READERS = 8;
/** The twin that is read where no device is known. */
const PROBED_DEVICE = "edgefleet-probe";

export function createFleetView(options: FleetViewOptions): RunningFleetView {
  const { clock, log, meter, random, interval = seconds(60) } = options;
  const monitor = createHubHealth({ clock, log, meter });
  const hub = watchHealth(options.hub, monitor);
  const started = clock.now();
  const listeners: Listener[] = [];
  const healthListeners: (() => void)[] = [];
  const firstSweep = createLatch();
  const ready = createLatch();
  const pending = new Map<string, readonly string[]>();
  let sweepTime: Millis = interval;

  // The devices of the first sweep are announced together, when it is whole: half of a fleet must not be judged.
  const map = createFleetMap((device, deployments) => {
    if (firstSweep.isOpen()) for (const listener of listeners) listener(device, deployments);
    else pending.set(device, [...new Set([...(pending.get(device) ?? []), ...deployments])]);
  });
  monitor.onChange(() => {
    if (!monitor.state().reachable) ready.open();
    if (firstSweep.isOpen() || !monitor.state().reachable) for (const listener of healthListeners) listener();
  });

  function endFirstSweep(): void {
    if (firstSweep.isOpen()) return;
    firstSweep.open();
    for (const [device, deployments] of pending)
      for (const listener of listeners) listener(device, deployments);
    pending.clear();
    ready.open();
    for (const listener of healthListeners) listener();
  }

  function health(): HubHealth {
    const state = monitor.state();
    if (firstSweep.isOpen() || !state.reachable) return state;
    const message = "the fleet has not been read from the hub yet";
    return { reachable: false, canReadTwins: false, since: started, twinsSince: started, message };
  }

  const view: FleetView = {
    get: map.get,
    list: map.list,
    namedBy: map.namedBy,
    health,
    sweepTime: () => sweepTime,
    isSwept: firstSweep.isOpen,
    onChange: (listener) => {
      listeners.push(listener);
    },
    onHealth: (listener) => {
      healthListeners.push(listener);
    },
    note: (twin) => map.note(twin, clock.now()),
    forget: map.forget,
    refresh: (refs, lane, signal) => refreshTwins({ hub, map, clock }, refs, lane, signal),
  };
  const swept = (took: Millis) => {
    sweepTime = millis(interval + took);
    endFirstSweep();
  };
  return {
    view,
    hub,
    run: async (signal) => {
      await Promise.all([
        runSweeps({ hub, map, interval, clock, log, meter, random }, swept, signal),
        runProbe({ hub, monitor, anyDevice: () => anyDeviceOf(map), clock, random }, signal),
      ]);
    },
    synced: ready.opened,
  };
}

/** Reads these twins now; stops at the first fault. */
async function refreshTwins(
  deps: { readonly hub: DeviceHub; readonly map: FleetMap; readonly clock: Clock },
  refs: readonly TwinRef[],
  lane: Lane,
  signal: AbortSignal,
): Attempt<void> {
  const { hub, map, clock } = deps;
  using reading = linkedSignal(signal);
  let fault: Fault | null = null;
  const read = async (ref: TwinRef) => {
    const twin = await hub.getTwin(ref, lane, signal);
    if (!twin.ok) {
      fault ??= twin.error;
      reading.abort();
    } else if (twin.value !== null) map.note(twin.value, clock.now());
    else if (ref.module === null) map.forget(ref.device);
    else map.forgetSlot(ref.device, ref.module);
  };
  const done = await eachLimited(refs, READERS, read, reading.signal);
  if (fault !== null) return err(fault);
  if (done.length < refs.length) return err({ kind: "unavailable", message: "refresh: stopped" });
  return ok(undefined);
}

function anyDeviceOf(map: FleetMap): string {
  for (const { device } of map.list()) return device;
  return PROBED_DEVICE;
}
