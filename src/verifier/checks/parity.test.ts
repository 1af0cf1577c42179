import { expect, test } from "vitest";
import { classified, OFF } from "../../../test/builders/verifier/measurements.ts";
import type { Classification } from "../score/classes/classification.ts";
import type { Comparison } from "../score/comparison.ts";
import { judgeParity } from "./parity.ts";

test("two models agree or do not, and the sample in which they differ most is named", () => {
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
  expect(judgeParity("Parity", { maximumAbsoluteError: 0 }, measuredOf(null, OFF), "it").reason).toBe(
    "ParityTooLow",
  );
});
