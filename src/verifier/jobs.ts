import { REASONS } from "../api/reasons.ts";
import type { FullReport } from "../api/verification-report.ts";
import { type Clock, elapsed, type Instant } from "../base/time.ts";
import type { Log } from "../telemetry/telemetry.ts";
import type { VerificationKey, VerifyReport, VerifyRequest } from "../verification/verification.ts";
import type { Verified } from "./verify.ts";

/** One verification, from start to verdict; `begin` is told each check. It never rejects for a reason that is not a bug. */
export type Verify = (
  request: VerifyRequest,
  begin: (check: string) => void,
  signal: AbortSignal,
) => Promise<Verified>;

export type Jobs = {
  /** Idempotent: a key that waits, runs or has a verdict is left alone; one that ended in an error starts anew. */
  readonly start: (key: VerificationKey, request: VerifyRequest) => "accepted" | "full" | "draining";
  /** `null`: never asked, cancelled, or forgotten. */
  readonly look: (key: VerificationKey) => VerifyReport | null;
  /** Everything that led to a verdict; `null` where there is none. */
  readonly fullReport: (key: VerificationKey) => FullReport | null;
  /** Resolves once nothing of it is left. */
  readonly cancel: (key: VerificationKey) => Promise<void>;
  readonly counts: () => { readonly waiting: number; readonly running: number; readonly finished: number };
  /**
   * Accepts nothing more and stops what runs. Nothing is waited for: a verdict that nobody can ask for any more is
   * worth nothing.
   */
  readonly drain: () => Promise<void>;
};

export type JobDeps = {
  readonly verify: Verify;
  /** Jobs that may wait; and finished ones that are remembered. */
  readonly waiting: number;
  readonly remembered: number;
  readonly clock: Clock;
  readonly log: Log;
};

type Job = {
  readonly key: VerificationKey;
  readonly request: VerifyRequest;
  readonly abort: AbortController;
  /** Resolves when it has left the machine. */
  readonly over: Promise<void>;
  readonly leave: () => void;
  check: string;
};

/** What a job that has not begun says it is at. */
const WAITING = "Waiting";

/** Runs one job at a time, in the order of their start: a measurement beside another one would mean nothing. */
export function createJobs({ verify, waiting, remembered, clock, log }: JobDeps): Jobs {
  const queue: Job[] = [];
  // The order of a Map is that of insertion: the first is the one that was looked at longest ago.
  const finished = new Map<VerificationKey, Verified>();
  let current: Job | null = null;
  let draining = false;
  let worker: Promise<void> | null = null;

  const find = (key: VerificationKey): Job | undefined =>
    [...(current === null ? [] : [current]), ...queue].find(
      (job) => job.key === key && !job.abort.signal.aborted,
    );

  function remember(key: VerificationKey, verified: Verified): void {
    finished.delete(key);
    finished.set(key, verified);
    for (const oldest of finished.keys()) {
      if (finished.size <= remembered) break;
      finished.delete(oldest);
    }
  }

  async function work(): Promise<void> {
    for (let job = queue.shift(); job !== undefined; job = queue.shift()) {
      current = job;
      const started = clock.now();
      const verified = await run(job);
      current = null;
      if (!job.abort.signal.aborted) {
        remember(job.key, verified);
        logEnd(job.key, verified.report, started);
      }
      job.leave();
    }
    worker = null;
  }

  async function run(job: Job): Promise<Verified> {
    log.info("verification started", { key: job.key, model: job.request.model.digest });
    try {
      return await verify(
        job.request,
        (check) => {
          job.check = check;
        },
        job.abort.signal,
      );
    } catch (thrown) {
      log.error("verification could not be carried out", thrown, { key: job.key });
      const code = thrown instanceof Error && "code" in thrown ? String(thrown.code) : "unexpected";
      const message = `the verifier failed: ${code}`;
      return { report: { kind: "error", reason: REASONS.VerificationError, message }, full: null };
    }
  }

  function logEnd(key: VerificationKey, report: VerifyReport, started: Instant): void {
    log.info("verification finished", {
      key,
      outcome: report.kind,
      milliseconds: elapsed(started, clock.now()),
      ...("reason" in report ? { reason: report.reason, detail: report.message } : {}),
    });
  }

  function start(key: VerificationKey, request: VerifyRequest): "accepted" | "full" | "draining" {
    if (draining) return "draining";
    if (find(key) !== undefined) return "accepted";
    const had = finished.get(key);
    if (had !== undefined && had.report.kind !== "error") return "accepted";
    if (queue.length >= waiting) return "full";
    finished.delete(key);
    const { promise, resolve } = Promise.withResolvers<void>();
    queue.push({ key, request, abort: new AbortController(), over: promise, leave: resolve, check: WAITING });
    worker ??= work();
    return "accepted";
  }

  async function cancel(key: VerificationKey): Promise<void> {
    finished.delete(key);
    const place = queue.findIndex((job) => job.key === key);
    if (place >= 0) queue.splice(place, 1);
    if (current?.key !== key) return;
    current.abort.abort();
    await current.over;
  }

  return {
    start,
    cancel,
    look: (key) => {
      const job = find(key);
      if (job !== undefined) return { kind: "running", check: job.check };
      const verified = finished.get(key);
      if (verified === undefined) return null;
      remember(key, verified);
      return verified.report;
    },
    fullReport: (key) => finished.get(key)?.full ?? null,
    counts: () => ({
      waiting: queue.length,
      running: current === null ? 0 : 1,
      finished: finished.size,
    }),
    drain: async () => {
      draining = true;
      queue.length = 0;
      current?.abort.abort();
      await worker;
    },
  };
}
