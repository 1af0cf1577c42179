import { expect, test } from "vitest";
import { judgeDigests } from "./digest.ts";

test("a wrong golden set is a wrong digest too, and said to be that", () => {
  const judged = judgeDigests([
    { what: "model", expected: "a", got: "a" },
    { what: "golden set", expected: "b", got: "c" },
  ]);
  expect(judged).toMatchObject({
    reason: "DigestMismatch",
    result: { message: "the golden set has digest c, the release specifies b" },
  });
});
