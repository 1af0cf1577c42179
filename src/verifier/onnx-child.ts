import { readFile } from "node:fs/promises";
import { err, ok, type Result, unreachable } from "../base/result.ts";
import {
  type Accuracy,
  countCorrect,
  fetchableOutputs,
  type GoldenMeasured,
  scoresOutput,
  sideText,
  widenError,
} from "./checks.ts";
import { type GoldenSet, readGoldenSet } from "./golden.ts";
import { madeUpFeeds } from "./latency-input.ts";
import type { Answer, Question, Refusal } from "./model-messages.ts";
import { readOnnxFile } from "./onnx-file.ts";
import { isNumericType, type Signature, type TensorValue, tensorText, tileRows } from "./tensor.ts";

// The program of the child process: one model, from load to the last measurement. The only file that loads ONNX
// Runtime. `run` and `create` block the event loop, so nothing here has a deadline: the parent has, and kills.

// Node cannot hand a Float16Array to native code yet: without the class, ONNX Runtime takes and gives Uint16Array.
Reflect.deleteProperty(globalThis, "Float16Array");
// By name and late: an import at the top would run before the line above.
const ort = await import("onnxruntime-node");
type Session = Awaited<ReturnType<typeof ort.InferenceSession.create>>;
type Feeds = Parameters<Session["run"]>[0];

type Loaded = {
  readonly session: Session;
  readonly signature: Signature;
  readonly outputs: readonly string[];
  golden: GoldenSet | null;
};

/** What the model or the golden set cannot do. */
type No = { readonly because: Refusal; readonly message: string };

const OUT_OF_MEMORY =
  /failed to allocate memory|bad_alloc|bad allocation|array buffer allocation failed|out of memory/i;
const FATAL = 4;

let loaded: Loaded | null = null;

ort.env.logLevel = "fatal";
process.on("message", (question: Question) => {
  answer(question).then(send, (thrown: unknown) => {
    const message = messageOf(thrown);
    send(OUT_OF_MEMORY.test(message) ? refused({ because: "memory", message }) : { kind: "broken", message });
  });
});
// A sidecar that is gone needs no answers.
process.on("disconnect", () => process.exit(0));
send({ kind: "ready", runtimeVersion: ort.env.versions.node ?? "unknown" });

function send(message: Answer): void {
  process.send?.(message);
}

function refused({ because, message }: No): Answer {
  return { kind: "refused", because: OUT_OF_MEMORY.test(message) ? "memory" : because, message };
}

async function answer(question: Question): Promise<Answer> {
  switch (question.kind) {
    case "load": {
      const model = await load(question.path, question.threads);
      if (!model.ok) return refused(model.error);
      loaded = model.value;
      return { kind: "loaded", signature: loaded.signature };
    }
    case "golden": {
      const measured = await runGolden(theModel(), question);
      return measured.ok ? { kind: "golden", measured: measured.value } : refused(measured.error);
    }
    case "latency": {
      const measured = await runLatency(theModel(), question);
      return measured.ok ? { kind: "latency", ...measured.value } : refused(measured.error);
    }
    default:
      return unreachable(question);
  }
}

function theModel(): Loaded {
  if (loaded === null) throw new Error("no model is loaded");
  return loaded;
}

function messageOf(thrown: unknown): string {
  return (thrown instanceof Error ? thrown.message : String(thrown)).slice(0, 4096);
}

function no(because: Refusal, message: string): { readonly ok: false; readonly error: No } {
  return err({ because, message });
}

/** ONNX Runtime throws plain errors without a code; what they are about is known by what was asked of it. */
async function vendor<T>(because: Refusal, work: () => Promise<T>): Promise<Result<T, No>> {
  try {
    return ok(await work());
  } catch (thrown) {
    return no(because, messageOf(thrown));
  }
}

async function load(path: string, threads: number): Promise<Result<Loaded, No>> {
  const bytes = await readFile(path);
  const file = readOnnxFile(bytes);
  if (!file.ok) return no("load", file.error);
  const [external] = file.value.externalTensors;
  if (external !== undefined)
    return no(
      "load",
      `tensor "${external}" is kept in another file; a release is one file: save the model without external data`,
    );
  const created = await vendor("load", () =>
    ort.InferenceSession.create(bytes, {
      executionProviders: ["cpu"],
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: "sequential",
      logSeverityLevel: FATAL,
    }),
  );
  if (!created.ok) return created;
  const session = created.value;
  const signature = { inputs: infosOf(session.inputMetadata), outputs: infosOf(session.outputMetadata) };
  const outputs = fetchableOutputs(signature);
  if (outputs.length === 0)
    return no("load", `none of the outputs can be read: ${sideText(signature.outputs)}`);
  return ok({ session, signature, outputs, golden: null });
}

function infosOf(metadata: Session["inputMetadata"]): Signature["inputs"] {
  return metadata.map((one) =>
    one.isTensor
      ? { name: one.name, type: one.type, shape: [...one.shape] }
      : { name: one.name, type: "not a tensor", shape: [] },
  );
}

async function runGolden(
  model: Loaded,
  question: Extract<Question, { readonly kind: "golden" }>,
): Promise<Result<GoldenMeasured, No>> {
  const read = readGoldenSet(await readFile(question.path), model.signature, question.wants, question.limit);
  if (!read.ok) return no("golden", read.error);
  const golden = read.value;
  model.golden = golden;
  let measured: GoldenMeasured = { accuracy: null, largestError: null };
  for (let from = 0; from < golden.samples; from += golden.batchSize) {
    const to = Math.min(from + golden.batchSize, golden.samples);
    const outputs = await runOnce(model, golden.feedsOf(from, to));
    if (!outputs.ok) {
      const { because, message } = outputs.error;
      return no(because, `samples ${from} to ${to - 1}: ${message}`);
    }
    const next = judgeRun(measured, outputs.value, golden, { from, to });
    if (!next.ok) return no("golden", next.error);
    measured = next.value;
  }
  return ok(measured);
}

/** What is known after one more run. */
function judgeRun(
  had: GoldenMeasured,
  outputs: ReadonlyMap<string, TensorValue>,
  golden: GoldenSet,
  { from, to }: { readonly from: number; readonly to: number },
): Result<GoldenMeasured, string> {
  let { accuracy, largestError } = had;
  if (golden.labels !== null) {
    const counted = countLabels(accuracy, outputs, golden.labels.slice(from, to));
    if (!counted.ok) return counted;
    accuracy = counted.value;
  }
  for (const name of golden.known) {
    const got = outputs.get(name);
    const expected = golden.expectedOf(name, from, to);
    if (got === undefined || got.data.length !== expected.data.length)
      return err(
        `array "output:${name}" is ${tensorText(expected)} for ${to - from} samples, the model answers ${got === undefined ? "nothing" : tensorText(got)}`,
      );
    largestError = widenError(largestError, name, { expected, got }, from);
  }
  return ok({ accuracy, largestError });
}

function countLabels(
  had: Accuracy | null,
  outputs: ReadonlyMap<string, TensorValue>,
  labels: readonly number[],
): Result<Accuracy, string> {
  const found = scoresOutput(outputs, labels.length);
  // The output is chosen once: the last run may be a smaller one.
  const output = had?.output ?? found?.output;
  const scores = output === undefined ? undefined : outputs.get(output);
  if (output === undefined || scores === undefined) {
    const answered = [...outputs].map(([name, tensor]) => ({ ...tensor, name }));
    return err(`no output has one score for each class of each sample: ${sideText(answered)}`);
  }
  const classes = scores.data.length / labels.length;
  const outside = labels.find((label) => label >= classes);
  if (outside !== undefined)
    return err(`label ${outside} is none of the ${classes} classes of output "${output}"`);
  return ok(countCorrect(had ?? { output, samples: 0, correct: 0, worst: null }, scores, labels));
}

async function runLatency(
  model: Loaded,
  question: Extract<Question, { readonly kind: "latency" }>,
): Promise<Result<{ readonly runs: Float64Array; readonly input: string }, No>> {
  const chosen = latencyInput(model, question.batchSize);
  if (!chosen.ok) return no("run", chosen.error);
  const { feeds, input } = chosen.value;
  const runs = new Float64Array(question.samples);
  const measured = await vendor("run", async () => {
    for (let index = 0; index < question.warmup; index += 1) await model.session.run(feeds, model.outputs);
    for (let index = 0; index < question.samples; index += 1) {
      const start = process.hrtime.bigint();
      await model.session.run(feeds, model.outputs);
      runs[index] = Number(process.hrtime.bigint() - start) / 1e6;
    }
  });
  return measured.ok ? ok({ runs, input }) : no("run", `fed with ${input}: ${measured.error.message}`);
}

/** Samples of the golden set where there is one: what a model does can depend on what it is given. */
function latencyInput(
  model: Loaded,
  batchSize: number,
): Result<{ readonly feeds: Feeds; readonly input: string }, string> {
  const { golden } = model;
  if (golden === null) {
    const made = madeUpFeeds(model.signature.inputs, batchSize);
    if (!made.ok) return err(`${made.error}; give a golden set, and its samples are used`);
    return ok({ feeds: tensorsOf(made.value), input: `batch ${batchSize} of made-up input` });
  }
  const rows = golden.feedsOf(0, golden.batchSize);
  if (!golden.free)
    return ok({ feeds: tensorsOf(rows), input: `batch ${golden.batchSize} of golden samples` });
  const tiled = Object.entries(rows).map(([name, tensor]) => [name, tileRows(tensor, batchSize)] as const);
  return ok({
    feeds: tensorsOf(Object.fromEntries(tiled)),
    input: `batch ${batchSize} of golden samples`,
  });
}

function tensorsOf(values: Readonly<Record<string, TensorValue>>): Feeds {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [
      name,
      new ort.Tensor(value.type, value.data, [...value.shape]),
    ]),
  );
}

async function runOnce(
  model: Loaded,
  values: Readonly<Record<string, TensorValue>>,
): Promise<Result<ReadonlyMap<string, TensorValue>, No>> {
  const answered = await vendor("run", () => model.session.run(tensorsOf(values), model.outputs));
  if (!answered.ok) return answered;
  const outputs = new Map<string, TensorValue>();
  for (const name of model.outputs) {
    const tensor = answered.value[name];
    // What `isNumericType` lets through is never an array of strings.
    if (tensor !== undefined && isNumericType(tensor.type))
      outputs.set(name, { type: tensor.type, shape: tensor.dims, data: tensor.data as TensorValue["data"] });
  }
  return ok(outputs);
}
