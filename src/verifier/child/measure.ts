import { readFile } from "node:fs/promises";
import { own } from "../../base/lookup.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { readGoldenSet } from "../golden/read.ts";
import type { GoldenSet, GoldenWants } from "../golden/types.ts";
import { type Datum, elementCount, isTensor, type Signature, sizeOf } from "../onnx/tensor.ts";
import type {
  Answer,
  BatchFound,
  Question,
  RefusalKind,
  Samples,
  SectionMeasured,
} from "../protocol/messages.ts";
import { createComparisonAccumulator } from "../score/comparison.ts";
import { createFiniteCounts } from "../score/finite.ts";
import type { GoldenSection } from "../score/sections.ts";
import { createParityAccumulator, createSectionAccumulator } from "./section-accumulators.ts";
import { type Model, type Outputs, type Refusal, refusedBy, type Values } from "./session.ts";
import { syntheticFeeds } from "./synthetic-inputs.ts";

// What the child process measures of a model that is loaded.

type Asked<Kind extends Question["kind"]> = Extract<Question, { readonly kind: Kind }>;
type Measured<Kind extends Answer["kind"]> = Promise<
  Result<Extract<Answer, { readonly kind: Kind }>, Refusal>
>;

/** Synthetic samples where there is no golden set: enough to see two models differ. */
const SYNTHETIC_SAMPLES = 64;

function refuse(because: RefusalKind, message: string): { readonly ok: false; readonly error: Refusal } {
  return err({ because, message });
}

function runText({ from, samples }: { readonly from: number; readonly samples: number }): string {
  return samples === 1 ? `sample ${from}` : `samples ${from} to ${from + samples - 1}`;
}

type MeasuredGolden = {
  readonly answer: Extract<Answer, { readonly kind: "golden" }>;
  readonly golden: GoldenSet;
};

/** `, 64 at a time`; empty where that is as it must be. */
function batchText({ batch, samples }: Pick<GoldenSet, "batch" | "samples">): string {
  return batch.free && batch.size !== null && samples > batch.size ? `, ${batch.size} at a time` : "";
}

export async function measureGolden(
  model: Model,
  question: Asked<"golden">,
): Promise<Result<MeasuredGolden, Refusal>> {
  const { path, limit, batchSize, sections, finiteOnly } = question;
  const { outputs: infos } = model.signature;
  const strange = sections.flatMap(({ output }) =>
    output === null || infos.some(({ name }) => name === output)
      ? []
      : [`the model has no output "${output}"; it has ${infos.map(({ name }) => name).join(", ")}`],
  );
  const wants = { ...wantsOf(sections), batchSize };
  const read = await readGoldenSet(await readFile(path), model.signature, wants, limit);
  if (!read.ok && (read.error.because === "golden" || strange.length === 0))
    return refuse(read.error.because, read.error.message);
  if (strange.length > 0 || !read.ok)
    return refuse("misfit", [...strange, ...(read.ok ? [] : [read.error.message])].join("; "));
  const golden = read.value;
  const measuring = sections.map((section) => createSectionAccumulator(section, infos));
  const finite = finiteOnly ? createFiniteCounts() : null;
  for (let at = 0; at < golden.runs && (sections.length > 0 || finiteOnly); at += 1) {
    const run = golden.runAt(at);
    const outputs = await model.run(run.feeds);
    if (!outputs.ok) return refuse(outputs.error.because, `${runText(run)}: ${outputs.error.message}`);
    finite?.add(run.from, run.samples, outputs.value);
    for (const one of measuring) {
      const problem = one.add(run, outputs.value);
      if (problem !== null) return refuse(problem.because, problem.message);
    }
  }
  const found: SectionMeasured[] = [];
  for (const one of measuring) {
    const measured = one.found();
    if (!measured.ok) return refuse(measured.error.because, measured.error.message);
    found.push(measured.value);
  }
  const used = found.flatMap(({ classification, ranking, comparison, figures }) => [
    ...(classification === null ? [] : [classification.output]),
    ...(ranking === null ? [] : [ranking.output]),
    ...(comparison?.outputs ?? []),
    ...(figures === null ? [] : [figures.output]),
  ]);
  const measured = {
    samples: golden.samples,
    batch: golden.batch,
    notes: golden.notes,
    sections: found,
    finite: finite?.found() ?? null,
    ignored: infos.map(({ name }) => name).filter((name) => !used.includes(name)),
  };
  return ok({ answer: { kind: "golden", measured }, golden });
}

function wantsOf(sections: readonly GoldenSection[]): GoldenWants {
  return {
    labels: sections.some(({ scoring }) => scoring !== null),
    outputs: sections.some(({ tolerance }) => tolerance !== null),
    either: sections.some(({ metrics }) => metrics !== null),
  };
}

/** Whether the answers to the samples are nearer to what is expected where they come in batches of another size. */
export async function measureBatches(
  model: Model,
  { path, limit, sizes, sections }: Asked<"batches">,
): Measured<"batches"> {
  const found: BatchFound[] = [];
  const compared = sections
    .filter(({ tolerance }) => tolerance !== null)
    .map((section) => ({ ...section, scoring: null, metrics: null }));
  for (const size of sizes) {
    const asked = {
      kind: "golden",
      path,
      limit,
      batchSize: size,
      sections: compared,
      finiteOnly: false,
    } as const;
    const measured = await measureGolden(model, asked);
    if (!measured.ok) return measured;
    const comparisons = measured.value.answer.measured.sections.flatMap(({ comparison }) =>
      comparison === null ? [] : [comparison],
    );
    found.push({
      size,
      beyond: comparisons.reduce((sum, { beyond }) => sum + beyond, 0),
      cosine: Math.min(1, ...comparisons.map(({ lowestCosine }) => lowestCosine?.cosine ?? 1)),
    });
  }
  return ok({ kind: "batches", found });
}

/** The samples alone: labels and known outputs are left aside. */
export async function readGolden(
  signature: Signature,
  { path, limit }: NonNullable<Samples>,
  batchSize: number | null = null,
): Promise<Result<GoldenSet, Refusal>> {
  const wants = { labels: false, outputs: false, batchSize };
  const read = await readGoldenSet(await readFile(path), signature, wants, limit);
  return read.ok ? read : refuse(read.error.because, read.error.message);
}

/** What fed the model: of synthetic input, a model may be right to refuse it. */
function refusedInput(
  golden: GoldenSet | null,
  message: string,
): { readonly ok: false; readonly error: Refusal } {
  return golden === null
    ? refuse(
        "input",
        `the model refused synthetic input, perhaps rightly: ${message}; provide a golden set to use its samples instead`,
      )
    : refuse("run", message);
}

/** A run that failed. */
export function ofRun(
  golden: GoldenSet | null,
  { because, message }: Refusal,
): { readonly ok: false; readonly error: Refusal } {
  return because === "run" ? refusedInput(golden, message) : refuse(because, message);
}

export async function measureDeterminism(
  model: Model,
  golden: GoldenSet | null,
  { runs, tolerance, batchSize }: Asked<"determinism">,
): Measured<"determinism"> {
  // No more at once than the golden set has: the model is asked for repetition, not for more memory.
  const size = batchSize ?? golden?.batch.size ?? SYNTHETIC_SAMPLES;
  const chosen = chooseInput(model.signature, golden, Math.min(size, golden?.samples ?? size));
  if (!chosen.ok) return refuse("input", chosen.error);
  const { feeds, input } = chosen.value;
  const first = await model.run(feeds);
  if (!first.ok) return ofRun(golden, first.error);
  const comparing = createComparisonAccumulator(tolerance);
  for (let run = 1; run < runs; run += 1) {
    const again = await model.run(feeds);
    if (!again.ok) return ofRun(golden, again.error);
    // Runs stand in for samples: the worst example names the run.
    for (const [name, value] of first.value) {
      const got = again.value.get(name);
      const unlike = comparing.add({ from: run, samples: 1 }, name, asOneSample(value), got);
      // Another shape or type than in the first run is another answer.
      if (unlike !== null) comparing.differs(run, name, value, got);
    }
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
  /** Whether the samples are synthetic. */
  readonly synthetic: boolean;
};

export async function rememberAnswers(
  model: Model,
  { samples, limit, batchSize }: Asked<"remember">,
): Promise<Result<Remembered, Refusal>> {
  const source = await parityInput(model, samples, batchSize);
  if (!source.ok) return source;
  const { golden, input } = source.value;
  const runs: Remembered["runs"][number][] = [];
  let bytes = 0;
  for (let at = 0; at < golden.runs; at += 1) {
    const { from, samples: count, feeds } = golden.runAt(at);
    const outputs = await model.run(feeds);
    if (!outputs.ok && samples === null) return ofRun(null, outputs.error);
    if (!outputs.ok) return outputs;
    for (const value of outputs.value.values()) bytes += sizeOf(value);
    if (bytes > limit) return refuse("memory", `its answers to the samples take more than ${limit} bytes`);
    runs.push({ from, samples: count, feeds, outputs: outputs.value });
  }
  return ok({ runs, samples: golden.samples, input, synthetic: samples === null });
}

type Source = {
  readonly golden: Pick<GoldenSet, "samples" | "runs" | "runAt">;
  readonly input: string;
};

async function parityInput(
  model: Model,
  samples: Samples,
  batchSize: number | null,
): Promise<Result<Source, Refusal>> {
  if (samples !== null) {
    const read = await readGolden(model.signature, samples, batchSize);
    if (!read.ok) return refuse("compare", read.error.message);
    return ok({ golden: read.value, input: `${read.value.samples} golden samples${batchText(read.value)}` });
  }
  const most = batchSize ?? SYNTHETIC_SAMPLES;
  const made = syntheticFeeds(model.signature.inputs, most);
  if (!made.ok) return refuse("input", `${made.error}; provide a golden set to use its samples instead`);
  const free = model.signature.inputs.some(({ shape }) => typeof shape[0] === "string");
  const count = free ? most : 1;
  const run = { from: 0, samples: count, feeds: made.value, labels: new Map(), expected: new Map() };
  return ok({
    golden: { samples: count, runs: 1, runAt: () => run },
    input: count === 1 ? "one synthetic input" : `${count} synthetic samples`,
  });
}

export async function compareAnswers(
  model: Model,
  remembered: Remembered,
  { sections }: Asked<"compare">,
): Measured<"parity"> {
  const { outputs: infos } = model.signature;
  const measuring = sections.map((section) => createParityAccumulator(section, infos));
  for (const run of remembered.runs) {
    const outputs = await model.run(run.feeds);
    if (!outputs.ok && remembered.synthetic && outputs.error.because === "run")
      return ofRun(null, outputs.error);
    if (!outputs.ok) return refuse("compare", `${runText(run)}: ${outputs.error.message}`);
    for (const one of measuring) {
      const problem = one.add(run, outputs.value);
      if (problem !== null) return refuse(problem.because, problem.message);
    }
  }
  const found = measuring.map((one) => one.found());
  const used = found.flatMap(({ agreement, comparison }) => [
    ...(agreement === null ? [] : [agreement.output]),
    ...(comparison?.outputs ?? []),
  ]);
  return ok({
    kind: "parity",
    measured: {
      samples: remembered.samples,
      input: remembered.input,
      sections: found,
      ignored: infos.map(({ name }) => name).filter((name) => !used.includes(name)),
    },
  });
}

export async function measureLatency(
  model: Model,
  golden: GoldenSet | null,
  { warmup, samples, batchSize }: Asked<"latency">,
): Measured<"latency"> {
  const chosen = chooseInput(model.signature, golden, batchSize);
  if (!chosen.ok) return refuse("input", chosen.error);
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
    return ofRun(golden, refusedBy(thrown, `fed with ${input}: `));
  }
  return ok({ kind: "latency", runs, input });
}

export async function measureThroughput(
  model: Model,
  golden: GoldenSet | null,
  { milliseconds, batchSize }: Asked<"throughput">,
): Measured<"throughput"> {
  const chosen = chooseInput(model.signature, golden, batchSize);
  if (!chosen.ok) return refuse("input", chosen.error);
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
    return ofRun(golden, refusedBy(thrown, `fed with ${input}: `));
  }
}

/** Samples of the golden set where there is one: what a model does can depend on what it is given. */
export function chooseInput(
  signature: Signature,
  golden: GoldenSet | null,
  batchSize: number,
): Result<{ readonly feeds: Values; readonly input: string; readonly batchSize: number }, string> {
  if (golden === null) {
    const made = syntheticFeeds(signature.inputs, batchSize);
    if (!made.ok) return err(`${made.error}; provide a golden set to use its samples instead`);
    const size = batchOf(signature, made.value);
    return ok({ feeds: made.value, input: `batch ${size} of synthetic input`, batchSize: size });
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
