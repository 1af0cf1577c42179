import { open, readFile } from "node:fs/promises";
import { Socket } from "node:net";
import { err, ok, type Result, unreachable } from "../../base/result.ts";
import { bytesInFile } from "../files/byte-source.ts";
import type { GoldenSet } from "../golden/types.ts";
import { adaptModel, needsAdapter } from "../onnx/adapter.ts";
import { type OnnxFile, readOnnxFile } from "../onnx/file.ts";
import type { Signature } from "../onnx/tensor.ts";
import { frameOf, frameReader } from "../protocol/framing.ts";
import type { Answer, Question } from "../protocol/messages.ts";
import {
  chooseInput,
  compareAnswers,
  measureBatches,
  measureDeterminism,
  measureGolden,
  measureLatency,
  measureThroughput,
  ofRun,
  type Remembered,
  readGolden,
  rememberAnswers,
} from "./measure.ts";
import { markMemory } from "./peak-memory.ts";
import {
  type Loadable,
  type Model,
  messageOf,
  openModel,
  type Refusal,
  runtimeVersion,
  unknownOperators,
} from "./session.ts";

// The program of the child process: one model, from load to the last measurement. `run` and `create` block the event
// loop, so nothing here has a deadline: the parent has, and kills.

const OUT_OF_MEMORY =
  /failed to allocate memory|bad_alloc|bad allocation|array buffer allocation failed|out of memory/i;

let model: Model | null = null;
let golden: GoldenSet | null = null;
let remembered: Remembered | null = null;

const channel = new Socket({ fd: 3 });
const read = frameReader(Number.MAX_SAFE_INTEGER, (question) => {
  answer(question as Question).then(send, (thrown: unknown) => {
    const message = messageOf(thrown);
    send(OUT_OF_MEMORY.test(message) ? refused({ because: "memory", message }) : { kind: "broken", message });
  });
});
channel.on("data", read);
// A sidecar that is gone needs no answers.
channel.on("close", () => process.exit(0)).on("error", () => process.exit(0));
send({ kind: "ready", runtimeVersion });

function send(message: Answer): void {
  channel.write(frameOf(message));
}

function refused({ because, message }: Refusal): Answer {
  return { kind: "refused", because: OUT_OF_MEMORY.test(message) ? "memory" : because, message };
}

async function answer(question: Question): Promise<Answer> {
  const answered = await attempt(question);
  return answered.ok ? answered.value : refused(answered.error);
}

async function attempt(question: Question): Promise<Result<Answer, Refusal>> {
  switch (question.kind) {
    case "load": {
      const loaded = await load(question.path, question.threads);
      if (!loaded.ok) return loaded;
      model = loaded.value.model;
      const { irVersion, producer, opsets, operators, nodes, parameters } = loaded.value.file;
      const file = { irVersion, producer, opsets, operators, nodes, parameters };
      return ok({ kind: "loaded", signature: model.signature, file });
    }
    case "golden": {
      const measured = await measureGolden(theModel(), question);
      if (!measured.ok) return measured;
      golden = measured.value.golden;
      return ok(measured.value.answer);
    }
    case "batches":
      return measureBatches(theModel(), question);
    case "determinism":
      return measureDeterminism(theModel(), golden, question);
    case "remember": {
      const answers = await rememberAnswers(theModel(), question);
      if (!answers.ok) return answers;
      remembered = answers.value;
      await theModel().release();
      model = null;
      return ok({ kind: "remembered" });
    }
    case "compare":
      if (remembered === null) throw new Error("nothing is remembered");
      return compareAnswers(theModel(), remembered, question);
    case "latency":
      return measureLatency(theModel(), golden, question);
    case "throughput":
      return measureThroughput(theModel(), golden, question);
    case "memory":
      return measureMemory(question);
    default:
      return unreachable(question);
  }
}

function theModel(): Model {
  if (model === null) throw new Error("no model is loaded");
  return model;
}

async function load(
  path: string,
  threads: number,
): Promise<Result<{ readonly model: Model; readonly file: OnnxFile }, Refusal>> {
  const file = await readHeader(path);
  if (!file.ok) return err({ because: "load", message: file.error });
  const [external] = file.value.externalTensors;
  if (external !== undefined)
    return err({
      because: "external",
      message: `tensor "${external}" is kept in another file; a release is one file: save the model without external data`,
    });
  const prepared = await loadable(path, file.value);
  if (!prepared.ok) return err({ because: "load", message: prepared.error });
  const opened = await openModel(prepared.value, threads);
  const long = opened.ok ? longName(opened.value.signature) : null;
  if (long !== null) return err({ because: "load", message: long });
  if (opened.ok) return ok({ model: opened.value, file: file.value });
  const unknown =
    opened.error.because === "operator"
      ? await unknownOperators(file.value.operators, file.value.opsets)
      : [];
  if (unknown.length === 0) return opened;
  const names = unknown.map(
    ({ domain, name, count }) => `${domain === "" ? "" : `${domain}.`}${name} (${count}×)`,
  );
  return err({
    because: "operator",
    message: `ONNX Runtime does not know ${names.join(", ")}: ${opened.error.message}`,
  });
}

const LONGEST_NAME = 1024;

/** Names go into verdicts: one that is too long to read is refused. `null`: there is none. */
function longName({ inputs, outputs }: Signature): string | null {
  for (const { name, shape } of [...inputs, ...outputs])
    for (const text of [name, ...shape])
      if (typeof text === "string" && text.length > LONGEST_NAME)
        return `the name "${text.slice(0, 20)}…" of an input, output or axis has ${text.length} characters, more than ${LONGEST_NAME}`;
  return null;
}

/** A window of the file is in memory at a time: the model may be as large as the memory it may use. */
async function readHeader(path: string): Promise<Result<OnnxFile, string>> {
  const file = await open(path);
  try {
    return readOnnxFile(bytesInFile(file.fd, (await file.stat()).size));
  } finally {
    await file.close();
  }
}

/** As it is, wherever ONNX Runtime for Node can take and hand out all of its inputs and outputs. */
async function loadable(path: string, file: OnnxFile): Promise<Result<Loadable, string>> {
  if (!needsAdapter(file)) return ok({ source: path, adapted: null });
  const by = adaptModel(await readFile(path), file);
  return by.ok ? ok({ source: by.value.bytes, adapted: { file, by: by.value } }) : by;
}

/** A graph that hands its only input on: what ONNX Runtime itself takes once it runs anything at all. */
const SMALLEST_MODEL = Buffer.from(
  "CAkSE2VkZ2UtZmxlZXQtb3BlcmF0b3I6RgocCgF4EgF5GgpJZGVudGl0eV95IghJZGVudGl0eRIEbWFpbloPCgF4EgoKCAgB" +
    "EgQKAggBYg8KAXkSCgoICAESBAoCCAFCBAoAEBE=",
  "base64",
);
const FEW_RUNS = 5;

async function measureMemory(
  question: Extract<Question, { readonly kind: "memory" }>,
): Promise<Result<Answer, Refusal>> {
  const { path, threads, batchSize, signature, samples } = question;
  const set = samples === null ? ok(null) : await readGolden(signature, samples);
  if (!set.ok) return set;
  const chosen = chooseInput(signature, set.value, batchSize);
  if (!chosen.ok) return err({ because: "input", message: chosen.error });
  const file = await readHeader(path);
  const prepared = file.ok ? await loadable(path, file.value) : file;
  if (!prepared.ok) return err({ because: "load", message: prepared.error });
  const smallest = await openModel({ source: SMALLEST_MODEL, adapted: null }, threads);
  if (!smallest.ok) return smallest;
  await smallest.value.run({ x: { type: "float32", shape: [1], data: Float32Array.of(0) } });
  await smallest.value.release();
  const mark = markMemory();
  const loaded = await openModel(prepared.value, threads);
  if (!loaded.ok) return loaded;
  for (let run = 0; run < FEW_RUNS; run += 1) {
    const outputs = await loaded.value.run(chosen.value.feeds);
    if (!outputs.ok) return ofRun(set.value, outputs.error);
  }
  return ok({ kind: "memory", bytes: mark.peak(), input: chosen.value.input });
}
