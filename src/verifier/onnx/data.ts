import { Buffer } from "node:buffer";
import { err, ok, type Result } from "../../base/result.ts";
import { widened } from "./narrow-types.ts";
import { eachField, type Field, packedVarints } from "./protobuf.ts";
import {
  ARRAYS,
  carrierOf,
  type Datum,
  elementCount,
  type NumericArray,
  type NumericType,
  ONNX_ELEMENT_TYPES,
  sizeOf,
  TEXT_BYTES,
  type Value,
} from "./tensor.ts";

// Values as ONNX keeps them in files (onnx/onnx: onnx.proto TensorProto; onnx-data.proto SequenceProto, MapProto,
// OptionalProto). Every size in the file is the file's own claim, held against the limit and the bytes that are there.

/** A value and what the file says of it. Elements that Node has no type for are given by a wider one. */
export type OnnxDatum = {
  /** Empty where the file names none. */
  readonly name: string;
  /** As a signature spells it, such as `bfloat16` or `sequence(float32)`; the element of what is empty is `?`. */
  readonly type: string;
  readonly value: Datum | MapsValue;
};

/** A sequence of maps from integers or texts to one number each. */
export type MapsValue = {
  readonly type: "maps";
  readonly maps: readonly ReadonlyMap<string, number>[];
};

const MOST_AXES = 32;
const MOST_ELEMENTS = 100_000;
const EXTERNAL = 1n;
const NOTHING = new Uint8Array();

/**
 * @param type how the model declares the value: whether the bytes are a tensor, a sequence or an optional.
 * @param limit bytes that the value may take in memory.
 */
export function readOnnxDatum(bytes: Uint8Array, type: string, limit: number): Result<OnnxDatum, string> {
  if (type.startsWith("optional(")) return readOptional(bytes, limit);
  return type.startsWith("sequence(") ? readSequence(bytes, limit) : readTensorProto(bytes, limit);
}

/** What a TensorProto has, before it is known how it fits together. */
type Parts = {
  readonly dims: bigint[];
  dataType: number;
  name: string;
  raw: Uint8Array | null;
  readonly typed: Map<number, Uint8Array[]>;
  readonly varints: Map<number, bigint[]>;
  /** Fields that hold data. */
  pieces: number;
};

const FLOAT_DATA = 4;
const INT32_DATA = 5;
const STRING_DATA = 6;
const INT64_DATA = 7;
const DOUBLE_DATA = 10;
const UINT64_DATA = 11;

export function readTensorProto(bytes: Uint8Array, limit: number): Result<OnnxDatum, string> {
  const parts: Parts = {
    dims: [],
    dataType: 0,
    name: "",
    raw: null,
    typed: new Map(),
    varints: new Map(),
    pieces: 0,
  };
  const broken = eachField(bytes, (field) => takeTensorField(field, parts, limit));
  if (broken !== null) return err(broken);
  const type = ONNX_ELEMENT_TYPES[parts.dataType];
  if (type === undefined) return err(`it is not a tensor: its element type is number ${parts.dataType}`);
  const carrier = carrierOf(type);
  if (carrier === null) return err(`it is ${type}, which ONNX Runtime has no operators for`);
  const shape = parts.dims.map(Number);
  if (shape.length > MOST_AXES) return err(`it has ${shape.length} axes; at most ${MOST_AXES} are read`);
  const negative = shape.find((size) => size < 0);
  if (negative !== undefined) return err(`an axis of it has size ${negative}`);
  const count = elementCount(shape);
  const each = carrier === "string" ? TEXT_BYTES : ARRAYS[carrier].BYTES_PER_ELEMENT;
  if (!(count * each <= limit))
    return err(`its shape [${shape.join(",")}] would take more than ${limit} bytes`);
  const data = carrier === "string" ? textsOf(parts) : numbersOf(parts, type, carrier, count);
  if (!data.ok) return data;
  if (data.value.length !== count)
    return err(`it has ${data.value.length} elements where its shape [${shape.join(",")}] says ${count}`);
  return ok({ name: parts.name, type, value: { type: carrier, shape, data: data.value } as Value });
}

/** Field numbers of TensorProto. */
function takeTensorField({ number, varint, bytes }: Field, parts: Parts, limit: number): string | null {
  switch (number) {
    case 1: {
      const sizes = varint === null ? packedVarints(bytes ?? NOTHING, 4 * MOST_AXES) : [varint];
      if (sizes === null) return "its shape is cut off";
      if (parts.dims.length + sizes.length > 4 * MOST_AXES) return "it has too many axes";
      for (const size of sizes) parts.dims.push(BigInt.asIntN(64, size));
      return null;
    }
    case 2:
      parts.dataType = Number(varint ?? 0n);
      return null;
    case 3:
      return "it is one segment of a tensor; save it in one piece";
    case 8:
      parts.name = Buffer.from(bytes ?? []).toString("utf8");
      return null;
    case 9:
      parts.raw = bytes;
      return null;
    case 13:
      return bytes === null ? null : "its data is in another file; save it with the data inside";
    case 14:
      return varint === EXTERNAL ? "its data is in another file; save it with the data inside" : null;
    case FLOAT_DATA:
    case STRING_DATA:
    case DOUBLE_DATA:
      if (bytes !== null) listOf(parts.typed, number).push(bytes);
      parts.pieces += 1;
      return parts.pieces * TEXT_BYTES > limit ? `it would take more than ${limit} bytes` : null;
    case INT32_DATA:
    case INT64_DATA:
    case UINT64_DATA: {
      if (varint !== null) listOf(parts.varints, number).push(varint);
      // Packed, and kept as it is: how many there are is not known yet.
      else if (bytes !== null) listOf(parts.typed, number).push(bytes);
      parts.pieces += 1;
      return parts.pieces * TEXT_BYTES > limit ? `it would take more than ${limit} bytes` : null;
    }
    default:
      return null;
  }
}

function listOf<T>(lists: Map<number, T[]>, key: number): T[] {
  const list = lists.get(key) ?? [];
  lists.set(key, list);
  return list;
}

function textsOf({ raw, typed }: Parts): Result<readonly string[], string> {
  if (raw !== null) return err("texts are kept in string_data, not in raw_data");
  return ok((typed.get(STRING_DATA) ?? []).map((one) => Buffer.from(one).toString("utf8")));
}

type Numbers = Result<NumericArray, string>;

/** The field that holds typed values of an element type, as onnx.proto says. */
function fieldOf(type: string): number {
  if (type === "float32") return FLOAT_DATA;
  if (type === "float64") return DOUBLE_DATA;
  if (type === "int64") return INT64_DATA;
  return type === "uint32" || type === "uint64" ? UINT64_DATA : INT32_DATA;
}

/** Elements that share a byte. */
function packingOf(type: string): number {
  if (type === "int4" || type === "uint4" || type === "float4e2m1") return 2;
  return type === "int2" || type === "uint2" ? 4 : 1;
}

function numbersOf(parts: Parts, type: string, carrier: NumericType, count: number): Numbers {
  const field = fieldOf(type);
  const typed = parts.typed.get(field) ?? [];
  const varints = parts.varints.get(field) ?? [];
  const hasTyped = varints.length > 0 || typed.some((one) => one.length > 0);
  if (parts.raw !== null && parts.raw.length > 0 && hasTyped)
    return err("it has its data twice, raw and typed");
  if (parts.raw !== null && !hasTyped) return fromBytes(parts.raw, type, carrier, count);
  if (field === FLOAT_DATA || field === DOUBLE_DATA)
    return fromBytes(Buffer.concat(typed), type, carrier, count);
  const values = typed.length === 0 ? varints : unpacked(typed, varints, count + 1);
  if (values === null) return err("its data is cut off");
  if (values.length > count + 1) return err("it has more elements than its shape says");
  if (type === "int64") return ok(BigInt64Array.from(values, (one) => BigInt.asIntN(64, one)));
  if (type === "uint64") return ok(BigUint64Array.from(values));
  if (type === carrier)
    return ok(new ARRAYS[type as Exclude<NumericType, "int64" | "uint64">](values.map(plain(type))));
  // One byte, or two of a bfloat16, in each of the field's integers.
  const width = type === "bfloat16" ? 2 : 1;
  const bytes = Buffer.alloc(values.length * width);
  for (const [index, one] of values.entries())
    if (width === 2) bytes.writeUInt16LE(Number(BigInt.asUintN(16, one)), index * 2);
    else bytes[index] = Number(BigInt.asUintN(8, one));
  return fromBytes(bytes, type, carrier, count);
}

function plain(type: string): (value: bigint) => number {
  return type === "bool" ? (value) => (value === 0n ? 0 : 1) : (value) => Number(BigInt.asIntN(64, value));
}

/** Hardly more than `most`: what the file has beyond that is too much anyway. */
function unpacked(
  chunks: readonly Uint8Array[],
  others: readonly bigint[],
  most: number,
): readonly bigint[] | null {
  const values: bigint[] = [...others];
  for (const chunk of chunks) {
    const some = packedVarints(chunk, Math.max(0, most - values.length));
    if (some === null) return null;
    for (const one of some) values.push(one);
  }
  return values;
}

/** Little-endian data, as raw_data has it. */
function fromBytes(bytes: Uint8Array, type: string, carrier: NumericType, count: number): Numbers {
  const packing = packingOf(type);
  const width = type === "bfloat16" ? 2 : 1;
  const each = type === carrier ? ARRAYS[carrier].BYTES_PER_ELEMENT : width;
  const size = Math.ceil(count / packing) * each;
  if (bytes.length !== size)
    return err(`it has ${bytes.length} bytes of data where its shape and type say ${size}`);
  // A copy, because typed arrays must be aligned.
  if (type === carrier) return ok(new ARRAYS[carrier](Uint8Array.from(bytes).buffer));
  return ok(widened(bytes, type, count));
}

function readSequence(bytes: Uint8Array, limit: number): Result<OnnxDatum, string> {
  const elements: Value[] = [];
  const maps: ReadonlyMap<string, number>[] = [];
  let name = "";
  let element = "?";
  let left = limit;
  const wrong = eachField(bytes, ({ number, bytes: inner }) => {
    if (number === 1 && inner !== null) name = Buffer.from(inner).toString("utf8");
    if (number === 4 || number === 5 || number === 7)
      return "it is a sequence of sequences, optionals or sparse tensors, which are not read";
    if ((number !== 3 && number !== 6) || inner === null) return null;
    const place = elements.length + maps.length;
    if (place >= MOST_ELEMENTS) return `it has more than ${MOST_ELEMENTS} elements`;
    if (number === 6) {
      const map = readMap(inner, left);
      if (!map.ok) return `element ${place}: ${map.error}`;
      left -= map.value.size * TEXT_BYTES;
      maps.push(map.value);
      return null;
    }
    const tensor = readTensorProto(inner, left);
    if (!tensor.ok) return `element ${place}: ${tensor.error}`;
    if (element !== "?" && element !== tensor.value.type)
      return `element ${place} is ${tensor.value.type}, those before are ${element}`;
    element = tensor.value.type;
    const value = tensor.value.value as Value;
    left -= 2 * TEXT_BYTES + sizeOf(value);
    if (left < 0) return `it would take more than ${limit} bytes`;
    elements.push(value);
    return null;
  });
  if (wrong !== null) return err(wrong);
  if (maps.length > 0)
    return elements.length > 0
      ? err("it has tensors and maps")
      : ok({ name, type: "sequence(map)", value: { type: "maps", maps } });
  return ok({ name, type: `sequence(${element})`, value: { type: "sequence", elements } });
}

/** Keys as text, and one number for each. */
function readMap(bytes: Uint8Array, limit: number): Result<ReadonlyMap<string, number>, string> {
  const keys: string[] = [];
  const numbers: number[] = [];
  const wrong = eachField(bytes, ({ number, varint, bytes: inner }) => {
    if (number === 3) {
      const some = varint === null ? packedVarints(inner ?? NOTHING, MOST_ELEMENTS) : [varint];
      if (some === null) return "its keys are cut off";
      for (const one of some) keys.push(String(BigInt.asIntN(64, one)));
    }
    if (number === 4 && inner !== null) keys.push(Buffer.from(inner).toString("utf8"));
    if (number !== 5 || inner === null) return null;
    const values = readSequence(inner, limit);
    if (!values.ok) return `its values: ${values.error}`;
    if (values.value.value.type !== "sequence") return "its values are not tensors";
    for (const { data } of values.value.value.elements) for (const one of data) numbers.push(Number(one));
    return null;
  });
  if (wrong !== null) return err(wrong);
  if (keys.length !== numbers.length) return err(`it has ${keys.length} keys and ${numbers.length} values`);
  if (keys.length * TEXT_BYTES > limit) return err(`it would take more than ${limit} bytes`);
  const map = new Map(keys.map((key, index) => [key, numbers[index] ?? Number.NaN] as const));
  return map.size === keys.length ? ok(map) : err("it has a key twice");
}

/** OptionalProto: name 1, elem_type 2, tensor_value 3, sequence_value 5. */
function readOptional(bytes: Uint8Array, limit: number): Result<OnnxDatum, string> {
  let name = "";
  let found: Result<OnnxDatum, string> | null = null;
  const wrong = eachField(bytes, ({ number, bytes: inner }) => {
    if (inner === null) return null;
    if (number === 1) name = Buffer.from(inner).toString("utf8");
    else if (number === 3) found = readTensorProto(inner, limit);
    else if (number === 5) found = readSequence(inner, limit);
    else if (number >= 4 && number <= 7) return "it is an optional of a kind that is not read";
    return null;
  });
  if (wrong !== null) return err(wrong);
  const inside = found as Result<OnnxDatum, string> | null;
  if (inside === null) return ok({ name, type: "optional(?)", value: { type: "none" } });
  if (!inside.ok) return inside;
  return ok({ name, type: `optional(${inside.value.type})`, value: inside.value.value });
}
