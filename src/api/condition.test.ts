import { expect, test } from "vitest";
import { instant } from "../base/time.ts";
import { stampConditions } from "./condition.ts";
import { conditionSchema, LONGEST_MESSAGE } from "./schema.ts";

const draft = (message: string) =>
  ({ type: "Ready", status: "False", reason: "Conflict", message, observedGeneration: 1 }) as const;

test.each([
  ["a message of ten thousand characters", "x".repeat(10_000)],
  ["a message that ends in the middle of a character", `${"x".repeat(LONGEST_MESSAGE - 2)}😀😀`],
  ["half a character", "\ud83d"],
])("%s is written as the API server keeps it, and again the same", (_, message) => {
  const [written] = stampConditions([], [draft(message)], instant(0));
  expect(conditionSchema.properties.message).toMatchObject({ maxLength: LONGEST_MESSAGE });
  expect(written?.message.length).toBeLessThanOrEqual(LONGEST_MESSAGE);
  expect(written?.message.isWellFormed()).toBe(true);
  expect(stampConditions([], [draft(written?.message ?? "")], instant(0))).toEqual([written]);
});
