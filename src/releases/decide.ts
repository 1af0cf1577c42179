import type { BlobReference, CheckResult, Variant, VariantStatus } from "../api/model-release.ts";
import { passedText } from "../api/passed-text.ts";
import { REASONS, type Reason } from "../api/reasons.ts";
import { redacted } from "../base/redact.ts";
import { type Fault, unreachable } from "../base/result.ts";
import {
  elapsed,
  type Instant,
  instantOf,
  later,
  type Millis,
  millis,
  minutes,
  timestampOf,
} from "../base/time.ts";
import { comparedWithOf, type Reference } from "./references.ts";
import type { BlobSeen, Next, ReferenceSeen, ReleaseSeen, VariantSeen } from "./seen.ts";
import { goldenDigestOf, stands } from "./verdict-match.ts";

/** A verification to start. */
export type Start = {
  readonly variant: Variant;
  readonly key: string;
  /** `again`: a verdict stands, and others may go first. */
  readonly urgency: "new" | "again";
  readonly sizeBytes: number;
  /** State of the model's blob that is verified. */
  readonly etag: string;
  /** `null`: the release has no golden set. */
  readonly goldenSizeBytes: number | null;
  /** `null`: nothing to compare with. */
  readonly parity: SizedReference | null;
  readonly variantParity: SizedReference | null;
};

export type SizedReference = Reference & { readonly sizeBytes: number };

/** What a variant waits for. */
export type Waiting =
  | { readonly kind: "nothing" }
  | { readonly kind: "verifier" }
  /** A person has to upload something. */
  | { readonly kind: "blob" }
  /** Another object has to come. */
  | { readonly kind: "reference" }
  | { readonly kind: "retry"; readonly at: Instant }
  /** It has a verdict; this is about the next one, or about the report of this one. */
  | { readonly kind: "again"; readonly next: Next; readonly reportAt: Instant | null }
  | { readonly kind: "fault"; readonly source: "store" | "verifier"; readonly fault: Fault };

export type VariantPlan = {
  /** As it stands once everything that was planned has been done. */
  readonly next: VariantStatus;
  readonly start: Start | null;
  /** Its verdict's report is to be brought to the store. */
  readonly save: boolean;
  readonly waiting: Waiting;
};

export type ReleasePlan = { readonly variants: readonly VariantPlan[] };

/** How long the verifier may read the blobs; the URLs are made anew for every start and kept nowhere. */
export const URL_LIFETIME = minutes(60);
/** A verification that was begun this long ago may still be downloading: docs/verifier.md. */
const LONGEST_DOWNLOAD = minutes(15);
const FIRST_RETRY = 10_000;
const LAST_RETRY = 600_000;
const LONGEST_MESSAGE = 1024;

/**
 *     unknown  → blobs there? → start → running → passed | failed   (stands)
 *     error    → wait, twice as long each time → start → …
 *
 * What stands and is due goes the same way once more, below it, and is replaced by the verdict that it ends with.
 */
export function decideRelease(seen: ReleaseSeen): ReleasePlan {
  return { variants: seen.variants.map((variant) => planVariant(seen, variant)) };
}

/** How long to wait after so many attempts in a row that broke off: 10 s, 20 s, … 10 min. */
export function retryDelay(attempts: number): Millis {
  return millis(Math.min(LAST_RETRY, FIRST_RETRY * 2 ** Math.min(attempts - 1, 10)));
}

function planVariant(seen: ReleaseSeen, one: VariantSeen): VariantPlan {
  if (one.kind === "settled") {
    const retryAt = one.save ? undefined : one.had.reportTrouble?.retryAt;
    const reportAt = retryAt === undefined ? null : instantOf(retryAt);
    return {
      next: one.had,
      start: null,
      save: one.save,
      waiting: { kind: "again", next: one.next, reportAt },
    };
  }
  const plan = planOpen(seen, one);
  return { ...plan, next: folded(one, plan.next), save: false };
}

type OpenSeen = Exclude<VariantSeen, { readonly kind: "settled" }>;
/** The store was looked at, or was not to be. */
type LookedSeen = Exclude<OpenSeen, { readonly kind: "refused" }>;
type OpenPlan = Omit<VariantPlan, "save">;

function planOpen(seen: ReleaseSeen, one: OpenSeen): OpenPlan {
  switch (one.kind) {
    case "waiting":
      return {
        next: one.had,
        start: null,
        waiting:
          one.retryAt === null
            ? { kind: "again", next: { kind: "turn" }, reportAt: null }
            : { kind: "retry", at: one.retryAt },
      };
    case "unreachable": {
      const blocked = one.blob.kind === "missing" ? missing(seen, one, [one.variant.blob]) : null;
      return blocked ?? faulted(seen, one, "verifier", one.fault);
    }
    case "unresolved": {
      const blocked = one.blob.kind === "missing" ? missing(seen, one, [one.variant.blob]) : null;
      return blocked ?? withoutReference(seen, one, one.message, { kind: "reference" });
    }
    case "refused":
      return refused(seen, one);
    case "asked":
      return planAsked(seen, one);
    default:
      return unreachable(one);
  }
}

/** A verdict stands, and what runs goes on running; nothing is asked, started or told about files that it may not use. */
function refused(seen: ReleaseSeen, one: Extract<OpenSeen, { readonly kind: "refused" }>): OpenPlan {
  const { had, variant, message } = one;
  if (had !== null && one.standing === null && stands(had)) {
    const { reverification: _begun, ...verdict } = had;
    return { next: verdict, start: null, waiting: { kind: "nothing" } };
  }
  const goldenDigest = goldenDigestOf(seen.release);
  return {
    next: {
      name: variant.name,
      digest: variant.digest,
      ...(goldenDigest === null ? {} : { goldenDigest }),
      verdict: "Pending",
      reason: REASONS.NotPermitted,
      message,
    },
    start: null,
    waiting: { kind: "nothing" },
  };
}

/** What is verified again shows below the verdict that stands, until there is another. */
export function folded(one: Pick<VariantSeen, "standing">, next: VariantStatus): VariantStatus {
  if (one.standing === null || next.verdict === "Passed" || next.verdict === "Failed") return next;
  const { verdict: standing, since, cause } = one.standing;
  const { verdict, reason, message, startedAt, comparedWith, attempts, retryAt } = next;
  const progress = { reason, message, startedAt, comparedWith, attempts, retryAt };
  const { reverification: _before, ...rest } = standing;
  return { ...rest, reverification: { since, cause, verdict, ...definedOf(progress) } };
}

/** Without the keys that have no value. */
function definedOf<T extends object>(fields: T): { readonly [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    readonly [K in keyof T]: Exclude<T[K], undefined>;
  };
}

type AskedSeen = Extract<VariantSeen, { readonly kind: "asked" }>;

function planAsked(seen: ReleaseSeen, one: AskedSeen): OpenPlan {
  const { report } = one;
  const base = baseOf(seen, one);
  switch (report.kind) {
    case "running":
      return {
        next: {
          ...base,
          ...attemptsOf(one.had),
          startedAt: one.had?.startedAt ?? timestampOf(seen.now),
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
          message: passedText(report.checks),
          ...evidence(seen, one.key, report),
        },
        start: null,
        waiting: { kind: "nothing" },
      };
    case "failed": {
      const confirmation = confirmed(seen, one, report);
      if (confirmation !== null) return confirmation;
      return {
        next: {
          ...base,
          verdict: "Failed",
          reason: knownReason(report.reason, REASONS.VerificationFailed),
          message: redacted(report.message, LONGEST_MESSAGE),
          ...evidence(seen, one.key, report),
        },
        start: null,
        waiting: { kind: "nothing" },
      };
    }
    case "error":
      // Seen for the first time it is put down; what was put down before, and is due, is tried again.
      return isPutDown(one) || outlivedUrls(seen, one, report)
        ? planStart(seen, one)
        : brokenOff(seen, one, report);
    case "unknown":
      return planStart(seen, one);
    default:
      return unreachable(report);
  }
}

/**
 * What runs on devices is not taken back for one bad run: a failure against a verdict that passed is verified once more,
 * in a round of its own, before the verdict changes. `null`: it is final.
 */
function confirmed(
  seen: ReleaseSeen,
  { standing }: AskedSeen,
  report: { readonly reason: string; readonly message: string },
): OpenPlan | null {
  if (standing === null || standing.verdict.verdict !== "Passed" || standing.cause === "Confirmation")
    return null;
  return {
    next: {
      ...standing.verdict,
      reverification: {
        since: timestampOf(seen.now),
        cause: "Confirmation",
        verdict: "Pending",
        reason: knownReason(report.reason, REASONS.VerificationFailed),
        message: redacted(
          `failed, and is verified once more before the verdict changes: ${report.message}`,
          LONGEST_MESSAGE,
        ),
      },
    },
    start: null,
    waiting: { kind: "again", next: { kind: "turn" }, reportAt: null },
  };
}

/** Another trouble may have come on top of it since. */
function isPutDown({ had }: AskedSeen): boolean {
  return had !== null && had.attempts !== undefined && had.verdict !== "Running";
}

/** It waited in the verifier's queue for longer than its URLs are good for: nothing has failed. */
function outlivedUrls(seen: ReleaseSeen, { had }: AskedSeen, report: { readonly reason: string }): boolean {
  if (report.reason !== REASONS.StoreDenied || had?.startedAt === undefined) return false;
  return elapsed(instantOf(had.startedAt), seen.now) >= URL_LIFETIME - LONGEST_DOWNLOAD;
}

function planStart(seen: ReleaseSeen, one: AskedSeen): OpenPlan {
  const { variant, key, blob, golden, parity, variantParity } = one;
  const goldenBlob = seen.release.spec.verification?.golden?.blob;
  const gone = [
    ...(blob.kind === "missing" ? [variant.blob] : []),
    ...(golden.kind === "missing" && goldenBlob !== undefined ? [goldenBlob] : []),
  ];
  if (gone.length > 0) return missing(seen, one, gone);
  for (const reference of [parity, variantParity]) {
    if (reference?.found.kind !== "missing") continue;
    const what = `the model ${nameOf(reference.blob)} of ${shown(reference)}`;
    return withoutReference(seen, one, `${what} is not in the store: upload it`, { kind: "blob" });
  }
  for (const each of [blob, golden, parity?.found, variantParity?.found])
    if (each?.kind === "unreadable") return faulted(seen, one, "store", each.fault);
  return {
    next: {
      ...baseOf(seen, one),
      ...attemptsOf(one.had),
      startedAt: timestampOf(seen.now),
      verdict: "Running",
      reason: REASONS.VerificationRunning,
      message: "started",
    },
    start: {
      variant,
      key,
      urgency: one.standing === null ? "new" : "again",
      sizeBytes: sizeOf(blob) ?? 0,
      etag: blob.kind === "found" ? blob.etag : "",
      goldenSizeBytes: goldenBlob === undefined ? null : (sizeOf(golden) ?? 0),
      parity: sized(parity),
      variantParity: sized(variantParity),
    },
    waiting: { kind: "verifier" },
  };
}

function sized(reference: ReferenceSeen | null): SizedReference | null {
  if (reference === null) return null;
  const { found, ...rest } = reference;
  return { ...rest, sizeBytes: sizeOf(found) ?? 0 };
}

function withoutReference(seen: ReleaseSeen, one: LookedSeen, why: string, waiting: Waiting): OpenPlan {
  return {
    next: {
      ...baseOf(seen, one),
      ...attemptsOf(one.had),
      verdict: "Pending",
      reason: REASONS.ReferenceMissing,
      message: `it cannot be compared: ${why}`,
    },
    start: null,
    waiting,
  };
}

/** What the verifier's words call it. */
export function shown({ release, variant }: Pick<Reference, "release" | "variant">): string {
  return `${release} (${variant})`;
}

function brokenOff(
  seen: ReleaseSeen,
  one: AskedSeen,
  report: { readonly reason: string; readonly message: string },
): OpenPlan {
  const attempts = (one.had?.attempts ?? 0) + 1;
  const at = later(seen.now, retryDelay(attempts));
  return {
    next: {
      ...baseOf(seen, one),
      verdict: "Error",
      reason: knownReason(report.reason, REASONS.VerificationError),
      message: redacted(report.message, LONGEST_MESSAGE),
      attempts,
      retryAt: timestampOf(at),
    },
    start: null,
    waiting: { kind: "retry", at },
  };
}

function missing(seen: ReleaseSeen, one: LookedSeen, blobs: readonly BlobReference[]): OpenPlan {
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

/** A start that did not happen leaves its variant where it was, with the reason why. */
export function startFailed(
  seen: ReleaseSeen,
  one: VariantSeen,
  source: "store" | "verifier",
  fault: Fault,
): VariantStatus | null {
  return one.kind === "asked" ? folded(one, faultedStatus(baseOf(seen, one), one.had, source, fault)) : null;
}

function faulted(seen: ReleaseSeen, one: LookedSeen, source: "store" | "verifier", fault: Fault): OpenPlan {
  return {
    next: faultedStatus(baseOf(seen, one), one.had, source, fault),
    start: null,
    waiting: { kind: "fault", source, fault },
  };
}

/** A variant that waits for a system that lets us down; the first words of a trouble stay as long as it does. */
function faultedStatus(
  base: Base,
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

type Base = Pick<VariantStatus, "name" | "digest" | "sizeBytes" | "etag" | "goldenDigest" | "comparedWith">;

function baseOf(seen: ReleaseSeen, one: LookedSeen): Base {
  const blob = one.kind === "waiting" ? null : one.blob;
  const sizeBytes =
    blob?.kind === "missing" ? null : ((blob === null ? null : sizeOf(blob)) ?? one.had?.sizeBytes);
  const goldenDigest = goldenDigestOf(seen.release);
  return {
    name: one.variant.name,
    digest: one.variant.digest,
    ...(sizeBytes === null || sizeBytes === undefined ? {} : { sizeBytes }),
    ...(blob?.kind === "found" ? { etag: blob.etag } : {}),
    ...(goldenDigest === null ? {} : { goldenDigest }),
    ...comparisonOf(seen, one),
  };
}

/** Once found it is kept, so that the question stays the same as long as it is asked. */
function comparisonOf(seen: ReleaseSeen, one: LookedSeen): Pick<VariantStatus, "comparedWith"> {
  const comparedWith =
    one.kind === "asked" ? comparedWithOf(seen.release, { ...one, kind: "found" }) : one.had?.comparedWith;
  return comparedWith === undefined ? {} : { comparedWith };
}

function sizeOf(blob: BlobSeen): number | null {
  return blob.kind === "found" ? blob.sizeBytes : null;
}

function attemptsOf(had: VariantStatus | null): Pick<VariantStatus, "attempts"> {
  return had?.attempts === undefined ? {} : { attempts: had.attempts };
}

function evidence(
  seen: ReleaseSeen,
  key: string,
  report: { readonly checks: readonly CheckResult[]; readonly verifierVersion: string },
): Pick<VariantStatus, "checks" | "verifiedAt" | "verifierVersion" | "key"> {
  return {
    checks: report.checks.map((check) =>
      check.message === undefined ? check : { ...check, message: redacted(check.message, LONGEST_MESSAGE) },
    ),
    verifiedAt: timestampOf(seen.now),
    verifierVersion: report.verifierVersion,
    key,
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
