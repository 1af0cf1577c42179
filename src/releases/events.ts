import { type Condition, findCondition } from "../api/condition.ts";
import type { ModelReleaseStatus, VariantStatus } from "../api/model-release.ts";
import { REASONS } from "../api/reasons.ts";
import type { EventDraft } from "../api/resource.ts";
import { failuresOf, namesOf } from "./report.ts";

/** Events for what has changed since the last report. */
export function eventsOf(
  before: ModelReleaseStatus | null,
  after: ModelReleaseStatus,
): readonly EventDraft[] {
  const had = before?.variants ?? [];
  const variants = after.variants ?? [];
  const turned = (type: string): Condition | null => {
    const was = findCondition(before?.conditions, type);
    const is = findCondition(after.conditions, type);
    return is === undefined || (was?.status === is.status && was.reason === is.reason) ? null : is;
  };
  const available = turned("Available");
  const verified = turned("Verified");
  const again = turned("Reverifying");
  const stored = turned("ReportStored");
  return [
    ...(available?.reason === REASONS.BlobMissing ? [warning(REASONS.BlobMissing, available)] : []),
    ...(available?.reason === REASONS.StoreDenied ? [warning(REASONS.StoreDenied, available)] : []),
    ...(available?.reason === REASONS.NotPermitted ? [warning(REASONS.NotPermitted, available)] : []),
    ...(verified?.status === "False"
      ? [warning(REASONS.VerificationFailed, { message: failuresOf(variants) })]
      : []),
    ...(verified?.reason === REASONS.VerificationError ? [warning(REASONS.VerificationError, verified)] : []),
    ...(verified?.reason === REASONS.VerifierUnavailable
      ? [warning(REASONS.VerifierUnavailable, verified)]
      : []),
    ...(verified?.reason === REASONS.ReferenceMissing ? [warning(REASONS.ReferenceMissing, verified)] : []),
    ...(verified?.status === "True"
      ? [{ type: "Normal", reason: REASONS.VerificationPassed, message: passesOf(variants) } as const]
      : passedAgain(had, variants)),
    ...(again !== null && again.status !== "True" ? [warning(again.reason, again)] : []),
    ...(stored === null ? [] : [warning(REASONS.ReportNotStored, stored)]),
  ];
}

function passesOf(variants: readonly VariantStatus[]): string {
  const words = variants.map(({ name, checks = [] }) => {
    const passed = checks.filter(({ outcome }) => outcome === "Passed").map((check) => check.name);
    return passed.length === 0 ? name : `${name} (${passed.join(", ")})`;
  });
  return `passed: ${words.join(", ")}`;
}

function passedAgain(
  had: readonly VariantStatus[],
  variants: readonly VariantStatus[],
): readonly EventDraft[] {
  const again = variants.filter(({ name, verdict, verifiedAt }) => {
    const before = had.find((one) => one.name === name);
    return verdict === "Passed" && before?.verdict === "Passed" && before.verifiedAt !== verifiedAt;
  });
  if (again.length === 0) return [];
  return [
    {
      type: "Normal",
      reason: REASONS.VerificationPassed,
      message: `passed verification again: ${namesOf(again)}`,
    },
  ];
}

function warning(reason: string, { message }: Pick<Condition, "message">): EventDraft {
  return { type: "Warning", reason, message };
}
