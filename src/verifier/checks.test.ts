import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Tensor } from "../api/model-release.ts";
import type { Duration } from "../base/time.ts";
import {
  type Accuracy,
  countCorrect,
  judgeDigests,
  judgeGolden,
  judgeLatency,
  nearestRank,
  printable,
  scoresOutput,
  signatureDifferences,
  widenError,
} from "./checks.ts";
import type { TensorInfo, TensorValue } from "./tensor.ts";

const floats = (shape: readonly number[], ...values: readonly number[]): TensorValue => ({
  type: "float32",
  shape,
  data: Float32Array.from(values),
});
const start = (output = "y"): Accuracy => ({ output, samples: 0, correct: 0, worst: null });

describe("a signature", () => {
  const want = (over: Partial<Tensor> = {}): Tensor => ({
    name: "x",
    type: "float32",
    shape: ["n", 4],
    ...over,
  });
  const has = (over: Partial<TensorInfo> = {}): TensorInfo => ({
    name: "x",
    type: "float32",
    shape: ["batch", 4],
    ...over,
  });
  const differences = (wanted: readonly Tensor[], found: readonly TensorInfo[]) =>
    signatureDifferences({ inputs: [...wanted], outputs: [] }, { inputs: found, outputs: [] });

  test.each<[string, Tensor, TensorInfo, string | null]>([
    ["any name stands for a free axis", want(), has(), null],
    ["an axis without a name is free too", want(), has({ shape: ["", 4] }), null],
    ["a number is that number only", want({ shape: ["n", 5] }), has(), "differs in axis 1"],
    ["a number is no free axis", want({ shape: [1, 4] }), has(), "differs in axis 0"],
    ["a name is no number", want({ shape: ["n", "m"] }), has(), "differs in axis 1"],
    ["the type counts", want({ type: "float16" }), has(), "is float32, the release says float16"],
    ["the rank counts", want({ shape: ["n"] }), has(), "has 2 axes instead of 1"],
    ["a sequence is no tensor", want(), has({ type: "not a tensor", shape: [] }), "is not a tensor"],
  ])("%s", (_what, wanted, found, difference) => {
    const all = differences([wanted], [found]);
    if (difference === null) expect(all).toEqual([]);
    else expect(all).toEqual([expect.stringContaining(difference)]);
  });

  test("names what is missing and what is too much, in any order", () => {
    expect(
      differences([want({ name: "a" }), want({ name: "b" })], [has({ name: "b" }), has({ name: "c" })]),
    ).toEqual(['input "a" (float32[n,4]) is missing', 'input "c" (float32[batch,4]) is not in the release']);
    expect(
      differences([want({ name: "a" }), want({ name: "b" })], [has({ name: "b" }), has({ name: "a" })]),
    ).toEqual([]);
  });
});

describe("accuracy", () => {
  test("counts samples whose first largest score is that of the label", () => {
    const found = countCorrect(start(), floats([3, 2], 0.9, 0.1, 0.5, 0.5, 0.2, 0.8), [0, 0, 1]);
    expect(found).toMatchObject({ samples: 3, correct: 3, worst: null });
  });

  test("remembers the surest mistake over several runs, by its number in the set", () => {
    const first = countCorrect(start(), floats([2, 2], 0.6, 0.4, 0.9, 0.1), [1, 1]);
    const both = countCorrect(first, floats([1, 2], 0.7, 0.3), [1]);
    expect(both).toMatchObject({ samples: 3, correct: 0, worst: { index: 1, expected: 1, got: 0 } });
  });

  test("a score that is NaN never wins", () => {
    expect(countCorrect(start(), floats([1, 3], Number.NaN, 0, 1), [2])).toMatchObject({ correct: 1 });
    const none = countCorrect(start(), floats([1, 2], Number.NaN, Number.NaN), [0]);
    expect(none).toMatchObject({ correct: 0, worst: { got: -1 } });
    expect(
      judgeGolden({ minimumAccuracy: 1 }, { accuracy: none, largestError: null }).result.message,
    ).toContain("got only NaN");
  });

  test("is exact at its bound", () => {
    const accuracy = { ...start(), samples: 20, correct: 19 };
    expect(judgeGolden({ minimumAccuracy: "0.95" }, { accuracy, largestError: null }).reason).toBeNull();
    expect(judgeGolden({ minimumAccuracy: "0.9501" }, { accuracy, largestError: null }).reason).toBe(
      "AccuracyTooLow",
    );
  });

  test.each<[string, readonly [string, TensorValue][], number, string | null]>([
    [
      "the first of matching shape",
      [
        ["label", floats([2], 0, 1)],
        ["p", floats([2, 3], 0, 0, 0, 0, 0, 0)],
      ],
      2,
      "p",
    ],
    ["without an axis for one sample", [["p", floats([3], 0, 0, 0)]], 1, "p"],
    ["with axes of 1 around it", [["p", floats([2, 3, 1, 1], 0, 0, 0, 0, 0, 0)]], 2, "p"],
    ["none, where there is one number for each sample", [["p", floats([4, 1], 0, 0, 0, 0)]], 4, null],
    ["none, where an output is a picture", [["p", floats([1, 2, 2], 0, 0, 0, 0)]], 1, null],
  ])("takes the scores from %s", (_what, outputs, batch, name) => {
    expect(scoresOutput(new Map(outputs), batch)?.output ?? null).toBe(name);
  });
});

describe("the maximum absolute error", () => {
  const error = (expected: readonly number[], got: readonly number[]) =>
    widenError(
      null,
      "y",
      { expected: floats([expected.length], ...expected), got: floats([got.length], ...got) },
      10,
    );

  test.each<[string, number, number, number]>([
    ["NaN where NaN is expected", Number.NaN, Number.NaN, 0],
    ["infinity where it is expected", Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, 0],
    ["the other infinity", Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY],
    ["a number instead of NaN", Number.NaN, 0, Number.POSITIVE_INFINITY],
    ["NaN instead of a number", 0, Number.NaN, Number.POSITIVE_INFINITY],
    ["infinity instead of a number", 0, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY],
    ["minus zero", 0, -0, 0],
    ["a difference", 1, 3.5, 2.5],
  ])("of %s", (_what, expected, got, size) => {
    expect(error([expected], [got]).error).toBe(size);
  });

  test("says where it is", () => {
    const expected = floats([2, 3], 0, 0, 0, 0, 0, 0);
    const found = widenError(null, "y", { expected, got: floats([2, 3], 0, 0, 1, 0, 2, 0) }, 10);
    expect(found).toMatchObject({ error: 2, index: 11, element: 1, expected: 0, got: 2 });
  });

  test("keeps the digits of large integers", () => {
    const big = (value: bigint): TensorValue => ({
      type: "int64",
      shape: [1],
      data: BigInt64Array.of(value),
    });
    expect(widenError(null, "y", { expected: big(2n ** 60n), got: big(2n ** 60n + 1n) }, 0).error).toBe(1);
  });

  test("is never less than what was there before, nor than any single one (property)", () => {
    const value = fc.oneof(fc.double(), fc.constant(Number.NaN));
    fc.assert(
      fc.property(fc.array(fc.tuple(value, value), { minLength: 1, maxLength: 20 }), (pairs) => {
        let largest = widenError(null, "y", { expected: floats([0]), got: floats([0]) }, 0);
        for (const [expected, got] of pairs) {
          const single = error([expected], [got]).error;
          const next = widenError(
            largest,
            "y",
            { expected: floats([1], expected), got: floats([1], got) },
            0,
          );
          expect(next.error).toBe(Math.max(largest.error, single));
          largest = next;
        }
      }),
    );
  });

  test("and accuracy are both told where both are bad; the first is the reason", () => {
    const judged = judgeGolden(
      { minimumAccuracy: 1, maximumAbsoluteError: 0 },
      { accuracy: { ...start(), samples: 2, correct: 1 }, largestError: error([0], [1]) },
    );
    expect(judged.reason).toBe("AccuracyTooLow");
    expect(judged.result.message).toContain('less than 1; output "y" differs by up to 1');
    expect(judged.result.measured).toBe("accuracy 0.5 (1 of 2), maximum absolute error 1");
  });
});

describe("latency", () => {
  const wanted = (p95: string) => ({
    p95: p95 as Duration,
    warmup: 0,
    samples: 20,
    batchSize: 1,
    threads: 1,
  });
  const runs = Array.from({ length: 100 }, (_, index) => 100 - index);

  test("is the nearest rank", () => {
    const sorted = Array.from({ length: 20 }, (_, index) => index + 1);
    expect([0.5, 0.95, 0.99, 1].map((share) => nearestRank(sorted, share))).toEqual([10, 19, 20, 20]);
    expect(nearestRank([7], 0.01)).toBe(7);
  });

  test("is exact at its bound", () => {
    expect(judgeLatency(wanted("95ms"), runs, "batch 1").reason).toBeNull();
    expect(judgeLatency(wanted("94ms"), runs, "batch 1").reason).toBe("LatencyTooHigh");
    expect(judgeLatency(wanted("94ms"), runs, "batch 1").result).toMatchObject({
      measured: "p50 50 ms, p95 95 ms, p99 99 ms (100 runs, batch 1, 1 thread)",
      bound: "p95 ≤ 94 ms",
    });
  });

  test("of the nearest rank is a sample that at least that share does not exceed (property)", () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(), { minLength: 1 }),
        fc.double({ min: 0.01, max: 1, noNaN: true }),
        (values, share) => {
          const sorted = values.sort((a, b) => a - b);
          const value = nearestRank(sorted, share);
          expect(sorted).toContain(value);
          expect(sorted.filter((one) => one <= value).length).toBeGreaterThanOrEqual(share * sorted.length);
          expect(sorted.filter((one) => one < value).length).toBeLessThan(share * sorted.length);
        },
      ),
    );
  });
});

test("a wrong golden set is a wrong digest too, and said to be that", () => {
  const judged = judgeDigests([
    { what: "model", expected: "a", got: "a" },
    { what: "golden set", expected: "b", got: "c" },
  ]);
  expect(judged).toMatchObject({
    reason: "DigestMismatch",
    result: { message: "the golden set is c, the release says b" },
  });
});

test("text from models is printable and short (property)", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 400 }), (text) => {
      const shown = printable(text, 100);
      expect(shown.length).toBeLessThanOrEqual(100);
      expect(shown).not.toMatch(/[\p{Cc}\p{Cf}]/u);
    }),
  );
});
