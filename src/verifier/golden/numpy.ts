import { Buffer } from "node:buffer";
import { own } from "../../base/lookup.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { readZip, shown } from "../files/zip.ts";
import {
  ARRAYS,
  elementCount,
  type NumericArray,
  type NumericType,
  TEXT_BYTES,
  type Value,
} from "../onnx/tensor.ts";

// numpy's .npz: a zip archive of .npy files (numpy.lib.format, versions 1 to 3; APPNOTE.TXT of PKWARE for zip).
// Every size in the file is the file's own claim: nothing is allocated for one before it has been held against the limit.

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

/**
 * Reads all arrays of a .npz file.
 * @param bytes the whole file.
 * @param limit bytes that all arrays together may take once inflated.
 * @returns arrays by name (without `.npy`), or a sentence that says what cannot be read. It never throws.
 */
export function readNpz(bytes: Uint8Array, limit: number): Result<ReadonlyMap<string, Value>, string> {
  const entries = readZip(bytes, limit, MOST_ARRAYS);
  if (!entries.ok) return entries;
  const arrays = new Map<string, Value>();
  for (const entry of entries.value.filter(({ name }) => !isOfMacOs(name))) {
    const name = entry.name.replace(/\.npy$/, "");
    if (name === entry.name) return err(`"${shown(entry.name)}" is not a .npy file`);
    if (arrays.has(name)) return err(`it has two arrays named "${shown(name)}"`);
    const content = entry.read();
    if (!content.ok) return err(`array "${shown(name)}": ${content.error}`);
    const array = readNpy(content.value, limit);
    if (!array.ok) return err(`array "${shown(name)}": ${array.error}`);
    arrays.set(name, array.value);
  }
  return ok(arrays);
}

/** What macOS puts into the archives that it makes. */
function isOfMacOs(name: string): boolean {
  return /(^|\/)(__MACOSX\/|\._|\.DS_Store$)/.test(name);
}

type Header = {
  readonly type: NumericType | "text" | "bytes";
  /** Bytes of each element. */
  readonly size: number;
  readonly bigEndian: boolean;
  readonly fortran: boolean;
  readonly shape: readonly number[];
};

/**
 * One .npy file: magic, version, the length of a header, the header (a Python literal), the data.
 * @param limit bytes that texts may take.
 */
export function readNpy(content: Buffer, limit: number): Result<Value, string> {
  if (content.length < 12 || content.toString("latin1", 0, 6) !== NPY_MAGIC)
    return err("it is not in numpy's .npy format");
  const version = content[6] ?? 0;
  if (version < 1 || version > 3) return err(`version ${version} of the .npy format is not known`);
  const start = version === 1 ? 10 : 12;
  const length = version === 1 ? content.readUInt16LE(8) : content.readUInt32LE(8);
  if (length > LONGEST_NPY_HEADER || start + length > content.length) return err("its header is cut off");
  const header = readHeader(content.toString("utf8", start, start + length));
  if (!header.ok) return header;
  const { type, size, shape, fortran } = header.value;
  const data = content.subarray(start + length);
  const count = elementCount(shape);
  if (data.length !== count * size)
    return err(`it has ${data.length} bytes of data where its shape says ${count * size}`);
  if (type !== "text" && type !== "bytes") {
    const numbers = numbersOf(data, type, header.value);
    return ok({ type, shape, data: fortran ? inCOrder(numbers, new ARRAYS[type](count), shape) : numbers });
  }
  if (count * TEXT_BYTES > limit) return err(`its ${count} texts would take more than ${limit} bytes`);
  const texts = textsOf(data, count, header.value);
  return ok({ type: "string", shape, data: fortran ? inCOrder(texts, new Array(count), shape) : texts });
}

function numbersOf(data: Buffer, type: NumericType, { size, bigEndian }: Header): NumericArray {
  // A copy, because typed arrays must be aligned.
  const copy = Buffer.from(Uint8Array.from(data).buffer);
  if (bigEndian && size === 2) copy.swap16();
  if (bigEndian && size === 4) copy.swap32();
  if (bigEndian && size === 8) copy.swap64();
  return new ARRAYS[type](copy.buffer);
}

/** Texts of one length, filled up with zeros: numpy's `U` in UTF-32, its `S` in bytes. */
function textsOf(data: Buffer, count: number, { type, size, bigEndian }: Header): string[] {
  return Array.from({ length: count }, (_, index) => {
    const one = data.subarray(index * size, (index + 1) * size);
    if (type === "bytes") return one.toString("utf8").replace(/\0+$/, "");
    let text = "";
    for (let at = 0; at < size; at += 4) {
      const point = bigEndian ? one.readUInt32BE(at) : one.readUInt32LE(at);
      text += point <= 0x10ffff ? String.fromCodePoint(point) : "\ufffd";
    }
    return text.replace(/\0+$/, "");
  });
}

/** In Fortran's order the first axis runs fastest, in C's the last. */
function inCOrder<A extends NumericArray | string[]>(from: A, to: A, shape: readonly number[]): A {
  const places = shape.map(() => 0);
  const strides = shape.map((_, axis) => elementCount(shape.slice(0, axis)));
  for (let index = 0; index < from.length; index += 1) {
    to[index] = from[places.reduce((sum, place, axis) => sum + place * (strides[axis] ?? 0), 0)] ?? 0;
    for (let axis = shape.length - 1; axis >= 0; axis -= 1) {
      places[axis] = (places[axis] ?? 0) + 1;
      if (places[axis] !== shape[axis]) break;
      places[axis] = 0;
    }
  }
  return to;
}

function readHeader(text: string): Result<Header, string> {
  const descr = /'descr':\s*'([^']{1,16})'/.exec(text)?.[1];
  const fortran = /'fortran_order':\s*(True|False)/.exec(text)?.[1];
  const written = /'shape':\s*\(([0-9,\s]{0,512})\)/.exec(text)?.[1];
  if (fortran === undefined || written === undefined || (descr === undefined && !text.includes("'descr':")))
    return err("its header is not understood");
  if (descr === undefined) return err("structured arrays are not read");
  const element = elementOf(descr);
  if (!element.ok) return element;
  const shape = written
    .split(",")
    .map((size) => size.trim())
    .filter((size) => size !== "")
    .map(Number);
  if (shape.length > 32 || !Number.isSafeInteger(elementCount(shape.map((size) => Math.max(1, size)))))
    return err(`its shape (${shown(written)}) is too large`);
  return ok({ ...element.value, fortran: fortran === "True", shape });
}

function elementOf(descr: string): Result<Pick<Header, "type" | "size" | "bigEndian">, string> {
  if (descr.includes("O")) return err('object arrays (pickles) are never read; save texts with .astype("U")');
  const [, order, kind = "", digits = ""] = /^([<>|=]?)([A-Za-z])([0-9]{1,9})$/.exec(descr) ?? [];
  const bigEndian = order === ">";
  if (kind === "U") return ok({ type: "text", size: 4 * Number(digits), bigEndian });
  if (kind === "S") return ok({ type: "bytes", size: Number(digits), bigEndian });
  if (kind === "V")
    return err(
      `element type ${descr} is none of numpy's own (bfloat16 of another package?); save it with .astype("float32")`,
    );
  const type = own(TYPES, `${kind}${digits}`);
  if (type === undefined) return err(`element type ${shown(descr)} is not read`);
  return ok({ type, size: ARRAYS[type].BYTES_PER_ELEMENT, bigEndian });
}
