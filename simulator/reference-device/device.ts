import type { ModelPointer, UpdateState } from "../../src/api/device-contract.ts";
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
import { newWindow, windowOf } from "./window.ts";

export type ReferenceDeviceOptions = {
  /** Where the files of models are stored. */
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

/** Keeps the device contract, one model at a time. Its operations are few lines each and share what runs. */
export function createReferenceDevice(options: ReferenceDeviceOptions): ReferenceDevice {
  const { log } = options;
  let active: Active | null = null;
  let update: Update | null = null;
  let running: Running | null = null;
  let attempt = new AbortController();
  let work: Promise<void> = Promise.resolve();
  let window = newWindow();
  const reporting = setInterval(() => void reportAll(), options.reportInterval);
  const inferring = setInterval(() => void infer(), options.inferenceInterval);

  function desired(properties: JsonObject): void {
    const written = properties["model"];
    const pointer = parsePointer(written);
    // A pointer that is not understood is ignored: what runs continues to run.
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
    log("the model was removed");
    await reportState();
  }

  async function install(pointer: ModelPointer, signal: AbortSignal): Promise<void> {
    // An earlier try at the same digest had another url.
    update = null;
    const digests = [pointer.digest, ...(active === null ? [] : [active.digest])];
    const next = await prepareModel(pointer, { options, digests, latest, enter, signal });
    if (next === null) return;
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
      clearInterval(reporting);
      clearInterval(inferring);
      attempt.abort();
      await work;
      await running?.close();
    },
  };
}

type Preparation = {
  readonly options: Pick<ReferenceDeviceOptions, "directory" | "load">;
  /** Of the files that stay on the disk. */
  readonly digests: readonly string[];
  /** The pointer as it is by now. */
  readonly latest: (pointer: ModelPointer) => ModelPointer;
  readonly enter: (pointer: ModelPointer, state: UpdateState, error: UpdateError | null) => Promise<void>;
  readonly signal: AbortSignal;
};

/** Downloads, checks, loads and probes a model, one state of the contract after the other; `null` where one fails. */
async function prepareModel(
  pointer: ModelPointer,
  { options, digests, latest, enter, signal }: Preparation,
): Promise<Running | null> {
  const failed = async (code: string, message: string) => {
    await enter(pointer, "Failed", { code, message });
    return null;
  };
  await enter(pointer, "Downloading", null);
  const fetched = await fetchModel(latest(pointer), options.directory, signal);
  if (signal.aborted) return null;
  if (!fetched.ok) return failed(fetched.error.code, fetched.error.message);
  await enter(pointer, "Checking", null);
  if (fetched.digest !== pointer.digest) return failed("DigestMismatch", `the file has ${fetched.digest}`);
  await enter(pointer, "Loading", null);
  const path = await keepModel(fetched.path, options.directory, digests);
  let next: Running;
  try {
    next = await options.load(path, pointer.config);
  } catch (problem) {
    return failed("LoadFailed", textOf(problem, path));
  }
  await enter(pointer, "Probing", null);
  try {
    await next.infer();
  } catch (problem) {
    await next.close();
    return failed("ProbeFailed", textOf(problem, path));
  }
  return next;
}

function textOf(problem: unknown, path: string): string {
  const text = problem instanceof Error ? problem.message : String(problem);
  return text.replaceAll(path, "the file").slice(0, 500);
}
