import { describe, expect, test } from "vitest";
import { classified, compared, OFF } from "../../../test/builders/verifier/measurements.ts";
import type { Verification } from "../../api/model-release.ts";
import type { Digest } from "../../base/digest.ts";
import type { Classification } from "../score/classes/classification.ts";
import type { Comparison } from "../score/comparison.ts";
import { judgeGolden } from "./golden.ts";

describe("a golden set", () => {
  const wanted = (bounds: object): NonNullable<Verification["golden"]> => ({
    blob: { container: "models", path: "golden.npz" },
    digest: `sha256:${"0".repeat(64)}` as Digest,
    ...bounds,
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
      message: expect.stringContaining("confused most often: 3 for 7 (1×)"),
    });
    const none = classified({ worst: { index: 0, expected: 1, got: -1, margin: 1 } });
    expect(judge({ minimumAccuracy: 1 }, none, null).result.message).toContain("got NaN");
  });

  test("says which element is furthest off", () => {
    expect(judge({ maximumAbsoluteError: "0.5", maximumRelativeError: "0.1" }, null, OFF)).toMatchObject({
      reason: "OutputsDiffer",
      result: {
        measured: "maximum absolute error 1, maximum relative error 0.5",
        bound: "maximum absolute error ≤ 0.5 plus maximum relative error ≤ 0.1",
        worst: { index: 1, where: 'output "y", element 2', expected: "2", got: "3" },
      },
    });
    expect(judge({ maximumAbsoluteError: 1 }, null, { ...OFF, beyond: 0 }).reason).toBeNull();
  });

  test("holds the direction of outputs against a bound of its own", () => {
    expect(judge({ minimumCosineSimilarity: "0.9" }, null, OFF).reason).toBeNull();
    const judged = judge({ minimumCosineSimilarity: "0.91" }, null, OFF);
    expect(judged.reason).toBe("OutputsDiffer");
    expect(judged.result.message).toContain('sample 1 of output "y" points in another direction');
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

  test("reports every broken bound; the first is the reason", () => {
    const judged = judge({ minimumAccuracy: 1, maximumAbsoluteError: 0 }, classified(), OFF);
    expect(judged.reason).toBe("AccuracyTooLow");
    expect(judged.result.message).toContain("; 1 of 4 values are outside the tolerance");
    expect(judged.result.measured).toBe("accuracy 0.95 (19 of 20), maximum absolute error 1");
  });
});
