import { type Condition, type ConditionDraft, findCondition, stampConditions } from "../api/condition.ts";
import type { ModelReleaseStatus, VariantStatus } from "../api/model-release.ts";
import { REASONS } from "../api/reasons.ts";
import type { Note } from "../api/resource.ts";
import type { Fault, Result } from "../base/result.ts";
import { faultedStatus, type ReleasePlan } from "./decide.ts";
import type { Learned, ReleaseSeen } from "./seen.ts";

export type ReleaseReport = { readonly status: ModelReleaseStatus; readonly notes: readonly Note[] };

type Fact = Pick<ConditionDraft, "status" | "reason" | "message">;

/** After so many attempts that broke off a person should look; it is tried on all the same. */
const PATIENCE = 5;

/**
 * Status and events from scratch. Conditions, in this order: Available, Verified, Ready; Reconciling or Stalled while
 * true. Verified is False for a verdict on the model only: trouble of ours leaves it Unknown.
 */
export function reportRelease(
  seen: ReleaseSeen,
  plan: ReleasePlan,
  acted: Result<void, Fault>,
  learned: Learned,
): ReleaseReport {
  const { release } = seen;
  const variants = variantsAfter(seen, plan, acted, learned);
  const available = availability(variants);
  const verified = verification(variants);
  const ready = available.status === "True" || verified.status === "False" ? verified : available;
  const had = release.status?.conditions ?? [];
  const drafts = [
    { type: "Available", ...available },
    { type: "Verified", ...verified },
    { type: "Ready", ...ready },
    ...progressOf(ready, variants),
  ].map((draft): ConditionDraft => ({ ...draft, observedGeneration: release.generation }));
  const conditions = stampConditions(had, drafts, seen.now);
  return {
    status: { observedGeneration: release.generation, variants, conditions },
    notes: notesOf(had, conditions),
  };
}

/** A start that did not happen leaves its variant where it was, with the reason why. */
function variantsAfter(
  seen: ReleaseSeen,
  plan: ReleasePlan,
  acted: Result<void, Fault>,
  learned: Learned,
): readonly VariantStatus[] {
  return plan.variants.map(({ next, start }, index) => {
    if (acted.ok || start === null || learned.started.includes(start.variant.name)) return next;
    const { name, digest, sizeBytes, goldenDigest } = next;
    const base = {
      name,
      digest,
      ...(sizeBytes === undefined ? {} : { sizeBytes }),
      ...(goldenDigest === undefined ? {} : { goldenDigest }),
    };
    return faultedStatus(base, seen.variants[index]?.had ?? null, learned.failedAt, acted.error);
  });
}

function availability(variants: readonly VariantStatus[]): Fact {
  const gone = variants.filter(({ reason }) => reason === REASONS.BlobMissing);
  if (gone.length > 0) return { status: "False", reason: REASONS.BlobMissing, message: said(gone) };
  const unread = variants.filter(({ sizeBytes }) => sizeBytes === undefined);
  const store = unread.find(
    ({ reason }) => reason === REASONS.StoreDenied || reason === REASONS.StoreUnavailable,
  );
  if (store !== undefined)
    return { status: "Unknown", reason: store.reason ?? REASONS.StoreUnavailable, message: said([store]) };
  if (unread.some(({ verdict }) => verdict !== "Passed" && verdict !== "Failed"))
    return { status: "Unknown", reason: REASONS.StoreUnavailable, message: "the store has not answered yet" };
  const sizes = variants.map(({ name, sizeBytes }) =>
    sizeBytes === undefined ? name : `${name}: ${sizeBytes} bytes`,
  );
  return { status: "True", reason: REASONS.BlobFound, message: sizes.join(", ") };
}

/** The worst variant speaks: a verdict against one is a verdict against the release. */
function verification(variants: readonly VariantStatus[]): Fact {
  const failed = variants.filter(({ verdict }) => verdict === "Failed");
  if (failed.length > 0)
    return {
      status: "False",
      reason: failed[0]?.reason ?? REASONS.VerificationFailed,
      message: `${said(failed)}; a corrected model is a new release`,
    };
  const broken = variants.filter(({ verdict }) => verdict === "Error");
  if (broken.length > 0)
    return {
      status: "Unknown",
      reason: REASONS.VerificationError,
      message: broken
        .map(
          ({ name, message, attempts, retryAt }) =>
            `${name}: ${message} (attempt ${attempts}, again at ${retryAt})`,
        )
        .join("; "),
    };
  const pending = variants.filter(({ verdict }) => verdict === "Pending");
  if (pending.length > 0)
    return {
      status: "Unknown",
      reason: pending[0]?.reason ?? REASONS.VerifierUnavailable,
      message: said(pending),
    };
  const running = variants.filter(({ verdict }) => verdict === "Running");
  if (running.length > 0)
    return { status: "Unknown", reason: REASONS.VerificationRunning, message: said(running) };
  return {
    status: "True",
    reason: REASONS.VerificationPassed,
    message: `passed: ${variants.map(({ name }) => name).join(", ")}`,
  };
}

/** kstatus: Stalled is what only a person mends, Reconciling what goes on by itself. */
function progressOf(
  ready: Fact,
  variants: readonly VariantStatus[],
): readonly (Fact & { readonly type: "Reconciling" | "Stalled" })[] {
  if (ready.status === "True") return [];
  const stuck =
    variants.some(({ verdict, attempts }) => verdict === "Failed" || (attempts ?? 0) >= PATIENCE) ||
    ready.reason === REASONS.StoreDenied;
  return [{ ...ready, type: stuck ? "Stalled" : "Reconciling", status: "True" }];
}

function said(variants: readonly VariantStatus[]): string {
  return variants.map(({ name, message }) => `${name}: ${message ?? ""}`).join("; ");
}

function notesOf(before: readonly Condition[], after: readonly Condition[]): readonly Note[] {
  const turned = (type: string): Condition | null => {
    const had = findCondition(before, type);
    const has = findCondition(after, type);
    return has === undefined || (had?.status === has.status && had.reason === has.reason) ? null : has;
  };
  const available = turned("Available");
  const verified = turned("Verified");
  return [
    ...(available?.reason === REASONS.BlobMissing ? [warning(REASONS.BlobMissing, available)] : []),
    ...(available?.reason === REASONS.StoreDenied ? [warning(REASONS.StoreDenied, available)] : []),
    ...(verified?.status === "False" ? [warning(REASONS.VerificationFailed, verified)] : []),
    ...(verified?.reason === REASONS.VerificationError ? [warning(REASONS.VerificationError, verified)] : []),
    ...(verified?.reason === REASONS.VerifierUnavailable
      ? [warning(REASONS.VerifierUnavailable, verified)]
      : []),
    ...(verified?.status === "True"
      ? [{ type: "Normal", reason: REASONS.VerificationPassed, message: verified.message } as const]
      : []),
  ];
}

function warning(reason: string, { message }: Condition): Note {
  return { type: "Warning", reason, message };
}
