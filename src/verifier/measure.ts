import { readFile } from "node:fs/promises";
import { own } from "../base/lookup.ts";
import { err, ok, type Result } from "../base/result.ts";
import { createCounting, largestOf, scoresOutput } from "./classification.ts";
import { createComparing } from "./comparison.ts";
import { type GoldenSet, readGoldenSet } from "./golden.ts";
import { madeUpFeeds } from "./latency-input.ts";
import type { Answer, Question, Refusal, Samples } from "./model-messages.ts";
import type { Model, No, Outputs, Values } from "./onnx-session.ts";
import { type Datum, elementCount, isTensor, type Signature, sizeOf } from "./tensor.ts";

// What the child process measures of a model that is loaded.

type Asked<Kind extends Question["kind"]> = Extract<Question, { readonly kind: Kind }>;
type Measured<Kind extends Answer["kind"]> = Promise<Result<Extract<Answer, { readonly kind: Kind }>, No>>;

/** Made-up samples where there is no golden set: enough to see two models differ. */
const MADE_UP_SAMPLES = 64;

function no(because: Refusal, message: string): { readonly ok: false; readonly error: No } {
  return err({ because, message });
}

function runText({ from, samples }: { readonly from: number; readonly samples: number }): string {
  return samples === 1 ? `sample ${from}` : `samples ${from} to ${from + samples - 1}`;
}

export async function measureGolden(
  model: Model,
  question: Asked<"golden">,
): Promise<
  Result<{ readonly answer: Extract<Answer, { readonly kind: "golden" }>; readonly golden: GoldenSet }, No>
> {
  const { path, wants, limit, topK, tolerance } = question;
  const read = await readGoldenSet(await readFile(path), model.signature, wants, limit);
  if (!read.ok) return no("golden", read.error);
  const golden = read.value;
  const counting = createCounting(topK, model.signature.outputs);
  const comparing = createComparing(tolerance);
  for (let at = 0; at < golden.runs; at += 1) {
    const run = golden.runAt(at);
    const outputs = await model.run(run.feeds);
    if (!outputs.ok) return no(outputs.error.because, `${runText(run)}: ${outputs.error.message}`);
    const counted = run.labels === null ? null : counting.add(outputs.value, run.labels);
    if (counted !== null) return no("golden", counted);
    for (const [name, expected] of run.expected) {
      const compared = comparing.add(run, name, expected, outputs.value.get(name));
      if (compared !== null) return no("golden", compared);
    }
  }
  const measured = {
    samples: golden.samples,
    classification: counting.found(),
    comparison: wants.outputs ? comparing.found() : null,
  };
  return ok({ answer: { kind: "golden", measured }, golden });
}

/** The samples alone: labels and known outputs are left aside. */
export async function readGolden(
  signature: Signature,
  { path, limit }: NonNullable<Samples>,
): Promise<Result<GoldenSet, No>> {
  const wants = { labels: false, outputs: false };
  const read = await readGoldenSet(await readFile(path), signature, wants, limit);
  return read.ok ? read : no("golden", read.error);
}

export async function measureDeterminism(
  model: Model,
  golden: GoldenSet | null,
  { runs, tolerance }: Asked<"determinism">,
): Measured<"determinism"> {
  // No more at once than the golden set has: the model is asked for repetition, not for more memory.
  const most = Math.min(MADE_UP_SAMPLES, golden?.samples ?? MADE_UP_SAMPLES);
  const chosen = chooseInput(model.signature, golden, most);
  if (!chosen.ok) return no("run", chosen.error);
  const { feeds, input } = chosen.value;
  const first = await model.run(feeds);
  if (!first.ok) return first;
  const comparing = createComparing(tolerance);
  for (let run = 1; run < runs; run += 1) {
    const again = await model.run(feeds);
    if (!again.ok) return again;
    // Runs take the place of samples: the worst example names the run.
    for (const [name, value] of first.value)
      comparing.add({ from: run, samples: 1 }, name, asOneSample(value), again.value.get(name));
  }
  return ok({ kind: "determinism", comparison: comparing.found(), input: `${runs} runs, ${input}` });
}

function asOneSample(datum: Datum): Datum {
  return isTensor(datum) ? { ...datum, shape: [1, ...datum.shape] } : datum;
}

/** The answers of one model, to hold those of another against. */
export type Remembered = {
  readonly runs: readonly {
    readonly from: number;
    readonly samples: number;
    readonly feeds: Values;
    readonly outputs: Outputs;
  }[];
  readonly samples: number;
  readonly input: string;
};

export async function rememberAnswers(
  model: Model,
  { samples, limit }: Asked<"remember">,
): Promise<Result<Remembered, No>> {
  const source = await parityInput(model, samples);
  if (!source.ok) return source;
  const { golden, input } = source.value;
  const runs: Remembered["runs"][number][] = [];
  let bytes = 0;
  for (let at = 0; at < golden.runs; at += 1) {
    const { from, samples: count, feeds } = golden.runAt(at);
    const outputs = await model.run(feeds);
    if (!outputs.ok) return outputs;
    for (const value of outputs.value.values()) bytes += sizeOf(value);
    if (bytes > limit) return no("memory", `its answers to the samples take more than ${limit} bytes`);
    runs.push({ from, samples: count, feeds, outputs: outputs.value });
  }
  return ok({ runs, samples: golden.samples, input });
}

type Source = {
  readonly golden: Pick<GoldenSet, "samples" | "runs" | "runAt">;
  readonly input: string;
};

async function parityInput(model: Model, samples: Samples): Promise<Result<Source, No>> {
  if (samples !== null) {
    const read = await readGolden(model.signature, samples);
    if (!read.ok) return no("compare", read.error.message);
    return ok({ golden: read.value, input: `${read.value.samples} golden samples` });
  }
  const made = madeUpFeeds(model.signature.inputs, MADE_UP_SAMPLES);
  if (!made.ok) return no("compare", `${made.error}; give a golden set, and its samples are used`);
  const free = model.signature.inputs.some(({ shape }) => typeof shape[0] === "string");
  const count = free ? MADE_UP_SAMPLES : 1;
  const run = { from: 0, samples: count, feeds: made.value, labels: null, expected: new Map() };
  return ok({
    golden: { samples: count, runs: 1, runAt: () => run },
    input: count === 1 ? "one made-up input" : `${count} made-up samples`,
  });
}

export async function compareAnswers(
  model: Model,
  remembered: Remembered,
  { tolerance }: Asked<"compare">,
): Measured<"parity"> {
  const counting = createCounting(5, []);
  const comparing = createComparing(tolerance);
  let classified = true;
  for (const run of remembered.runs) {
    const outputs = await model.run(run.feeds);
    if (!outputs.ok) return no("compare", `${runText(run)}: ${outputs.error.message}`);
    for (const [name, expected] of run.outputs) {
      const compared = comparing.add(run, name, expected, outputs.value.get(name));
      if (compared !== null) return no("compare", compared);
    }
    const labels = classesOf(run.outputs, run.samples);
    if (labels === null || counting.add(outputs.value, labels) !== null) classified = false;
  }
  return ok({
    kind: "parity",
    measured: {
      samples: remembered.samples,
      input: remembered.input,
      agreement: classified ? counting.found() : null,
      comparison: comparing.found(),
    },
  });
}

/** The most probable class of each sample; `null` where there are no scores, or only NaN. */
function classesOf(outputs: Outputs, samples: number): readonly number[] | null {
  const scores = scoresOutput(outputs, samples);
  if (scores === null) return null;
  const classes = scores.tensor.data.length / samples;
  const labels = Array.from({ length: samples }, (_, row) =>
    largestOf(scores.tensor, row * classes, classes),
  );
  return labels.includes(-1) ? null : labels;
}

export async function measureLatency(
  model: Model,
  golden: GoldenSet | null,
  { warmup, samples, batchSize }: Asked<"latency">,
): Measured<"latency"> {
  const chosen = chooseInput(model.signature, golden, batchSize);
  if (!chosen.ok) return no("run", chosen.error);
  const { feeds, input } = chosen.value;
  const run = model.prepare(feeds);
  const runs = new Float64Array(samples);
  try {
    for (let index = 0; index < warmup; index += 1) await run();
    // One time stamp between two runs: whatever holds a run up is counted, even where it strikes between two of them.
    let before = process.hrtime.bigint();
    for (let index = 0; index < samples; index += 1) {
      await run();
      const now = process.hrtime.bigint();
      runs[index] = Number(now - before) / 1e6;
      before = now;
    }
  } catch (thrown) {
    return no("run", `fed with ${input}: ${thrown instanceof Error ? thrown.message : String(thrown)}`);
  }
  return ok({ kind: "latency", runs, input });
}

export async function measureThroughput(
  model: Model,
  golden: GoldenSet | null,
  { milliseconds, batchSize }: Asked<"throughput">,
): Measured<"throughput"> {
  const chosen = chooseInput(model.signature, golden, batchSize);
  if (!chosen.ok) return no("run", chosen.error);
  const { feeds, input, batchSize: each } = chosen.value;
  const run = model.prepare(feeds);
  try {
    const warm = performance.now() + milliseconds / 10;
    do await run();
    while (performance.now() < warm);
    const start = performance.now();
    let runs = 0;
    let now = start;
    do {
      await run();
      runs += 1;
      now = performance.now();
    } while (now - start < milliseconds);
    return ok({ kind: "throughput", inferences: runs * each, milliseconds: now - start, input });
  } catch (thrown) {
    return no("run", `fed with ${input}: ${thrown instanceof Error ? thrown.message : String(thrown)}`);
  }
}

/** Samples of the golden set where there is one: what a model does can depend on what it is given. */
export function chooseInput(
  signature: Signature,
  golden: GoldenSet | null,
  batchSize: number,
): Result<{ readonly feeds: Values; readonly input: string; readonly batchSize: number }, string> {
  if (golden === null) {
    const made = madeUpFeeds(signature.inputs, batchSize);
    if (!made.ok) return err(`${made.error}; give a golden set, and its samples are used`);
    const size = batchOf(signature, made.value);
    return ok({ feeds: made.value, input: `batch ${size} of made-up input`, batchSize: size });
  }
  const { feeds, batchSize: size } = golden.feedsFor(batchSize);
  return ok({ feeds, input: `batch ${size} of golden samples`, batchSize: size });
}

/** How many inferences one run is: what a free first axis was given, or one. */
function batchOf(signature: Signature, feeds: Values): number {
  const free = signature.inputs.find((input) => typeof input.shape[0] === "string");
  const fed = free === undefined ? undefined : own(feeds, free.name);
  const shape = fed !== undefined && isTensor(fed) ? fed.shape : [];
  return elementCount(shape) === 0 ? 1 : (shape[0] ?? 1);
}
