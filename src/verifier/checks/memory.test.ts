import { expect, test } from "vitest";
import { judgeMemory } from "./memory.ts";

test.each<[number, number | null, string | null, string]>([
  [100, 100, null, "Passed"],
  [100, 101, "MemoryTooHigh", "Failed"],
  [100, null, null, "Skipped"],
])("memory: a bound of %d and %s bytes", (maximum, bytes, reason, outcome) => {
  const judged = judgeMemory(maximum, bytes, "batch 1");
  expect([judged.reason, judged.result.outcome]).toEqual([reason, outcome]);
});
