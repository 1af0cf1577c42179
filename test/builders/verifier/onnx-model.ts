import { Buffer } from "node:buffer";

// Small ONNX models without Python: a protobuf writer and the few operators that examples and tests need.
// Field numbers are those of onnx.proto (onnx/onnx, IR version 10).

/** Protobuf fields in the order they were written. */
export type Message = {
  readonly varint: (field: number, value: number | bigint) => Message;
  readonly float: (field: number, value: number) => Message;
  readonly bytes: (field: number, value: Uint8Array) => Message;
  readonly text: (field: number, value: string) => Message;
  readonly message: (field: number, value: Message) => Message;
  /** A varint without a tag, as packed fields have them. */
  readonly raw: (value: number | bigint) => Message;
  readonly encode: () => Buffer;
};

const ELEMENT_TYPES = {
  float32: 1,
  uint8: 2,
  int8: 3,
  uint16: 4,
  int16: 5,
  int32: 6,
  int64: 7,
  string: 8,
  bool: 9,
  float16: 10,
  float64: 11,
  uint32: 12,
  uint64: 13,
  bfloat16: 16,
  float8e4m3fn: 17,
  float8e5m2: 19,
  uint4: 21,
  int4: 22,
  float4e2m1: 23,
} as const;
export type ElementType = keyof typeof ELEMENT_TYPES;

export function elementNumber(type: ElementType): number {
  return ELEMENT_TYPES[type];
}

/** A number is a fixed size, a string names a free axis. */
export type Axis = number | string;

export type Graph = {
  readonly nodes: readonly Message[];
  readonly initializers?: readonly Message[];
  readonly inputs: readonly Message[];
  readonly outputs: readonly Message[];
};

export type Attribute =
  | number
  | bigint
  | readonly number[]
  | { readonly float: number }
  | { readonly graph: Graph };

/** Weights by rows: `weights[input][class]`. */
export type LinearLayer = {
  readonly weights: readonly (readonly number[])[];
  readonly bias: readonly number[];
};

const DEFAULT_OPSET = 17;
const DEFAULT_IR = 9;

export function message(): Message {
  const parts: Buffer[] = [];
  const add = (...more: readonly Buffer[]): Message => {
    parts.push(...more);
    return self;
  };
  const self: Message = {
    varint: (field, value) => add(varintOf(field << 3), varintOf(value)),
    float: (field, value) => {
      const four = Buffer.alloc(4);
      four.writeFloatLE(value);
      return add(varintOf((field << 3) | 5), four);
    },
    bytes: (field, value) =>
      add(
        varintOf((field << 3) | 2),
        varintOf(value.length),
        Buffer.from(value.buffer, value.byteOffset, value.length),
      ),
    text: (field, value) => self.bytes(field, Buffer.from(value)),
    message: (field, value) => self.bytes(field, value.encode()),
    raw: (value) => add(varintOf(value)),
    encode: () => Buffer.concat(parts),
  };
  return self;
}

function varintOf(value: number | bigint): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  do {
    const seven = Number(rest & 0x7fn);
    rest >>= 7n;
    bytes.push(rest > 0n ? seven | 0x80 : seven);
  } while (rest > 0n);
  return Buffer.from(bytes);
}

/** A ValueInfoProto: an input or an output of a graph. */
export function tensorInfo(name: string, shape: readonly Axis[], type: ElementType = "float32"): Message {
  const dimensions = message();
  for (const axis of shape)
    dimensions.message(1, typeof axis === "number" ? message().varint(1, axis) : message().text(2, axis));
  const shaped = message().varint(1, ELEMENT_TYPES[type]).message(2, dimensions);
  return message().text(1, name).message(2, message().message(1, shaped));
}

/** An input or output that is a sequence of tensors. */
export function sequenceInfo(name: string, type: ElementType = "float32"): Message {
  return message().text(1, name).message(2, sequenceType(type));
}

/** One that may be empty: a tensor or a sequence of tensors. */
export function optionalInfo(
  name: string,
  of: "tensor" | "sequence",
  type: ElementType = "float32",
): Message {
  const inner = of === "tensor" ? tensorType(type) : sequenceType(type);
  return message()
    .text(1, name)
    .message(2, message().message(9, message().message(1, inner)));
}

/** A sequence of maps to float32, as ZipMap gives it. */
export function mapsInfo(name: string, key: "int64" | "string"): Message {
  const map = message().varint(1, ELEMENT_TYPES[key]).message(2, tensorType("float32"));
  return message()
    .text(1, name)
    .message(2, message().message(4, message().message(1, message().message(5, map))));
}

function tensorType(type: ElementType): Message {
  return message().message(1, message().varint(1, ELEMENT_TYPES[type]));
}

function sequenceType(type: ElementType): Message {
  return message().message(4, message().message(1, tensorType(type)));
}

/** A TensorProto with its data inside. */
export function floatTensor(name: string, shape: readonly number[], values: Iterable<number>): Message {
  const data = Float32Array.from(values);
  return rawTensor(name, shape, "float32", new Uint8Array(data.buffer));
}

/** A TensorProto of int64 with its data inside. */
export function integerTensor(
  name: string,
  shape: readonly number[],
  values: readonly (number | bigint)[],
): Message {
  const data = BigInt64Array.from(values, BigInt);
  return rawTensor(name, shape, "int64", new Uint8Array(data.buffer));
}

function rawTensor(
  name: string,
  shape: readonly number[],
  type: ElementType,
  littleEndian: Uint8Array,
): Message {
  return tensorHeader(shape, type).text(8, name).bytes(9, littleEndian);
}

/** A TensorProto whose data is in another file. */
function externalTensor(name: string, shape: readonly number[], location: string): Message {
  return tensorHeader(shape, "float32")
    .text(8, name)
    .message(13, message().text(1, "location").text(2, location))
    .varint(14, 1);
}

function tensorHeader(shape: readonly number[], type: ElementType): Message {
  const header = message();
  for (const size of shape) header.varint(1, size);
  return header.varint(2, ELEMENT_TYPES[type]);
}

/** A NodeProto: `outputs = operator(inputs)`. */
export function node(
  operator: string,
  inputs: readonly string[],
  outputs: readonly string[],
  attributes: Readonly<Record<string, Attribute>> = {},
): Message {
  const written = message();
  for (const input of inputs) written.text(1, input);
  for (const output of outputs) written.text(2, output);
  written.text(3, `${operator}_${outputs.join("_")}`).text(4, operator);
  for (const [name, value] of Object.entries(attributes)) written.message(5, attribute(name, value));
  return written;
}

function attribute(name: string, value: Attribute): Message {
  const written = message().text(1, name);
  if (typeof value === "number" || typeof value === "bigint") return written.varint(3, value).varint(20, 2);
  if ("float" in value) return written.float(2, value.float).varint(20, 1);
  if ("graph" in value) return written.message(6, graphMessage(name, value.graph)).varint(20, 5);
  for (const one of value) written.varint(8, one);
  return written.varint(20, 7);
}

function graphMessage(name: string, graph: Graph): Message {
  const written = message();
  for (const one of graph.nodes) written.message(1, one);
  written.text(2, name);
  for (const one of graph.initializers ?? []) written.message(5, one);
  for (const one of graph.inputs) written.message(11, one);
  for (const one of graph.outputs) written.message(12, one);
  return written;
}

/** A FunctionProto of the domain `local`: an operator that the file brings itself. */
export function localFunction(
  name: string,
  inputs: readonly string[],
  outputs: readonly string[],
  nodes: readonly Message[],
): Message {
  const written = message().text(1, name);
  for (const input of inputs) written.text(4, input);
  for (const output of outputs) written.text(5, output);
  for (const one of nodes) written.message(7, one);
  for (const opset of [ownOpset(DEFAULT_OPSET), ML_OPSET]) written.message(9, opset);
  return written.text(10, "local");
}

function ownOpset(version: number): Message {
  return message().text(1, "").varint(2, version);
}

const ML_OPSET = message().text(1, "ai.onnx.ml").varint(2, 3);
const LOCAL_OPSET = message().text(1, "local").varint(2, 1);

/** ai.onnx.ml.ZipMap: a row of scores becomes a map from each key to its score. */
export function zipMapNode(input: string, output: string, keys: readonly (number | string)[]): Message {
  const attributes = message().text(
    1,
    typeof keys[0] === "string" ? "classlabels_strings" : "classlabels_int64s",
  );
  for (const key of keys) {
    if (typeof key === "string") attributes.text(9, key);
    else attributes.varint(8, key);
  }
  return node("ZipMap", [input], [output])
    .message(5, attributes.varint(20, typeof keys[0] === "string" ? 8 : 7))
    .text(7, "ai.onnx.ml");
}

/** The bytes of a model file. `padding` makes equal models differ, and large, without changing what they compute. */
export function modelFile(
  graph: Graph,
  options: {
    readonly opset?: number;
    readonly ir?: number;
    readonly padding?: Uint8Array;
    /** Operators of its own; with them ai.onnx.ml is imported, too. */
    readonly functions?: readonly Message[];
  } = {},
): Buffer {
  const file = message()
    .varint(1, options.ir ?? DEFAULT_IR)
    .text(2, "edge-fleet-operator")
    .message(7, graphMessage("main", graph))
    .message(8, ownOpset(options.opset ?? DEFAULT_OPSET));
  if (options.functions !== undefined) for (const opset of [ML_OPSET, LOCAL_OPSET]) file.message(8, opset);
  for (const one of options.functions ?? []) file.message(25, one);
  if (options.padding !== undefined) file.message(14, message().text(1, "padding").bytes(2, options.padding));
  return file.encode();
}

/** softmax(x · weights + bias): input `x` [batch, inputs], output `probabilities` [batch, classes]. */
export function linearClassifier(
  layer: LinearLayer,
  options: { readonly padding?: Uint8Array } = {},
): Buffer {
  const inputs = layer.weights.length;
  const classes = layer.bias.length;
  return modelFile(
    {
      nodes: [
        node("MatMul", ["x", "W"], ["product"]),
        node("Add", ["product", "b"], ["scores"]),
        node("Softmax", ["scores"], ["probabilities"], { axis: -1 }),
      ],
      initializers: [
        floatTensor("W", [inputs, classes], layer.weights.flat()),
        floatTensor("b", [classes], layer.bias),
      ],
      inputs: [tensorInfo("x", ["batch", inputs])],
      outputs: [tensorInfo("probabilities", ["batch", classes])],
    },
    options,
  );
}

/** Gemm and Relu layers with given weights, softmax at the end; names as `linearClassifier` has them. */
export function perceptron(
  layers: readonly LinearLayer[],
  options: { readonly padding?: Uint8Array } = {},
): Buffer {
  const nodes: Message[] = [];
  const initializers: Message[] = [];
  let current = "x";
  for (const [index, layer] of layers.entries()) {
    const last = index === layers.length - 1;
    initializers.push(
      floatTensor(`W${index}`, [layer.weights.length, layer.bias.length], layer.weights.flat()),
      floatTensor(`b${index}`, [layer.bias.length], layer.bias),
    );
    nodes.push(node("Gemm", [current, `W${index}`, `b${index}`], [`sum${index}`]));
    current = `sum${index}`;
    if (!last) nodes.push(node("Relu", [current], [`relu${index}`]));
    if (!last) current = `relu${index}`;
  }
  nodes.push(node("Softmax", [current], ["probabilities"], { axis: -1 }));
  return modelFile(
    {
      nodes,
      initializers,
      inputs: [tensorInfo("x", ["batch", layers[0]?.weights.length ?? 0])],
      outputs: [tensorInfo("probabilities", ["batch", layers.at(-1)?.bias.length ?? 0])],
    },
    options,
  );
}

/** A perceptron with weights drawn from `seed`: `sizes` are the widths from input to output. */
export function randomPerceptron(sizes: readonly number[], seed = 1): Buffer {
  const random = seededRandom(seed);
  const layers = sizes.slice(1).map((outputs, index) => {
    const inputs = sizes[index] ?? 0;
    const scale = Math.sqrt(1 / inputs);
    return {
      weights: Array.from({ length: inputs }, () =>
        Array.from({ length: outputs }, () => (random() * 2 - 1) * scale),
      ),
      bias: Array.from({ length: outputs }, () => (random() * 2 - 1) * 0.1),
    };
  });
  return perceptron(layers);
}

/**
 * The linear classifier of `layer`, and beside it `trips` multiplications of a square matrix of `width` whose result
 * is added to the scores times zero: the same answers, later.
 */
export function slowClassifier(
  layer: LinearLayer,
  work: { readonly trips: number; readonly width: number },
): Buffer {
  const inputs = layer.weights.length;
  const classes = layer.bias.length;
  const square = [work.width, work.width];
  const body: Graph = {
    nodes: [node("Identity", ["go"], ["goOn"]), node("MatMul", ["had", "half"], ["has"])],
    inputs: [tensorInfo("trip", [], "int64"), tensorInfo("go", [], "bool"), tensorInfo("had", square)],
    outputs: [tensorInfo("goOn", [], "bool"), tensorInfo("has", square)],
  };
  const values = new Float32Array(work.width * work.width).fill(1 / work.width);
  return modelFile({
    nodes: [
      node("Loop", ["trips", "", "half"], ["ground"], { body: { graph: body } }),
      node("ReduceSum", ["ground"], ["heat"], { keepdims: 0 }),
      node("Mul", ["heat", "nothing"], ["zero"]),
      node("MatMul", ["x", "W"], ["product"]),
      node("Add", ["product", "b"], ["scores"]),
      node("Add", ["scores", "zero"], ["late"]),
      node("Softmax", ["late"], ["probabilities"], { axis: -1 }),
    ],
    initializers: [
      integerTensor("trips", [], [work.trips]),
      floatTensor("half", square, values),
      floatTensor("nothing", [], [0]),
      floatTensor("W", [inputs, classes], layer.weights.flat()),
      floatTensor("b", [classes], layer.bias),
    ],
    inputs: [tensorInfo("x", ["batch", inputs])],
    outputs: [tensorInfo("probabilities", ["batch", classes])],
  });
}

/** A Loop that would run 2^63 - 1 times: input `x` [batch, 4], output `y` [batch, 4], never. */
export function endlessModel(): Buffer {
  const shape = ["batch", 4];
  const body: Graph = {
    nodes: [node("Identity", ["go"], ["goOn"]), node("Add", ["had", "had"], ["has"])],
    inputs: [tensorInfo("trip", [], "int64"), tensorInfo("go", [], "bool"), tensorInfo("had", shape)],
    outputs: [tensorInfo("goOn", [], "bool"), tensorInfo("has", shape)],
  };
  return modelFile({
    nodes: [node("Loop", ["trips", "", "x"], ["y"], { body: { graph: body } })],
    initializers: [integerTensor("trips", [], [2n ** 63n - 1n])],
    inputs: [tensorInfo("x", shape)],
    outputs: [tensorInfo("y", shape)],
  });
}

/** Asks for `elements` float32 zeros in one piece: input `x` [batch, 4], output `y` is their sum. */
export function hugeAllocationModel(elements: number): Buffer {
  return modelFile({
    nodes: [
      node("ReduceSum", ["x"], ["sum"], { keepdims: 0 }),
      node("ConstantOfShape", ["size"], ["zeros"]),
      node("Add", ["zeros", "sum"], ["sums"]),
      node("ReduceSum", ["sums"], ["y"], { keepdims: 0 }),
    ],
    initializers: [integerTensor("size", [1], [elements])],
    inputs: [tensorInfo("x", ["batch", 4])],
    outputs: [tensorInfo("y", [])],
  });
}

/** Weights in another file; with `nested`, inside the graph of an If. */
export function externalDataModel(location: string, place: "outer" | "nested" = "outer"): Buffer {
  const weights = externalTensor("W", [4, 3], location);
  if (place === "outer")
    return modelFile({
      nodes: [node("MatMul", ["x", "W"], ["y"])],
      initializers: [weights],
      inputs: [tensorInfo("x", ["batch", 4])],
      outputs: [tensorInfo("y", ["batch", 3])],
    });
  const branch: Graph = {
    nodes: [node("MatMul", ["x", "W"], ["inner"])],
    initializers: [weights],
    inputs: [],
    outputs: [tensorInfo("inner", ["batch", 3])],
  };
  return modelFile({
    nodes: [node("If", ["yes"], ["y"], { then_branch: { graph: branch }, else_branch: { graph: branch } })],
    initializers: [rawTensor("yes", [], "bool", Uint8Array.of(1))],
    inputs: [tensorInfo("x", ["batch", 4])],
    outputs: [tensorInfo("y", ["batch", 3])],
  });
}

/** `y = Cast(x)`, of the same shape. */
export function castModel(from: ElementType, to: ElementType, shape: readonly Axis[] = ["batch", 4]): Buffer {
  return modelFile(
    {
      nodes: [node("Cast", ["x"], ["y"], { to: ELEMENT_TYPES[to] })],
      inputs: [tensorInfo("x", shape, from)],
      outputs: [tensorInfo("y", shape, to)],
    },
    { opset: 21, ir: 10 },
  );
}

/** Numbers from 0 to 1 that are the same for the same seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
