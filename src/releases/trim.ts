import type { CheckResult, VariantStatus } from "../api/model-release.ts";
import { canonicalJson } from "../base/digest.ts";
import { cut } from "../base/text.ts";

/** Characters of JSON that all variants may take together: a status is read by people, and cached by many. */
const BUDGET = 10_000;

type Trim = (check: CheckResult) => CheckResult;

/** Each step says less than the one before; everything that was measured is in the report beside the model. */
const STEPS: readonly Trim[] = [
  (check) => check,
  ({ method: _, ...check }) => check,
  (check) => (check.outcome === "Failed" ? check : factsOf(check, 96)),
  (check) => (check.outcome === "Failed" ? check : factsOf(check, 32)),
  (check) => (check.outcome === "Failed" ? factsOf(check, 96) : { name: check.name, outcome: check.outcome }),
];

/** The same variants with as much about their checks as there is room for. Trimming twice changes nothing more. */
export function trimmed(variants: readonly VariantStatus[]): readonly VariantStatus[] {
  for (const trim of STEPS) {
    const shorter = variants.map((variant) =>
      variant.checks === undefined ? variant : { ...variant, checks: variant.checks.map(trim) },
    );
    if (canonicalJson(shorter).length <= BUDGET) return shorter;
  }
  return variants.map(({ checks, message, ...variant }) => ({
    ...variant,
    ...(message === undefined ? {} : { message: cut(message, 160) }),
    ...(checks === undefined
      ? {}
      : {
          checks: checks.filter(({ outcome }) => outcome !== "Passed").map((check) => factsOf(check, 64)),
        }),
  }));
}

function factsOf({ name, outcome, measured, bound }: CheckResult, limit: number): CheckResult {
  return {
    name,
    outcome,
    ...(measured === undefined ? {} : { measured: cut(measured, limit) }),
    ...(bound === undefined ? {} : { bound: cut(bound, limit) }),
  };
}
