import { Buffer } from "node:buffer";

// Fields of a protobuf message, written and read (protobuf.dev, "Encoding").

const VARINT = 0;
const FIXED64 = 1;
const LENGTH = 2;
const FIXED32 = 5;
const WIRES: readonly number[] = [VARINT, FIXED64, LENGTH, FIXED32];
const HIGHEST_FIELD = 0x1fff_ffff;

/** @param value a whole number from 0 on. */
export function number(field: number, value: number): Buffer {
  return Buffer.concat([varint(field * 8 + VARINT), varint(value)]);
}

export function text(field: number, value: string): Buffer {
  return bytes(field, Buffer.from(value));
}

export function nested(field: number, fields: readonly Uint8Array[]): Buffer {
  return bytes(field, Buffer.concat(fields));
}

export function bytes(field: number, value: Uint8Array): Buffer {
  return Buffer.concat([varint(field * 8 + LENGTH), varint(value.length), value]);
}

function varint(value: number): Buffer {
  const written: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    written.push((rest % 0x80) + 0x80);
    rest = Math.floor(rest / 0x80);
  }
  return Buffer.from([...written, rest]);
}

export type Field = {
  readonly number: number;
  /** Where the field begins with its tag, and where the next one does. */
  readonly from: number;
  readonly to: number;
  /** Of a varint, modulo 2^64. */
  readonly varint: bigint | null;
  /** Of anything else, as it lies there. */
  readonly bytes: Uint8Array | null;
};

/**
 * Reads the fields of one message, one after the other; messages in it are bytes.
 * @param visit may say what is wrong with a field, which ends the reading.
 * @returns `null`, or what is wrong.
 */
export function eachField(
  message: Uint8Array,
  visit: (field: Field) => string | null | undefined,
): string | null {
  const cursor = { at: 0 };
  while (cursor.at < message.length) {
    const from = cursor.at;
    const tag = varintAt(message, cursor);
    if (tag === null) return brokenVarint(message.length, cursor, from);
    const [field, wire] = [Number(tag >> 3n), Number(tag & 7n)];
    if (field < 1 || field > HIGHEST_FIELD) return broken(from, message.length);
    const value = wire === VARINT ? varintAt(message, cursor) : null;
    const length = lengthOf(wire, message, cursor);
    if (!WIRES.includes(wire)) return broken(from, message.length);
    if ((wire === VARINT && value === null) || length === null)
      return brokenVarint(message.length, cursor, from);
    if (length > message.length - cursor.at) return cutOff(message.length, cursor.at + length);
    const bytesOf = wire === VARINT ? null : message.subarray(cursor.at, cursor.at + length);
    cursor.at += length;
    const wrong = visit({ number: field, from, to: cursor.at, varint: value, bytes: bytesOf });
    if (wrong !== null && wrong !== undefined) return wrong;
  }
  return null;
}

/** Bytes that the value takes behind its tag, and behind its length where it has one. */
function lengthOf(wire: number, message: Uint8Array, cursor: { at: number }): number | null {
  if (wire === VARINT) return 0;
  if (wire === FIXED64) return 8;
  if (wire === FIXED32) return 4;
  if (wire !== LENGTH) return null;
  const length = varintAt(message, cursor);
  return length === null ? null : Number(length);
}

/**
 * Numbers that are packed into one field.
 * @param most where to stop.
 * @returns `null` where they are cut off.
 */
export function packedVarints(packed: Uint8Array, most: number): readonly bigint[] | null {
  const values: bigint[] = [];
  const cursor = { at: 0 };
  while (cursor.at < packed.length && values.length < most) {
    const value = varintAt(packed, cursor);
    if (value === null) return null;
    values.push(value);
  }
  return values;
}

/** Modulo 2^64. `null`: cut off, or longer than ten bytes. */
function varintAt(message: Uint8Array, cursor: { at: number }): bigint | null {
  let low = 0;
  let high = 0;
  for (let count = 0; count < 10; count += 1) {
    const byte = message[cursor.at];
    if (byte === undefined) return null;
    cursor.at += 1;
    const seven = byte & 0x7f;
    if (count < 4) low += seven * 2 ** (7 * count);
    else if (count === 4) {
      low += (seven & 0xf) * 2 ** 28;
      high += seven >> 4;
    } else high += seven * 2 ** (7 * count - 32);
    if (byte < 0x80)
      return high === 0 ? BigInt(low) : BigInt.asUintN(64, (BigInt(high) << 32n) + BigInt(low));
  }
  return null;
}

/** What ends before what is in it does. */
export function cutOff(has: number, needs: number): string {
  return `it is broken or cut off: it has ${has} bytes, and what is in it says that it has at least ${needs}`;
}

export function broken(position: number, has: number): string {
  return `its protobuf is broken: at byte ${position} of its ${has} no field begins`;
}

/** A number that does not end: with the message, or at all. */
function brokenVarint(has: number, { at }: { readonly at: number }, from: number): string {
  return at >= has ? cutOff(has, has + 1) : broken(from, has);
}
