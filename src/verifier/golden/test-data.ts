import { own } from "../../base/lookup.ts";
import { err, ok, type Result } from "../../base/result.ts";
import type { ArchiveFile } from "../files/archive.ts";
import { type OnnxDatum, readOnnxDatum } from "../onnx/data.ts";
import {
  type Datum,
  isTensor,
  type Signature,
  sizeOf,
  type TensorInfo,
  tensorText,
  tileRows,
  type Value,
} from "../onnx/tensor.ts";
import { fromMaps } from "../onnx/zip-map.ts";
import { createVocabulary, type Labels, labelsOf, type Vocabulary } from "./labels.ts";
import { readNpy } from "./numpy.ts";
import {
  type GoldenFault,
  type GoldenRun,
  type GoldenSet,
  type GoldenWants,
  misfits,
  unreadable,
} from "./types.ts";

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
): Result<GoldenSet, GoldenFault> {
  const sets = dataSetsIn(files);
  if (!sets.ok) return err(unreadable(sets.error));
  const runs: GoldenRun[] = [];
  const problems: string[] = [];
  const notes = new Set<string>();
  const vocabulary = createVocabulary();
  let samples = 0;
  let left = limit;
  let empty = true;
  if (typeof wants.batchSize === "number")
    problems.push("each data set of a golden set is one run: batchSize is for .npz alone");
  for (const set of sets.value) {
    const run = readRun(set, { model, wants, vocabulary }, left, samples);
    if (!run.ok && run.error.because === "golden")
      return err(unreadable(`${set.directory}: ${run.error.message}`));
    if (!run.ok) problems.push(`${set.directory}: ${run.error.message}`);
    if (!run.ok) continue;
    left -= [...Object.values(run.value.feeds), ...run.value.expected.values()].reduce(
      (sum, datum) => sum + sizeOf(datum),
      0,
    );
    samples += run.value.samples;
    for (const note of run.value.notes) notes.add(note);
    runs.push(run.value);
    empty &&= run.value.empty;
  }
  if (empty && runs.length > 0)
    problems.push("the golden set has no samples: the first axis of its inputs is 0");
  if (problems.length > 0) return err(misfits(problems));
  const [first] = runs;
  if (first === undefined) return err(misfits([NOTHING_INSIDE]));
  const oneHot = runs.every(({ labels }) => [...labels.values()].every((one) => one.oneHot));
  return ok({
    samples,
    runs: runs.length,
    batch: { size: null, free: false },
    notes: [...notes],
    runAt: (index) => readAlike(runs[index] ?? first, oneHot),
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

/** Labels are one column for each class where they are that in every data set. */
function readAlike(run: GoldenRun, oneHot: boolean): GoldenRun {
  return {
    ...run,
    labels: new Map([...run.labels].map(([name, one]) => [name, { ...one, oneHot }] as const)),
  };
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
  about: { readonly model: Signature; readonly wants: GoldenWants; readonly vocabulary: Vocabulary },
  limit: number,
  from: number,
): Result<GoldenRun & { readonly notes: readonly string[]; readonly empty: boolean }, GoldenFault> {
  const { model, wants, vocabulary } = about;
  const inputs = readSide("input", set.inputs, model.inputs, limit);
  if (!inputs.ok) return inputs;
  const missing = model.inputs.filter(({ name }) => !inputs.value.data.has(name));
  const problems = missing.map(
    ({ name }) =>
      `it has ${set.inputs.size} inputs, and none for input "${name}"; the model takes ${namesOf(model.inputs)}`,
  );
  const feeds = Object.fromEntries(inputs.value.data);
  const used = [...inputs.value.data.values()].reduce((sum, datum) => sum + sizeOf(datum), 0);
  const wanted = wants.outputs || wants.either === true;
  const outputs = wanted
    ? readSide("output", set.outputs, model.outputs, limit - used)
    : ok({ data: new Map<string, Datum>(), notes: [] });
  if (!outputs.ok && outputs.error.because === "golden") return outputs;
  if (!outputs.ok) problems.push(outputs.error.message);
  if (wants.outputs && outputs.ok && outputs.value.data.size === 0)
    problems.push("a bound on errors or cosine needs known outputs, and it has no output_0.pb");
  const samples = freeSamples(model.inputs, feeds) ?? 1;
  const labels =
    wants.labels || (wants.either === true && set.labels !== null)
      ? readLabels(set, samples, vocabulary, limit)
      : ok(null);
  if (!labels.ok && labels.error.because === "golden") return labels;
  if (!labels.ok) problems.push(labels.error.message);
  if (problems.length > 0 || !outputs.ok || !labels.ok) return err(misfits(problems));
  return ok({
    ...{ from, samples, feeds },
    labels: new Map(labels.value === null ? [] : [["", labels.value]]),
    expected: outputs.value.data,
    notes: [...inputs.value.notes, ...outputs.value.notes],
    empty: isEmptyBatch(model.inputs, feeds) && [...outputs.value.data.values()].every(isEmpty),
  });
}

type Side = { readonly data: ReadonlyMap<string, Datum>; readonly notes: readonly string[] };
type SideFile = { readonly file: string; readonly index: number; readonly read: OnnxDatum };

/**
 * By name where the file gives one, else by the number in the file's name. Where a name is none of the model's (files of
 * an older export), all of them go by their numbers, if there are as many as the model has and each fits.
 */
function readSide(
  side: "input" | "output",
  files: ReadonlyMap<number, ArchiveFile>,
  infos: readonly TensorInfo[],
  limit: number,
): Result<Side, GoldenFault> {
  const read: SideFile[] = [];
  let left = limit;
  for (const [index, { content }] of [...files].sort(([a], [b]) => a - b)) {
    const file = `${side}_${index}.pb`;
    // What the bytes are is known from the model alone; a name in them counts only once they are read.
    const one = readOnnxDatum(content, infos[index]?.type ?? infos[0]?.type ?? "", left);
    if (!one.ok) return err(unreadable(`${file}: ${one.error}`));
    const { value } = one.value;
    left -= value.type === "maps" ? 0 : sizeOf(value);
    read.push({ file, index, read: one.value });
  }
  const byName = placed(side, read, infos, ({ name, index }) =>
    name === "" ? infos[index] : infos.find((one) => one.name === name),
  );
  if (byName.ok) return ok({ data: byName.value, notes: [] });
  const stale = read.filter(({ read: { name } }) => name !== "" && !infos.some((one) => one.name === name));
  // Names that the model has are in their places then: otherwise the numbers are not what counts.
  const inOrder = read.every((one) => stale.includes(one) || byOwnName(one, infos));
  const byPlace =
    stale.length > 0 && inOrder && read.length === infos.length
      ? placed(side, read, infos, ({ index }) => infos[index])
      : byName;
  if (!byPlace.ok) return err(misfits(byName.error));
  const names = stale.map(({ read: { name } }) => `"${name}"`).join(", ");
  return ok({
    data: byPlace.value,
    notes: [`the ${side}s of the golden set are taken by their numbers: the model has no ${side} ${names}`],
  });
}

function byOwnName({ index, read: { name } }: SideFile, infos: readonly TensorInfo[]): boolean {
  return name === "" || infos[index]?.name === name;
}

function placed(
  side: string,
  files: readonly SideFile[],
  infos: readonly TensorInfo[],
  infoOf: (file: { readonly name: string; readonly index: number }) => TensorInfo | undefined,
): Result<ReadonlyMap<string, Datum>, readonly string[]> {
  const found = new Map<string, Datum>();
  const problems: string[] = [];
  for (const { file, index, read } of files) {
    const { name } = read;
    const info = infoOf({ name, index });
    const datum = info === undefined ? null : datumFor(read, info);
    if (info === undefined)
      problems.push(
        name === ""
          ? `${file}: the model has only ${infos.length} ${side}s: ${namesOf(infos)}`
          : `${file} is for ${side} "${name}"; the model's ${side}s are ${namesOf(infos)}`,
      );
    else if (found.has(info.name)) problems.push(`${file}: it has ${side} "${info.name}" twice`);
    else if (datum?.ok === false) problems.push(`${file} ${datum.error}`);
    else if (datum !== null) found.set(info.name, datum.value);
  }
  return problems.length === 0 ? ok(found) : err(problems);
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

function readLabels(
  set: DataSet,
  samples: number,
  vocabulary: Vocabulary,
  limit: number,
): Result<Labels, GoldenFault> {
  if (set.labels === null)
    return err(misfits(["a bound on accuracy needs class numbers, and it has no labels.npy"]));
  const array = readNpy(set.labels.content, limit);
  if (!array.ok) return err(unreadable(`labels.npy: ${array.error}`));
  const labels = labelsOf("labels.npy", array.value, samples, vocabulary);
  return labels.ok ? labels : err(misfits([labels.error]));
}

/** Inputs without samples: unless outputs are expected regardless, nothing is compared. */
function isEmptyBatch(infos: readonly TensorInfo[], feeds: Readonly<Record<string, Datum>>): boolean {
  const sizes = infos.flatMap(({ name, shape }) => {
    const datum = own(feeds, name);
    return typeof shape[0] === "string" && datum !== undefined && isTensor(datum) ? [datum.shape[0]] : [];
  });
  return sizes.length > 0 && sizes.every((size) => size === 0);
}

function isEmpty(datum: Datum): boolean {
  return isTensor(datum) && datum.data.length === 0;
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
