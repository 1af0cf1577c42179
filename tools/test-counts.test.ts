import { expect, test } from "vitest";
import { addCounts, countsOf, countsText } from "./test-counts.ts";

const file = (status: string, ...tests: readonly string[]) => ({
  status,
  assertionResults: tests.map((one) => ({ status: one })),
});
const report = (...files: readonly ReturnType<typeof file>[]) => JSON.stringify({ testResults: files });

test("tests are counted by what became of them", () => {
  const counts = countsOf(
    report(file("passed", "passed", "passed", "pending"), file("failed", "passed", "failed")),
  );
  expect(counts).toEqual({ passed: 3, failed: 1, skipped: 1 });
});

test("a test that is yet to be written is skipped, not passed", () => {
  expect(countsOf(report(file("passed", "todo")))).toEqual({ passed: 0, failed: 0, skipped: 1 });
});

test("a file that does not load is a failure, although none of its tests is", () => {
  expect(countsOf(report(file("failed"), file("passed", "passed")))).toEqual({
    passed: 1,
    failed: 1,
    skipped: 0,
  });
});

test("without a report nothing is counted", () => {
  expect(countsOf(null)).toEqual({ passed: 0, failed: 0, skipped: 0 });
});

test("the closing line names skipped tests only where there are some", () => {
  expect(countsText({ passed: 12, failed: 0, skipped: 0 })).toBe("12 passed, 0 failed");
  expect(
    countsText(addCounts({ passed: 1, failed: 2, skipped: 3 }, { passed: 1, failed: 0, skipped: 1 })),
  ).toBe("2 passed, 2 failed, 4 skipped");
});
