import { Buffer } from "node:buffer";
import { err, ok, type Result } from "../../base/result.ts";
import { type ByteSource, bytesIn } from "../files/byte-source.ts";
import { fileKindOf } from "../files/file-kind.ts";
import { broken, cutOff } from "./protobuf.ts";
import { ONNX_ELEMENT_TYPES, type TensorInfo } from "./tensor.ts";

// A walk over the protobuf of an ONNX file (onnx/onnx: onnx/onnx.proto) that looks at what must be known before ONNX
// Runtime is given the bytes. It keeps its own stack, visits each byte at most once for each level, and decodes no data.

export type OnnxFile = {
  readonly irVersion: number;
  readonly producer: string;
  readonly opsets: readonly { readonly domain: string; readonly version: number }[];
  /** As the file declares them. An input with an initializer need not be given: ONNX Runtime does not count it. */
  readonly inputs: readonly TensorInfo[];
  readonly outputs: readonly TensorInfo[];
  /** Tensors whose data is in another file, at any depth; at most ten of them. */
  readonly externalTensors: readonly string[];
  /** Operators of all graphs and functions, and how often each occurs; at most a thousand of them. */
  readonly operators: readonly Operator[];
  readonly nodes: number;
  /** Elements of the initializers and constants of all graphs. */
  readonly parameters: number;
};

/** The domain of ONNX's own operators is empty. */
export type Operator = { readonly domain: string; readonly name: string; readonly count: number };

/** protobuf itself gives up at 100 levels; a file that is deeper would be refused anyway. */
const DEEPEST = 100;
const LONGEST_TEXT = 256;
const MOST_LISTED = 10;
const MOST_VALUES = 10_000;
const MOST_OPERATORS = 1000;
const MOST_INITIALIZERS = 100_000;
/** protobuf's own limit. */
const LARGEST_FILE = 2 ** 31 - 1;

const VARINT = 0;
const FIXED64 = 1;
const LENGTH = 2;
const FIXED32 = 5;

/** Message types, and where in each the next ones are: what the walk descends into. */
const CHILDREN = {
  model: { 7: "graph", 8: "opset", 20: "training", 25: "function" },
  training: { 1: "graph", 2: "graph" },
  function: { 7: "node", 11: "attribute" },
  graph: { 1: "node", 5: "tensor", 11: "input", 12: "output", 15: "sparse" },
  node: { 5: "attribute" },
  attribute: { 5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse" },
  sparse: { 1: "tensor", 2: "tensor" },
  tensor: {},
  opset: {},
  input: { 2: "type" },
  output: { 2: "type" },
  type: { 1: "tensorType", 4: "sequenceType", 5: "mapType", 9: "optionalType" },
  sequenceType: { 1: "type" },
  optionalType: { 1: "type" },
  mapType: { 2: "type" },
  tensorType: { 2: "shape" },
  shape: { 1: "axis" },
  axis: {},
} as const satisfies Readonly<Record<string, Readonly<Record<number, string>>>>;

type MessageType = keyof typeof CHILDREN;

/** A ValueInfoProto on its way to a TensorInfo. */
type Value = {
  name: string;
  /** What is around the tensors, from the outside in. */
  readonly around: ("sequence" | "map" | "optional")[];
  keyType: number;
  isTensor: boolean;
  elementType: number;
  shape: (number | string)[] | null;
};

type Frame = {
  readonly type: MessageType;
  readonly end: number;
  /** 1 inside the main graph, whose inputs and outputs are the model's; 2 inside any other. */
  readonly graphs: number;
  readonly value: Value | null;
  name: string;
  domain: string;
  external: boolean;
  /** What a tensor is in: a graph has initializers, an attribute a constant. */
  parent: MessageType;
  /** Of a tensor so far: the product of its axes. */
  elements: number;
};

type Walk = {
  irVersion: number | null;
  producer: string;
  graphs: number;
  values: number;
  readonly opsets: { domain: string; version: number }[];
  readonly inputs: Value[];
  readonly outputs: Value[];
  /** Names of the main graph's. */
  readonly initializers: Set<string>;
  readonly externalTensors: string[];
  readonly operators: Map<string, { domain: string; name: string; count: number }>;
  /** Functions that the file brings itself: no operators. */
  readonly functions: Set<string>;
  nodes: number;
  parameters: number;
};

/**
 * Reads the header of an ONNX file; the data of its tensors is passed over.
 * @param bytes the whole file.
 * @returns what it declares, or a sentence that says why it is no ONNX model. It never throws.
 */
export function readOnnxFile(bytes: Uint8Array | ByteSource): Result<OnnxFile, string> {
  const source = bytes instanceof Uint8Array ? bytesIn(bytes) : bytes;
  const other = otherFormat(source);
  if (other !== null) return err(`not an ONNX model: ${other}`);
  const walk: Walk = {
    irVersion: null,
    producer: "",
    graphs: 0,
    values: 0,
    opsets: [],
    inputs: [],
    outputs: [],
    initializers: new Set(),
    externalTensors: [],
    operators: new Map(),
    functions: new Set(),
    nodes: 0,
    parameters: 0,
  };
  const wrong = walkMessage(source, walk);
  if (wrong !== null) return err(`not an ONNX model: ${wrong}`);
  if (walk.irVersion === null || walk.irVersion < 1)
    return err("not an ONNX model: it has no IR version; is it another kind of protobuf?");
  if (walk.graphs !== 1) return err(`not an ONNX model: it has ${walk.graphs} graphs instead of one`);
  if (walk.opsets.length === 0) return err("not an ONNX model: it imports no operator set");
  return ok({
    irVersion: walk.irVersion,
    producer: walk.producer,
    opsets: walk.opsets,
    inputs: walk.inputs.filter(({ name }) => !walk.initializers.has(name)).map(tensorInfoOf),
    outputs: walk.outputs.map(tensorInfoOf),
    externalTensors: walk.externalTensors,
    operators: [...walk.operators]
      .filter(([key]) => !walk.functions.has(key))
      .map(([, operator]) => operator)
      .sort((a, b) => b.count - a.count),
    nodes: walk.nodes,
    parameters: walk.parameters,
  });
}

/** Why it cannot be ONNX, by its size and its first bytes. */
function otherFormat(bytes: ByteSource): string | null {
  if (bytes.length === 0) return "the file is empty";
  if (bytes.length > LARGEST_FILE) return "it is larger than 2 GiB, the most that protobuf allows";
  const kind = fileKindOf(bytes.slice(0, 64));
  return kind === null ? null : `it is ${kind}`;
}

/** A number that ends with the file was cut off with it. */
function brokenAt({ length }: ByteSource, { at }: { readonly at: number }): string {
  return at >= length ? cutOff(length, length + 1) : broken(at, length);
}

/** `null`, or what is broken. */
function walkMessage(bytes: ByteSource, walk: Walk): string | null {
  const cursor = { at: 0 };
  const stack: Frame[] = [frame("model", bytes.length, 0, null)];
  for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
    if (cursor.at === top.end) {
      close(top, walk);
      stack.pop();
      continue;
    }
    const tag = readVarint(bytes, cursor, top.end);
    if (tag === null) return brokenAt(bytes, cursor);
    const field = Math.floor(tag / 8);
    const wireType = tag % 8;
    if (field < 1 || field > 0x1fff_ffff) return brokenAt(bytes, cursor);
    if (wireType === VARINT) {
      const value = readVarint(bytes, cursor, top.end);
      if (value === null) return brokenAt(bytes, cursor);
      takeNumber(top, field, value, walk);
    } else if (wireType === FIXED64 || wireType === FIXED32) {
      cursor.at += wireType === FIXED64 ? 8 : 4;
      if (cursor.at > bytes.length) return cutOff(bytes.length, cursor.at);
      if (cursor.at > top.end) return brokenAt(bytes, cursor);
    } else if (wireType === LENGTH) {
      const length = readVarint(bytes, cursor, top.end);
      if (length === null) return brokenAt(bytes, cursor);
      if (cursor.at + length > bytes.length) return cutOff(bytes.length, cursor.at + length);
      if (length > top.end - cursor.at) return brokenAt(bytes, cursor);
      const child = childOf(top, field, cursor.at + length, walk);
      if (child === null) {
        takeBytes(top, field, { bytes, from: cursor.at, to: cursor.at + length }, walk);
        cursor.at += length;
        continue;
      }
      if (stack.length >= DEEPEST) return `its messages are nested more than ${DEEPEST} deep`;
      if (walk.values > MOST_VALUES) return `it has more than ${MOST_VALUES} inputs, outputs and axes`;
      stack.push(child);
    } else return brokenAt(bytes, cursor);
  }
  return null;
}

function frame(type: MessageType, end: number, graphs: number, value: Value | null): Frame {
  return { type, end, graphs, value, name: "", domain: "", external: false, parent: type, elements: 1 };
}

/** The message that starts here, or `null` for a field that is none. */
function childOf(parent: Frame, field: number, end: number, walk: Walk): Frame | null {
  const children: Readonly<Record<number, MessageType>> = CHILDREN[parent.type];
  const type = children[field];
  if (type === undefined) return null;
  if (type === "graph") {
    if (parent.type === "model") walk.graphs += 1;
    return frame(type, end, parent.type === "model" ? 1 : 2, null);
  }
  if (type === "opset") {
    if (walk.opsets.length < MOST_VALUES) walk.opsets.push({ domain: "", version: 0 });
    return frame(type, end, parent.graphs, null);
  }
  if (type === "input" || type === "output") {
    // Names of subgraphs matter only within the graph.
    if (parent.graphs !== 1) return null;
    walk.values += 1;
    const value: Value = { name: "", around: [], keyType: 0, isTensor: false, elementType: 0, shape: null };
    (type === "input" ? walk.inputs : walk.outputs).push(value);
    return frame(type, end, parent.graphs, value);
  }
  if (type === "tensorType" && parent.value !== null) parent.value.isTensor = true;
  const around = AROUND[type];
  if (around !== undefined && (parent.value?.around.length ?? DEEPEST) < MOST_LISTED)
    parent.value?.around.push(around);
  if (type === "shape" && parent.value !== null) parent.value.shape ??= [];
  if (type === "axis" && parent.value !== null) {
    walk.values += 1;
    parent.value.shape?.push("");
  }
  const child = frame(type, end, parent.graphs, parent.value);
  child.parent = parent.type;
  return child;
}

const AROUND: Readonly<Partial<Record<MessageType, Value["around"][number]>>> = {
  sequenceType: "sequence",
  mapType: "map",
  optionalType: "optional",
};

function takeNumber(top: Frame, field: number, value: number, walk: Walk): void {
  const opset = walk.opsets.at(-1);
  if (top.type === "model" && field === 1) walk.irVersion = value;
  else if (top.type === "opset" && field === 2 && opset !== undefined) opset.version = value;
  else if (top.type === "tensor" && field === 14 && value === 1) top.external = true;
  else if (top.type === "tensor" && field === 1) top.elements *= value;
  else if (top.type === "tensorType" && field === 1 && top.value !== null) top.value.elementType = value;
  else if (top.type === "mapType" && field === 1 && top.value !== null) top.value.keyType = value;
  else if (top.type === "axis" && field === 1) top.value?.shape?.splice(-1, 1, value);
}

type Span = { readonly bytes: ByteSource; readonly from: number; readonly to: number };

function takeBytes(top: Frame, field: number, bytes: Span, walk: Walk): void {
  const opset = walk.opsets.at(-1);
  if (top.type === "model" && field === 2) walk.producer = textOf(bytes);
  else if (top.type === "opset" && field === 1 && opset !== undefined) opset.domain = textOf(bytes);
  else if (top.type === "node" && field === 4) top.name = textOf(bytes);
  else if (top.type === "node" && field === 7) top.domain = textOf(bytes);
  else if (top.type === "function" && field === 1) top.name = textOf(bytes);
  else if (top.type === "function" && field === 10) top.domain = textOf(bytes);
  else if (top.type === "tensor" && field === 1) top.elements *= productOf(bytes);
  else if (top.type === "tensor" && field === 8) top.name = textOf(bytes);
  else if (top.type === "tensor" && field === 13) top.external = true;
  else if ((top.type === "input" || top.type === "output") && field === 1 && top.value !== null)
    top.value.name = textOf(bytes);
  else if (top.type === "axis" && field === 2) top.value?.shape?.splice(-1, 1, textOf(bytes));
}

function close(done: Frame, walk: Walk): void {
  if (done.type === "node") countOperator(done, walk);
  if (done.type === "function" && walk.functions.size < MOST_OPERATORS)
    walk.functions.add(`${done.domain}/${done.name}`);
  if (done.type === "tensor" && (done.parent === "graph" || done.parent === "attribute"))
    walk.parameters += done.elements;
  if (
    done.type === "tensor" &&
    done.parent === "graph" &&
    done.graphs === 1 &&
    walk.initializers.size < MOST_INITIALIZERS
  )
    walk.initializers.add(done.name);
  if (done.type === "tensor" && done.external && walk.externalTensors.length < MOST_LISTED)
    walk.externalTensors.push(done.name);
}

function countOperator({ name, domain }: Frame, walk: Walk): void {
  walk.nodes += 1;
  const known = walk.operators.get(`${domain}/${name}`);
  if (known !== undefined) known.count += 1;
  else if (walk.operators.size < MOST_OPERATORS)
    walk.operators.set(`${domain}/${name}`, { domain, name, count: 1 });
}

function textOf({ bytes, from, to }: Span): string {
  return Buffer.from(bytes.slice(from, Math.min(to, from + LONGEST_TEXT))).toString("utf8");
}

/** Of axes that are packed into one field. */
function productOf({ bytes, from, to }: Span): number {
  const cursor = { at: from };
  const end = Math.min(to, from + LONGEST_TEXT);
  let product = 1;
  while (cursor.at < end) product *= readVarint(bytes, cursor, end) ?? 1;
  return product;
}

/** Values above 2^53 lose their last digits, which nothing here looks at. `null`: cut off, or longer than ten bytes. */
function readVarint(bytes: ByteSource, cursor: { at: number }, end: number): number | null {
  let value = 0;
  let scale = 1;
  for (let count = 0; count < 10; count += 1) {
    if (cursor.at >= end) return null;
    const byte = bytes.at(cursor.at);
    cursor.at += 1;
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return value;
    scale *= 128;
  }
  return null;
}

function tensorInfoOf({ name, isTensor, around, keyType, elementType, shape }: Value): TensorInfo {
  if (!isTensor) return { name, type: "not a tensor", shape: [] };
  const element = ONNX_ELEMENT_TYPES[elementType] ?? "unknown";
  const key = ONNX_ELEMENT_TYPES[keyType] ?? "unknown";
  const type = around.reduceRight(
    (inner, outer) => (outer === "map" ? `map(${key},${inner})` : `${outer}(${inner})`),
    element,
  );
  return { name, type, shape: around.length === 0 ? (shape ?? []) : [] };
}
