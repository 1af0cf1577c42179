import { Buffer } from "node:buffer";

// Fields of a protobuf message, written (protobuf.dev, "Encoding").

const VARINT = 0;
const LENGTH = 2;

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
