import { Buffer } from "node:buffer";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type ElementType, type Message, message } from "../../../test/builders/verifier/onnx-model.ts";
import {
  floatProto,
  mapsProto,
  optionalProto,
  rawProto,
  sequenceProto,
  textProto,
  typedProto,
} from "../../../test/builders/verifier/test-data.ts";
import { readOnnxDatum } from "./data.ts";
import { isTensor, numberAt, sizeOf, type TensorValue } from "./tensor.ts";

const LIMIT = 100_000;
const read = (proto: Message | Uint8Array, type = "float32") =>
  readOnnxDatum(proto instanceof Uint8Array ? proto : proto.encode(), type, LIMIT);

function numbers(proto: Message): readonly (number | bigint)[] {
  const datum = read(proto);
  if (!datum.ok) throw new Error(datum.error);
  const tensor = datum.value.value as TensorValue;
  const { data } = tensor;
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) return [...data];
  return Array.from({ length: data.length }, (_, at) => numberAt(tensor, at));
}

/** Fields of TensorProto. */
const INT32 = 5;
const INT64 = 7;
const UINT64 = 11;

describe("a tensor with typed values", () => {
  test.each<[string, ElementType, number, readonly (number | bigint)[], readonly (number | bigint)[]]>([
    ["int8 in int32_data", "int8", INT32, [-128n, 5n], [-128, 5]],
    ["uint8 in int32_data", "uint8", INT32, [255, 5], [255, 5]],
    ["int16 in int32_data", "int16", INT32, [-32_768n, 5], [-32_768, 5]],
    ["uint16 in int32_data", "uint16", INT32, [65_535, 5], [65_535, 5]],
    ["int32 in int32_data", "int32", INT32, [-1n, 2 ** 31 - 1], [-1, 2 ** 31 - 1]],
    ["bool in int32_data", "bool", INT32, [1, 0, 7], [1, 0, 1]],
    ["float16 in int32_data", "float16", INT32, [0x3c00, 0xc000], [1, -2]],
    ["bfloat16 in int32_data", "bfloat16", INT32, [0x3f80, 0xc000], [1, -2]],
    ["float8 in int32_data", "float8e5m2", INT32, [0x3c, 0x7c], [1, Number.POSITIVE_INFINITY]],
    ["int64 in int64_data", "int64", INT64, [-1n, 2n ** 62n], [-1n, 2n ** 62n]],
    ["uint32 in uint64_data", "uint32", UINT64, [2 ** 32 - 1, 0], [2 ** 32 - 1, 0]],
    ["uint64 in uint64_data", "uint64", UINT64, [2n ** 64n - 1n, 0n], [2n ** 64n - 1n, 0n]],
  ])("has %s, packed or not", (_what, type, field, written, values) => {
    for (const packed of [true, false])
      expect(numbers(typedProto(type, [written.length], field, written, packed))).toEqual(values);
  });

  test("has two 4-bit integers in one value", () => {
    expect(numbers(typedProto("int4", [3], INT32, [0x7f, 0x08]))).toEqual([-1, 7, -8]);
    expect(numbers(typedProto("uint4", [3], INT32, [0x7f, 0x08]))).toEqual([15, 7, 8]);
  });

  test("has float32 and float64 in their fields", () => {
    const four = Buffer.from(Float32Array.of(1.5, -2).buffer);
    expect(numbers(message().varint(1, 2).varint(2, 1).bytes(4, four))).toEqual([1.5, -2]);
    expect(numbers(message().varint(1, 2).varint(2, 1).float(4, 1.5).float(4, -2))).toEqual([1.5, -2]);
    const eight = Buffer.from(Float64Array.of(1.1).buffer);
    expect(numbers(message().varint(2, 11).bytes(10, eight))).toEqual([1.1]);
  });
});

test("every float of 8 and 4 bits is what its format says", () => {
  const all = Uint8Array.from({ length: 256 }, (_, index) => index);
  const of = (type: ElementType) => numbers(rawProto(type, [256], all));
  // The largest, the smallest above zero, and what is no number.
  expect(of("float8e4m3fn")[0x7e]).toBe(448);
  expect(of("float8e4m3fn")[0x01]).toBe(2 ** -9);
  expect(of("float8e4m3fn").filter((one) => Number.isNaN(one))).toHaveLength(2);
  expect(of("float8e5m2")[0x7b]).toBe(57_344);
  expect(of("float8e5m2")[0xfc]).toBe(Number.NEGATIVE_INFINITY);
  expect(of("float8e5m2").filter((one) => Number.isNaN(one))).toHaveLength(6);
  const nibbles = numbers(rawProto("float4e2m1", [16], Buffer.from("1032547698badcfe", "hex")));
  expect(nibbles).toEqual([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6]);
});

describe("a tensor that cannot be is refused with a sentence", () => {
  const four = Buffer.alloc(4);
  test.each<[string, Message, RegExp]>([
    ["without a type", message().bytes(9, four), /it is not a tensor: its element type is number 0/],
    [
      "of complex numbers",
      message().varint(2, 14).bytes(9, four),
      /complex64, which ONNX Runtime has no operators/,
    ],
    ["with too few bytes", rawProto("float32", [2], four), /4 bytes of data where its shape and type say 8/],
    [
      "with too many values",
      typedProto("int32", [1], INT32, [1, 2, 3]),
      /2 elements where its shape \[1\] says 1/,
    ],
    ["without values", typedProto("int32", [2], INT32, []), /0 elements where its shape/],
    [
      "of 2^40 elements",
      rawProto("float32", [2 ** 40], four),
      /\[1099511627776\] would take more than 100000 bytes/,
    ],
    ["of 2^80 elements", rawProto("float32", [2 ** 40, 2 ** 40], four), /would take more than/],
    ["of a negative size", message().varint(1, -1n).varint(2, 1), /an axis of it has size -1/],
    ["of 33 axes", rawProto("float32", new Array(33).fill(1), four), /it has 33 axes; at most 32/],
    [
      "with its data twice",
      typedProto("int32", [1], INT32, [1]).bytes(9, four),
      /its data twice, raw and typed/,
    ],
    [
      "in a segment",
      rawProto("float32", [1], four).message(3, message().varint(1, 0)),
      /one segment of a tensor/,
    ],
    ["in another file", message().varint(2, 1).message(13, message().text(1, "location")), /in another file/],
    ["in another file by its place", message().varint(2, 1).varint(14, 1), /in another file/],
    ["of texts in raw_data", rawProto("string", [1], four), /texts are kept in string_data/],
    ["of texts without end", textProto([5000], new Array(5000).fill("")), /more than 100000 bytes/],
  ])("%s", (_what, proto, why) => {
    expect(read(proto)).toMatchObject({ ok: false, error: expect.stringMatching(why) });
  });
});

describe("sequences, maps and optionals", () => {
  test("may be empty", () => {
    expect(read(sequenceProto([]), "sequence(int64)")).toMatchObject({
      value: { type: "sequence(?)", value: { type: "sequence", elements: [] } },
    });
    expect(read(optionalProto("tensor", null), "optional(int64)")).toMatchObject({
      value: { type: "optional(?)", value: { type: "none" } },
    });
    expect(
      read(optionalProto("sequence", sequenceProto([floatProto([], [1])])), "optional(int64)"),
    ).toMatchObject({
      value: { type: "optional(sequence(float32))", value: { elements: [{ shape: [] }] } },
    });
  });

  const odd = message()
    .message(3, floatProto([], [1]))
    .message(3, typedProto("int64", [], INT64, [1]));
  test.each<[string, Message, RegExp]>([
    ["a sequence of two types", odd, /element 1 is int64, those before are float32/],
    ["a sequence of sequences", message().message(5, sequenceProto([])), /sequence of sequences/],
    ["a broken element", message().message(3, message().varint(2, 99)), /element 0: it is not a tensor/],
    ["tensors and maps", mapsProto([[["a", 1]]]).message(3, floatProto([], [1])), /tensors and maps/],
    [
      "a map with a key twice",
      mapsProto([
        [
          ["a", 1],
          ["a", 2],
        ],
      ]),
      /element 0: it has a key twice/,
    ],
    ["a map without values", message().message(6, message().text(4, "a")), /1 keys and 0 values/],
  ])("%s is refused", (_what, proto, why) => {
    expect(read(proto, "sequence(float32)")).toMatchObject({
      ok: false,
      error: expect.stringMatching(why),
    });
  });

  test("an optional map is refused", () => {
    expect(read(message().message(6, message()), "optional(float32)")).toMatchObject({
      ok: false,
      error: "it is an optional of a kind that is not read",
    });
  });
});

test("bytes of any kind never throw and never become more than the limit (property)", () => {
  const good = [
    floatProto([2, 3], [1, 2, 3, 4, 5, 6]),
    typedProto("int64", [3], INT64, [1, 2, 3]),
    textProto([2], ["a", "b"]),
    sequenceProto([floatProto([1], [1]), floatProto([2], [1, 2])]),
    optionalProto("tensor", floatProto([1], [1])),
    mapsProto([
      [
        [1, 1],
        [2, 2],
      ],
    ]),
  ].map((proto) => proto.encode());
  const edits = fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 6 });
  const types = fc.constantFrom(
    "float32",
    "sequence(float32)",
    "optional(float32)",
    "optional(sequence(int4))",
  );
  fc.assert(
    fc.property(
      fc.oneof(fc.constantFrom(...good), fc.uint8Array({ maxLength: 200 })),
      edits,
      types,
      (from, changes, type) => {
        const bytes = Uint8Array.from(from);
        for (const [place, value] of changes) if (bytes.length > 0) bytes[place % bytes.length] = value;
        const datum = read(bytes, type);
        if (!datum.ok) return;
        const { value } = datum.value;
        if (value.type === "maps") return;
        expect(sizeOf(value)).toBeLessThanOrEqual(LIMIT);
        if (isTensor(value))
          expect(value.data.length).toBe(value.shape.reduce((product, size) => product * size, 1));
      },
    ),
    { numRuns: 3000 },
  );
});
