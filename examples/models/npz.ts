import { crc32 } from "node:zlib";

// numpy's .npz: a zip of .npy files. Stored and without times, so that equal arrays are equal bytes.
// Formats: numpy.lib.format (version 1.0) and PKWARE's APPNOTE 4.3.

export type NpyArray = {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array | BigInt64Array;
};

const LOCAL_HEADER = 0x04034b50;
const CENTRAL_HEADER = 0x02014b50;
const END_OF_DIRECTORY = 0x06054b50;
/** 1 January 1980, the beginning of time in a zip. */
const NO_DATE = 0x21;

export function npzFile(arrays: readonly NpyArray[]): Buffer {
  const bodies: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const array of arrays) {
    const name = Buffer.from(`${array.name}.npy`);
    const file = npyFile(array);
    const common = entryFields(file, name.length);
    const local = Buffer.concat([uint32(LOCAL_HEADER), uint16(20), common, name, file]);
    const attributes = [uint16(0), uint16(0), uint16(0), uint32(0), uint32(offset)];
    directory.push(
      Buffer.concat([uint32(CENTRAL_HEADER), uint16(20), uint16(20), common, ...attributes, name]),
    );
    bodies.push(local);
    offset += local.length;
  }
  const central = Buffer.concat(directory);
  const counts = [uint16(0), uint16(0), uint16(arrays.length), uint16(arrays.length)];
  const end = [uint32(END_OF_DIRECTORY), ...counts, uint32(central.length), uint32(offset), uint16(0)];
  return Buffer.concat([...bodies, central, ...end]);
}

/** What the local header and the directory say alike: flags, method, time, checksum, sizes, lengths. */
function entryFields(file: Buffer, nameLength: number): Buffer {
  return Buffer.concat([
    ...[uint16(0), uint16(0), uint16(0), uint16(NO_DATE), uint32(crc32(file))],
    ...[uint32(file.length), uint32(file.length), uint16(nameLength), uint16(0)],
  ]);
}

function npyFile({ name, shape, data }: NpyArray): Buffer {
  if (shape.reduce((product, size) => product * size, 1) !== data.length)
    throw new Error(`${name}: ${data.length} values do not fill the shape ${shape.join(" × ")}`);
  const type = data instanceof Float32Array ? "<f4" : "<i8";
  // A tuple of one needs its comma in Python.
  const tuple = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  const header = `{'descr': '${type}', 'fortran_order': False, 'shape': (${tuple}), }`;
  const prefix = Buffer.from("\x93NUMPY\x01\x00", "latin1");
  // The data begins at a multiple of 64 bytes: a header is padded with spaces and ends with a line feed.
  const padded = header.padEnd(
    Math.ceil((prefix.length + 2 + header.length + 1) / 64) * 64 - prefix.length - 3,
  );
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return Buffer.concat([prefix, uint16(padded.length + 1), Buffer.from(`${padded}\n`), bytes]);
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
