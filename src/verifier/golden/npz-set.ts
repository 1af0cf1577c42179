import { err, ok, type Result } from "../../base/result.ts";
import {
  carrierOf,
  rowsOf,
  type Signature,
  type TensorInfo,
  tensorText,
  tileRows,
  type Value,
} from "../onnx/tensor.ts";
import { createVocabulary, type Labels, labelRows, labelsOf, type Vocabulary } from "./labels.ts";
import { readNpz } from "./numpy.ts";
import { type GoldenFault, type GoldenSet, type GoldenWants, misfits, unreadable } from "./types.ts";

/** The first axis counts samples. `along`: it is the model's own first axis; `stacked`: the model has no such axis. */
type Layout = "along" | "stacked";

export const LARGEST_BATCH = 64;
const LABELS = "labels";
const OUTPUT = "output:";

/**
 * Reads a golden set (a numpy .npz with arrays named like the inputs, `labels` or `labels:<output>`, `output:<name>`) and
 * holds it against the model. The first axis of every array counts samples; an array may have one axis more than its
 * input, and its samples are then run one at a time.
 * @param limit bytes that the set may take once inflated.
 * @returns the set, or why it cannot be used with this model.
 */
export function readNpzSet(
  bytes: Uint8Array,
  model: Signature,
  wants: GoldenWants,
  limit: number,
): Result<GoldenSet, GoldenFault> {
  const read = readNpz(bytes, limit);
  if (!read.ok) return err(unreadable(`the golden set cannot be read: ${read.error}`));
  const arrays = read.value;
  const problems = [...strangersIn(arrays, model), ...unmetWants(arrays, wants)];

  const samples = samplesIn(arrays, model);
  if (samples === 0) return err(misfits([...problems, "the golden set has no samples"]));
  for (const [name, array] of arrays)
    if (array.shape[0] !== samples)
      problems.push(`array "${name}" has ${array.shape[0] ?? 0} samples where others have ${samples}`);

  const layouts = new Map<string, Layout>();
  for (const input of model.inputs) {
    const array = arrays.get(input.name);
    const layout: Result<Layout, string> =
      array === undefined
        ? err(`the golden set has no array for input "${input.name}"`)
        : layoutOf(array, input);
    if (layout.ok) layouts.set(input.name, layout.value);
    else problems.push(layout.error);
  }
  const batch =
    layouts.size === model.inputs.length
      ? batchOf(model.inputs, layouts, samples, wants.batchSize ?? null)
      : ok({ size: 1, free: false });
  if (!batch.ok) problems.push(batch.error);
  const known = wants.outputs || wants.either === true ? knownOutputs(arrays) : [];
  for (const name of known) {
    const info = model.outputs.find((one) => one.name === name);
    const array = arrays.get(`${OUTPUT}${name}`);
    if (info === undefined || array === undefined) continue;
    const problem = outputProblem(array, info, batch.ok ? batch.value.size : 1);
    if (problem !== null) problems.push(problem);
  }
  const labels = wants.labels || wants.either === true ? readLabels(arrays, samples, problems) : NO_LABELS;
  if (problems.length > 0 || !batch.ok) return err(misfits(problems));
  return ok(setOf({ arrays, samples, layouts, batch: batch.value, labels, known }));
}

const NO_LABELS: ReadonlyMap<string, Labels> = new Map();

/** As many as the inputs have; an array that is wrong is not what the others are held against. */
function samplesIn(arrays: ReadonlyMap<string, Value>, { inputs }: Signature): number {
  const input = inputs.find(({ name }) => arrays.has(name));
  const first = input === undefined ? [...arrays.values()][0] : arrays.get(input.name);
  return first?.shape[0] ?? 0;
}

function readLabels(
  arrays: ReadonlyMap<string, Value>,
  samples: number,
  problems: string[],
): ReadonlyMap<string, Labels> {
  const found = new Map<string, Labels>();
  const vocabularies = new Map<string, Vocabulary>();
  for (const [name, array] of arrays) {
    const output = labelled(name);
    if (output === null) continue;
    const vocabulary = vocabularies.get(output) ?? createVocabulary();
    vocabularies.set(output, vocabulary);
    const labels = labelsOf(name, array, samples, vocabulary);
    if (labels.ok) found.set(output, labels.value);
    else problems.push(labels.error);
  }
  return found;
}

/** The output that an array of labels is for, empty for any; `null`: it is none. */
function labelled(name: string): string | null {
  if (name === LABELS) return "";
  return name.startsWith(`${LABELS}:`) ? name.slice(LABELS.length + 1) : null;
}

function setOf({
  arrays,
  samples,
  layouts,
  batch,
  labels,
  known,
}: {
  readonly arrays: ReadonlyMap<string, Value>;
  readonly samples: number;
  readonly layouts: ReadonlyMap<string, Layout>;
  readonly batch: { readonly size: number; readonly free: boolean };
  readonly labels: ReadonlyMap<string, Labels>;
  readonly known: readonly string[];
}): GoldenSet {
  const slice = (name: string, from: number, to: number, layout: Layout): Value => {
    const rows = rowsOf(arrays.get(name) ?? EMPTY, from, to);
    return layout === "stacked" ? { ...rows, shape: rows.shape.slice(1) } : rows;
  };
  const feedsOf = (from: number, to: number) =>
    Object.fromEntries([...layouts].map(([name, layout]) => [name, slice(name, from, to, layout)] as const));
  const { size, free } = batch;
  return {
    samples,
    runs: Math.ceil(samples / size),
    batch,
    notes: [],
    runAt: (index) => {
      const from = index * size;
      const to = Math.min(from + size, samples);
      return {
        from,
        samples: to - from,
        feeds: feedsOf(from, to),
        labels: new Map([...labels].map(([name, all]) => [name, labelRows(all, from, to)] as const)),
        expected: new Map(known.map((name) => [name, slice(`${OUTPUT}${name}`, from, to, "along")] as const)),
      };
    },
    feedsFor: (batchSize) => {
      const feeds = feedsOf(0, Math.min(size, samples));
      if (!free) return { feeds, batchSize: size };
      const tiled = Object.entries(feedsOf(0, Math.min(batchSize, samples))).map(
        ([name, tensor]) => [name, tileRows(tensor, batchSize)] as const,
      );
      return { feeds: Object.fromEntries(tiled), batchSize };
    },
  };
}

const EMPTY: Value = { type: "float32", shape: [0], data: new Float32Array() };

function strangersIn(arrays: ReadonlyMap<string, Value>, model: Signature): readonly string[] {
  return [...arrays.keys()].flatMap((name) => {
    if (name === LABELS || model.inputs.some((input) => input.name === name)) return [];
    const output = name.startsWith(OUTPUT) ? name.slice(OUTPUT.length) : labelled(name);
    if (output === null)
      return [
        `array "${name}" is neither an input of the model (${namesOf(model.inputs)}) nor labels nor output:<name>`,
      ];
    const info = model.outputs.find((one) => one.name === output);
    if (info === undefined)
      return [`array "${name}": the model has no such output; it has ${namesOf(model.outputs)}`];
    if (name.startsWith(OUTPUT) && carrierOf(info.type) === null && info.keys === undefined)
      return [
        `array "${name}": the output is ${info.type}, which an .npz cannot hold; save ONNX test data instead`,
      ];
    return [];
  });
}

function unmetWants(arrays: ReadonlyMap<string, Value>, wants: GoldenWants): readonly string[] {
  const hasLabels = [...arrays.keys()].some((name) => labelled(name) !== null);
  const hasOutputs = knownOutputs(arrays).length > 0;
  return [
    ...(wants.labels && !hasLabels
      ? ["a bound on accuracy needs an array `labels`, and the golden set has none"]
      : []),
    ...(wants.outputs && !hasOutputs
      ? ["a bound on errors or cosine needs an array `output:<name>`, and the golden set has none"]
      : []),
    ...(wants.either === true && !hasLabels && !hasOutputs
      ? ["its bounds need an array `output:<name>` or `labels`, and the golden set has neither"]
      : []),
  ];
}

/** Type and shape are the model's own, axes of length 1 too; the first axis counts samples. */
function outputProblem(array: Value, info: TensorInfo, batchSize: number): string | null {
  const what = `array "${OUTPUT}${info.name}" is ${tensorText(array)}, the model's output is ${tensorText(info)}`;
  if (info.keys !== undefined) {
    const fits =
      array.type.startsWith("float") && array.shape.length === 2 && array.shape[1] === info.keys.length;
    return fits ? null : `${what}: save one column for each of its ${info.keys.length} keys`;
  }
  const type = carrierOf(info.type);
  if (type !== null && array.type !== type)
    return `${what}; save it with .astype("${type === "string" ? "U" : type}")`;
  if (info.shape.length === 0) return null;
  const fitting = (shape: readonly number[], wanted: readonly (number | string)[]) =>
    shape.length === wanted.length &&
    wanted.every((axis, index) => typeof axis === "string" || axis === shape[index]);
  const [samples, ...rest] = info.shape;
  const along = (typeof samples === "string" || samples === batchSize) && fitting(array.shape.slice(1), rest);
  const stacked = batchSize === 1 && fitting(array.shape.slice(1), info.shape);
  return along || stacked ? null : `${what}, and its first axis counts samples`;
}

function knownOutputs(arrays: ReadonlyMap<string, Value>): readonly string[] {
  return [...arrays.keys()]
    .filter((name) => name.startsWith(OUTPUT))
    .map((name) => name.slice(OUTPUT.length));
}

function namesOf(infos: readonly TensorInfo[]): string {
  return infos.map((info) => info.name).join(", ");
}

function layoutOf(array: Value, input: TensorInfo): Result<Layout, string> {
  const what = `array "${input.name}" is ${tensorText(array)}, the model's input is ${tensorText(input)}`;
  const type = carrierOf(input.type);
  if (type === null) return err(`${what}, which an .npz cannot hold; save ONNX test data instead`);
  if (array.type !== type) return err(`${what}; save it with .astype("${type === "string" ? "U" : type}")`);
  const layout: Layout = array.shape.length === input.shape.length + 1 ? "stacked" : "along";
  if (layout === "along" && array.shape.length !== input.shape.length) return err(what);
  if (input.shape.length === 0 && layout === "along") return err(what);
  const ofSample = array.shape.slice(1);
  const wanted = layout === "stacked" ? input.shape : input.shape.slice(1);
  const fits = wanted.every((axis, index) => typeof axis === "string" || axis === ofSample[index]);
  return fits ? ok(layout) : err(what);
}

/** As many as the model takes at once: its own fixed first axis, or what was asked for where that is free, or one. */
function batchOf(
  inputs: readonly TensorInfo[],
  layouts: ReadonlyMap<string, Layout>,
  samples: number,
  wanted: number | null,
): Result<{ readonly size: number; readonly free: boolean }, string> {
  const fixed = new Set<number>();
  let stacked = false;
  for (const input of inputs) {
    const axis = input.shape[0];
    if (layouts.get(input.name) === "stacked") stacked = true;
    else if (typeof axis === "number") fixed.add(axis);
  }
  const [size, other] = [...fixed];
  if (other !== undefined) return err(`the first axes of the model's inputs differ (${size}, ${other})`);
  if (stacked && size !== undefined && size !== 1)
    return err(`one input takes ${size} samples at once, another takes one`);
  const own = stacked ? 1 : size;
  if (own === undefined)
    return ok({ size: Math.min(wanted ?? LARGEST_BATCH, samples), free: inputs.length > 0 });
  if (wanted !== null && wanted !== own)
    return err(`the model takes ${own} samples at once, and batchSize is ${wanted}`);
  if (own < 1 || samples % own !== 0)
    return err(`the model takes ${own} samples at once, and ${samples} is not a multiple of that`);
  return ok({ size: own, free: false });
}
