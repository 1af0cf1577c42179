export type Counts = { readonly passed: number; readonly failed: number; readonly skipped: number };

const NONE: Counts = { passed: 0, failed: 0, skipped: 0 };

/**
 * Counts of vitest's JSON report; `null` (there is none) counts nothing. A file that failed without a failed test, such
 * as one that does not load, counts as one failure: its tests are not in the report at all.
 */
export function countsOf(report: string | null): Counts {
  if (report === null) return NONE;
  const { testResults } = JSON.parse(report) as {
    readonly testResults: readonly {
      readonly status: string;
      readonly assertionResults: readonly { readonly status: string }[];
    }[];
  };
  let counts = NONE;
  for (const file of testResults) {
    const many = (status: string) => file.assertionResults.filter((test) => test.status === status).length;
    const passed = many("passed");
    const failed = many("failed");
    const unexplained = file.status === "failed" && failed === 0 ? 1 : 0;
    const skipped = file.assertionResults.length - passed - failed;
    counts = addCounts(counts, { passed, failed: failed + unexplained, skipped });
  }
  return counts;
}

export function addCounts(a: Counts, b: Counts): Counts {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: a.skipped + b.skipped };
}

/** `12 passed, 0 failed`, and `, 3 skipped` where there are any. */
export function countsText(counts: Counts): string {
  const skipped = counts.skipped === 0 ? "" : `, ${counts.skipped} skipped`;
  return `${counts.passed} passed, ${counts.failed} failed${skipped}`;
}
