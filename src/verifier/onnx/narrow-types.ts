import { own } from "../../base/lookup.ts";
import type { NumericArray } from "./tensor.ts";

// Element types narrower than Node's, widened without losing a value.

type Format = {
  readonly exponentBits: number;
  readonly fractionBits: number;
  readonly bias: number;
  /** What stands for what is no number: as IEEE 754 has it, the largest pattern alone, minus zero, or nothing. */
  readonly special: "ieee" | "largest" | "minusZero" | "none";
};

/** onnx/onnx: docs "Float stored in 8 bits", "4 bit types". */
const FORMATS: Readonly<Record<string, Format>> = {
  float8e4m3fn: { exponentBits: 4, fractionBits: 3, bias: 7, special: "largest" },
  float8e4m3fnuz: { exponentBits: 4, fractionBits: 3, bias: 8, special: "minusZero" },
  float8e5m2: { exponentBits: 5, fractionBits: 2, bias: 15, special: "ieee" },
  float8e5m2fnuz: { exponentBits: 5, fractionBits: 2, bias: 16, special: "minusZero" },
  float4e2m1: { exponentBits: 2, fractionBits: 1, bias: 1, special: "none" },
};

/** Integers of 4 or 2 bits, of which several share a byte: the first has the lowest bits. */
const INTEGERS: Readonly<Record<string, { readonly bits: number; readonly signed: boolean }>> = {
  int4: { bits: 4, signed: true },
  uint4: { bits: 4, signed: false },
  int2: { bits: 2, signed: true },
  uint2: { bits: 2, signed: false },
};

/**
 * @param bytes little-endian, as raw_data has them.
 * @returns float32 for floats, int8 or uint8 for integers.
 */
export function widened(bytes: Uint8Array, type: string, count: number): NumericArray {
  const integers = own(INTEGERS, type);
  if (integers !== undefined) {
    const { bits, signed } = integers;
    const values = signed ? new Int8Array(count) : new Uint8Array(count);
    const unused = 32 - bits;
    for (let index = 0; index < count; index += 1) {
      const value = bitsAt(bytes, index, bits);
      values[index] = signed ? (value << unused) >> unused : value;
    }
    return values;
  }
  const values = new Float32Array(count);
  if (type === "bfloat16") {
    // The upper half of a float32.
    const halves = new Uint16Array(values.buffer);
    for (let index = 0; index < count; index += 1)
      halves[2 * index + 1] = (bytes[2 * index] ?? 0) | ((bytes[2 * index + 1] ?? 0) << 8);
    return values;
  }
  const format = own(FORMATS, type);
  for (let index = 0; index < count; index += 1) {
    if (format === undefined) values[index] = powerOfTwo(bytes[index] ?? 0);
    else
      values[index] = numberIn(bitsAt(bytes, index, 1 + format.exponentBits + format.fractionBits), format);
  }
  return values;
}

function bitsAt(bytes: Uint8Array, index: number, bits: number): number {
  const start = index * bits;
  return ((bytes[start >> 3] ?? 0) >> (start & 7)) & ((1 << bits) - 1);
}

/** float8e8m0: an exponent and nothing else. */
function powerOfTwo(bits: number): number {
  return bits === 0xff ? Number.NaN : 2 ** (bits - 127);
}

function numberIn(pattern: number, { exponentBits, fractionBits, bias, special }: Format): number {
  const fraction = pattern & ((1 << fractionBits) - 1);
  const exponent = (pattern >> fractionBits) & ((1 << exponentBits) - 1);
  const negative = pattern >> (fractionBits + exponentBits) === 1;
  const sign = negative ? -1 : 1;
  const highest = exponent === (1 << exponentBits) - 1;
  if (special === "minusZero" && negative && exponent === 0 && fraction === 0) return Number.NaN;
  if (special === "ieee" && highest) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (special === "largest" && highest && fraction === (1 << fractionBits) - 1) return Number.NaN;
  const share = fraction / (1 << fractionBits);
  return exponent === 0 ? sign * share * 2 ** (1 - bias) : sign * (1 + share) * 2 ** (exponent - bias);
}
