import { err, ok, type Result } from "../base/result.ts";
import type { GoldenSet, GoldenWants } from "./golden.ts";
import { labelsOf } from "./golden-labels.ts";
import { readNpz } from "./npz.ts";
import {
  carrierOf,
  rowsOf,
  type Signature,
  type TensorInfo,
  tensorText,
  tileRows,
  type Value,
} from "./tensor.ts";

/** The first axis counts samples. `along`: it is the model's own first axis; `stacked`: the model has no such axis. */
type Layout = "along" | "stacked";

const LARGEST_BATCH = 64;
const LABELS = "labels";
const OUTPUT = "output:";

/**
 * Reads a golden set (a numpy .npz with arrays named like the inputs, `labels`, `output:<name>`) and holds it against
 * the model. The first axis of every array counts samples; an array may have one axis more than its input, and its
 * samples are then run one at a time.
 * @param limit bytes that the set may take once inflated.
 * @returns the set, or a sentence that says why it cannot be used with this model.
 */
export function readNpzSet(
  bytes: Uint8Array,
  model: Signature,
  wants: GoldenWants,
  limit: number,
): Result<GoldenSet, string> {
  const arrays = readNpz(bytes, limit);
  if (!arrays.ok) return err(`the golden set cannot be read: ${arrays.error}`);
  const problem = strangersIn(arrays.value, model) ?? unmetWants(arrays.value, wants);
  if (problem !== null) return err(problem);

  const first = arrays.value.values().next().value;
  const samples = first?.shape[0] ?? 0;
  if (samples === 0) return err("the golden set has no samples");
  for (const [name, array] of arrays.value)
    if (array.shape[0] !== samples)
      return err(`array "${name}" has ${array.shape[0] ?? 0} samples where others have ${samples}`);

  const layouts = new Map<string, Layout>();
  for (const input of model.inputs) {
    const array = arrays.value.get(input.name);
    if (array === undefined) return err(`the golden set has no array for input "${input.name}"`);
    const layout = layoutOf(array, input);
    if (!layout.ok) return layout;
    layouts.set(input.name, layout.value);
  }
  const batch = batchOf(model.inputs, layouts, samples);
  if (!batch.ok) return batch;
  const labels = wants.labels ? labelsOf(arrays.value.get(LABELS), samples) : ok(null);
  if (!labels.ok) return labels;

  const slice = (name: string, from: number, to: number, layout: Layout): Value => {
    const rows = rowsOf(arrays.value.get(name) ?? EMPTY, from, to);
    return layout === "stacked" ? { ...rows, shape: rows.shape.slice(1) } : rows;
  };
  const feedsOf = (from: number, to: number) =>
    Object.fromEntries([...layouts].map(([name, layout]) => [name, slice(name, from, to, layout)] as const));
  const known = wants.outputs ? knownOutputs(arrays.value) : [];
  const { size, free } = batch.value;
  return ok({
    samples,
    runs: Math.ceil(samples / size),
    runAt: (index) => {
      const from = index * size;
      const to = Math.min(from + size, samples);
      return {
        from,
        samples: to - from,
        feeds: feedsOf(from, to),
        labels: labels.value?.slice(from, to) ?? null,
        expected: new Map(known.map((name) => [name, slice(`${OUTPUT}${name}`, from, to, "along")] as const)),
      };
    },
    feedsFor: (batchSize) => {
      const feeds = feedsOf(0, size);
      if (!free) return { feeds, batchSize: size };
      const tiled = Object.entries(feeds).map(
        ([name, tensor]) => [name, tileRows(tensor, batchSize)] as const,
      );
      return { feeds: Object.fromEntries(tiled), batchSize };
    },
  });
}

const EMPTY: Value = { type: "float32", shape: [0], data: new Float32Array() };

function strangersIn(arrays: ReadonlyMap<string, Value>, model: Signature): string | null {
  for (const name of arrays.keys()) {
    if (name === LABELS || model.inputs.some((input) => input.name === name)) continue;
    const output = name.startsWith(OUTPUT) ? name.slice(OUTPUT.length) : null;
    if (output === null)
      return `array "${name}" is neither an input of the model (${namesOf(model.inputs)}) nor labels nor output:<name>`;
    const info = model.outputs.find((one) => one.name === output);
    if (info === undefined)
      return `array "${name}": the model has no such output; it has ${namesOf(model.outputs)}`;
    if (carrierOf(info.type) === null && info.keys === undefined)
      return `array "${name}": the output is ${info.type}, which an .npz cannot hold; save ONNX test data instead`;
  }
  return null;
}

function unmetWants(arrays: ReadonlyMap<string, Value>, wants: GoldenWants): string | null {
  if (wants.labels && !arrays.has(LABELS))
    return "a bound on accuracy needs an array `labels`, and the golden set has none";
  if (wants.outputs && knownOutputs(arrays).length === 0)
    return "a bound on errors or cosine needs an array `output:<name>`, and the golden set has none";
  return null;
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

/** As many as the model takes at once: its own fixed first axis, or 64 where that is free, or one. */
function batchOf(
  inputs: readonly TensorInfo[],
  layouts: ReadonlyMap<string, Layout>,
  samples: number,
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
  if (stacked) return ok({ size: 1, free: false });
  if (size === undefined) return ok({ size: Math.min(LARGEST_BATCH, samples), free: inputs.length > 0 });
  if (size < 1 || samples % size !== 0)
    return err(`the model takes ${size} samples at once, and ${samples} samples are no multiple of that`);
  return ok({ size, free: false });
}
