import { expect, test } from "vitest";
import { compared, OFF } from "../../../test/builders/verifier/measurements.ts";
import { judgeDeterminism } from "./determinism.ts";

test("the same samples give the same outputs, or the run that differed is named", () => {
  expect(judgeDeterminism({ runs: 3 }, compared(), "3 runs").reason).toBeNull();
  expect(judgeDeterminism({ runs: 3 }, OFF, "3 runs")).toMatchObject({
    reason: "NotDeterministic",
    result: { bound: "no difference", message: expect.stringContaining("run 1 answered 3") },
  });
});
