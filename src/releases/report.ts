import { type ConditionDraft, stampConditions } from "../api/condition.ts";
import type { ModelReleaseStatus, VariantStatus } from "../api/model-release.ts";
import { REASONS } from "../api/reasons.ts";
import type { Fault } from "../base/fault.ts";
import { own } from "../base/lookup.ts";
import { cut } from "../base/text.ts";
import { requestOf, scheduleProblemOf } from "./due.ts";
import type { ReleasePlan } from "./plan.ts";
import type { ReleaseActed, ReleaseSeen } from "./seen.ts";
import { startFailed } from "./start.ts";
import { trimmed } from "./trim.ts";

type Fact = Pick<ConditionDraft, "status" | "reason" | "message">;

/** After so many attempts that ended in an error a person should look; it is still retried. */
const ATTEMPTS_UNTIL_STALLED = 5;

/** A condition's message may have 4096 characters. */
const LONGEST_MESSAGE = 2000;

/**
 * The status from scratch. Conditions, in this order: Available, Verified, Ready; Reconciling or Stalled while
 * true; Reverifying and ReportStored where there is something to say. Verified is False for a verdict on the model only:
 * problems of the operator, store or verifier leave it Unknown.
 */
export function statusOf(
  seen: ReleaseSeen,
  plan: ReleasePlan,
  acted: ReleaseActed,
  fault: Fault | null,
): ModelReleaseStatus {
  const { release } = seen;
  const variants = trimmed(variantsAfter(seen, plan, acted, fault));
  const available = notPermitted(seen) ?? availability(variants);
  const verified = verification(variants);
  const ready = available.status === "True" || verified.status === "False" ? verified : available;
  const had = release.status?.conditions ?? [];
  const drafts = [
    { type: "Available", ...available },
    { type: "Verified", ...verified },
    { type: "Ready", ...ready },
    ...progressOf(ready, variants),
    ...againOf(variants, scheduleProblemOf(release)),
    ...storedOf(variants),
  ].map(
    (draft): ConditionDraft => ({
      ...draft,
      message: cut(draft.message, LONGEST_MESSAGE),
      observedGeneration: release.generation,
    }),
  );
  const conditions = stampConditions(had, drafts, seen.now);
  const reverify = requestOf(release) ?? release.status?.handledRequests?.reverify;
  return {
    observedGeneration: release.generation,
    variants,
    ...(reverify === undefined ? {} : { handledRequests: { reverify } }),
    conditions,
  };
}

function variantsAfter(
  seen: ReleaseSeen,
  plan: ReleasePlan,
  acted: ReleaseActed,
  fault: Fault | null,
): readonly VariantStatus[] {
  return plan.variants.map(({ next, start }, index) => {
    const saved = own(acted.saved, next.name);
    if (saved !== undefined) {
      const { report: _report, reportError: _trouble, ...rest } = next;
      return saved.kind === "stored"
        ? { ...rest, report: saved.report }
        : { ...rest, reportError: saved.error };
    }
    const one = seen.variants[index];
    if (fault === null || start === null || one === undefined || acted.started.includes(next.name))
      return next;
    return startFailed(seen, one, acted.failedAt, fault) ?? next;
  });
}

/** Also where the files are known from before: what may not be used is not described. */
function notPermitted({ variants }: ReleaseSeen): Fact | null {
  const refused = variants.flatMap((one) =>
    one.kind === "refused" ? [`${one.variant.name}: ${one.message}`] : [],
  );
  if (refused.length === 0) return null;
  return { status: "False", reason: REASONS.NotPermitted, message: refused.join("; ") };
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
    return {
      status: "Unknown",
      reason: REASONS.StoreUnavailable,
      message: "the store has not responded yet",
    };
  const sizes = variants.map(({ name, sizeBytes }) =>
    sizeBytes === undefined ? name : `${name}: ${sizeBytes} bytes`,
  );
  return { status: "True", reason: REASONS.BlobFound, message: sizes.join(", ") };
}

/** The worst variant decides: one that failed fails the release. */
function verification(variants: readonly VariantStatus[]): Fact {
  const failed = variants.filter(({ verdict }) => verdict === "Failed");
  if (failed.length > 0)
    return {
      status: "False",
      reason: failed[0]?.reason ?? REASONS.VerificationFailed,
      message: `${said(failed)}; create a new release with a corrected model`,
    };
  const broken = variants.filter(({ verdict }) => verdict === "Error");
  if (broken.length > 0)
    return {
      status: "Unknown",
      reason: REASONS.VerificationError,
      message: broken
        .map(
          ({ name, message, attempts, retryAt }) =>
            `${name}: ${message} (attempt ${attempts}, next at ${retryAt})`,
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
  const again = variants.filter(({ reverification }) => reverification !== undefined);
  const meanwhile = again.length === 0 ? "" : `; being verified again: ${namesOf(again)}`;
  return {
    status: "True",
    reason: REASONS.VerificationPassed,
    message: `passed: ${namesOf(variants)}${meanwhile}`,
  };
}

/** The verification that is under way while a verdict stands. */
function againOf(
  variants: readonly VariantStatus[],
  scheduleProblem: string | null,
): readonly (Fact & { readonly type: "Reverifying" })[] {
  const words = variants.flatMap(({ name, reverification: again }) => {
    if (again === undefined) return [];
    const retry = again.retryAt === undefined ? "" : ` (attempt ${again.attempts}, next at ${again.retryAt})`;
    return [`${name}, ${WHY[again.cause]}: ${again.message ?? again.verdict}${retry}`];
  });
  const reasons = variants.flatMap(({ reverification }) => reverification?.reason ?? []);
  const worst = reasons.find((reason) => reason !== REASONS.VerificationRunning);
  if (words.length > 0)
    return [
      {
        type: "Reverifying",
        status: worst === undefined ? "True" : "Unknown",
        reason: worst ?? REASONS.VerificationRunning,
        message: words.join("; "),
      },
    ];
  if (scheduleProblem === null) return [];
  return [
    { type: "Reverifying", status: "False", reason: REASONS.ScheduleInvalid, message: scheduleProblem },
  ];
}

const WHY = {
  Requested: "as requested",
  Scheduled: "on schedule",
  VerifierChanged: "because the verifier has changed",
  Confirmation: "to confirm a failure",
} as const;

function storedOf(variants: readonly VariantStatus[]): readonly (Fact & { readonly type: "ReportStored" })[] {
  const notStored = variants.flatMap(({ name, reportError }) =>
    reportError === undefined ? [] : [{ name, ...reportError }],
  );
  const [first] = notStored;
  if (first === undefined) return [];
  const message = notStored.map((one) => `${one.name}: ${one.message}`).join("; ");
  return [{ type: "ReportStored", status: "False", reason: first.reason, message }];
}

/** kstatus: Stalled needs a person, Reconciling continues automatically. */
function progressOf(
  ready: Fact,
  variants: readonly VariantStatus[],
): readonly (Fact & { readonly type: "Reconciling" | "Stalled" })[] {
  if (ready.status === "True") return [];
  const stuck =
    variants.some(
      ({ verdict, attempts }) => verdict === "Failed" || (attempts ?? 0) >= ATTEMPTS_UNTIL_STALLED,
    ) ||
    ready.reason === REASONS.StoreDenied ||
    ready.reason === REASONS.NotPermitted;
  return [{ ...ready, type: stuck ? "Stalled" : "Reconciling", status: "True" }];
}

function said(variants: readonly VariantStatus[]): string {
  return variants.map(({ name, message }) => `${name}: ${message ?? ""}`).join("; ");
}

export function namesOf(variants: readonly VariantStatus[]): string {
  return variants.map(({ name }) => name).join(", ");
}

/** The checks that failed, with what was measured and what it was held against. */
export function failuresOf(variants: readonly VariantStatus[]): string {
  const parts = variants.flatMap(({ name, verdict, checks = [], message }) => {
    if (verdict !== "Failed") return [];
    const check = checks.find(({ outcome }) => outcome === "Failed");
    if (check === undefined) return [`${name}: ${message ?? ""}`];
    const bound = check.bound === undefined ? "" : `, bound ${check.bound}`;
    const figures = check.measured === undefined ? "" : ` measured ${check.measured}${bound}:`;
    return [`${name}: ${check.name}${figures} ${message ?? ""}`];
  });
  return parts.join("; ");
}
