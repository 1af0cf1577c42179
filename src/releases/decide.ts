import type { BlobReference, CheckResult, Variant, VariantStatus } from "../api/model-release.ts";
import { REASONS, type Reason } from "../api/reasons.ts";
import { redacted } from "../base/redact.ts";
import { type Fault, unreachable } from "../base/result.ts";
import { type Instant, later, type Millis, millis, timestampOf } from "../base/time.ts";
import { goldenDigestOf } from "./binding.ts";
import type { BlobSeen, ReleaseSeen, VariantSeen } from "./seen.ts";

/** A verification to start. */
export type Start = {
  readonly variant: Variant;
  readonly key: string;
  readonly sizeBytes: number;
  /** `null`: the release has no golden set. */
  readonly goldenSizeBytes: number | null;
};

/** What a variant waits for. */
export type Waiting =
  | { readonly kind: "nothing" }
  | { readonly kind: "verifier" }
  /** A person has to upload something. */
  | { readonly kind: "blob" }
  | { readonly kind: "retry"; readonly at: Instant }
  | { readonly kind: "fault"; readonly source: "store" | "verifier"; readonly fault: Fault };

export type VariantPlan = {
  /** As it stands once everything that was planned has been done. */
  readonly next: VariantStatus;
  readonly start: Start | null;
  readonly waiting: Waiting;
};

export type ReleasePlan = { readonly variants: readonly VariantPlan[] };

const FIRST_RETRY = 10_000;
const LAST_RETRY = 600_000;

/**
 *     unknown  → blobs there? → start → running → passed | failed   (final)
 *     error    → wait, twice as long each time → start → …
 */
export function decideRelease(seen: ReleaseSeen): ReleasePlan {
  return { variants: seen.variants.map((variant) => planVariant(seen, variant)) };
}

/** How long to wait after so many attempts in a row that broke off: 10 s, 20 s, … 10 min. */
export function retryDelay(attempts: number): Millis {
  return millis(Math.min(LAST_RETRY, FIRST_RETRY * 2 ** Math.min(attempts - 1, 10)));
}

function planVariant(seen: ReleaseSeen, one: VariantSeen): VariantPlan {
  switch (one.kind) {
    case "settled":
      return { next: one.had, start: null, waiting: { kind: "nothing" } };
    case "waiting":
      return { next: one.had, start: null, waiting: { kind: "retry", at: one.retryAt } };
    case "unreachable": {
      const blocked = one.blob.kind === "missing" ? missing(seen, one, [one.variant.blob]) : null;
      return blocked ?? faulted(seen, one, "verifier", one.fault);
    }
    case "asked":
      return planAsked(seen, one);
    default:
      return unreachable(one);
  }
}

function planAsked(seen: ReleaseSeen, one: Extract<VariantSeen, { readonly kind: "asked" }>): VariantPlan {
  const { report } = one;
  const base = baseOf(seen, one);
  switch (report.kind) {
    case "running":
      return {
        next: {
          ...base,
          ...attemptsOf(one.had),
          verdict: "Running",
          reason: REASONS.VerificationRunning,
          message: `checking: ${redacted(report.check, 64)}`,
        },
        start: null,
        waiting: { kind: "verifier" },
      };
    case "passed":
      return {
        next: {
          ...base,
          verdict: "Passed",
          reason: REASONS.VerificationPassed,
          message: "passed every check",
          ...evidence(seen, report),
        },
        start: null,
        waiting: { kind: "nothing" },
      };
    case "failed":
      return {
        next: {
          ...base,
          verdict: "Failed",
          reason: knownReason(report.reason, REASONS.VerificationFailed),
          message: redacted(report.message, 2048),
          ...evidence(seen, report),
        },
        start: null,
        waiting: { kind: "nothing" },
      };
    case "error":
      // Seen for the first time it is put down; what was put down before, and is due, is tried again.
      return one.had?.verdict === "Error" ? planStart(seen, one) : brokenOff(seen, one, report);
    case "unknown":
      return planStart(seen, one);
    default:
      return unreachable(report);
  }
}

function planStart(seen: ReleaseSeen, one: Extract<VariantSeen, { readonly kind: "asked" }>): VariantPlan {
  const { variant, key, blob, golden } = one;
  const goldenBlob = seen.release.spec.verification?.golden?.blob;
  const gone = [
    ...(blob.kind === "missing" ? [variant.blob] : []),
    ...(golden.kind === "missing" && goldenBlob !== undefined ? [goldenBlob] : []),
  ];
  if (gone.length > 0) return missing(seen, one, gone);
  for (const each of [blob, golden])
    if (each.kind === "unreadable") return faulted(seen, one, "store", each.fault);
  return {
    next: {
      ...baseOf(seen, one),
      ...attemptsOf(one.had),
      verdict: "Running",
      reason: REASONS.VerificationRunning,
      message: "started",
    },
    start: {
      variant,
      key,
      sizeBytes: sizeOf(blob) ?? one.had?.sizeBytes ?? 0,
      goldenSizeBytes: goldenBlob === undefined ? null : (sizeOf(golden) ?? 0),
    },
    waiting: { kind: "verifier" },
  };
}

function brokenOff(
  seen: ReleaseSeen,
  one: Extract<VariantSeen, { readonly kind: "asked" }>,
  report: { readonly reason: string; readonly message: string },
): VariantPlan {
  const attempts = (one.had?.attempts ?? 0) + 1;
  const at = later(seen.now, retryDelay(attempts));
  return {
    next: {
      ...baseOf(seen, one),
      verdict: "Error",
      reason: knownReason(report.reason, REASONS.VerificationError),
      message: redacted(report.message, 2048),
      attempts,
      retryAt: timestampOf(at),
    },
    start: null,
    waiting: { kind: "retry", at },
  };
}

function missing(seen: ReleaseSeen, one: VariantSeen, blobs: readonly BlobReference[]): VariantPlan {
  const what = blobs.map((blob) =>
    blob === one.variant.blob ? `the model ${nameOf(blob)}` : `the golden set ${nameOf(blob)}`,
  );
  return {
    next: {
      ...baseOf(seen, one),
      ...attemptsOf(one.had),
      verdict: "Pending",
      reason: REASONS.BlobMissing,
      message: `${what.join(" and ")} ${blobs.length === 1 ? "is" : "are"} not in the store: upload ${blobs.length === 1 ? "it" : "them"}, or create another release with the right path`,
    },
    start: null,
    waiting: { kind: "blob" },
  };
}

function faulted(
  seen: ReleaseSeen,
  one: VariantSeen,
  source: "store" | "verifier",
  fault: Fault,
): VariantPlan {
  return {
    next: faultedStatus(baseOf(seen, one), one.had, source, fault),
    start: null,
    waiting: { kind: "fault", source, fault },
  };
}

/** A variant that waits for a system that lets us down; the first words of a trouble stay as long as it does. */
export function faultedStatus(
  base: Pick<VariantStatus, "name" | "digest" | "sizeBytes" | "goldenDigest">,
  had: VariantStatus | null,
  source: "store" | "verifier",
  fault: Fault,
): VariantStatus {
  const reason = reasonOf(source, fault);
  return {
    ...base,
    ...attemptsOf(had),
    verdict: "Pending",
    reason,
    message: had?.reason === reason && had.message !== undefined ? had.message : wordsOf(source, fault),
  };
}

function reasonOf(source: "store" | "verifier", fault: Fault): Reason {
  if (source === "store") return fault.kind === "denied" ? REASONS.StoreDenied : REASONS.StoreUnavailable;
  return fault.kind === "rejected" ? REASONS.VerificationError : REASONS.VerifierUnavailable;
}

function wordsOf(source: "store" | "verifier", fault: Fault): string {
  const words = redacted(fault.message);
  if (source === "store")
    return fault.kind === "denied"
      ? `the store refuses the operator (${words}); give its credential the right to read blobs and to sign URLs`
      : `the store cannot be read (${words}); tried again by itself`;
  return fault.kind === "rejected"
    ? `the verifier refuses the request: ${words}`
    : `the verifier does not answer (${words}); tried again by itself`;
}

function baseOf(
  seen: ReleaseSeen,
  one: VariantSeen,
): Pick<VariantStatus, "name" | "digest" | "sizeBytes" | "goldenDigest"> {
  const blob = one.kind === "asked" || one.kind === "unreachable" ? one.blob : null;
  const sizeBytes =
    blob?.kind === "missing" ? null : ((blob === null ? null : sizeOf(blob)) ?? one.had?.sizeBytes);
  const goldenDigest = goldenDigestOf(seen.release);
  return {
    name: one.variant.name,
    digest: one.variant.digest,
    ...(sizeBytes === null || sizeBytes === undefined ? {} : { sizeBytes }),
    ...(goldenDigest === null ? {} : { goldenDigest }),
  };
}

function sizeOf(blob: BlobSeen): number | null {
  return blob.kind === "found" ? blob.sizeBytes : null;
}

function attemptsOf(had: VariantStatus | null): Pick<VariantStatus, "attempts"> {
  return had?.attempts === undefined ? {} : { attempts: had.attempts };
}

function evidence(
  seen: ReleaseSeen,
  report: { readonly checks: readonly CheckResult[]; readonly verifierVersion: string },
): Pick<VariantStatus, "checks" | "verifiedAt" | "verifierVersion"> {
  return {
    checks: report.checks.map((check) =>
      check.message === undefined ? check : { ...check, message: redacted(check.message, 2048) },
    ),
    verifiedAt: timestampOf(seen.now),
    verifierVersion: report.verifierVersion,
  };
}

const KNOWN: ReadonlySet<string> = new Set(Object.values(REASONS));

/** Reasons are ours: one that we do not know is said in general. */
function knownReason(said: string, otherwise: Reason): string {
  return KNOWN.has(said) ? said : otherwise;
}

function nameOf({ container, path }: BlobReference): string {
  return `${container}/${path}`;
}
