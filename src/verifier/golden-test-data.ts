import { own } from "../base/lookup.ts";
import { err, ok, type Result } from "../base/result.ts";
import type { ArchiveFile } from "./archive.ts";
import type { GoldenRun, GoldenSet, GoldenWants, Labels } from "./golden.ts";
import { labelsOf } from "./golden-labels.ts";
import { readNpy } from "./npz.ts";
import { type OnnxDatum, readOnnxDatum } from "./onnx-data.ts";
import {
  type Datum,
  isTensor,
  type Signature,
  sizeOf,
  type TensorInfo,
  tensorText,
  tileRows,
  type Value,
} from "./tensor.ts";
import { fromMaps } from "./zip-map.ts";

// ONNX's own layout of known answers (onnx/onnx: docs/OnnxBackendTest.md): directories test_data_set_0, 1, … with
// input_0.pb, …, output_0.pb, …, each one TensorProto, SequenceProto or OptionalProto. Ours is labels.npy beside them.

const FILE = /^(.*\/)?test_data_set_(\d{1,6})\/(?:(input|output)_(\d{1,6})\.pb|(labels)\.npy)$/;

export function isTestDataFile(name: string): boolean {
  return FILE.test(name);
}

type DataSet = {
  readonly directory: string;
  readonly inputs: Map<number, ArchiveFile>;
  readonly outputs: Map<number, ArchiveFile>;
  labels: ArchiveFile | null;
};

/**
 * Every data set is one run of the model.
 * @param limit bytes that all values together may take.
 */
export function readTestData(
  files: readonly ArchiveFile[],
  model: Signature,
  wants: GoldenWants,
  limit: number,
): Result<GoldenSet, string> {
  const sets = dataSetsIn(files);
  if (!sets.ok) return sets;
  const runs: GoldenRun[] = [];
  let samples = 0;
  let left = limit;
  for (const set of sets.value) {
    const run = readRun(set, model, wants, left, samples);
    if (!run.ok) return err(`${set.directory}: ${run.error}`);
    left -= [...Object.values(run.value.feeds), ...run.value.expected.values()].reduce(
      (sum, datum) => sum + sizeOf(datum),
      0,
    );
    samples += run.value.samples;
    runs.push(run.value);
  }
  const [first] = runs;
  if (first === undefined) return err(NOTHING_INSIDE);
  return ok({
    samples,
    runs: runs.length,
    runAt: (index) => runs[index] ?? first,
    feedsFor: (batchSize) => {
      if (freeSamples(model.inputs, first.feeds) === null)
        return { feeds: first.feeds, batchSize: first.samples };
      const tiled = Object.entries(first.feeds).map(
        ([name, datum]) => [name, isTensor(datum) ? tileRows(datum, batchSize) : datum] as const,
      );
      return { feeds: Object.fromEntries(tiled), batchSize };
    },
  });
}

const NOTHING_INSIDE =
  "the golden set has no test data: it needs directories test_data_set_0, test_data_set_1, … with input_0.pb, output_0.pb, …";

function dataSetsIn(files: readonly ArchiveFile[]): Result<readonly DataSet[], string> {
  const sets = new Map<number, DataSet>();
  let prefix: string | null = null;
  for (const file of files) {
    const [, before = "", number = "", side, index = "", labels] = FILE.exec(file.name) ?? [];
    if (number === "") continue;
    if (prefix !== null && prefix !== before)
      return err(`the golden set has test data of several models: in "${prefix}" and in "${before}"`);
    prefix = before;
    const directory = `test_data_set_${number}`;
    const set = sets.get(Number(number)) ?? {
      directory,
      inputs: new Map(),
      outputs: new Map(),
      labels: null,
    };
    if (set.directory !== directory)
      return err(`the golden set has two directories of one number: ${set.directory} and ${directory}`);
    sets.set(Number(number), set);
    if (labels !== undefined) {
      set.labels = file;
      continue;
    }
    const ofSide = side === "input" ? set.inputs : set.outputs;
    if (ofSide.has(Number(index))) return err(`${directory}: it has ${side}_${Number(index)}.pb twice`);
    ofSide.set(Number(index), file);
  }
  return ok([...sets].sort(([a], [b]) => a - b).map(([, set]) => set));
}

function readRun(
  set: DataSet,
  model: Signature,
  wants: GoldenWants,
  limit: number,
  from: number,
): Result<GoldenRun, string> {
  const inputs = readSide("input", set.inputs, model.inputs, limit);
  if (!inputs.ok) return inputs;
  const missing = model.inputs.find(({ name }) => !inputs.value.has(name));
  if (missing !== undefined)
    return err(
      `it has ${set.inputs.size} inputs, and none for input "${missing.name}"; the model takes ${namesOf(model.inputs)}`,
    );
  const feeds = Object.fromEntries(inputs.value);
  const used = [...inputs.value.values()].reduce((sum, datum) => sum + sizeOf(datum), 0);
  const outputs = wants.outputs
    ? readSide("output", set.outputs, model.outputs, limit - used)
    : ok(new Map<string, Datum>());
  if (!outputs.ok) return outputs;
  if (wants.outputs && outputs.value.size === 0)
    return err("a bound on errors or cosine needs known outputs, and it has no output_0.pb");
  const samples = freeSamples(model.inputs, feeds) ?? 1;
  const labels = wants.labels ? readLabels(set, samples, limit) : ok(null);
  if (!labels.ok) return labels;
  return ok({ from, samples, feeds, labels: labels.value, expected: outputs.value });
}

/** By name where the file gives one, else by the number in the file's name. */
function readSide(
  side: "input" | "output",
  files: ReadonlyMap<number, ArchiveFile>,
  infos: readonly TensorInfo[],
  limit: number,
): Result<Map<string, Datum>, string> {
  const found = new Map<string, Datum>();
  let left = limit;
  for (const [index, { content }] of [...files].sort(([a], [b]) => a - b)) {
    const file = `${side}_${index}.pb`;
    const placed = infos[index];
    // What the bytes are is known from the model alone; a name in them counts only once they are read.
    const read = readOnnxDatum(content, placed?.type ?? infos[0]?.type ?? "", left);
    if (!read.ok) return err(`${file}: ${read.error}`);
    const { name } = read.value;
    const info = name === "" ? placed : infos.find((one) => one.name === name);
    if (info === undefined)
      return err(
        name === ""
          ? `${file}: the model has only ${infos.length} ${side}s: ${namesOf(infos)}`
          : `${file} is for ${side} "${name}"; the model's ${side}s are ${namesOf(infos)}`,
      );
    if (found.has(info.name)) return err(`${file}: it has ${side} "${info.name}" twice`);
    const datum = datumFor(read.value, info);
    if (!datum.ok) return err(`${file} ${datum.error}`);
    left -= sizeOf(datum.value);
    found.set(info.name, datum.value);
  }
  return ok(found);
}

/** The value, where it is of the type and shape that the model has. */
function datumFor(read: OnnxDatum, info: TensorInfo): Result<Datum, string> {
  const { value } = read;
  if (value.type === "maps") return fromMaps(value, info);
  const is = isTensor(value) ? tensorText({ type: read.type, shape: value.shape }) : read.type;
  const differs = err(`is ${is}, the model has "${info.name}" as ${tensorText(info)}`);
  if (!sameType(read.type, info.type)) return differs;
  // Without a shape it is a scalar, or the model does not say.
  if (!isTensor(value) || info.shape.length === 0) return ok(value);
  const fits =
    value.shape.length === info.shape.length &&
    info.shape.every((axis, index) => typeof axis === "string" || axis === value.shape[index]);
  return fits ? ok(value) : differs;
}

/** What is empty has elements of any type. */
function sameType(has: string, wanted: string): boolean {
  if (has === wanted || has === "?") return true;
  const [outer, kind] = /^(optional|sequence)\((.*)\)$/.exec(has)?.slice(1) ?? [];
  return kind !== undefined && wanted.startsWith(`${outer}(`)
    ? sameType(kind, wanted.slice(`${outer}(`.length, -1))
    : false;
}

function readLabels(set: DataSet, samples: number, limit: number): Result<Labels, string> {
  if (set.labels === null) return err("a bound on accuracy needs class numbers, and it has no labels.npy");
  const array = readNpy(set.labels.content, limit);
  if (!array.ok) return err(`labels.npy: ${array.error}`);
  return labelsOf(array.value, samples);
}

/** Samples of a run: the size of the inputs' first axes, where all of them are free and alike. */
function freeSamples(infos: readonly TensorInfo[], feeds: Readonly<Record<string, Datum>>): number | null {
  const sizes = new Set<number | undefined>();
  for (const { name, shape } of infos) {
    const datum = own(feeds, name);
    const free = typeof shape[0] === "string" && datum !== undefined && isTensor(datum);
    sizes.add(free ? (datum as Value).shape[0] : undefined);
  }
  const [size] = sizes;
  return sizes.size === 1 && size !== undefined && size > 0 ? size : null;
}

function namesOf(infos: readonly TensorInfo[]): string {
  return infos.map(({ name }) => name).join(", ");
}
