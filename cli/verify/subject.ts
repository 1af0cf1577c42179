import type { ReportSubject } from "../../src/verification/report-page.ts";
import type { Verified } from "../../src/verifier/checks/run.ts";

/** What a report is about. */
export type Subject = {
  readonly verified: Verified;
  /** What was verified, for people. */
  readonly title: string;
  /** The check in which a verification without a verdict has ended; empty where none was begun. */
  readonly check: string;
  readonly about: ReportSubject;
};

/** Of a verification that has not passed. */
export function reasonOf(report: Verified["report"]): { readonly reason: string; readonly message: string } {
  return "reason" in report ? report : { reason: "VerificationError", message: "there is no verdict" };
}
