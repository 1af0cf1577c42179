import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Datum, TensorValue, Value } from "../onnx/tensor.ts";
import { createComparisonAccumulator, type Tolerance } from "./comparison.ts";

const floats = (shape: readonly number[], ...values: readonly number[]): TensorValue => ({
  type: "float64",
  shape,
  data: Float64Array.from(values),
});
const NONE: Tolerance = { absolute: null, relative: null, finiteOnly: false };
const compare = (expected: Value, got: Value, tolerance: Partial<Tolerance> = {}, samples = 1) => {
  const comparing = createComparisonAccumulator({ ...NONE, ...tolerance });
  expect(comparing.add({ from: 10, samples }, "y", expected, got)).toBeNull();
  return comparing.found();
};
const one = (value: number) => floats([1], value);

test.each<[string, number, number, number]>([
  ["NaN where NaN is expected", Number.NaN, Number.NaN, 0],
  ["infinity where it is expected", Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, 0],
  ["the other infinity", Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY],
  ["a number instead of NaN", Number.NaN, 0, Number.POSITIVE_INFINITY],
  ["NaN instead of a number", 0, Number.NaN, Number.POSITIVE_INFINITY],
  ["infinity instead of a number", 0, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY],
  ["minus zero", 0, -0, 0],
  ["a difference", 1, 3.5, 2.5],
])("the error of %s", (_what, expected, got, size) => {
  const found = compare(one(expected), one(got), { absolute: 0 });
  expect(found.largestAbsolute).toBe(size);
  expect(found.beyond).toBe(size > 0 ? 1 : 0);
});

test("where only finite values are good, NaN is wrong even where it is expected", () => {
  const found = compare(one(Number.NaN), one(Number.NaN), { absolute: 1, finiteOnly: true });
  expect(found).toMatchObject({ beyond: 1, nonFinite: 1, worst: { expected: "NaN", got: "NaN" } });
});

test("the worst element says where it is", () => {
  const found = compare(
    floats([2, 3], 0, 0, 0, 0, 0, 0),
    floats([2, 3], 0, 0, 1, 0, 2, 0),
    { absolute: 0 },
    2,
  );
  expect(found).toMatchObject({
    beyond: 2,
    worst: { output: "y", index: 11, element: 1, expected: "0", got: "2", absolute: 2 },
  });
});

test("the worst element is the one furthest beyond the tolerance, not the one furthest off", () => {
  const tolerance = { absolute: 0, relative: 0.1 };
  const found = compare(floats([2], 1000, 1), floats([2], 1050, 2), tolerance, 2);
  expect(found).toMatchObject({
    beyond: 1,
    largestAbsolute: 50,
    largestRelative: 1,
    worst: { index: 11, expected: "1", got: "2" },
  });
});

test("digits of large integers are kept", () => {
  const big = (value: bigint): TensorValue => ({ type: "int64", shape: [1], data: BigInt64Array.of(value) });
  const found = compare(big(2n ** 60n), big(2n ** 60n + 1n), { absolute: 0 });
  expect(found).toMatchObject({ largestAbsolute: 1, worst: { got: "1152921504606846977" } });
});

test("text is equal or it is not", () => {
  const text = (...data: readonly string[]): Value => ({ type: "string", shape: [data.length], data });
  expect(compare(text("a", "b"), text("a", "b"), { absolute: 0 }, 2).beyond).toBe(0);
  expect(compare(text("a", "b"), text("a", "c"), { absolute: 5 }, 2)).toMatchObject({
    beyond: 1,
    worst: { index: 11, expected: '"b"', got: '"c"' },
  });
});

test.each<[string, Value, Value | undefined]>([
  ["another number of elements", floats([2], 0, 0), floats([3], 0, 0, 0)],
  ["text instead of numbers", floats([1], 0), { type: "string", shape: [1], data: ["0"] }],
  ["no such output", floats([1], 0), undefined],
])("%s cannot be compared", (_what, expected, got) => {
  expect(createComparisonAccumulator(NONE).add({ from: 0, samples: 1 }, "y", expected, got)).toContain(
    'output "y"',
  );
});

test("what cannot be compared can be counted as a difference", () => {
  const comparing = createComparisonAccumulator({ ...NONE, absolute: 0 });
  comparing.differs(2, "y", floats([2], 0, 0), floats([3], 0, 0, 0));
  comparing.differs(3, "y", floats([2], 0, 0), undefined);
  expect(comparing.found()).toMatchObject({
    beyond: 2,
    largestAbsolute: Number.POSITIVE_INFINITY,
    worst: { index: 2, output: "y", place: "shape", expected: "float64[2]", got: "float64[3]" },
  });
});

describe("the cosine", () => {
  test.each<[string, readonly number[], readonly number[], number]>([
    ["of equal outputs", [1, 2], [1, 2], 1],
    ["of outputs that differ in length only", [1, 2], [2, 4], 1],
    ["of outputs at a right angle", [1, 0], [0, 1], 0],
    ["of opposite outputs", [1, 2], [-1, -2], -1],
    ["of two zeros", [0, 0], [0, 0], 1],
    ["of zero and something", [0, 0], [1, 0], 0],
    ["of NaN that is expected", [1, Number.NaN], [1, Number.NaN], 1],
    ["of NaN that is not", [1, 1], [1, Number.NaN], -1],
  ])("%s", (_what, expected, got, cosine) => {
    const found = compare(floats([1, 2], ...expected), floats([1, 2], ...got));
    expect(found.lowestCosine?.cosine).toBeCloseTo(cosine, 12);
  });

  test("is the lowest of all samples", () => {
    const found = compare(floats([2, 2], 1, 0, 1, 0), floats([2, 2], 1, 0, 1, 1), {}, 2);
    expect(found.lowestCosine).toMatchObject({ index: 11 });
    expect(found.lowestCosine?.cosine).toBeCloseTo(Math.SQRT1_2, 12);
  });
});

test("elements beyond the tolerance are those that numpy.allclose would not take (property)", () => {
  const value = fc.oneof(fc.double(), fc.constantFrom(0, 1, Number.NaN, Number.POSITIVE_INFINITY));
  const tolerances = fc.constantFrom(0, 0.5, 1e-3, 1e6);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(value, value), { minLength: 1, maxLength: 20 }),
      tolerances,
      tolerances,
      (pairs, absolute, relative) => {
        const found = compare(
          floats([pairs.length], ...pairs.map(([expected]) => expected)),
          floats([pairs.length], ...pairs.map(([, got]) => got)),
          { absolute, relative },
        );
        const close = ([expected, got]: readonly [number, number]) =>
          Object.is(expected, got) ||
          expected === got ||
          (Number.isFinite(expected) &&
            Number.isFinite(got) &&
            Math.abs(got - expected) - (absolute + relative * Math.abs(expected)) <= 0);
        expect(found.beyond).toBe(pairs.filter((pair) => !close(pair)).length);
      },
    ),
  );
});

test("a transposed output is another shape; axes of size 1 mean nothing", () => {
  const run = { from: 0, samples: 1 };
  const of = (...shape: readonly number[]): Value => ({ type: "float32", shape, data: new Float32Array(6) });
  const comparing = createComparisonAccumulator({ absolute: 0, relative: null, finiteOnly: false });
  expect(comparing.add(run, "y", of(2, 3), of(1, 2, 3, 1))).toBeNull();
  expect(comparing.add(run, "y", of(2, 3), of(3, 2))).toMatch(
    /should be float32\[2,3\].*answers float32\[3,2\]/,
  );
});

test("a sequence of another length is as far off as can be, by error and by cosine", () => {
  const comparing = createComparisonAccumulator({ absolute: null, relative: null, finiteOnly: false });
  const pair: Value = { type: "float32", shape: [2], data: Float32Array.of(1, 2) };
  const sequence = (...elements: readonly Value[]): Datum => ({ type: "sequence", elements });
  expect(comparing.add({ from: 4, samples: 1 }, "y", sequence(pair), sequence(pair, pair))).toBeNull();
  expect(comparing.found()).toMatchObject({
    largestAbsolute: Number.POSITIVE_INFINITY,
    lowestCosine: { output: "y", index: 4, cosine: -1 },
    worst: { expected: "a sequence of 1", got: "a sequence of 2" },
  });
  comparing.add({ from: 5, samples: 1 }, "maybe", { type: "none" }, pair);
  expect(comparing.found()).toMatchObject({ samples: 6, elements: 2 });
});
