import type { FullReport } from "../../src/api/verification-report.ts";
import { ok } from "../../src/base/result.ts";
import type {
  VerificationKey,
  Verifier,
  VerifyReport,
  VerifyRequest,
} from "../../src/verification/verification.ts";
import { type Calls, createCalls } from "./calls.ts";

export type FakeVerifier = Verifier & {
  /** What becomes of the verification of the model with this digest, from now on. */
  readonly answer: (digest: string, report: VerifyReport) => void;
  readonly setVersion: (version: string) => void;
  /** As after a restart of the sidecar. */
  readonly forget: () => void;
  /** The requests that started (or started anew) a verification. */
  readonly begun: () => readonly VerifyRequest[];
  /** Those that have not ended. */
  readonly running: () => readonly VerifyRequest[];
};

function fullReportOf(verdict: Extract<VerifyReport, { readonly kind: "passed" | "failed" }>): FullReport {
  return {
    format: "edgefleet.dev/verification-report/v1",
    verdict: verdict.kind === "passed" ? "Passed" : "Failed",
    message: verdict.kind === "passed" ? "passed every check" : verdict.message,
    ...(verdict.kind === "failed" ? { reason: verdict.reason } : {}),
    verifierVersion: verdict.verifierVersion,
    startedAt: "2026-01-01T00:00:00.000Z",
    finishedAt: "2026-01-01T00:00:01.000Z",
    model: null,
    golden: null,
    checks: verdict.checks.map((check) => ({ ...check, took: 1 })),
  };
}

/** A sidecar that does what a test says: until it says anything a verification runs. */
export function createFakeVerifier(calls: Calls = createCalls()): FakeVerifier {
  const known = new Map<VerificationKey, { readonly request: VerifyRequest; report: VerifyReport }>();
  const begun: VerifyRequest[] = [];
  let version = "1.0.0";
  const running: VerifyReport = { kind: "running", check: "Load" };
  return {
    look: (key) => calls.run("verifier.look", () => ok(known.get(key)?.report ?? null)),
    start: (key, request) =>
      calls.run("verifier.start", () => {
        const had = known.get(key);
        if (had === undefined || had.report.kind === "error") {
          begun.push(request);
          known.set(key, { request, report: running });
        }
        return ok(undefined);
      }),
    report: (key) =>
      calls.run("verifier.report", () => {
        const report = known.get(key)?.report;
        const verdict = report?.kind === "passed" || report?.kind === "failed" ? report : null;
        return ok(verdict === null ? null : fullReportOf(verdict));
      }),
    cancel: (key) =>
      calls.run("verifier.cancel", () => {
        known.delete(key);
        return ok(undefined);
      }),
    version: () => calls.run("verifier.version", () => ok(version)),
    answer: (digest, report) => {
      for (const job of known.values()) if (job.request.model.digest === digest) job.report = report;
    },
    setVersion: (next) => {
      version = next;
    },
    forget: () => known.clear(),
    begun: () => [...begun],
    running: () =>
      [...known.values()].flatMap(({ request, report }) => (report.kind === "running" ? [request] : [])),
  };
}
