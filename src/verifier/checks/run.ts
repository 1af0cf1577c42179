import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import type { CheckResult } from "../../api/model-release.ts";
import { passedText } from "../../api/passed-text.ts";
import type { Reason } from "../../api/reasons.ts";
import type { CheckReport, FullReport } from "../../api/verification-report.ts";
import { type Instant, timestampOf } from "../../base/time.ts";
import type { VerifyReport, VerifyRequest } from "../../verification/verification.ts";
import type { Check, Run, Step, VerifyDeps } from "./check.ts";
import { checkDeterminism } from "./determinism.ts";
import { checkDigest } from "./digest.ts";
import { checkGolden } from "./golden.ts";
import { type CheckName, printable, skipped } from "./judgement.ts";
import { checkLatency } from "./latency.ts";
import { checkLoad } from "./load.ts";
import { checkMemory } from "./memory.ts";
import { checkParity } from "./parity.ts";
import { checkSignature } from "./signature.ts";
import { checkThroughput } from "./throughput.ts";

/** The verdict, and everything that led to it: `null` where there is no verdict. */
export type Verified = { readonly report: VerifyReport; readonly full: FullReport | null };

/** Prefix of the directories of verifications, by which those of a previous run are recognized. */
export const WORK_PREFIX = "verification-";

/**
 * Runs all checks of one request, in order, and stops at the first that fails. It keeps its files in a directory of its
 * own and leaves neither file nor process behind.
 * @param begin is called with the name of each check when it starts.
 */
export async function verify(
  request: VerifyRequest,
  begin: (check: string) => void,
  deps: VerifyDeps,
  signal: AbortSignal,
): Promise<Verified> {
  const startedAt = deps.clock.now();
  const directory = await mkdtemp(join(deps.workdir, WORK_PREFIX));
  let run: Run | null = null;
  const done: CheckReport[] = [];
  try {
    const session = await deps.sandbox.prepare(directory);
    run = { request, deps, directory, session, signal, files: new Map(), child: null, model: null };
    for (const { name, run: check } of checksOf(run)) {
      begin(name);
      const before = deps.clock.now();
      const step = await check();
      const took = deps.clock.now() - before;
      if (step.kind === "error") return broken(step.reason, step.message);
      if (step.kind === "skipped") {
        done.push({ ...skipped(name, step.because), took });
        continue;
      }
      const { result, reason, details } = step.judgement;
      done.push({ ...result, took, ...(details === undefined ? {} : { details }) });
      if (reason !== null) return verdict(run, startedAt, done, { reason, result });
    }
    return verdict(run, startedAt, done, null);
  } finally {
    await run?.child?.end();
    await run?.session.sweep();
    await rm(directory, { recursive: true, force: true });
  }
}

/** What the release asks for, in order. */
function checksOf(run: Run): readonly Check[] {
  const { checks, parity, variantParity } = run.request;
  const whenAsked = <T>(wanted: T | undefined, name: CheckName, check: (asked: T) => Promise<Step>) =>
    wanted === undefined ? [] : [{ name, run: () => check(wanted) }];
  return [
    { name: "Digest", run: () => checkDigest(run) },
    { name: "Load", run: () => checkLoad(run) },
    ...whenAsked(checks.signature, "Signature", (wanted) => checkSignature(run, wanted)),
    ...whenAsked(checks.golden, "Golden", (wanted) => checkGolden(run, wanted)),
    ...whenAsked(checks.determinism, "Determinism", (wanted) => checkDeterminism(run, wanted)),
    ...whenAsked(checks.parity, "Parity", (wanted) => checkParity(run, "Parity", wanted, parity)),
    ...whenAsked(checks.variantParity, "VariantParity", (wanted) =>
      checkParity(run, "VariantParity", wanted, variantParity),
    ),
    ...whenAsked(checks.latency, "Latency", (wanted) => checkLatency(run, wanted)),
    ...whenAsked(checks.throughput, "Throughput", (wanted) => checkThroughput(run, wanted)),
    ...whenAsked(checks.memory, "Memory", (wanted) => checkMemory(run, wanted)),
  ];
}

function broken(reason: Reason, message: string): Verified {
  return { report: { kind: "error", reason, message: printable(message) }, full: null };
}

/** The verdict once the checks are over. After one that failed the rest is skipped, and says after what. */
function verdict(
  run: Run,
  startedAt: Instant,
  done: readonly CheckReport[],
  refusal: { readonly reason: Reason; readonly result: CheckResult } | null,
): Verified {
  const rest = checksOf(run)
    .slice(done.length)
    .map(
      ({ name }): CheckReport => ({
        ...skipped(name, `not run, because ${refusal?.result.name} failed`),
        took: 0,
      }),
    );
  const all: readonly CheckReport[] = [...done, ...rest];
  const checks = all.map(({ took: _took, details: _details, ...result }) => result);
  const message =
    refusal === null ? passedText(checks) : (refusal.result.message ?? `${refusal.result.name} failed`);
  const { model } = run;
  const { version: verifierVersion, clock } = run.deps;
  const { golden } = run.request;
  return {
    report:
      refusal === null
        ? { kind: "passed", checks, verifierVersion }
        : { kind: "failed", reason: refusal.reason, message, checks, verifierVersion },
    full: {
      format: "edgefleet.dev/verification-report/v1",
      verdict: refusal === null ? "Passed" : "Failed",
      ...(refusal === null ? {} : { reason: refusal.reason }),
      message,
      verifierVersion,
      startedAt: timestampOf(startedAt),
      finishedAt: timestampOf(clock.now()),
      model,
      golden: golden === null ? null : { digest: golden.digest, sizeBytes: golden.sizeBytes },
      checks: all,
    },
  };
}
