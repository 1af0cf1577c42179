import { Buffer } from "node:buffer";
import { crc32, inflateRawSync } from "node:zlib";
import { err, ok, type Result } from "../../base/result.ts";
import { clip } from "../../base/text.ts";

// Zip archives (APPNOTE.TXT of PKWARE, with zip64). Every size in the file is the file's own claim: nothing is allocated
// for one before it has been held against the limit.

const END_OF_DIRECTORY = 0x06054b50;
const END_SIZE = 22;
const LONGEST_COMMENT = 0xffff;
const LOCATOR64 = 0x07064b50;
const LOCATOR64_SIZE = 20;
const END64 = 0x06064b50;
const END64_SIZE = 56;
const ENTRY = 0x02014b50;
const ENTRY_SIZE = 46;
const LOCAL = 0x04034b50;
const LOCAL_SIZE = 30;
const ENCRYPTED = 1;
const STORED = 0;
const DEFLATED = 8;
const IN_ZIP64 = 0xffff_ffff;
const COUNT_IN_ZIP64 = 0xffff;
const EXTRA64 = 1;
const LINK_MODE = 0o120000;
const KIND_MASK = 0o170000;

export type ZipEntry = {
  readonly name: string;
  /** Bytes once inflated, as the archive claims. */
  readonly size: number;
  /** Inflates it, or says what is wrong with it. */
  readonly read: () => Result<Buffer, string>;
};

type Listed = {
  readonly name: string;
  /** As the archive has it. */
  readonly written: string;
  readonly method: number;
  readonly crc: number;
  readonly compressedSize: number;
  readonly size: number;
  readonly localOffset: number;
};

export function isZip(bytes: Uint8Array): boolean {
  return bytes[0] === 0x50 && bytes[1] === 0x4b && (bytes[2] === 3 || bytes[2] === 5);
}

/**
 * Reads the directory of a zip archive.
 * @param limit bytes that all entries together may take once inflated.
 * @returns its files, without directories, or a sentence that says what cannot be read. It never throws.
 */
export function readZip(
  bytes: Uint8Array,
  limit: number,
  mostEntries: number,
): Result<readonly ZipEntry[], string> {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const listed = readDirectory(buffer, mostEntries);
  if (!listed.ok) return listed;
  const total = listed.value.reduce((sum, entry) => sum + entry.size, 0);
  if (total > limit) return err(`it would take ${total} bytes; at most ${limit} are allowed`);
  const names = new Set<string>();
  for (const { name } of listed.value) {
    if (names.has(name)) return err(`it has two files named "${shown(name)}"`);
    names.add(name);
  }
  const places = placesOf(buffer, listed.value);
  if (!places.ok) return places;
  return ok(
    listed.value
      .filter(({ name }) => !name.endsWith("/"))
      .map((entry) => ({
        name: entry.name,
        size: entry.size,
        read: () => contentOf(buffer, entry, places.value.get(entry) ?? 0),
      })),
  );
}

function readDirectory(buffer: Buffer, mostEntries: number): Result<readonly Listed[], string> {
  const end = findEnd(buffer);
  if (end === null)
    return err(
      isZip(buffer)
        ? `it is a zip archive that is cut off: it has ${buffer.length} bytes, and the list of its files, which comes last, is not among them`
        : "it is not a zip archive",
    );
  if (buffer.readUInt16LE(end + 4) !== 0) return err("it is a zip archive in several parts");
  const found = startOfDirectory(buffer, end);
  if (!found.ok) return found;
  const { count, offset } = found.value;
  if (count > mostEntries) return err(`it has ${count} files; at most ${mostEntries} are allowed`);
  const entries: Listed[] = [];
  let at = offset;
  for (let index = 0; index < count; index += 1) {
    if (at + ENTRY_SIZE > end || buffer.readUInt32LE(at) !== ENTRY)
      return err("the directory of its zip archive is broken");
    const nameEnd = at + ENTRY_SIZE + buffer.readUInt16LE(at + 28);
    const extraEnd = nameEnd + buffer.readUInt16LE(at + 30);
    const next = extraEnd + buffer.readUInt16LE(at + 32);
    if (next > end) return err("the directory of its zip archive is broken");
    const written = buffer.toString("utf8", at + ENTRY_SIZE, nameEnd);
    // Windows' own tools wrote backslashes for years; a name with one is read as they meant it.
    const name = written.replaceAll("\\", "/");
    const unsafe = unsafeName(name);
    if (unsafe !== null) return err(unsafe);
    const [size, compressedSize, localOffset] = largeFields(buffer.subarray(nameEnd, extraEnd), [
      buffer.readUInt32LE(at + 24),
      buffer.readUInt32LE(at + 20),
      buffer.readUInt32LE(at + 42),
    ]);
    const entry = {
      name,
      written,
      method: buffer.readUInt16LE(at + 10),
      crc: buffer.readUInt32LE(at + 16),
      compressedSize,
      size,
      localOffset,
    };
    if ((buffer.readUInt16LE(at + 8) & ENCRYPTED) !== 0) return err(`"${shown(name)}" is encrypted`);
    if (((buffer.readUInt32LE(at + 38) >>> 16) & KIND_MASK) === LINK_MODE)
      return err(`"${shown(name)}" is a link; links are not followed`);
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

function startOfDirectory(
  buffer: Buffer,
  end: number,
): Result<{ readonly count: number; readonly offset: number }, string> {
  const count = buffer.readUInt16LE(end + 10);
  const offset = buffer.readUInt32LE(end + 16);
  if (count !== COUNT_IN_ZIP64 && offset !== IN_ZIP64) return ok({ count, offset });
  const locator = end - LOCATOR64_SIZE;
  if (locator < 0 || buffer.readUInt32LE(locator) !== LOCATOR64) return ok({ count, offset });
  const at = Number(buffer.readBigUInt64LE(locator + 8));
  if (at + END64_SIZE > locator || buffer.readUInt32LE(at) !== END64)
    return err("the directory of its zip archive is broken");
  return ok({
    count: Number(buffer.readBigUInt64LE(at + 32)),
    offset: Number(buffer.readBigUInt64LE(at + 48)),
  });
}

/** Fields that need more than 32 bits are in the extra field, in this order, where their place holds all ones. */
function largeFields(
  extra: Buffer,
  fields: readonly [size: number, compressedSize: number, offset: number],
): readonly [number, number, number] {
  let at = 0;
  while (at + 4 <= extra.length && extra.readUInt16LE(at) !== EXTRA64) at += 4 + extra.readUInt16LE(at + 2);
  let from = at + 4;
  const [size, compressedSize, offset] = fields.map((field) => {
    if (field !== IN_ZIP64 || from + 8 > extra.length) return field;
    from += 8;
    return Number(extra.readBigUInt64LE(from - 8));
  });
  return [size ?? 0, compressedSize ?? 0, offset ?? 0];
}

/** Nothing is ever written by the name of an entry; an archive with such names was made to do harm. */
export function unsafeName(name: string): string | null {
  const unsafe =
    name.startsWith("/") ||
    name.includes("\\") ||
    name.includes("\0") ||
    /^[A-Za-z]:\//.test(name) ||
    name.split("/").includes("..");
  return unsafe ? `"${shown(name)}" is not a safe name for a file in an archive` : null;
}

/** Where the data of each entry begins. Entries that share bytes would inflate to more than the archive could hold. */
function placesOf(buffer: Buffer, entries: readonly Listed[]): Result<ReadonlyMap<Listed, number>, string> {
  const places = new Map<Listed, number>();
  let reached = 0;
  for (const entry of [...entries].sort((a, b) => a.localOffset - b.localOffset)) {
    const local = entry.localOffset;
    if (local + LOCAL_SIZE > buffer.length || buffer.readUInt32LE(local) !== LOCAL)
      return err(`"${shown(entry.name)}": the zip archive is broken`);
    const nameEnd = local + LOCAL_SIZE + buffer.readUInt16LE(local + 26);
    const from = nameEnd + buffer.readUInt16LE(local + 28);
    if (from + entry.compressedSize > buffer.length)
      return err(`"${shown(entry.name)}": the zip archive is cut off`);
    if (buffer.toString("utf8", local + LOCAL_SIZE, nameEnd) !== entry.written)
      return err(`"${shown(entry.name)}" has another name where it lies than in the directory`);
    if (local < reached) return err(`"${shown(entry.name)}" overlaps with another file of the zip archive`);
    reached = from + entry.compressedSize;
    places.set(entry, from);
  }
  return ok(places);
}

/** Sizes come from the directory: numpy leaves zip64 placeholders in the local headers of small files too. */
function contentOf(buffer: Buffer, entry: Listed, from: number): Result<Buffer, string> {
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

/** Names come from the file: short, and without control characters. */
export function shown(name: string): string {
  return clip(name.replaceAll(/\p{C}/gu, "?"), 64);
}
