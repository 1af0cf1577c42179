import { Buffer } from "node:buffer";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type NpyType, npyBytes, npyFile, npzFile, zipFile } from "../../../test/builders/verifier/npz.ts";
import { isText, numberAt, sizeOf, type Value } from "../onnx/tensor.ts";
import { readNpz } from "./numpy.ts";

const LIMIT = 1_000_000;

/** Values that the type has exactly. */
const VALUES: Readonly<Record<NpyType, fc.Arbitrary<number | bigint | string>>> = {
  "<f2": fc.constantFrom(
    0,
    1,
    -2.5,
    65504,
    2 ** -24,
    -(2 ** -14),
    0.333251953125,
    Number.POSITIVE_INFINITY,
    Number.NaN,
  ),
  "<f4": fc.float(),
  "<f8": fc.double(),
  "|i1": fc.integer({ min: -128, max: 127 }),
  "<i2": fc.integer({ min: -32_768, max: 32_767 }),
  "<i4": fc.integer(),
  "<i8": fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  "|u1": fc.integer({ min: 0, max: 255 }),
  "<u2": fc.integer({ min: 0, max: 65_535 }),
  "<u4": fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  "<u8": fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  "|b1": fc.integer({ min: 0, max: 1 }),
  "<U10": fc.string({ unit: "binary", maxLength: 10 }).map((text) => text.replace(/\0+$/, "")),
};

const anArray = fc
  .tuple(
    fc.constantFrom(...(Object.keys(VALUES) as NpyType[])),
    fc.array(fc.nat({ max: 4 }), { maxLength: 4 }),
  )
  .chain(([descr, shape]) => {
    const count = shape.reduce((product, size) => product * size, 1);
    return fc
      .array(VALUES[descr], { minLength: count, maxLength: count })
      .map((values) => ({ descr, shape, values }));
  });

function elements(tensor: Value | undefined): readonly (number | bigint | string)[] {
  if (tensor === undefined) return [];
  if (isText(tensor)) return tensor.data;
  const { data } = tensor;
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) return [...data];
  return Array.from({ length: data.length }, (_, index) => numberAt(tensor, index));
}

describe("what numpy itself wrote", () => {
  test("is read (numpy 2, savez)", () => {
    const read = readNpz(
      Buffer.from(
        "UEsDBC0AAAAAAAAAIQBP6QAq//////////8FABQAeC5ucHkBABAAmAAAAAAAAACYAAAAAAAAAJNOVU1QWQEAdgB7J2Rlc2NyJzogJzxmNCcsICdmb3J0cmFuX29yZGVyJzogRmFsc2UsICdzaGFwZSc6ICgyLCAzKSwgfSAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAKAAAAAAAAgD8AAABAAABAQAAAgEAAAKBAUEsDBC0AAAAAAAAAIQBx+zmr//////////8KABQAbGFiZWxzLm5weQEAEACQAAAAAAAAAJAAAAAAAAAAk05VTVBZAQB2AHsnZGVzY3InOiAnPGk4JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsKSwgfSAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoBAAAAAAAAAAAAAAAAAAAAUEsDBC0AAAAAAAAAIQABvQ8I//////////8FABQAaC5ucHkBABAAhAAAAAAAAACEAAAAAAAAAJNOVU1QWQEAdgB7J2Rlc2NyJzogJzxmMicsICdmb3J0cmFuX29yZGVyJzogRmFsc2UsICdzaGFwZSc6ICgyLCksIH0gICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAKADgAwFBLAQItAy0AAAAAAAAAIQBP6QAqmAAAAJgAAAAFAAAAAAAAAAAAAACAAQAAAAB4Lm5weVBLAQItAy0AAAAAAAAAIQBx+zmrkAAAAJAAAAAKAAAAAAAAAAAAAACAAc8AAABsYWJlbHMubnB5UEsBAi0DLQAAAAAAAAAhAAG9DwiEAAAAhAAAAAUAAAAAAAAAAAAAAIABmwEAAGgubnB5UEsFBgAAAAADAAMAngAAAFYCAAAAAA==",
        "base64",
      ),
      LIMIT,
    );
    expect(read.ok && [...read.value]).toMatchObject([
      ["x", { type: "float32", shape: [2, 3], data: Float32Array.of(0, 1, 2, 3, 4, 5) }],
      ["labels", { type: "int64", shape: [2], data: BigInt64Array.of(1n, 0n) }],
      ["h", { type: "float16", shape: [2], data: Uint16Array.of(0x3800, 0xc000) }],
    ]);
  });

  test("is read (numpy 2, savez_compressed)", () => {
    const read = readNpz(
      Buffer.from(
        "UEsDBC0AAAAIAAAAIQBP6QAq//////////8FABQAeC5ucHkBABAAmAAAAAAAAABVAAAAAAAAAJvsF+obEMnIUMZQrZ6SWpxcpG6loG6TZqKuo6Cell9UUpSYF59flJIKEndLzClOBYoXZyQWpAL5GkY6CsaaOgq1CmQDLgYwaLAHEg5ABMQNQLzAAQBQSwMELQAAAAgAAAAhAHH7Oav//////////woAFABsYWJlbHMubnB5AQAQAJAAAAAAAAAASAAAAAAAAACb7BfqGxDJyFDGUK2eklqcXKRupaBuk2mhrqOgnpZfVFKUmBefX5SSChJ3S8wpTgWKF2ckFqQC+RpGOpo6CrUKFAAuRgZUAABQSwMELQAAAAgAAAAhAO4Zu13//////////wUAFABiLm5weQEAEACCAAAAAAAAAEYAAAAAAAAAm+wX6hsQychQxlCtnpJanFykbqWgXpNkqK6joJ6WX1RSlJgXn1+UkgoSd0vMKU4FihdnJBakAvkaRjqaOgq1ChQALkYGAFBLAQItAy0AAAAIAAAAIQBP6QAqVQAAAJgAAAAFAAAAAAAAAAAAAACAAQAAAAB4Lm5weVBLAQItAy0AAAAIAAAAIQBx+zmrSAAAAJAAAAAKAAAAAAAAAAAAAACAAYwAAABsYWJlbHMubnB5UEsBAi0DLQAAAAgAAAAhAO4Zu11GAAAAggAAAAUAAAAAAAAAAAAAAIABEAEAAGIubnB5UEsFBgAAAAADAAMAngAAAI0BAAAAAA==",
        "base64",
      ),
      LIMIT,
    );
    expect(read.ok && [...read.value]).toMatchObject([
      ["x", { type: "float32", shape: [2, 3], data: Float32Array.of(0, 1, 2, 3, 4, 5) }],
      ["labels", { type: "int64", data: BigInt64Array.of(1n, 0n) }],
      ["b", { type: "bool", data: Uint8Array.of(1, 0) }],
    ]);
  });
});

test("texts, big-endian numbers and Fortran order are read (numpy 2, savez_compressed)", () => {
  const read = readNpz(
    Buffer.from(
      "UEsDBC0AAAAIAAAAIQBaqjhk//////////8FABQAdS5ucHkBABAAsAAAAAAAAABbAAAAAAAAAJvsF+obEMnIUMZQrZ6SWpxcpG6loG4Taqyuo6Cell9UUpSYF59flJIKEndLzClOBYoXZyQWpAL5GiY6mjoKtQoUAK4nDAjwNJWBQSedgcHpGyMDMkiE0klADABQSwMELQAAAAgAAAAhALkVDCH//////////wUAFABzLm5weQEAEACEAAAAAAAAAEoAAAAAAAAAm+wX6hsQychQxlCtnpJanFykbqWgXhNspK6joJ6WX1RSlJgXn1+UkgoSd0vMKU4FihdnJBakAvkaRjoKhpo6CrUKZAOuCobKKgBQSwMELQAAAAgAAAAhAGI5QKn//////////wUAFABmLm5weQEAEACwAAAAAAAAAGgAAAAAAAAAm+wX6hsQychQxlCtnpJanFykbqWgbpNmoq6joJ6WX1RSlJgXn1+UkgoSDykqTQUKF2ckFqQCuRpGOgrGOgpGmjoKtQpkAi4GMDjgACRA2JGBoQFIK4BoewaGB0C2AxALAPkLgLSBIwBQSwMELQAAAAgAAAAhAFnU+ln//////////wYAFABiZS5ucHkBABAAiAAAAAAAAABNAAAAAAAAAJvsF+obEMnIUMZQrZ6SWpxcpG6loG6XaaKuo6Cell9UUpSYF59flJIKEndLzClOBYoXZyQWpAL5GkY6mjoKtQoUAC4GBgbG/////wMAUEsDBC0AAAAIAAAAIQBoJsyO//////////8GABQAYnUubnB5AQAQAJAAAAAAAAAAUAAAAAAAAACb7BfqGxDJyFDGUK2eklqcXKRupaBuF2qkrqOgnpZfVFKUmBefX5SSChJ3S8wpTgWKF2ckFqQC+RpGOpo6CrUKFAAuBgaGDCDOBOKXQMwAAFBLAwQtAAAACAAAACEA1vJS+P//////////BQAUAGQubnB5AQAQAIgAAAAAAAAASQAAAAAAAACb7BfqGxDJyFDGUK2eklqcXKRupaBul2ahrqOgnpZfVFKUmBefX5SSChJ3S8wpTgWKF2ckFqQC+RqGOpo6CrUKFAAu+x8MYAAAUEsDBC0AAAAIAAAAIQDkW9B+//////////8FABQAdC5ucHkBABAAkAAAAAAAAABRAAAAAAAAAJvsF+obEMnIUMZQrZ6SWpxcpG6loG4Taqiuo6Cell9UUpSYF59flJIKEg8pKk0FChdnJBakArkaRjoKRpo6CrUK5AOuRAYGhmQgTgLiFCAGAFBLAQItAy0AAAAIAAAAIQBaqjhkWwAAALAAAAAFAAAAAAAAAAAAAACAAQAAAAB1Lm5weVBLAQItAy0AAAAIAAAAIQC5FQwhSgAAAIQAAAAFAAAAAAAAAAAAAACAAZIAAABzLm5weVBLAQItAy0AAAAIAAAAIQBiOUCpaAAAALAAAAAFAAAAAAAAAAAAAACAARMBAABmLm5weVBLAQItAy0AAAAIAAAAIQBZ1PpZTQAAAIgAAAAGAAAAAAAAAAAAAACAAbIBAABiZS5ucHlQSwECLQMtAAAACAAAACEAaCbMjlAAAACQAAAABgAAAAAAAAAAAAAAgAE3AgAAYnUubnB5UEsBAi0DLQAAAAgAAAAhANbyUvhJAAAAiAAAAAUAAAAAAAAAAAAAAIABvwIAAGQubnB5UEsBAi0DLQAAAAgAAAAhAORb0H5RAAAAkAAAAAUAAAAAAAAAAAAAAIABPwMAAHQubnB5UEsFBgAAAAAHAAcAZwEAAMcDAAAAAA==",
      "base64",
    ),
    LIMIT,
  );
  if (!read.ok) throw new Error(read.error);
  expect(Object.fromEntries(read.value)).toEqual({
    u: { type: "string", shape: [4], data: ["ä", "日本🙂", "", "a\0b"] },
    s: { type: "string", shape: [2, 1], data: ["x", "yz"] },
    f: { type: "float32", shape: [2, 3, 2], data: Float32Array.from({ length: 12 }, (_, index) => index) },
    be: { type: "int32", shape: [2], data: Int32Array.of(1, -2) },
    bu: { type: "string", shape: [2], data: ["hi", "é"] },
    d: { type: "float64", shape: [1], data: Float64Array.of(1.5) },
    t: { type: "string", shape: [2, 2], data: ["a", "b", "c", "d"] },
  });
});

test("a zip archive with sizes and counts of 64 bits is read (Python 3.11)", () => {
  const read = readNpz(
    Buffer.from(
      "UEsDBC0AAAAIAAAAIVCdMoU6//////////8FABQAeC5ucHkBABAAhAAAAAAAAABIAAAAAAAAAJvsF+obEMnIUMZQrZ6SWpxcpG6loG6TaaSuo6Cell9UUpSYF59flJIKEndLzClOBYoXZyQWpAL5GkY6mjoKtQoUAC5GBiYGAFBLAwQtAAAACAAAACFQnTKFOv//////////BQAUAHkubnB5AQAQAIQAAAAAAAAASAAAAAAAAACb7BfqGxDJyFDGUK2eklqcXKRupaBuk2mkrqOgnpZfVFKUmBefX5SSChJ3S8wpTgWKF2ckFqQC+RpGOpo6CrUKFAAuRgYmBgBQSwECLQMtAAAACAAAACFQnTKFOv//////////BQAUAAAAAAAAAAAAgAEAAAAAeC5ucHkBABAAhAAAAAAAAABIAAAAAAAAAFBLAQItAy0AAAAIAAAAIVCdMoU6//////////8FABwAAAAAAAAAAACAAf////95Lm5weQEAGACEAAAAAAAAAEgAAAAAAAAAfwAAAAAAAABQSwYGLAAAAAAAAAAtAC0AAAAAAAAAAAACAAAAAAAAAAIAAAAAAAAAlgAAAAAAAAD+AAAAAAAAAFBLBgcAAAAAlAEAAAAAAAABAAAAUEsFBgAAAAACAAIAlgAAAP4AAAAAAA==",
      "base64",
    ),
    LIMIT,
  );
  if (!read.ok) throw new Error(read.error);
  const array = { type: "int16", shape: [2], data: Int16Array.of(1, 2) };
  expect(Object.fromEntries(read.value)).toEqual({ x: array, y: array });
});

test("what is written is read (property)", () => {
  const name = fc.stringMatching(/^[a-zA-Z][a-zA-Z0-9_:.]{0,12}$/).filter((one) => !one.endsWith(".npy"));
  const arrays = fc.dictionary(name, anArray, { minKeys: 1, maxKeys: 4, noNullPrototype: true });
  fc.assert(
    fc.property(arrays, fc.boolean(), fc.constantFrom(1, 2, 3), (written, compress, version) => {
      const read = readNpz(npzFile(written, { compress, version }), LIMIT);
      expect(read).toMatchObject({ ok: true });
      if (!read.ok) return;
      expect([...read.value.keys()].sort()).toEqual(Object.keys(written).sort());
      for (const [key, array] of Object.entries(written)) {
        expect(read.value.get(key)?.shape).toEqual(array.shape);
        expect(elements(read.value.get(key))).toEqual(
          array.values.map((one) => (Object.is(one, -0) && array.descr === "<f2" ? 0 : one)),
        );
      }
    }),
  );
});

describe("never throws and never believes", () => {
  const good = npzFile({ x: { descr: "<f4", shape: [3], values: [1, 2, 3] } }, { compress: true });

  test("random bytes (property)", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        expect(readNpz(bytes, LIMIT)).toMatchObject({ ok: false, error: expect.any(String) });
      }),
    );
  });

  test("a good file with some bytes changed, or cut off (property)", () => {
    const edits = fc.array(fc.tuple(fc.nat({ max: good.length - 1 }), fc.nat({ max: 255 })), {
      minLength: 1,
      maxLength: 8,
    });
    fc.assert(
      fc.property(edits, fc.nat({ max: good.length }), (changes, length) => {
        const bytes = Buffer.from(good);
        for (const [place, value] of changes) bytes[place] = value;
        for (const candidate of [bytes, good.subarray(0, length), bytes.subarray(0, length)]) {
          const read = readNpz(candidate, LIMIT);
          // What is still accepted is what was written: names may differ, values may not.
          if (read.ok && read.value.size > 0) expect([...read.value.values()].map(sizeOf)).toEqual([12]);
        }
      }),
      { numRuns: 500 },
    );
  });

  test("any text as a header (property)", () => {
    const header = fc.oneof(
      fc.string({ maxLength: 80 }),
      fc
        .tuple(fc.string({ maxLength: 8 }), fc.string({ maxLength: 30 }))
        .map(([descr, shape]) => `{'descr': '${descr}', 'fortran_order': False, 'shape': (${shape}), }`),
    );
    fc.assert(
      fc.property(header, (literal) => {
        const read = readNpz(zipFile([["x.npy", npyBytes(literal, Buffer.alloc(4))]], false), LIMIT);
        const x = read.ok ? read.value.get("x") : undefined;
        if (x !== undefined && !isText(x)) expect(sizeOf(x)).toBe(4);
      }),
    );
  });

  test("a bomb: more bytes than are allowed are never inflated", () => {
    const bomb = zipFile([["x.npy", Buffer.alloc(50_000_000)]], true);
    expect(readNpz(bomb, LIMIT)).toEqual({
      ok: false,
      error: "it would take 50000000 bytes; at most 1000000 are allowed",
    });
    // The same, with a lie about its size.
    const liar = Buffer.from(bomb);
    const entry = liar.lastIndexOf(Buffer.from([0x50, 0x4b, 0x01, 0x02]));
    liar.writeUInt32LE(1000, entry + 24);
    const before = process.memoryUsage().arrayBuffers;
    const read = readNpz(liar, LIMIT);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(10_000_000);
    expect(read).toMatchObject({ ok: false, error: expect.stringMatching(/does not inflate/) });
  });

  test.each<[string, Uint8Array, RegExp]>([
    [
      "an object array",
      npyBytes("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", Buffer.from("cos\nsystem\n")),
      /pickles/,
    ],
    [
      "records",
      npyBytes("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", Buffer.alloc(4)),
      /structured/,
    ],
    [
      "an element type of another package",
      npyBytes("{'descr': '<V2', 'fortran_order': False, 'shape': (1,), }", Buffer.alloc(2)),
      /<V2 is none of numpy's own .*astype\("float32"\)/,
    ],
    [
      "dates",
      npyBytes("{'descr': '<M8', 'fortran_order': False, 'shape': (1,), }", Buffer.alloc(8)),
      /<M8 is not read/,
    ],
    [
      "more texts than memory",
      npyBytes("{'descr': '<U0', 'fortran_order': False, 'shape': (100000000,), }", Buffer.alloc(0)),
      /its 100000000 texts would take more than 1000000 bytes/,
    ],
    [
      "too little data",
      npyBytes("{'descr': '<f4', 'fortran_order': False, 'shape': (9,), }", Buffer.alloc(4)),
      /4 bytes of data/,
    ],
    [
      "too much data",
      npyBytes("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", Buffer.alloc(8)),
      /8 bytes of data/,
    ],
    [
      "a shape beyond counting",
      npyBytes(
        `{'descr': '<f4', 'fortran_order': False, 'shape': (${"9".repeat(30)}, 0), }`,
        Buffer.alloc(0),
      ),
      /too large/,
    ],
    ["no array", Buffer.from("hello, this is text"), /not in numpy/],
  ])("%s", (_what, file, message) => {
    expect(readNpz(zipFile([["x.npy", file]], true), LIMIT)).toMatchObject({
      ok: false,
      error: expect.stringMatching(message),
    });
  });

  test("two arrays of one name, files that are no arrays, and encrypted ones", () => {
    const array = npyFile({ descr: "<f4", shape: [1], values: [1] });
    expect(
      readNpz(
        zipFile(
          [
            ["x.npy", array],
            ["x.npy", array],
          ],
          false,
        ),
        LIMIT,
      ),
    ).toMatchObject({ ok: false });
    expect(readNpz(zipFile([["readme.txt", array]], false), LIMIT)).toMatchObject({ ok: false });
    const encrypted = zipFile([["x.npy", array]], false);
    encrypted.writeUInt16LE(1, encrypted.lastIndexOf(Buffer.from([0x50, 0x4b, 0x01, 0x02])) + 8);
    expect(readNpz(encrypted, LIMIT)).toMatchObject({ ok: false, error: '"x.npy" is encrypted' });
  });

  test("a checksum that does not match", () => {
    const bytes = npzFile({ x: { descr: "<f4", shape: [1], values: [1] } });
    const data = bytes.indexOf("NUMPY") + 5 + 120;
    bytes[data] = (bytes[data] ?? 0) ^ 0xff;
    expect(readNpz(bytes, LIMIT)).toEqual({ ok: false, error: 'array "x": its checksum is wrong' });
  });
});
