import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Tensor, Verification } from "../../api/model-release.ts";
import type { Digest } from "../../base/digest.ts";
import type { Duration } from "../../base/time.ts";
import type { TensorInfo } from "../onnx/tensor.ts";
import type { Classification } from "../score/classification.ts";
import type { Comparison } from "../score/comparison.ts";
import {
  judgeDeterminism,
  judgeDigests,
  judgeLatency,
  judgeMemory,
  judgeThroughput,
  signatureDifferences,
} from "./checks.ts";
import { judgeGolden } from "./judge-golden.ts";
import { judgeParity } from "./judge-parity.ts";
import { printable } from "./judgement.ts";

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

describe("a golden set", () => {
  const wanted = (bounds: object): NonNullable<Verification["golden"]> => ({
    blob: { container: "models", path: "golden.npz" },
    digest: `sha256:${"0".repeat(64)}` as Digest,
    ...bounds,
  });
  const classified = (over: Partial<Classification> = {}): Classification => ({
    output: "y",
    reading: "",
    notNumbers: 0,
    classes: 10,
    names: null,
    samples: 20,
    correct: 19,
    topK: 5,
    correctTopK: 20,
    byClass: [
      { label: 3, samples: 15, correct: 15 },
      { label: 7, samples: 5, correct: 4 },
    ],
    confused: [{ expected: 7, got: 3, samples: 1 }],
    worst: { index: 11, expected: 7, got: 3, margin: 0.5 },
    ...over,
  });
  const compared = (over: Partial<Comparison> = {}): Comparison => ({
    samples: 2,
    elements: 4,
    beyond: 0,
    nonFinite: 0,
    largestAbsolute: 0,
    largestRelative: 0,
    worst: null,
    lowestCosine: null,
    outputs: ["y"],
    withoutCosine: [],
    ...over,
  });
  const off = compared({
    beyond: 1,
    largestAbsolute: 1,
    largestRelative: 0.5,
    worst: {
      output: "y",
      index: 1,
      element: 2,
      place: "2",
      expected: "2",
      got: "3",
      absolute: 1,
      relative: 0.5,
    },
    lowestCosine: { output: "y", index: 1, cosine: 0.9 },
  });
  const judge = (bounds: object, classification: Classification | null, comparison: Comparison | null) =>
    judgeGolden(wanted(bounds), {
      ...{ samples: 20, batch: { size: 64, free: true }, notes: [], ignored: [], finite: null },
      sections: [{ classification, comparison, ranking: null, figures: null }],
    });

  test.each<[string, object, string | null]>([
    ["accuracy", { minimumAccuracy: "0.95" }, null],
    ["accuracy", { minimumAccuracy: "0.9501" }, "AccuracyTooLow"],
    ["accuracy among the first five", { minimumTopKAccuracy: 1 }, null],
    ["accuracy of the weakest class", { minimumClassAccuracy: "0.8" }, null],
    ["accuracy of the weakest class", { minimumClassAccuracy: "0.81" }, "AccuracyTooLow"],
  ])("is exact at the bound of the %s: %o", (_what, bounds, reason) => {
    expect(judge(bounds, classified(), null).reason).toBe(reason);
  });

  test("says which sample the model was surest to get wrong, and which classes it takes for each other", () => {
    expect(judge({ minimumAccuracy: 1 }, classified(), null).result).toMatchObject({
      measured: "accuracy 0.95 (19 of 20)",
      bound: "accuracy ≥ 1",
      method: '20 golden samples at once; scored: output "y"',
      worst: { index: 11, where: "y", expected: "class 7", got: "class 3" },
      message: expect.stringContaining("most often taken for each other: 3 for 7 (1×)"),
    });
    const none = classified({ worst: { index: 0, expected: 1, got: -1, margin: 1 } });
    expect(judge({ minimumAccuracy: 1 }, none, null).result.message).toContain("got NaN");
  });

  test("says which element is furthest off", () => {
    expect(judge({ maximumAbsoluteError: "0.5", maximumRelativeError: "0.1" }, null, off)).toMatchObject({
      reason: "OutputsDiffer",
      result: {
        measured: "maximum absolute error 1, maximum relative error 0.5",
        bound: "maximum absolute error ≤ 0.5 plus maximum relative error ≤ 0.1",
        worst: { index: 1, where: 'output "y", element 2', expected: "2", got: "3" },
      },
    });
    expect(judge({ maximumAbsoluteError: 1 }, null, { ...off, beyond: 0 }).reason).toBeNull();
  });

  test("holds the direction of outputs against a bound of its own", () => {
    expect(judge({ minimumCosineSimilarity: "0.9" }, null, off).reason).toBeNull();
    const judged = judge({ minimumCosineSimilarity: "0.91" }, null, off);
    expect(judged.reason).toBe("OutputsDiffer");
    expect(judged.result.message).toContain('sample 1 of output "y" points elsewhere');
  });

  test("may ask for finite values only, in whichever output, and says where they are not", () => {
    const finite = [
      { output: "y", elements: 4, nonFinite: 0, first: -1 },
      { output: "z", elements: 4, nonFinite: 2, first: 7 },
    ];
    const measured = {
      ...{ samples: 20, batch: { size: 64, free: true }, notes: [], ignored: ["z"] },
      sections: [{ classification: null, comparison: compared(), ranking: null, figures: null }],
    };
    const bounds = wanted({ maximumAbsoluteError: 1, nonFinite: "Never" });
    expect(judgeGolden(bounds, { ...measured, finite: finite.slice(0, 1) }).reason).toBeNull();
    expect(judgeGolden(bounds, { ...measured, finite })).toMatchObject({
      reason: "NonFinite",
      result: { message: '2 of 8 values are NaN or infinite: 2 in output "z", from sample 7 on' },
    });
    expect(
      judgeGolden(wanted({ maximumAbsoluteError: 1 }), { ...measured, finite: null }).result.message,
    ).toBe('not judged: output "z"');
  });

  test("tells all that is bad; the first is the reason", () => {
    const judged = judge({ minimumAccuracy: 1, maximumAbsoluteError: 0 }, classified(), off);
    expect(judged.reason).toBe("AccuracyTooLow");
    expect(judged.result.message).toContain("; 1 of 4 values are further off than allowed");
    expect(judged.result.measured).toBe("accuracy 0.95 (19 of 20), maximum absolute error 1");
  });

  test("of another release agrees or does not, and where it differs most is told", () => {
    const measuredOf = (agreement: Classification | null, comparison: Comparison | null) => ({
      ...{ samples: 20, input: "20 golden samples", ignored: [] },
      sections: [{ agreement, comparison }],
    });
    const measured = measuredOf(classified(), null);
    const judged = judgeParity("Parity", { minimumAgreement: "0.96" }, measured, "plant-a/digits-1.0.0");
    expect(judged).toMatchObject({
      reason: "ParityTooLow",
      result: {
        measured: "agreement 0.95 (19 of 20)",
        method: '20 golden samples, compared with plant-a/digits-1.0.0; agreement by output "y"',
        message: expect.stringContaining("they differ most in sample 11: class 7 there, class 3 here"),
      },
    });
    expect(judgeParity("Parity", { minimumAgreement: "0.95" }, measured, "it").reason).toBeNull();
    expect(judgeParity("Parity", { maximumAbsoluteError: 0 }, measuredOf(null, off), "it").reason).toBe(
      "ParityTooLow",
    );
  });

  test("that is run twice gives the same, or the run that did not is told", () => {
    expect(judgeDeterminism({ runs: 3 }, compared(), "3 runs").reason).toBeNull();
    expect(judgeDeterminism({ runs: 3 }, off, "3 runs")).toMatchObject({
      reason: "NotDeterministic",
      result: { bound: "no difference", message: expect.stringContaining("run 1 answered 3") },
    });
  });
});

test.each<[number, string | null]>([
  [1000, null],
  [1001, "ThroughputTooLow"],
])("a throughput of 1000/s held against %d/s", (minimumPerSecond, reason) => {
  const measured = { inferences: 5000, milliseconds: 5000, input: "batch 1" };
  const wanted = { minimumPerSecond, batchSize: 1, duration: "5s" as Duration };
  expect(judgeThroughput(wanted, measured, 1).reason).toBe(reason);
});

test.each<[number, number | null, string | null, string]>([
  [100, 100, null, "Passed"],
  [100, 101, "MemoryTooHigh", "Failed"],
  [100, null, null, "Skipped"],
])("memory: a bound of %d and %s bytes", (maximum, bytes, reason, outcome) => {
  const judged = judgeMemory(maximum, bytes, "batch 1");
  expect([judged.reason, judged.result.outcome]).toEqual([reason, outcome]);
});

describe("latency", () => {
  const wanted = (p95: string) => ({
    p95: p95 as Duration,
    warmup: 0,
    samples: 20,
    batchSize: 1,
    threads: 1,
  });
  const runs = Float64Array.from({ length: 100 }, (_, index) => 100 - index);

  test("is exact at its bound", () => {
    expect(judgeLatency(wanted("95ms"), runs, "batch 1").reason).toBeNull();
    expect(judgeLatency(wanted("94ms"), runs, "batch 1").reason).toBe("LatencyTooHigh");
    expect(judgeLatency(wanted("94ms"), runs, "batch 1").result).toMatchObject({
      measured: "p50 50 ms, p95 95 ms, p99 99 ms",
      bound: "p95 ≤ 94 ms",
      method: "100 runs after 0 more, batch 1, 1 thread, no run left out (0 outliers)",
      worst: { index: 0, expected: "p95 ≤ 94 ms", got: "100 ms" },
    });
  });

  test("close to its bound passes, and says that it is close", () => {
    expect(judgeLatency(wanted("95ms"), runs, "batch 1").result.message).toBe(
      "p95 is close to its bound: with 95 % confidence it lies between 90 ms and 100 ms",
    );
    expect(judgeLatency(wanted("1s"), runs, "batch 1").result.message).toBeUndefined();
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
