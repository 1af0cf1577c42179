import type { ModelPointer, UpdateState } from "../../src/api/device-contract.ts";
import type { SimClock } from "../base/clock.ts";
import type { Download, Downloads } from "./downloads.ts";
import { type Effects, wearOf } from "./effects.ts";
import { activeOf, type Slot, type UpdateError } from "./slot.ts";

/** What an update needs of the device that it happens on. */
export type UpdateWorld = {
  readonly clock: SimClock;
  readonly downloads: Downloads;
  /** Milliseconds that each state of an update takes. */
  readonly stateDelay: number;
  /** Effects on a slot that is to run this model; `null`: the one it runs now. */
  readonly effectsOf: (slot: Slot, pointer: ModelPointer | null) => Effects;
  readonly deviceTime: (effects: Effects) => string;
  readonly isGone: (slot: Slot) => boolean;
  /** State and active model go to the hub. */
  readonly report: (slot: Slot) => void;
  readonly log: (slot: Slot, level: number, text: string) => void;
  /** The device loses power for so many milliseconds. */
  readonly losePower: (slot: Slot, length: number) => void;
};

/** A step of an update; it is dropped when the slot is at another attempt by then. */
type Step = { readonly slot: Slot; readonly attempt: number; readonly download: Download | null };

const MEGABYTE = 1_000_000;

/** Brings a new model onto a slot, in the states that the device contract has; one step of the clock each. */
export type Installation = {
  readonly begin: (slot: Slot, pointer: ModelPointer) => void;
};

/** Longer than most: a function for each state of the contract, and each schedules the next. */
export function createInstallation(world: UpdateWorld): Installation {
  const { clock, downloads, stateDelay } = world;
  const { inFlight, enter, fail, failsAt } = createUpdateStates(world);

  function begin(slot: Slot, pointer: ModelPointer): void {
    slot.attempt += 1;
    const effects = world.effectsOf(slot, pointer);
    const known = slot.fetching?.digest === pointer.digest ? slot.fetching : null;
    const before = effects.powerLoss?.resume === true ? (known?.before ?? 0) : 0;
    const powerLosses = known?.powerLosses ?? 0;
    slot.fetching = { digest: pointer.digest, startedAt: clock.now(), before, powerLosses };
    enter(slot, pointer, "Downloading", null);
    const step = { slot, attempt: slot.attempt, download: null };
    const whole = stateDelay + (effects.slowDownload ?? 0);
    const left = Math.max(0, whole - before);
    const { powerLoss } = effects;
    const untilLoss = powerLoss === null ? left : (powerLoss.after ?? whole / 2) - before;
    if (powerLoss !== null && powerLosses < powerLoss.times && untilLoss >= 0 && untilLoss < left)
      clock.schedule(untilLoss, cut, step);
    else clock.schedule(left, download, step);
  }

  /** The power fails in the middle of a download: what is on disk by then may survive. */
  function cut({ slot, attempt }: Step): void {
    const pointer = inFlight(slot, attempt);
    const { fetching } = slot;
    if (pointer === null || fetching === null) return;
    const { powerLoss } = world.effectsOf(slot, pointer);
    const before = fetching.before + clock.now() - fetching.startedAt;
    slot.fetching = { ...fetching, before, powerLosses: fetching.powerLosses + 1 };
    world.losePower(slot, powerLoss?.length ?? 0);
  }

  function download({ slot, attempt }: Step): void {
    const pointer = inFlight(slot, attempt);
    if (pointer === null || failsAt(slot, pointer, "Downloading")) return;
    const wear = wearOf(world.effectsOf(slot, pointer), slot.activeSince, clock.now());
    const megabytes = pointer.sizeBytes / MEGABYTE;
    if (wear.freeMegabytes !== null && megabytes > wear.freeMegabytes) {
      const message = `the file has ${rounded(megabytes)} MB and ${rounded(wear.freeMegabytes)} MB are free`;
      fail(slot, pointer, { code: "DiskFull", message });
      return;
    }
    const done = downloads
      .fetch(pointer.url, pointer.digest)
      .then((result) => downloaded({ slot, attempt, download: result }));
    clock.track(done);
  }

  function downloaded(step: Step): void {
    const { slot, attempt, download: file } = step;
    const pointer = inFlight(slot, attempt);
    if (pointer === null || file === null) return;
    slot.fetching = null;
    if (!file.ok) {
      fail(slot, pointer, file);
      return;
    }
    enter(slot, pointer, "Checking", null);
    clock.schedule(stateDelay, check, step);
  }

  /** The pointer and the file that a stage works on; `null`: the stage does not take place, or fails as its behaviour says. */
  function begun({ slot, attempt, download: file }: Step, stage: UpdateState) {
    const pointer = inFlight(slot, attempt);
    if (pointer === null || file?.ok !== true || failsAt(slot, pointer, stage)) return null;
    return { slot, pointer, file };
  }

  function check(step: Step): void {
    const work = begun(step, "Checking");
    if (work === null) return;
    const { slot, pointer, file } = work;
    if (file.digest !== pointer.digest) {
      fail(slot, pointer, { code: "DigestMismatch", message: `the file has ${file.digest}` });
      return;
    }
    enter(slot, pointer, "Loading", null);
    clock.schedule(stateDelay, load, step);
  }

  function load(step: Step): void {
    const work = begun(step, "Loading");
    if (work === null) return;
    const { slot, pointer, file } = work;
    if (!file.loadable) {
      fail(slot, pointer, { code: "LoadFailed", message: "the file is not an ONNX model" });
      return;
    }
    enter(slot, pointer, "Probing", null);
    clock.schedule(stateDelay, probe, step);
  }

  function probe({ slot, attempt }: Step): void {
    const pointer = inFlight(slot, attempt);
    if (pointer === null || failsAt(slot, pointer, "Probing")) return;
    slot.active = activeOf(pointer, world.deviceTime(world.effectsOf(slot, pointer)));
    slot.activeSince = clock.now();
    slot.windowSince = clock.now();
    enter(slot, pointer, "Running", null);
  }

  return { begin };
}

/** How a slot gets from one state of an update to the next, and reports it. */
function createUpdateStates(world: UpdateWorld) {
  /** The pointer as it is by now: its url may have been renewed on the way. */
  function inFlight(slot: Slot, attempt: number): ModelPointer | null {
    return slot.attempt === attempt && !world.isGone(slot) ? (slot.update?.pointer ?? null) : null;
  }

  /** Whether a behaviour has the update fail in this state; then it has failed. */
  function failsAt(slot: Slot, pointer: ModelPointer, state: UpdateState): boolean {
    const { failAt } = world.effectsOf(slot, pointer);
    if (failAt?.state !== state) return false;
    fail(slot, pointer, failAt);
    return true;
  }

  /** The model that ran before continues to run. */
  function fail(slot: Slot, pointer: ModelPointer, { code, message }: UpdateError): void {
    slot.fetching = null;
    enter(slot, pointer, "Failed", { code, message });
  }

  function enter(slot: Slot, pointer: ModelPointer, state: UpdateState, error: UpdateError | null): void {
    slot.update = { pointer, state, error, at: world.deviceTime(world.effectsOf(slot, null)) };
    const said = error === null ? state : `${state}: ${error.code}: ${error.message}`;
    world.log(slot, error === null ? 6 : 3, `update to ${pointer.release}: ${said}`);
    world.report(slot);
  }

  return { inFlight, enter, fail, failsAt };
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}
