import { REASONS } from "../../api/reasons.ts";
import { errorCodeOf } from "../../base/guards.ts";
import { type Clock, elapsed, type Instant } from "../../base/time.ts";
import type { Log, Meter } from "../../telemetry/telemetry.ts";
import type { VerificationKey, VerifyRequest } from "../../verification/verification.ts";
import type { Verified } from "../checks/run.ts";
import type { Results } from "./results.ts";
import type { TenantQueue } from "./tenant-queue.ts";

// Runs what waits, one job at a time, and fetches the files of the next one meanwhile.

/** One verification, from start to verdict; `begin` is called with each check. It rejects only because of a bug. */
export type Verify = (
  request: VerifyRequest,
  begin: (check: string) => void,
  signal: AbortSignal,
) => Promise<Verified>;

/**
 * Fetches what a verification will need while another one runs. It never rejects; what it fails to get is fetched by the
 * verification itself.
 * @returns releases the files, to be called once the verification is over.
 */
export type Prefetch = (request: VerifyRequest, signal: AbortSignal) => Promise<() => void>;

export type Job = {
  readonly key: VerificationKey;
  /** In whose row it waits. */
  tenant: string;
  /** Replaced by a newer one while it waits. */
  request: VerifyRequest;
  readonly abort: AbortController;
  /** Resolves when nothing of it is left on this machine. */
  readonly over: Promise<void>;
  readonly leave: () => void;
  readonly asked: Instant;
  check: string;
  /** What is being fetched for it before its turn. */
  prefetch: { readonly abort: AbortController; readonly files: Promise<() => void> } | null;
};

export type Worker = {
  readonly verify: Verify;
  readonly prefetch: Prefetch;
  readonly results: Results;
  readonly queue: TenantQueue<Job>;
  /** What waits, by key: the same jobs as in `queue`. */
  readonly queued: Map<VerificationKey, Job>;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
  current: Job | null;
  /** The one whose files are fetched ahead of its turn. */
  prefetched: Job | null;
  /** `null`: nothing runs. */
  working: Promise<void> | null;
};

/** What a job that has not begun reports as its check. */
const WAITING = "Waiting";
/** A download that begins in the middle of these would be measured too. */
const MEASURED: ReadonlySet<string> = new Set(["Latency", "Throughput", "Memory"]);

export function newJob(key: VerificationKey, request: VerifyRequest, asked: Instant): Job {
  const { promise, resolve } = Promise.withResolvers<void>();
  return {
    key,
    tenant: request.tenant,
    request,
    abort: new AbortController(),
    over: promise,
    leave: resolve,
    asked,
    check: WAITING,
    prefetch: null,
  };
}

/** Begins to work, unless it works already. */
export function startWorking(worker: Worker): void {
  worker.working ??= work(worker);
  prefetchNext(worker);
}

/** Its prefetch ends before it has left. */
export function dequeue(worker: Worker, job: Job): void {
  worker.queue.remove(job);
  worker.queued.delete(job.key);
  job.abort.abort();
  void releasePrefetch(job).then(() => {
    if (worker.prefetched === job) worker.prefetched = null;
    job.leave();
    prefetchNext(worker);
  });
}

async function work(worker: Worker): Promise<void> {
  const { queue, queued, results, clock, meter } = worker;
  for (let job = queue.take(); job !== null; job = queue.take()) {
    queued.delete(job.key);
    if (worker.prefetched === job) worker.prefetched = null;
    worker.current = job;
    const started = clock.now();
    meter.observe("edgefleet_verifier_wait_seconds", elapsed(job.asked, started) / 1000);
    const verified = await run(worker, job);
    await releasePrefetch(job);
    worker.current = null;
    if (!job.abort.signal.aborted) {
      results.put(job.key, verified);
      recordEnd(worker, job.key, verified, started);
    }
    job.leave();
  }
  worker.working = null;
}

async function run(worker: Worker, job: Job): Promise<Verified> {
  const { verify, log } = worker;
  log.info("verification started", { key: job.key, model: job.request.model.digest });
  prefetchNext(worker);
  const begin = (check: string) => {
    job.check = check;
    prefetchNext(worker);
  };
  try {
    return await verify(job.request, begin, job.abort.signal);
  } catch (thrown) {
    log.error("verification could not be carried out", thrown, { key: job.key });
    const message = `the verifier failed: ${errorCodeOf(thrown) ?? "unexpected"}`;
    return { report: { kind: "error", reason: REASONS.VerificationError, message }, full: null };
  }
}

/** For one job at a time: the one that is next when no files are being fetched or held ready. */
function prefetchNext(worker: Worker): void {
  const { queue, prefetched, current, prefetch } = worker;
  const next = queue.next();
  if (prefetched !== null || next === null || current === null || MEASURED.has(current.check)) return;
  worker.prefetched = next;
  const abort = new AbortController();
  next.prefetch = { abort, files: prefetch(next.request, abort.signal) };
}

async function releasePrefetch(job: Job): Promise<void> {
  const { prefetch } = job;
  job.prefetch = null;
  prefetch?.abort.abort();
  (await prefetch?.files)?.();
}

function recordEnd(
  { clock, log, meter }: Worker,
  key: VerificationKey,
  { report, full }: Verified,
  started: Instant,
): void {
  const took = elapsed(started, clock.now());
  const reason = "reason" in report ? report.reason : "";
  log.info("verification finished", {
    key,
    outcome: report.kind,
    milliseconds: took,
    ...("reason" in report ? { reason, detail: report.message } : {}),
  });
  meter.count("edgefleet_verifier_verifications_total", { outcome: report.kind, reason });
  meter.observe("edgefleet_verifier_verification_duration_seconds", took / 1000, { outcome: report.kind });
  for (const check of full?.checks ?? [])
    if (check.outcome !== "Skipped")
      meter.observe("edgefleet_verifier_check_duration_seconds", check.took / 1000, { check: check.name });
}
