import { expect, test } from "vitest";
import type { CheckResult } from "./model-release.ts";
import { passedText } from "./passed-text.ts";

const passed = (...names: readonly CheckResult["name"][]): CheckResult[] =>
  names.map((name) => ({ name, outcome: "Passed" }));

test.each<[readonly CheckResult[], string]>([
  [passed("Digest", "Load", "Golden"), "passed every check"],
  [passed("Digest", "Load"), "passed Digest, Load: it loads, and nothing that it answers was checked"],
  [
    [...passed("Digest", "Load", "Latency"), { name: "Parity", outcome: "Skipped" }],
    "passed Digest, Load, Latency; not checked: Parity",
  ],
  [
    [...passed("Digest", "Load"), { name: "Parity", outcome: "Skipped" }],
    "passed Digest, Load: it loads, and nothing that it answers was checked; not checked: Parity",
  ],
])("what was checked is said, and what was not (%#)", (checks, text) => {
  expect(passedText(checks)).toBe(text);
});
