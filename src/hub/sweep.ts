import type { Attempt, Fault } from "../base/fault.ts";
import { ok } from "../base/result.ts";
import { elapsed, type Millis, seconds } from "../base/time.ts";
import { exponential, pauseAfter } from "../runtime/backoff.ts";
import { jittered } from "../runtime/clock.ts";
import type { RuntimeDeps } from "../runtime/deps.ts";
import type { FleetMap } from "./fleet-map.ts";
import type { DeviceHub } from "./hub.ts";
import { isBudgetFault } from "./throttle.ts";

// Sweeps of the fleet: all pages of the devices, then all pages of the modules; a pause; again. A fault does not lose the
// place, unless the hub no longer accepts its continuation.

export type SweepDeps = RuntimeDeps & {
  readonly hub: Pick<DeviceHub, "queryDevices" | "queryModules">;
  readonly map: FleetMap;
  /** Pause between the end of a sweep and the start of the next. */
  readonly interval: Millis;
};

type Place = { readonly of: "devices" | "modules"; readonly from: string | null };
const START: Place = { of: "devices", from: null };

/** Sweeps until `signal` aborts. `swept` is called after each whole sweep, with how long it took. */
export async function runSweeps(
  deps: SweepDeps,
  swept: (took: Millis) => void,
  signal: AbortSignal,
): Promise<void> {
  const { map, interval, clock, log, meter, random } = deps;
  while (!signal.aborted) {
    const began = clock.now();
    const whole = await sweepOnce(deps, signal);
    if (!whole) return;
    const took = elapsed(began, clock.now());
    meter.count("edgefleet_fleet_sweeps_total", { result: "ok" });
    meter.observe("edgefleet_fleet_sweep_duration_seconds", took / 1000);
    log.debug("swept the fleet", { devices: map.size(), milliseconds: took });
    swept(took);
    await clock.sleep(jittered(interval, random), signal);
  }
}

/** `false`: stopped before the end. */
async function sweepOnce(deps: SweepDeps, signal: AbortSignal): Promise<boolean> {
  const { map, clock, random } = deps;
  const backoff = exponential(seconds(1), seconds(60), random);
  let failures = 0;
  let place: Place = START;
  map.beginSweep();
  while (!signal.aborted) {
    const asked: Place = place;
    const next = await readPage(deps, asked, signal);
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
    noteFault(deps, asked, fault);
    if (fault.kind === "rejected" && asked.from !== null) {
      place = START;
      map.beginSweep();
    }
    await clock.sleep(pauseBefore(fault, backoff(failures)), signal);
  }
  return false;
}

/** The place of the next page; `null` after the last. */
async function readPage(deps: SweepDeps, place: Place, signal: AbortSignal): Attempt<Place | null> {
  const { hub, map, clock } = deps;
  if (place.of === "devices") {
    const page = await hub.queryDevices(place.from, signal);
    if (!page.ok) return page;
    for (const row of page.value.rows) map.applyDevice(row, clock.now());
    const { next } = page.value;
    return ok(next === null ? { of: "modules", from: null } : { of: "devices", from: next });
  }
  const page = await hub.queryModules(place.from, signal);
  if (!page.ok) return page;
  for (const row of page.value.rows) map.applyModule(row, clock.now());
  const { next } = page.value;
  return ok(next === null ? null : { of: "modules", from: next });
}

/** Logs and counts the fault; one of our own budget says nothing about the hub. */
function noteFault({ meter, log }: SweepDeps, { of }: Place, fault: Fault): void {
  if (isBudgetFault(fault)) return;
  meter.count("edgefleet_fleet_sweeps_total", { result: fault.kind });
  log.warn("the sweep of the fleet was interrupted", { kind: fault.kind, fault: fault.message, of });
}

function pauseBefore(fault: Fault, backoff: Millis): Millis {
  return fault.kind === "throttled" && isBudgetFault(fault) ? fault.retryAfter : pauseAfter(fault, backoff);
}
