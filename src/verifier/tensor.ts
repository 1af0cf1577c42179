/** An input or an output of a model. */
export type TensorInfo = {
  readonly name: string;
  /** As ONNX Runtime names element types; `not a tensor` for sequences, maps and optionals. */
  readonly type: string;
  /** A number is a fixed size; text is the name of a free axis, empty for one without a name. */
  readonly shape: readonly (number | string)[];
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

/** Whatever a model can be fed with here, or answers. */
export type Value = TensorValue | TextTensor;

export function isText(value: Value): value is TextTensor {
  return value.type === "string";
}

export function isNumericType(type: string): type is NumericType {
  return Object.hasOwn(ARRAYS, type);
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

/** `float32[batch,4]`: a type and shape as messages show it. */
export function tensorText(info: Pick<TensorInfo, "type" | "shape">): string {
  return `${info.type}[${info.shape.map((axis) => (axis === "" ? "?" : axis)).join(",")}]`;
}
