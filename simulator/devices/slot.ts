import type { InferenceReport, ModelPointer } from "../../src/api/device-contract.ts";
import { isObject, type JsonValue } from "../base/json.ts";
import type { Random } from "../base/random.ts";
import type { Twin } from "../hub/twins/twin.ts";
import type { Session } from "../mqtt/device-sessions.ts";
import type { Effects, Wear } from "./effects.ts";

/** The model that a device runs. */
export type Active = NonNullable<InferenceReport["active"]>;
export type UpdateError = { readonly code: string; readonly message: string };
export type Update = Pick<NonNullable<InferenceReport["update"]>, "state" | "at"> & {
  readonly pointer: ModelPointer;
  readonly error: UpdateError | null;
};

/** One place for a model: a module of an edge device, or the device itself. It changes in place, thousands of it at once. */
export type Slot = {
  readonly deviceId: string;
  /** `null`: the device's own twin. */
  readonly moduleId: string | null;
  readonly random: Random;
  session: Session | null;
  /** Another client has taken the identity: it is left to that. */
  displaced: boolean;
  /** Desired properties may have changed unnoticed: read the twin before anything else. */
  unread: boolean;
  /** Reports at all: a module that was never given a model is not one of ours. */
  reporting: boolean;
  pointer: ModelPointer | null;
  active: Active | null;
  update: Update | null;
  /** Number of the update in flight: steps of an older one are dropped. */
  attempt: number;
  /** Since when the current window counts, in milliseconds. */
  windowSince: number;
  restarts: number;
  /** Whether the program that runs models is up: where a deployment names the module, its container decides. */
  running: boolean;
  /** When the program started, and the model that it runs, in milliseconds. */
  startedAt: number;
  activeSince: number | null;
  /** When the program is going to crash; `null`: nothing says that it will. */
  crashAt: number | null;
  /** How far the download of a digest has come, and how often the power failed on the way. */
  fetching: Fetching | null;
};

export type Fetching = {
  readonly digest: string;
  readonly startedAt: number;
  /** Milliseconds of downloading before `startedAt`. */
  readonly before: number;
  readonly powerLosses: number;
};

export function newSlot(deviceId: string, moduleId: string | null, random: Random): Slot {
  return {
    deviceId,
    moduleId,
    random,
    session: null,
    displaced: false,
    unread: true,
    reporting: false,
    pointer: null,
    active: null,
    update: null,
    attempt: 0,
    windowSince: 0,
    restarts: 0,
    running: true,
    startedAt: 0,
    activeSince: null,
    crashAt: null,
    fetching: null,
  };
}

/** `null` for what is not a pointer of this contract; the device then acts as if there were none. */
export function parsePointer(written: JsonValue | undefined): ModelPointer | null {
  if (!isObject(written)) return null;
  const { contract, release, digest, url } = written;
  if (contract !== 1 || typeof release !== "string" || typeof digest !== "string" || typeof url !== "string")
    return null;
  return written as unknown as ModelPointer;
}

/** What a device that starts again still has: the model that it reported last, and how its last update ended. */
export function recallOf(twin: Twin): Partial<Pick<Slot, "active" | "update" | "reporting">> {
  const inference = twin.reported.value["inference"];
  if (!isObject(inference)) return {};
  const { active, update } = inference;
  return {
    reporting: true,
    active: isObject(active) ? (active as unknown as Active) : null,
    update: isObject(update) ? endedUpdate(update as unknown as Update, update["digest"], twin) : null,
  };
}

/** One that was under way begins again. */
function endedUpdate({ state, error, at }: Update, digest: JsonValue | undefined, twin: Twin): Update | null {
  const pointer = parsePointer(twin.desired.value["model"]);
  if (pointer?.digest !== digest || (state !== "Running" && state !== "Failed")) return null;
  return pointer === null ? null : { pointer, state, error: error ?? null, at };
}

/**
 * What a new pointer asks of the slot.
 * - `nothing`: it says what was known already, or only the url of what is on its way differs
 * - `adopt`: these bytes run already, whatever they are called now
 * - `start`: other bytes than before, or another try where the download had failed and there is a new url
 * - `remove`: there is to be no model
 */
export function taskOf(
  slot: Pick<Slot, "active" | "update">,
  next: ModelPointer | null,
  before: ModelPointer | null = null,
): "nothing" | "adopt" | "start" | "remove" {
  if (next === null) return slot.active === null && slot.update === null ? "nothing" : "remove";
  if (slot.active?.digest === next.digest) return "adopt";
  const { update } = slot;
  if (update === null || update.pointer.digest !== next.digest) return "start";
  if (update.state !== "Failed") return "nothing";
  // It failed a while ago, and something else was asked for in between.
  if (before !== null && before.digest !== next.digest) return "start";
  const elsewhere =
    update.error?.code.startsWith("DownloadFailed") === true && update.pointer.url !== next.url;
  return elsewhere ? "start" : "nothing";
}

export function activeOf(pointer: ModelPointer, since: string): Active {
  const { release, digest, variant, executionProvider } = pointer;
  return { release, digest, variant, executionProvider, since };
}

const DEFAULT_JITTER = 0.05;
const DEFAULT_LATENCY = { p50: 20, p95: 35, p99: 50, jitter: DEFAULT_JITTER };
const DEFAULT_RATE = 30;
const DEFAULT_ERROR_RATE = 0.0005;

/** The window that ends now. `seconds` is its length, `endedAt` is by the device's clock. */
export function windowOf(
  active: Active,
  { effects, wear }: { readonly effects: Effects; readonly wear: Wear },
  span: { readonly seconds: number; readonly endedAt: string },
  random: Random,
): NonNullable<InferenceReport["window"]> {
  const { p50, p95, p99, jitter } = effects.latency ?? DEFAULT_LATENCY;
  const factor = wear.slowdown * (1 + (random() * 2 - 1) * jitter);
  // A device that is too hot gets through fewer frames, too.
  const slow = wear.throttled ? (effects.heat?.slowdown ?? 1) : 1;
  const uneven = () => (1 + (random() * 2 - 1) * DEFAULT_JITTER) / slow;
  const framesPerSecond = (effects.framesPerSecond ?? DEFAULT_RATE) * uneven();
  const rate = effects.inferencesPerSecond ?? effects.framesPerSecond ?? DEFAULT_RATE;
  const inferences = Math.round(rate * span.seconds * uneven());
  // The part of an error that is left over comes up as often as it should, so that rare errors are not rounded away.
  const expected = inferences * Math.min(1, (effects.errorRate ?? DEFAULT_ERROR_RATE) + wear.errorRate);
  const errors = Math.min(inferences, Math.floor(expected) + (random() < expected % 1 ? 1 : 0));
  return {
    release: active.release,
    seconds: rounded(span.seconds),
    inferences,
    errors,
    framesPerSecond: rounded(framesPerSecond),
    latencyMilliseconds: {
      p50: rounded(p50 * factor),
      p95: rounded(p95 * factor),
      p99: rounded(p99 * factor),
    },
    endedAt: span.endedAt,
  };
}

export function resourcesOf(
  active: Active | null,
  wear: Wear,
  random: Random,
): NonNullable<InferenceReport["resources"]> {
  const busy = active === null ? 5 : 35;
  const measured = {
    cpuPercent: rounded(busy + random() * 10),
    memoryPercent: rounded(40 + random() * 10),
    diskPercent: rounded(50 + random() * 2),
    gpuPercent: rounded(active === null ? 0 : 60 + random() * 20),
    gpuCelsius: rounded(45 + random() * 15),
  };
  const { diskPercent, celsius } = wear;
  return {
    ...measured,
    ...(diskPercent !== null && { diskPercent: rounded(diskPercent) }),
    ...(celsius !== null && { gpuCelsius: rounded(celsius) }),
  };
}

/** Update and active model as the contract writes them; null where there is none, so that a merge takes it away. */
export function stateReport(slot: Pick<Slot, "active" | "update">, effects: Effects, heartbeatAt: string) {
  const { active, update } = slot;
  return {
    contract: 1,
    active: active === null ? null : { ...active, digest: effects.lieDigest ?? active.digest },
    update:
      update === null
        ? null
        : {
            release: update.pointer.release,
            digest: update.pointer.digest,
            state: update.state,
            error: update.error,
            at: update.at,
          },
    heartbeatAt,
  };
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}
