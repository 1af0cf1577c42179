import { Buffer } from "node:buffer";
import { crc32, deflateRawSync } from "node:zlib";

// Writes numpy's .npz as numpy does (numpy.lib.format, zip with zip64 placeholders in the local headers), for examples
// and tests. It shares no code with the reader in src/verifier/npz.ts.

/** Element types by numpy's own names. */
export type NpyType =
  | "<f2"
  | "<f4"
  | "<f8"
  | "|i1"
  | "<i2"
  | "<i4"
  | "<i8"
  | "|u1"
  | "<u2"
  | "<u4"
  | "<u8"
  | "|b1"
  | "<U10";

export type NpyArray = {
  readonly descr: NpyType;
  readonly shape: readonly number[];
  readonly values: readonly (number | bigint | string)[];
};

export type NpzOptions = {
  readonly compress?: boolean;
  /** Version of the .npy header. */
  readonly version?: 1 | 2 | 3;
};

/** The bytes of one .npy file. */
export function npyFile({ descr, shape, values }: NpyArray, version: 1 | 2 | 3 = 1): Buffer {
  const size = descr === "<U10" ? 40 : Number(descr.slice(2));
  const data = Buffer.alloc(values.length * size);
  for (const [index, value] of values.entries()) writeElement(data, descr, index * size, value);
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`;
  const literal = `{'descr': '${descr}', 'fortran_order': False, 'shape': ${tuple}, }`;
  return npyBytes(literal, data, version);
}

/** A .npy file with any header: for files that are wrong. */
export function npyBytes(literal: string, data: Uint8Array, version: 1 | 2 | 3 = 1): Buffer {
  const fixed = version === 1 ? 10 : 12;
  const padding = 64 - ((fixed + literal.length + 1) % 64);
  const header = Buffer.from(`${literal}${" ".repeat(padding)}\n`, "latin1");
  const start = Buffer.alloc(fixed);
  start.write("\u0093NUMPY", "latin1");
  start.writeUInt8(version, 6);
  if (version === 1) start.writeUInt16LE(header.length, 8);
  else start.writeUInt32LE(header.length, 8);
  return Buffer.concat([start, header, data]);
}

/** The bytes of a .npz file. */
export function npzFile(arrays: Readonly<Record<string, NpyArray>>, options: NpzOptions = {}): Buffer {
  const files = Object.entries(arrays).map(
    ([name, array]) => [`${name}.npy`, npyFile(array, options.version)] as const,
  );
  return zipFile(files, options.compress ?? false);
}

/** A zip archive of these files. */
export function zipFile(files: readonly (readonly [string, Uint8Array])[], compress: boolean): Buffer {
  const locals: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const [name, content] of files) {
    const stored = compress ? deflateRawSync(content) : Buffer.from(content);
    const [bytes, checksum] = [Buffer.from(name), crc32(content)];
    const zip64 = Buffer.alloc(20);
    zip64.writeUInt16LE(1, 0);
    zip64.writeUInt16LE(16, 2);
    zip64.writeBigUInt64LE(BigInt(content.length), 4);
    zip64.writeBigUInt64LE(BigInt(stored.length), 12);
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(45, 4);
    local.writeUInt16LE(compress ? 8 : 0, 8);
    local.writeUInt32LE(checksum, 14);
    local.writeUInt32LE(0xffffffff, 18);
    local.writeUInt32LE(0xffffffff, 22);
    local.writeUInt16LE(bytes.length, 26);
    local.writeUInt16LE(zip64.length, 28);
    const entry = Buffer.alloc(46);
    entry.writeUInt32LE(0x02014b50, 0);
    entry.writeUInt16LE(45, 4);
    entry.writeUInt16LE(45, 6);
    entry.writeUInt16LE(compress ? 8 : 0, 10);
    entry.writeUInt32LE(checksum, 16);
    entry.writeUInt32LE(stored.length, 20);
    entry.writeUInt32LE(content.length, 24);
    entry.writeUInt16LE(bytes.length, 28);
    entry.writeUInt32LE(offset, 42);
    locals.push(local, bytes, zip64, stored);
    directory.push(entry, bytes);
    offset += local.length + bytes.length + zip64.length + stored.length;
  }
  const listed = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(files.length, 8);
  end.writeUInt16LE(files.length, 10);
  end.writeUInt32LE(listed.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...locals, listed, end]);
}

function writeElement(data: Buffer, descr: NpyType, at: number, value: number | bigint | string): void {
  switch (descr) {
    case "<f2":
      data.writeUInt16LE(float16Bits(Number(value)), at);
      break;
    case "<f4":
      data.writeFloatLE(Number(value), at);
      break;
    case "<f8":
      data.writeDoubleLE(Number(value), at);
      break;
    case "<U10":
      for (const [index, character] of [...String(value)].entries())
        data.writeUInt32LE(character.codePointAt(0) ?? 0, at + 4 * index);
      break;
    case "<i8":
      data.writeBigInt64LE(BigInt(value), at);
      break;
    case "<u8":
      data.writeBigUInt64LE(BigInt(value), at);
      break;
    case "|i1":
    case "<i2":
    case "<i4":
      data.writeIntLE(Number(value), at, Number(descr.slice(2)));
      break;
    case "|u1":
    case "|b1":
    case "<u2":
    case "<u4":
      data.writeUIntLE(Number(value), at, Number(descr.slice(2)));
      break;
  }
}

/** Bits of the binary16 nearest to `value`, for values that binary16 has. */
function float16Bits(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (Number.isNaN(value)) return 0x7e00;
  if (size === 0) return sign;
  if (size >= 65_520) return sign | 0x7c00;
  const exponent = Math.max(-14, Math.floor(Math.log2(size)));
  if (size < 2 ** -14) return sign | Math.round(size / 2 ** -24);
  return sign | (((exponent + 15) << 10) + Math.round((size / 2 ** exponent - 1) * 1024));
}
