import type { Attempt, Fault } from "../base/fault.ts";
import { err, ok } from "../base/result.ts";
import { type Clock, elapsed, type Millis, millis, seconds } from "../base/time.ts";
import { exponential } from "../runtime/backoff.ts";
import { jittered } from "../runtime/clock.ts";
import { eachLimited } from "../runtime/each-limited.ts";
import { linkedSignal } from "../runtime/linked-signal.ts";
import type { Log, Meter } from "../telemetry/telemetry.ts";
import { createFleetMap } from "./fleet-map.ts";
import { createHubHealth, watchHealth } from "./health.ts";
import type { DeviceHub, FleetView, Lane, TwinRef } from "./hub.ts";
import { isBudgetFault } from "./throttle.ts";

// An informer for the hub.
//
//   sweep    all pages of the devices, then all pages of the modules; a pause; again. A fault does not lose the place.
//   refresh  the fast lane: reads the twins of a few devices now.
//   note     what a call of somebody else has just returned.
//   probe    one twin, as soon as calls fail: so that an outage is known in seconds and not at the next sweep.

export type FleetViewOptions = {
  readonly hub: DeviceHub;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
  /** 0 ≤ x < 1; for jitter. */
  readonly random: () => number;
  /** Pause between the end of a sweep and the start of the next. */
  readonly interval?: Millis;
};

export type RunningFleetView = {
  readonly view: FleetView;
  /** The same hub; calls through it are part of what `view.health()` judges by. Everybody should use this one. */
  readonly hub: DeviceHub;
  /** Sweeps until `signal` aborts. */
  readonly run: (signal: AbortSignal) => Promise<void>;
  /**
   * Resolves after the first whole sweep, or when it is known that the hub cannot be reached: an operator that starts
   * during an outage must still say so. Until a whole sweep has ended, health says that the hub is not reachable.
   */
  readonly synced: (signal: AbortSignal) => Promise<void>;
};

const READERS = 8;
const NOBODY = "edgefleet-probe";

export function createFleetView(options: FleetViewOptions): RunningFleetView {
  const { clock, log, meter, random, interval = seconds(60) } = options;
  const monitor = createHubHealth({ clock, log, meter });
  const hub = watchHealth(options.hub, monitor);
  const started = clock.now();
  const listeners: ((device: string, deployments: readonly string[]) => void)[] = [];
  const healthListeners: (() => void)[] = [];
  const firstSweep = createLatch();
  const ready = createLatch();
  const held = new Map<string, readonly string[]>();

  // Until the first sweep is whole its devices are told of together: nobody should judge a half of the fleet.
  const map = createFleetMap((device, deployments) => {
    if (firstSweep.isOpen()) for (const listener of listeners) listener(device, deployments);
    else held.set(device, [...new Set([...(held.get(device) ?? []), ...deployments])]);
  });
  monitor.onChange(() => {
    if (!monitor.state().reachable) ready.open();
    if (firstSweep.isOpen() || !monitor.state().reachable) for (const listener of healthListeners) listener();
  });

  function endFirstSweep(): void {
    if (firstSweep.isOpen()) return;
    firstSweep.open();
    for (const [device, deployments] of held) for (const listener of listeners) listener(device, deployments);
    held.clear();
    ready.open();
    for (const listener of healthListeners) listener();
  }

  async function refresh(refs: readonly TwinRef[], lane: Lane, signal: AbortSignal): Attempt<void> {
    using going = linkedSignal(signal);
    let fault: Fault | null = null;
    const read = async (ref: TwinRef) => {
      const twin = await hub.getTwin(ref, lane, signal);
      if (!twin.ok) {
        fault ??= twin.error;
        going.abort();
      } else if (twin.value !== null) map.note(twin.value, clock.now());
      else if (ref.module === null) map.forget(ref.device);
      else map.forgetSlot(ref.device, ref.module);
    };
    const done = await eachLimited(refs, READERS, read, going.signal);
    if (fault !== null) return err(fault);
    if (done.length < refs.length) return err({ kind: "unavailable", message: "refresh: stopped" });
    return ok(undefined);
  }

  let sweepTime: Millis = interval;

  async function sweepForever(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const began = clock.now();
      const whole = await sweepOnce(signal);
      if (!whole) return;
      sweepTime = millis(interval + elapsed(began, clock.now()));
      meter.count("edgefleet_fleet_sweeps_total", { result: "ok" });
      meter.observe("edgefleet_fleet_sweep_duration_seconds", elapsed(began, clock.now()) / 1000);
      log.debug("swept the fleet", { devices: map.size(), milliseconds: elapsed(began, clock.now()) });
      endFirstSweep();
      await clock.sleep(jittered(interval, random), signal);
    }
  }

  /** `false`: stopped before the end. */
  async function sweepOnce(signal: AbortSignal): Promise<boolean> {
    const backoff = exponential(seconds(1), seconds(60), random);
    let failures = 0;
    let place: Place = START;
    map.beginSweep();
    while (!signal.aborted) {
      const asked: Place = place;
      const next = await readPage(asked, signal);
      if (signal.aborted) return false;
      if (next.ok) {
        failures = 0;
        if (next.value === null) {
          map.endSweep(clock.now());
          return true;
        }
        place = next.value;
        continue;
      }
      const fault = next.error;
      failures += 1;
      if (!isBudgetFault(fault)) {
        meter.count("edgefleet_fleet_sweeps_total", { result: fault.kind });
        log.warn("the sweep of the fleet was interrupted", {
          kind: fault.kind,
          fault: fault.message,
          of: asked.of,
        });
      }
      if (fault.kind === "rejected" && asked.from !== null) {
        // The hub does not take its continuation any more.
        place = START;
        map.beginSweep();
      }
      await clock.sleep(pauseAfter(fault, backoff(failures)), signal);
    }
    return false;
  }

  /** The place of the next page; `null` after the last. */
  async function readPage(place: Place, signal: AbortSignal): Attempt<Place | null> {
    if (place.of === "devices") {
      const page = await hub.queryDevices(place.from, signal);
      if (!page.ok) return page;
      for (const row of page.value.rows) map.applyDevice(row, clock.now());
      return ok(
        page.value.next === null ? { of: "modules", from: null } : { of: "devices", from: page.value.next },
      );
    }
    const page = await hub.queryModules(place.from, signal);
    if (!page.ok) return page;
    for (const row of page.value.rows) map.applyModule(row, clock.now());
    return ok(page.value.next === null ? null : { of: "modules", from: page.value.next });
  }

  async function probeForever(signal: AbortSignal): Promise<void> {
    const backoff = exponential(seconds(1), seconds(15), random);
    let attempts = 0;
    while (!signal.aborted) {
      if (!monitor.shouldProbe()) {
        attempts = 0;
        await nextSuspicion(signal);
        continue;
      }
      attempts += 1;
      await clock.sleep(backoff(attempts), signal);
      if (!signal.aborted && monitor.shouldProbe())
        await hub.getTwin({ device: anyDevice(), module: null }, "normal", signal);
    }
  }

  const waiting = new Set<() => void>();
  monitor.onShouldProbe(() => {
    for (const wake of waiting) wake();
  });
  function nextSuspicion(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        waiting.delete(wake);
        signal.removeEventListener("abort", wake);
        resolve();
      };
      waiting.add(wake);
      signal.addEventListener("abort", wake);
      if (signal.aborted) wake();
    });
  }

  /** Any twin will do: that there is no such twin is an answer as well. */
  function anyDevice(): string {
    for (const { device } of map.list()) return device;
    return NOBODY;
  }

  const view: FleetView = {
    get: map.get,
    list: map.list,
    namedBy: map.namedBy,
    health: () => {
      const state = monitor.state();
      if (firstSweep.isOpen() || !state.reachable) return state;
      return {
        reachable: false,
        canReadTwins: false,
        since: started,
        twinsSince: started,
        message: "the fleet has not been read from the hub yet",
      };
    },
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
    refresh,
  };
  return {
    view,
    hub,
    run: async (signal) => {
      await Promise.all([sweepForever(signal), probeForever(signal)]);
    },
    synced: ready.opened,
  };
}

type Place = { readonly of: "devices" | "modules"; readonly from: string | null };
const START: Place = { of: "devices", from: null };

function pauseAfter(fault: Fault, backoff: Millis): Millis {
  if (fault.kind !== "throttled") return backoff;
  return isBudgetFault(fault) ? fault.retryAfter : millis(Math.max(fault.retryAfter, backoff));
}

type Latch = {
  readonly open: () => void;
  readonly isOpen: () => boolean;
  /** Resolves once it is open, or when `signal` aborts. */
  readonly opened: (signal: AbortSignal) => Promise<void>;
};

function createLatch(): Latch {
  const { promise, resolve } = Promise.withResolvers<void>();
  let isOpen = false;
  return {
    open: () => {
      isOpen = true;
      resolve();
    },
    isOpen: () => isOpen,
    opened: async (signal) => {
      const stopped = Promise.withResolvers<void>();
      signal.addEventListener("abort", () => stopped.resolve(), { once: true });
      if (!signal.aborted) await Promise.race([promise, stopped.promise]);
    },
  };
}
