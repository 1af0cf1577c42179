import { Buffer } from "node:buffer";
import { gzipSync } from "node:zlib";
import { type Header, pack } from "tar-stream";
import { type ElementType, elementNumber, type Message, message } from "./onnx-model.ts";

// ONNX test data, written by hand: it shares no code with the readers in src/verifier.

/** A TensorProto with raw_data. */
export function rawProto(type: ElementType, shape: readonly number[], data: Uint8Array, name = ""): Message {
  return header(type, shape, name).bytes(9, data);
}

export function floatProto(shape: readonly number[], values: readonly number[], name = ""): Message {
  return rawProto("float32", shape, new Uint8Array(Float32Array.from(values).buffer), name);
}

/** A TensorProto with its values in one of the typed fields, packed or not. */
export function typedProto(
  type: ElementType,
  shape: readonly number[],
  field: number,
  values: readonly (number | bigint)[],
  packed = true,
): Message {
  const written = header(type, shape, "");
  if (!packed) {
    for (const value of values) written.varint(field, value);
    return written;
  }
  const inner = message();
  for (const value of values) inner.raw(value);
  return written.message(field, inner);
}

export function textProto(shape: readonly number[], values: readonly string[], name = ""): Message {
  const written = header("string", shape, name);
  for (const value of values) written.text(6, value);
  return written;
}

function header(type: ElementType, shape: readonly number[], name: string): Message {
  const written = message();
  for (const size of shape) written.varint(1, size);
  written.varint(2, elementNumber(type));
  return name === "" ? written : written.text(8, name);
}

/** A SequenceProto of tensors. */
export function sequenceProto(elements: readonly Message[]): Message {
  const written = message().varint(2, 1);
  for (const element of elements) written.message(3, element);
  return written;
}

/** A SequenceProto of maps from integers or texts to float32. */
export function mapsProto(maps: readonly (readonly (readonly [number | string, number])[])[]): Message {
  const written = message().varint(2, 4);
  for (const map of maps) {
    const one = message().varint(2, 7);
    for (const [key] of map) {
      if (typeof key === "string") one.text(4, key);
      else one.varint(3, key);
    }
    one.message(5, sequenceProto(map.map(([, value]) => floatProto([], [value]))));
    written.message(6, one);
  }
  return written;
}

/** An OptionalProto; `null` is one without a value. */
export function optionalProto(of: "tensor" | "sequence", value: Message | null): Message {
  const written = message().varint(2, of === "tensor" ? 1 : 3);
  return value === null ? written : written.message(of === "tensor" ? 3 : 5, value);
}

type Named = Partial<Header> & Pick<Header, "name">;
export type Files = Readonly<Record<string, Message | Uint8Array>>;

/** Files of an archive as it is written, headers and all. */
export async function tarFile(files: Files | readonly (readonly [Named, Uint8Array])[]): Promise<Buffer> {
  const tar = pack();
  const entries: readonly (readonly [Named, Uint8Array])[] = Array.isArray(files)
    ? files
    : Object.entries(files as Files).map(([name, content]) => [{ name }, bytesOf(content)] as const);
  for (const [headers, content] of entries) tar.entry(headers, Buffer.from(content));
  tar.finalize();
  const pieces: Buffer[] = [];
  for await (const piece of tar) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}

export async function tarGzFile(files: Files): Promise<Buffer> {
  return gzipSync(await tarFile(files));
}

export function bytesOf(content: Message | Uint8Array): Uint8Array {
  return content instanceof Uint8Array ? content : content.encode();
}
