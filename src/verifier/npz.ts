import { Buffer } from "node:buffer";
import { crc32, inflateRawSync } from "node:zlib";
import { err, ok, type Result } from "../base/result.ts";
import { ARRAYS, elementCount, type NumericType, type TensorValue } from "./tensor.ts";

// numpy's .npz: a zip archive of .npy files (numpy.lib.format, versions 1 to 3; APPNOTE.TXT of PKWARE for zip).
// Every size in the file is somebody's claim: nothing is allocated for one before it has been held against the limit.

const END_OF_DIRECTORY = 0x06054b50;
const END_SIZE = 22;
const LONGEST_COMMENT = 0xffff;
const ENTRY = 0x02014b50;
const ENTRY_SIZE = 46;
const LOCAL = 0x04034b50;
const LOCAL_SIZE = 30;
const ENCRYPTED = 1;
const STORED = 0;
const DEFLATED = 8;
const NEEDS_ZIP64 = 0xffff_ffff;
const MOST_ARRAYS = 1024;
const NPY_MAGIC = "\u0093NUMPY";
const LONGEST_NPY_HEADER = 65_536;

const TYPES: Readonly<Record<string, NumericType>> = {
  f2: "float16",
  f4: "float32",
  f8: "float64",
  i1: "int8",
  i2: "int16",
  i4: "int32",
  i8: "int64",
  u1: "uint8",
  u2: "uint16",
  u4: "uint32",
  u8: "uint64",
  b1: "bool",
};

type Entry = {
  readonly name: string;
  readonly method: number;
  readonly crc: number;
  readonly compressedSize: number;
  readonly size: number;
  readonly localOffset: number;
};

/**
 * Reads all arrays of a .npz file.
 * @param bytes the whole file.
 * @param limit bytes that all arrays together may take once inflated.
 * @returns arrays by name (without `.npy`), or a sentence that says what cannot be read. It never throws.
 */
export function readNpz(bytes: Uint8Array, limit: number): Result<ReadonlyMap<string, TensorValue>, string> {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const entries = readDirectory(buffer);
  if (!entries.ok) return entries;
  const total = entries.value.reduce((sum, entry) => sum + entry.size, 0);
  if (total > limit) return err(`it would take ${total} bytes; at most ${limit} are allowed`);
  const arrays = new Map<string, TensorValue>();
  for (const entry of entries.value) {
    const name = entry.name.replace(/\.npy$/, "");
    if (name === entry.name) return err(`"${shown(entry.name)}" is no .npy file`);
    if (arrays.has(name)) return err(`it has two arrays named "${shown(name)}"`);
    const content = readEntry(buffer, entry);
    if (!content.ok) return err(`array "${shown(name)}": ${content.error}`);
    const array = readNpy(content.value);
    if (!array.ok) return err(`array "${shown(name)}": ${array.error}`);
    arrays.set(name, array.value);
  }
  return ok(arrays);
}

function readDirectory(buffer: Buffer): Result<readonly Entry[], string> {
  const end = findEnd(buffer);
  if (end === null) return err("it is no zip archive (or cut off)");
  const count = buffer.readUInt16LE(end + 10);
  const offset = buffer.readUInt32LE(end + 16);
  if (buffer.readUInt16LE(end + 4) !== 0) return err("it is a zip archive in several parts");
  if (count > MOST_ARRAYS) return err(`it has ${count} arrays; at most ${MOST_ARRAYS} are allowed`);
  if (offset === NEEDS_ZIP64) return err("it is a zip archive larger than 4 GiB");
  const entries: Entry[] = [];
  let at = offset;
  for (let index = 0; index < count; index += 1) {
    if (at + ENTRY_SIZE > end || buffer.readUInt32LE(at) !== ENTRY)
      return err("the directory of its zip archive is broken");
    const next = at + ENTRY_SIZE + entryTail(buffer, at);
    if (next > end) return err("the directory of its zip archive is broken");
    const name = buffer.toString("utf8", at + ENTRY_SIZE, at + ENTRY_SIZE + buffer.readUInt16LE(at + 28));
    const entry = {
      name,
      method: buffer.readUInt16LE(at + 10),
      crc: buffer.readUInt32LE(at + 16),
      compressedSize: buffer.readUInt32LE(at + 20),
      size: buffer.readUInt32LE(at + 24),
      localOffset: buffer.readUInt32LE(at + 42),
    };
    if ((buffer.readUInt16LE(at + 8) & ENCRYPTED) !== 0) return err(`"${shown(name)}" is encrypted`);
    if ([entry.compressedSize, entry.size, entry.localOffset].includes(NEEDS_ZIP64))
      return err(`"${shown(name)}" is larger than 4 GiB`);
    if (entry.method !== STORED && entry.method !== DEFLATED)
      return err(`"${shown(name)}" is compressed by method ${entry.method}; only deflate is read`);
    entries.push(entry);
    at = next;
  }
  return ok(entries);
}

/** Where the record is that ends every zip archive; a comment may follow it. */
function findEnd(buffer: Buffer): number | null {
  const first = Math.max(0, buffer.length - END_SIZE - LONGEST_COMMENT);
  for (let at = buffer.length - END_SIZE; at >= first; at -= 1)
    if (buffer.readUInt32LE(at) === END_OF_DIRECTORY) return at;
  return null;
}

function entryTail(buffer: Buffer, at: number): number {
  return buffer.readUInt16LE(at + 28) + buffer.readUInt16LE(at + 30) + buffer.readUInt16LE(at + 32);
}

/** Sizes come from the directory: numpy leaves zip64 placeholders in the local headers of small files too. */
function readEntry(buffer: Buffer, entry: Entry): Result<Buffer, string> {
  const local = entry.localOffset;
  if (local + LOCAL_SIZE > buffer.length || buffer.readUInt32LE(local) !== LOCAL)
    return err("the zip archive is broken");
  const from = local + LOCAL_SIZE + buffer.readUInt16LE(local + 26) + buffer.readUInt16LE(local + 28);
  if (from + entry.compressedSize > buffer.length) return err("the zip archive is cut off");
  const raw = buffer.subarray(from, from + entry.compressedSize);
  const content = entry.method === STORED ? raw : inflate(raw, entry.size);
  if (content === null || content.length !== entry.size)
    return err("it does not inflate to the size that the zip archive says");
  if (crc32(content) !== entry.crc) return err("its checksum is wrong");
  return ok(content);
}

function inflate(raw: Buffer, size: number): Buffer | null {
  try {
    // zlib refuses a limit of zero; one byte too many is noticed by the caller.
    return inflateRawSync(raw, { maxOutputLength: Math.max(1, size) });
  } catch {
    return null;
  }
}

/** One .npy file: magic, version, the length of a header, the header (a Python literal), the data. */
function readNpy(content: Buffer): Result<TensorValue, string> {
  if (content.length < 12 || content.toString("latin1", 0, 6) !== NPY_MAGIC)
    return err("it is not in numpy's .npy format");
  const version = content[6] ?? 0;
  if (version < 1 || version > 3) return err(`version ${version} of the .npy format is not known`);
  const start = version === 1 ? 10 : 12;
  const length = version === 1 ? content.readUInt16LE(8) : content.readUInt32LE(8);
  if (length > LONGEST_NPY_HEADER || start + length > content.length) return err("its header is cut off");
  const header = readHeader(content.toString("utf8", start, start + length));
  if (!header.ok) return header;
  const { type, shape } = header.value;
  const size = elementCount(shape) * ARRAYS[type].BYTES_PER_ELEMENT;
  const data = content.subarray(start + length);
  if (data.length !== size) return err(`it has ${data.length} bytes of data where its shape says ${size}`);
  // A copy, because typed arrays must be aligned.
  const own = Uint8Array.from(data).buffer;
  return ok({ type, shape, data: new ARRAYS[type](own) });
}

function readHeader(
  text: string,
): Result<{ readonly type: NumericType; readonly shape: readonly number[] }, string> {
  const descr = /'descr':\s*'([^']{1,16})'/.exec(text)?.[1];
  const fortran = /'fortran_order':\s*(True|False)/.exec(text)?.[1];
  const written = /'shape':\s*\(([0-9,\s]{0,512})\)/.exec(text)?.[1];
  if (fortran === undefined || written === undefined || (descr === undefined && !text.includes("'descr':")))
    return err("its header is not understood");
  if (descr === undefined) return err("structured arrays are not read");
  if (descr.includes("O")) return err("object arrays (pickles) are never read");
  if (descr.startsWith(">")) return err(`${descr} is big-endian; save it with .astype("<${descr.slice(1)}")`);
  const type = TYPES[descr.replace(/^[<|=]/, "")];
  if (type === undefined) return err(`element type ${shown(descr)} is not read`);
  if (fortran === "True") return err("it is in Fortran order; save it with numpy.ascontiguousarray");
  const shape = written
    .split(",")
    .map((size) => size.trim())
    .filter((size) => size !== "")
    .map(Number);
  if (shape.length > 32 || !Number.isSafeInteger(elementCount(shape.map((size) => Math.max(1, size)))))
    return err(`its shape (${shown(written)}) is too large`);
  return ok({ type, shape });
}

/** Names come from the file: short, and without control characters. */
function shown(name: string): string {
  return name.replaceAll(/\p{C}/gu, "?").slice(0, 64);
}
