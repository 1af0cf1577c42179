import { own } from "../../base/lookup.ts";
/** An input or an output of a model. */
export type TensorInfo = {
  readonly name: string;
  /** As ONNX Runtime names element types; others as `sequence(float32)`, `map(int64,float32)`, `optional(string)`. */
  readonly type: string;
  /** A number is a fixed size; text is the name of a free axis, empty for one without a name. */
  readonly shape: readonly (number | string)[];
  /** Of maps: their keys as text, in the order of the columns that stand for them. */
  readonly keys?: readonly string[];
};

export type Signature = { readonly inputs: readonly TensorInfo[]; readonly outputs: readonly TensorInfo[] };

/** TensorProto.DataType of onnx.proto, by number. */
export const ONNX_ELEMENT_TYPES: Readonly<Record<number, string>> = {
  1: "float32",
  2: "uint8",
  3: "int8",
  4: "uint16",
  5: "int16",
  6: "int32",
  7: "int64",
  8: "string",
  9: "bool",
  10: "float16",
  11: "float64",
  12: "uint32",
  13: "uint64",
  14: "complex64",
  15: "complex128",
  16: "bfloat16",
  17: "float8e4m3fn",
  18: "float8e4m3fnuz",
  19: "float8e5m2",
  20: "float8e5m2fnuz",
  21: "uint4",
  22: "int4",
  23: "float4e2m1",
  24: "float8e8m0",
  25: "uint2",
  26: "int2",
};

/** Bits of float16 are kept as they are: ONNX Runtime for Node takes and gives them as a Uint16Array. */
export const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  bool: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
} as const;

/** Element types that a golden set can hold and that can be compared. */
export type NumericType = keyof typeof ARRAYS;
export type NumericArray = InstanceType<(typeof ARRAYS)[NumericType]>;

/** Element types that ONNX Runtime has and Node has not, and by which ones they are taken and given: none loses a value. */
const CARRIERS: Readonly<Record<string, NumericType>> = {
  bfloat16: "float32",
  float8e4m3fn: "float32",
  float8e4m3fnuz: "float32",
  float8e5m2: "float32",
  float8e5m2fnuz: "float32",
  float8e8m0: "float32",
  float4e2m1: "float32",
  int4: "int8",
  uint4: "uint8",
  int2: "int8",
  uint2: "uint8",
};

/** The element type by which values of this one are fed and read; `null` where there is none, as for complex numbers. */
export function carrierOf(type: string): NumericType | "string" | null {
  if (type === "string" || isNumericType(type)) return type;
  return own(CARRIERS, type) ?? null;
}

/** Values in C order. */
export type TensorValue = {
  readonly type: NumericType;
  readonly shape: readonly number[];
  readonly data: NumericArray;
};

/** Values of element type string, in C order. */
export type TextTensor = {
  readonly type: "string";
  readonly shape: readonly number[];
  readonly data: readonly string[];
};

/** A tensor. */
export type Value = TensorValue | TextTensor;

export type SequenceValue = { readonly type: "sequence"; readonly elements: readonly Value[] };
/** An optional without a value. */
export type NoValue = { readonly type: "none" };

/** Whatever a model can be fed with here, or answers. */
export type Datum = Value | SequenceValue | NoValue;

export function isTensor(datum: Datum): datum is Value {
  return datum.type !== "sequence" && datum.type !== "none";
}

export function isText(value: Datum): value is TextTensor {
  return value.type === "string";
}

export function isNumericType(type: string): type is NumericType {
  return Object.hasOwn(ARRAYS, type);
}

/** What a text takes in memory beside its characters, more or less. */
export const TEXT_BYTES = 32;

/** Bytes in memory, more or less. */
export function sizeOf(datum: Datum): number {
  if (datum.type === "none") return 0;
  if (datum.type === "sequence") return datum.elements.reduce((sum, element) => sum + sizeOf(element), 0);
  return isText(datum) ? datum.data.reduce((sum, text) => sum + 2 * text.length, 0) : datum.data.byteLength;
}

/** 1 for the empty shape of a scalar. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** Rows `from` to `to` of the first axis, without copying numbers. */
export function rowsOf<V extends Value>(tensor: V, from: number, to: number): V;
export function rowsOf(tensor: Value, from: number, to: number): Value {
  const rest = tensor.shape.slice(1);
  const row = elementCount(rest);
  const shape = [to - from, ...rest];
  return isText(tensor)
    ? { ...tensor, shape, data: tensor.data.slice(from * row, to * row) }
    : { ...tensor, shape, data: tensor.data.subarray(from * row, to * row) };
}

/** `count` rows: those of `tensor`, from the start again where they do not suffice. */
export function tileRows(tensor: Value, count: number): Value {
  const rest = tensor.shape.slice(1);
  const length = count * elementCount(rest);
  const shape = [count, ...rest];
  const from = (index: number) => index % Math.max(1, tensor.data.length);
  if (isText(tensor))
    return { ...tensor, shape, data: Array.from({ length }, (_, index) => tensor.data[from(index)] ?? "") };
  const data = new ARRAYS[tensor.type](length);
  for (let index = 0; index < data.length; index += 1) data[index] = tensor.data[from(index)] ?? 0;
  return { ...tensor, shape, data };
}

/** One element as a number; integers beyond 2^53 are rounded. */
export function numberAt(tensor: TensorValue, index: number): number {
  const element = tensor.data[index] ?? Number.NaN;
  return tensor.type === "float16" ? float16(Number(element)) : Number(element);
}

/** The value of 16 bits of IEEE 754 binary16. */
export function float16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** `float32[batch,4]`: a type and shape as messages show it; what is no tensor has no shape. */
export function tensorText(info: Pick<TensorInfo, "type" | "shape">): string {
  if (info.type.endsWith(")")) return info.type;
  return `${info.type}[${info.shape.map((axis) => (axis === "" ? "?" : axis)).join(",")}]`;
}

/** `a float32[2], b int64[]`: one side of a model as messages show it. */
export function sideText(infos: readonly Pick<TensorInfo, "name" | "type" | "shape">[]): string {
  return infos.map((info) => `${info.name} ${tensorText(info)}`).join(", ");
}
