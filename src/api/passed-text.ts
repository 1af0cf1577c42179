import type { CheckResult } from "./model-release.ts";

/** Checks that look at the file and do not run the model. */
const UNRUN: readonly string[] = ["Digest", "Load", "Signature"];

/** What was not checked is said, too: a model of which only the file was looked at may answer anything. */
export function passedText(checks: readonly CheckResult[]): string {
  const namesOf = (outcome: CheckResult["outcome"]) =>
    checks.filter((check) => check.outcome === outcome).map(({ name }) => name);
  const [done, left] = [namesOf("Passed"), namesOf("Skipped")];
  const not = left.length === 0 ? "" : `; not checked: ${left.join(", ")}`;
  if (done.length > 0 && done.every((name) => UNRUN.includes(name)))
    return `passed ${done.join(", ")}: it loads, and nothing that it answers was checked${not}`;
  return left.length === 0 ? "passed every check" : `passed ${done.join(", ")}${not}`;
}
