import type { CheckResult, VariantStatus } from "../api/model-release.ts";
import { passedText } from "../api/passed-text.ts";
import { REASONS, type Reason } from "../api/reasons.ts";
import { redacted } from "../base/redact.ts";
import { unreachable } from "../base/result.ts";
import { elapsed, instantOf, later, minutes, timestampOf } from "../base/time.ts";
import type { AskedSeen, OpenPlan } from "./plan.ts";
import { retryDelay } from "./retry-delay.ts";
import type { ReleaseSeen } from "./seen.ts";
import { planStart, URL_LIFETIME } from "./start.ts";
import { attemptsOf, baseOf } from "./variant-status.ts";

// What follows from the verifier's answer about one variant.

/** A verification that was begun this long ago may still be downloading: docs/verifier.md. */
const LONGEST_DOWNLOAD = minutes(15);

const LONGEST_MESSAGE = 1024;

export function planAsked(seen: ReleaseSeen, one: AskedSeen): OpenPlan {
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
      // Seen for the first time it is remembered; what was remembered before, and is due, is retried.
      return isRemembered(one) || outlivedUrls(seen, one, report)
        ? planStart(seen, one)
        : verificationErrored(seen, one, report);
    case "unknown":
      return planStart(seen, one);
    default:
      return unreachable(report);
  }
}

/**
 * What runs on devices is not rolled back for one bad run: a failure against a verdict that passed is verified once more,
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
          `verification failed and will be repeated once before the verdict changes: ${report.message}`,
          LONGEST_MESSAGE,
        ),
      },
    },
    start: null,
    waiting: { kind: "again", next: { kind: "slot" }, reportAt: null },
  };
}

/** Another problem may have replaced it since. */
function isRemembered({ had }: AskedSeen): boolean {
  return had !== null && had.attempts !== undefined && had.verdict !== "Running";
}

/** It waited in the verifier's queue for longer than its URLs are good for: nothing has failed. */
function outlivedUrls(seen: ReleaseSeen, { had }: AskedSeen, report: { readonly reason: string }): boolean {
  if (report.reason !== REASONS.StoreDenied || had?.startedAt === undefined) return false;
  return elapsed(instantOf(had.startedAt), seen.now) >= URL_LIFETIME - LONGEST_DOWNLOAD;
}

function verificationErrored(
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
