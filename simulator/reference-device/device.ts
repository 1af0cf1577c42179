import type { InferenceReport, ModelPointer, UpdateState } from "../../src/api/device-contract.ts";
import type { JsonObject } from "../base/json.ts";
import { HEALTHY } from "../devices/effects.ts";
import {
  type Active,
  activeOf,
  parsePointer,
  stateReport,
  taskOf,
  type Update,
  type UpdateError,
} from "../devices/slot.ts";
import { fetchModel, keepModel } from "./model-files.ts";
import type { LoadModel, Running } from "./model-runner.ts";

export type ReferenceDeviceOptions = {
  /** Where the files of models are kept. */
  readonly directory: string;
  /** Milliseconds between two reports. */
  readonly reportInterval: number;
  /** Milliseconds between two inferences. */
  readonly inferenceInterval: number;
  readonly load: LoadModel;
  /** Rejects when the report has not arrived: then it is part of the next one. */
  readonly report: (patch: JsonObject) => Promise<void>;
  readonly log: (text: string) => void;
};

export type ReferenceDevice = {
  readonly desired: (desired: JsonObject) => void;
  readonly stop: () => Promise<void>;
};

/** Keeps the device contract, one model at a time. */
export function createReferenceDevice(options: ReferenceDeviceOptions): ReferenceDevice {
  const { directory, log } = options;
  let active: Active | null = null;
  let update: Update | null = null;
  let running: Running | null = null;
  let attempt = new AbortController();
  let work: Promise<void> = Promise.resolve();
  let window = newWindow();
  const beat = setInterval(() => void reportAll(), options.reportInterval);
  const inferring = setInterval(() => void infer(), options.inferenceInterval);

  function desired(properties: JsonObject): void {
    const written = properties["model"];
    const pointer = parsePointer(written);
    // A pointer that is not understood is ignored: what runs goes on.
    if (pointer === null && written !== undefined && written !== null) return;
    switch (taskOf({ active, update }, pointer)) {
      case "nothing":
        if (update !== null && pointer !== null) update = { ...update, pointer };
        return;
      case "adopt":
        if (pointer !== null) adopt(pointer);
        return;
      case "remove":
        begin(remove);
        return;
      case "start":
        if (pointer !== null) begin((signal) => install(pointer, signal));
        return;
    }
  }

  /** One at a time: a new task ends the one before it. */
  function begin(task: (signal: AbortSignal) => Promise<void>): void {
    attempt.abort();
    attempt = new AbortController();
    const { signal } = attempt;
    work = work.then(() => (signal.aborted ? undefined : task(signal)));
  }

  /** These bytes run already, whatever they are called now. */
  function adopt(pointer: ModelPointer): void {
    attempt.abort();
    if (active === null || (active.release === pointer.release && update?.pointer.digest === pointer.digest))
      return;
    active = activeOf(pointer, active.since);
    window = newWindow();
    work = work.then(() => enter(pointer, "Running", null));
  }

  async function remove(): Promise<void> {
    await running?.close();
    running = null;
    active = null;
    update = null;
    log("the model was taken away");
    await reportState();
  }

  async function install(pointer: ModelPointer, signal: AbortSignal): Promise<void> {
    // An earlier try at the same digest had another url.
    update = null;
    await enter(pointer, "Downloading", null);
    const fetched = await fetchModel(latest(pointer), directory, signal);
    if (signal.aborted) return;
    if (!fetched.ok) return enter(pointer, "Failed", fetched.error);
    await enter(pointer, "Checking", null);
    if (fetched.digest !== pointer.digest)
      return enter(pointer, "Failed", { code: "DigestMismatch", message: `the file has ${fetched.digest}` });
    await enter(pointer, "Loading", null);
    const digests = [pointer.digest, ...(active === null ? [] : [active.digest])];
    const path = await keepModel(fetched.path, directory, digests);
    let next: Running;
    try {
      next = await options.load(path, pointer.config);
    } catch (problem) {
      return enter(pointer, "Failed", { code: "LoadFailed", message: textOf(problem, path) });
    }
    await enter(pointer, "Probing", null);
    try {
      await next.infer();
    } catch (problem) {
      await next.close();
      return enter(pointer, "Failed", { code: "ProbeFailed", message: textOf(problem, path) });
    }
    if (signal.aborted) return next.close();
    const previous = running;
    running = next;
    active = activeOf(pointer, new Date().toISOString());
    window = newWindow();
    await enter(pointer, "Running", null);
    await previous?.close();
  }

  /** The url may have been renewed on the way. */
  function latest(pointer: ModelPointer): ModelPointer {
    return update?.pointer.digest === pointer.digest ? update.pointer : pointer;
  }

  async function enter(pointer: ModelPointer, state: UpdateState, error: UpdateError | null): Promise<void> {
    update = { pointer: latest(pointer), state, error, at: new Date().toISOString() };
    log(`${pointer.release}: ${state}${error === null ? "" : `: ${error.code}: ${error.message}`}`);
    await reportState();
  }

  async function infer(): Promise<void> {
    const mine = running;
    if (mine === null) return;
    const counted = window;
    try {
      const took = await mine.infer();
      if (took !== null) counted.latencies.push(took);
    } catch {
      counted.errors += 1;
    }
  }

  function reportState(): Promise<void> {
    return send(stateReport({ active, update }, HEALTHY, new Date().toISOString()));
  }

  async function reportAll(): Promise<void> {
    const ended = window;
    window = newWindow();
    const endedAt = new Date().toISOString();
    const state = stateReport({ active, update }, HEALTHY, endedAt);
    await send({ ...state, window: active === null ? null : windowOf(ended, active, endedAt), restarts: 0 });
  }

  async function send(inference: object): Promise<void> {
    await options.report({ inference } as JsonObject).catch(() => log("a report has not arrived"));
  }

  return {
    desired,
    async stop() {
      clearInterval(beat);
      clearInterval(inferring);
      attempt.abort();
      await work;
      await running?.close();
    },
  };
}

type Window = { readonly since: number; readonly latencies: number[]; errors: number };

function newWindow(): Window {
  return { since: performance.now(), latencies: [], errors: 0 };
}

/** `null` for a window with nothing in it: it is left out. */
function windowOf(
  { since, latencies, errors }: Window,
  active: Active,
  endedAt: string,
): InferenceReport["window"] | null {
  if (latencies.length === 0) return null;
  const seconds = (performance.now() - since) / 1000;
  const sorted = latencies.toSorted((a, b) => a - b);
  const at = (share: number) =>
    rounded(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0);
  const inferences = latencies.length + errors;
  return {
    release: active.release,
    seconds: rounded(seconds),
    inferences,
    errors,
    framesPerSecond: rounded(inferences / seconds),
    latencyMilliseconds: { p50: at(0.5), p95: at(0.95), p99: at(0.99) },
    endedAt,
  };
}

function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}

function textOf(problem: unknown, path: string): string {
  const text = problem instanceof Error ? problem.message : String(problem);
  return text.replaceAll(path, "the file").slice(0, 500);
}
