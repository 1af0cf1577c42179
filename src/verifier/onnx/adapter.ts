import { Buffer } from "node:buffer";
import { err, ok, type Result } from "../../base/result.ts";
import type { OnnxFile } from "./file.ts";
import { packed, packedNames, unpacked } from "./packing.ts";
import { eachField, nested, number, packedVarints } from "./protobuf.ts";
import {
  ARRAYS,
  carrierOf,
  type Datum,
  elementCount,
  isNumericType,
  isTensor,
  isText,
  type NumericType,
  rowsOf,
  type TensorInfo,
  type TensorValue,
  type Value,
} from "./tensor.ts";
import { integer, nodeProto, typeNumber, valueInfo } from "./writer.ts";

// ONNX Runtime for Node cannot take or hand out all that ONNX Runtime can: a graph with bfloat16 on its edge is not
// loaded, a 4-bit output aborts the process, sequences and optionals fail. A model with such inputs or outputs is
// loaded with a few more nodes that turn them into tensors; what it computes stays as it is.

/** How an input or output is fed or fetched by others. */
export type Detour =
  /** By one tensor of another element type. */
  | { readonly kind: "cast"; readonly as: string }
  /** Of a sequence of maps: the table that it is made from, one column for each key. */
  | { readonly kind: "table"; readonly as: string; readonly keys: readonly string[] }
  | {
      readonly kind: "packed";
      readonly optional: boolean;
      readonly sequence: boolean;
      readonly carrier: NumericType | "string";
      readonly names: ReturnType<typeof packedNames>;
    };

export type Adapted = {
  readonly bytes: Buffer;
  /** By names of the model's own inputs and outputs. */
  readonly inputs: ReadonlyMap<string, Detour>;
  readonly outputs: ReadonlyMap<string, Detour>;
};

const GRAPH = 7;
const NODE = 1;
const INITIALIZER = 5;
const INPUT = 11;
const OUTPUT = 12;
const OPSETS = 8;
/** For a model that imports only other operators than ONNX's own. */
const OWN_OPSET = 17;
/** The first with loops over sequences. */
const SEQUENCE_LOOPS = 13;
/** The first with sequences. */
const SEQUENCES = 11;
/** Keys are reported to the sidecar; beyond these bounds an output is ignored. */
const LARGEST_ZIP_MAP = 2 ** 20;
const MOST_KEYS = 4096;
const LONGEST_KEY = 256;
const MOST_ZIP_MAPS = 16;

/** Whether a model has inputs or outputs that ONNX Runtime for Node cannot take or hand out. */
export function needsAdapter({ inputs, outputs }: OnnxFile): boolean {
  return [...inputs, ...outputs].some(
    ({ type }) => type !== UNKNOWN && !isNumericType(type) && type !== "string",
  );
}

/** Of an output whose type the file leaves to ONNX Runtime. */
const UNKNOWN = "not a tensor";

/**
 * Adds what turns such inputs and outputs into tensors, and takes them off the graph's edge. Those for which that
 * cannot be done stay as they are.
 * @param model the whole file.
 */
export function adaptModel(model: Uint8Array, file: OnnxFile): Result<Adapted, string> {
  const opset = file.opsets.find(({ domain }) => domain === "" || domain === "ai.onnx")?.version ?? null;
  const graph = readGraph(model);
  if (typeof graph === "string") return err(graph);
  const detours = { inputs: new Map<string, Detour>(), outputs: new Map<string, Detour>() };
  const added: Buffer[] = [];
  for (const [index, info] of file.inputs.entries()) {
    if (graph.initializers.has(info.name)) continue;
    const detour = detourOfInput(info, `edgefleet/input/${index}`, opset ?? OWN_OPSET);
    if (detour === null) continue;
    detours.inputs.set(info.name, detour.detour);
    added.push(...detour.fields);
  }
  for (const [index, info] of file.outputs.entries()) {
    const detour = detourOfOutput(info, `edgefleet/output/${index}`, opset ?? OWN_OPSET, graph.zipMaps);
    if (detour === null) continue;
    detours.outputs.set(info.name, detour.detour);
    added.push(...detour.fields);
  }
  const pieces = graph.pieces.filter(
    ({ field, name }) =>
      !(field === INPUT && detours.inputs.has(name)) && !(field === OUTPUT && detours.outputs.has(name)),
  );
  const inner = [...pieces.map(({ from, to }) => model.subarray(from, to)), ...added];
  const imports = opset === null ? [nested(OPSETS, [number(2, OWN_OPSET)])] : [];
  return ok({
    bytes: Buffer.concat([...graph.before, nested(GRAPH, inner), ...graph.after, ...imports]),
    ...detours,
  });
}

type Piece = { readonly field: number; readonly name: string; readonly from: number; readonly to: number };
type ZipMap = { readonly table: string; readonly keys: readonly string[] };
type GraphPieces = {
  readonly before: readonly Uint8Array[];
  readonly after: readonly Uint8Array[];
  readonly pieces: readonly Piece[];
  readonly initializers: ReadonlySet<string>;
  readonly zipMaps: ReadonlyMap<string, ZipMap>;
};

/** The main graph in pieces: inputs and outputs alone, and all that lies between them. */
function readGraph(model: Uint8Array): GraphPieces | string {
  const before: Uint8Array[] = [];
  const after: Uint8Array[] = [];
  const pieces: Piece[] = [];
  const initializers = new Set<string>();
  const zipMaps = new Map<string, ZipMap>();
  let graphs = 0;
  const broken = eachField(model, ({ number: field, from, to, bytes: graph }) => {
    if (field !== GRAPH || graph === null) {
      (graphs === 0 ? before : after).push(model.subarray(from, to));
      return null;
    }
    graphs += 1;
    const start = to - graph.length;
    return eachField(graph, (inner) => {
      if (inner.bytes === null) return null;
      const edge = inner.number === INPUT || inner.number === OUTPUT;
      const last = pieces.at(-1);
      const [begins, ends] = [start + inner.from, start + inner.to];
      if (inner.number === INITIALIZER) initializers.add(textIn(inner.bytes, 8));
      if (inner.number === NODE) noteZipMap(inner.bytes, zipMaps);
      if (!edge && last?.field === 0 && last.to === begins) pieces[pieces.length - 1] = { ...last, to: ends };
      else
        pieces.push({
          field: edge ? inner.number : 0,
          name: edge ? textIn(inner.bytes, 1) : "",
          from: begins,
          to: ends,
        });
      return null;
    });
  });
  return broken ?? { before, after, pieces, initializers, zipMaps };
}

function textIn(message: Uint8Array, field: number): string {
  let found = "";
  eachField(message, (one) => {
    if (one.number === field && one.bytes !== null) found = Buffer.from(one.bytes).toString("utf8");
    return null;
  });
  return found;
}

/** ai.onnx.ml.ZipMap, the end of most classifiers of scikit-learn: a table, and the keys of its columns. */
function noteZipMap(node: Uint8Array, zipMaps: Map<string, ZipMap>): void {
  if (node.length > LARGEST_ZIP_MAP || textIn(node, 4) !== "ZipMap") return;
  const keys: string[] = [];
  eachField(node, ({ number: field, bytes: attribute }) => {
    if (field !== 5 || attribute === null) return null;
    return eachField(attribute, ({ number: inner, varint, bytes: value }) => {
      if (inner === 8 && varint !== null) keys.push(String(BigInt.asIntN(64, varint)));
      else if (inner === 8 && value !== null)
        for (const key of packedVarints(value, LARGEST_ZIP_MAP) ?? [])
          keys.push(String(BigInt.asIntN(64, key)));
      else if (inner === 9 && value !== null) keys.push(Buffer.from(value).toString("utf8"));
      return null;
    });
  });
  const fits = keys.length <= MOST_KEYS && keys.every((key) => key.length <= LONGEST_KEY);
  if (fits && zipMaps.size < MOST_ZIP_MAPS) zipMaps.set(textIn(node, 2), { table: textIn(node, 1), keys });
}

type Added = { readonly detour: Detour; readonly fields: readonly Buffer[] };

/** `optional(sequence(float32))` in its parts; `null` for what is made in another way. */
function partsOf(type: string): {
  readonly optional: boolean;
  readonly sequence: boolean;
  readonly element: string;
  readonly carrier: NumericType | "string";
} | null {
  const [, optional, sequence, element = ""] = /^(optional\()?(sequence\()?([a-z0-9]+)\)*$/.exec(type) ?? [];
  const carrier = carrierOf(element);
  if (carrier === null) return null;
  return { optional: optional !== undefined, sequence: sequence !== undefined, element, carrier };
}

/** One node that casts between the type of the graph and one that Node can hold, and the value of that type. */
function castDetour(
  prefix: string,
  { from, to, type }: { readonly from: string; readonly to: string; readonly type: string },
  value: Added["fields"][number],
): Added {
  const cast = nodeProto("Cast", [from], [to], [integer("to", typeNumber(type))]);
  return { detour: { kind: "cast", as: prefix }, fields: [nested(NODE, cast), value] };
}

function detourOfInput({ name, type, shape }: TensorInfo, prefix: string, opset: number): Added | null {
  const parts = partsOf(type);
  if (parts === null || parts.carrier === type) return null;
  const { optional, sequence, element, carrier } = parts;
  if (!optional && !sequence)
    return castDetour(
      prefix,
      { from: prefix, to: name, type },
      nested(INPUT, valueInfo(prefix, carrier, shape)),
    );
  if (opset < SEQUENCE_LOOPS) return null;
  const names = packedNames(prefix);
  const inputs = [
    ...(optional ? [valueInfo(names.present, "bool", [])] : []),
    valueInfo(names.data, carrier, [""]),
    valueInfo(names.dims, "int64", [""]),
    ...(sequence
      ? [
          valueInfo(names.count, "int64", []),
          valueInfo(names.starts, "int64", [""]),
          valueInfo(names.dimStarts, "int64", [""]),
        ]
      : []),
  ];
  const nodes = unpacked(name, { prefix, element, carrier, sequence, opset }, optional);
  return {
    detour: { kind: "packed", optional, sequence, carrier, names },
    fields: [...nodes.map((one) => nested(NODE, one)), ...inputs.map((one) => nested(INPUT, one))],
  };
}

function detourOfOutput(
  { name, type }: TensorInfo,
  prefix: string,
  opset: number,
  zipMaps: ReadonlyMap<string, ZipMap>,
): Added | null {
  const zipMap = zipMaps.get(name);
  if (zipMap !== undefined && type.startsWith("sequence(map("))
    return {
      detour: { kind: "table", as: prefix, keys: zipMap.keys },
      fields: [
        nested(NODE, nodeProto("Identity", [zipMap.table], [prefix])),
        nested(OUTPUT, valueInfo(prefix, "float32", null)),
      ],
    };
  const parts = partsOf(type);
  if (parts === null || parts.carrier === type) return null;
  const { optional, sequence, element, carrier } = parts;
  if (!optional && !sequence)
    return castDetour(
      prefix,
      { from: name, to: prefix, type: carrier },
      nested(OUTPUT, valueInfo(prefix, carrier, null)),
    );
  if (opset < SEQUENCES) return null;
  const names = packedNames(prefix);
  const outputs = [
    ...(optional ? [valueInfo(names.present, "bool", null)] : []),
    valueInfo(names.data, carrier, null),
    valueInfo(names.dims, "int64", null),
    valueInfo(names.ranks, "int64", null),
  ];
  const nodes = packed(name, { prefix, element, carrier, sequence, opset }, optional);
  return {
    detour: { kind: "packed", optional, sequence, carrier, names },
    fields: [...nodes.map((one) => nested(NODE, one)), ...outputs.map((one) => nested(OUTPUT, one))],
  };
}

/** What the adapted model is fed with for an input. */
export function fedBy(detour: Detour, datum: Datum): readonly (readonly [string, Value])[] {
  if (detour.kind !== "packed") return isTensor(datum) ? [[detour.as, datum]] : [];
  const { names, optional, sequence, carrier } = detour;
  const elements = elementsOf(datum);
  const starts = [0];
  const dimStarts = [0];
  for (const { data, shape } of elements) {
    starts.push((starts.at(-1) ?? 0) + data.length);
    dimStarts.push((dimStarts.at(-1) ?? 0) + shape.length);
  }
  const dims = int64s(elements.flatMap(({ shape }) => shape));
  return [
    ...(optional
      ? [
          [
            names.present,
            { type: "bool", shape: [], data: Uint8Array.of(datum.type === "none" ? 0 : 1) },
          ] as const,
        ]
      : []),
    [names.data, joined(elements, carrier)],
    [names.dims, dims],
    ...(sequence
      ? ([
          [names.count, { ...int64s([elements.length]), shape: [] }],
          [names.starts, int64s(starts)],
          [names.dimStarts, int64s(dimStarts)],
        ] as const)
      : []),
  ];
}

function elementsOf(datum: Datum): readonly Value[] {
  if (datum.type === "none") return [];
  return datum.type === "sequence" ? datum.elements : [datum as Value];
}

function int64s(values: readonly number[]): TensorValue {
  return { type: "int64", shape: [values.length], data: BigInt64Array.from(values, BigInt) };
}

function joined(elements: readonly Value[], type: NumericType | "string"): Value {
  const length = elements.reduce((sum, one) => sum + one.data.length, 0);
  if (type === "string")
    return { type, shape: [length], data: elements.flatMap((one) => (isText(one) ? one.data : [])) };
  const data = new ARRAYS[type](length);
  let at = 0;
  for (const { data: some } of elements) {
    data.set(some as never, at);
    at += some.length;
  }
  return { type, shape: [length], data };
}

/** Names of what is fetched of the adapted model for an output. */
export function fetchedFor(detour: Detour): readonly string[] {
  if (detour.kind !== "packed") return [detour.as];
  const { names, optional } = detour;
  return [...(optional ? [names.present] : []), names.data, names.dims, names.ranks];
}

/** The output, out of what was fetched for it. */
export function fetched(detour: Detour, values: ReadonlyMap<string, Value>): Datum | null {
  if (detour.kind !== "packed") return values.get(detour.as) ?? null;
  const { names, optional, sequence } = detour;
  if (optional && Number(values.get(names.present)?.data[0]) !== 1) return { type: "none" };
  const data = values.get(names.data);
  const dims = Array.from(values.get(names.dims)?.data ?? [], Number);
  if (data === undefined) return null;
  const elements: Value[] = [];
  let [at, axis] = [0, 0];
  for (const rank of Array.from(values.get(names.ranks)?.data ?? [], Number)) {
    const shape = dims.slice(axis, axis + rank);
    axis += rank;
    const rows = rowsOf({ ...data, shape: [data.data.length] } as Value, at, at + elementCount(shape));
    at += elementCount(shape);
    elements.push({ ...rows, shape } as Value);
  }
  return sequence ? { type: "sequence", elements } : (elements[0] ?? null);
}
