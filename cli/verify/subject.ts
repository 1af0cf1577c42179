import type { ReportSubject } from "../../src/verification/verification.ts";
import type { Verified } from "../../src/verifier/checks/run.ts";

/** What a report is about. */
export type Subject = {
  readonly verified: Verified;
  /** What was verified, human-readable. */
  readonly title: string;
  /** The check in which a verification without a verdict ended; empty where none had started. */
  readonly check: string;
  readonly about: ReportSubject;
};

/** Why a verification has not passed. */
export function reasonOf(report: Verified["report"]): { readonly reason: string; readonly message: string } {
  return "reason" in report ? report : { reason: "VerificationError", message: "there is no verdict" };
}
