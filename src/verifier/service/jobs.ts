import { REASONS } from "../../api/reasons.ts";
import type { FullReport } from "../../api/verification-report.ts";
import { errorCodeOf } from "../../base/guards.ts";
import { type Clock, elapsed, type Instant } from "../../base/time.ts";
import type { Log, Meter } from "../../telemetry/telemetry.ts";
import type { VerificationKey, VerifyReport, VerifyRequest } from "../../verification/verification.ts";
import type { Verified } from "../checks/run.ts";
import type { Results } from "./results.ts";
import { createTenantQueue, type QueueBounds } from "./tenant-queue.ts";

/** One verification, from start to verdict; `begin` is told each check. It never rejects for a reason that is not a bug. */
export type Verify = (
  request: VerifyRequest,
  begin: (check: string) => void,
  signal: AbortSignal,
) => Promise<Verified>;

/**
 * Fetches what a verification will need while another one runs. It never rejects, and what it fails to get is fetched
 * by the verification itself.
 * @returns what gives up the files, to be called once the verification is over.
 */
export type Prepare = (request: VerifyRequest, signal: AbortSignal) => Promise<() => void>;

export type Started = "accepted" | "full" | "tenantFull" | "draining";

export type Jobs = {
  /**
   * Idempotent: a key that runs or has a verdict is left alone; one that waits keeps its place and takes the newer urls;
   * one that ended in an error starts anew.
   */
  readonly start: (key: VerificationKey, request: VerifyRequest) => Started;
  /** `null`: never asked, cancelled, or forgotten. */
  readonly look: (key: VerificationKey) => VerifyReport | null;
  /** Everything that led to a verdict; `null` where there is none. */
  readonly fullReport: (key: VerificationKey) => FullReport | null;
  /** Resolves once nothing of it is left. */
  readonly cancel: (key: VerificationKey) => Promise<void>;
  readonly counts: () => Counts;
  /** Accepts nothing more and stops what runs: what is not done is asked for again, in the next life. */
  readonly drain: () => Promise<void>;
  readonly draining: () => boolean;
};

export type Counts = {
  readonly waiting: number;
  /** Of those that wait: what was verified before. */
  readonly waitingAgain: number;
  readonly tenants: number;
  readonly running: number;
  readonly finished: number;
};

export type JobDeps = {
  readonly verify: Verify;
  readonly prepare: Prepare;
  readonly results: Results;
  readonly waiting: QueueBounds;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
};

type Job = {
  readonly key: VerificationKey;
  /** In whose row it waits. */
  tenant: string;
  /** Replaced by a newer one while it waits. */
  request: VerifyRequest;
  readonly abort: AbortController;
  /** Resolves when it has left the machine. */
  readonly over: Promise<void>;
  readonly leave: () => void;
  readonly asked: Instant;
  check: string;
  /** What is being fetched for it ahead of its turn. */
  ahead: { readonly stop: AbortController; readonly files: Promise<() => void> } | null;
};

/** What a job that has not begun says it is at. */
const WAITING = "Waiting";
/** A download that begins in the middle of these would be measured too. */
const MEASURED: ReadonlySet<string> = new Set(["Latency", "Throughput", "Memory"]);

/**
 * Runs one job at a time, tenants in turn: a measurement beside another one would mean nothing. While it runs, the
 * files of the next one are fetched.
 */
export function createJobs({ verify, prepare, results, waiting, clock, log, meter }: JobDeps): Jobs {
  const queue = createTenantQueue<Job>(waiting);
  const queued = new Map<VerificationKey, Job>();
  let current: Job | null = null;
  let readied: Job | null = null;
  let draining = false;
  let worker: Promise<void> | null = null;

  const running = (key: VerificationKey): Job | null =>
    current?.key === key && !current.abort.signal.aborted ? current : null;

  async function work(): Promise<void> {
    for (let job = queue.take(); job !== null; job = queue.take()) {
      queued.delete(job.key);
      if (readied === job) readied = null;
      current = job;
      const started = clock.now();
      meter.observe("edgefleet_verifier_wait_seconds", elapsed(job.asked, started) / 1000);
      const verified = await run(job);
      await giveUp(job);
      current = null;
      if (!job.abort.signal.aborted) {
        results.put(job.key, verified);
        tellEnd(job.key, verified, started);
      }
      job.leave();
    }
    worker = null;
  }

  async function run(job: Job): Promise<Verified> {
    log.info("verification started", { key: job.key, model: job.request.model.digest });
    lookAhead();
    try {
      return await verify(
        job.request,
        (check) => {
          job.check = check;
          lookAhead();
        },
        job.abort.signal,
      );
    } catch (thrown) {
      log.error("verification could not be carried out", thrown, { key: job.key });
      const code = errorCodeOf(thrown) ?? "unexpected";
      const message = `the verifier failed: ${code}`;
      return { report: { kind: "error", reason: REASONS.VerificationError, message }, full: null };
    }
  }

  /** One at a time: whoever is next when nothing is being fetched or held ready. */
  function lookAhead(): void {
    const next = queue.next();
    if (readied !== null || next === null || current === null || MEASURED.has(current.check)) return;
    readied = next;
    const stop = new AbortController();
    next.ahead = { stop, files: prepare(next.request, stop.signal) };
  }

  async function giveUp(job: Job): Promise<void> {
    const { ahead: had } = job;
    job.ahead = null;
    had?.stop.abort();
    (await had?.files)?.();
  }

  function tellEnd(key: VerificationKey, { report, full }: Verified, started: Instant): void {
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

  function start(key: VerificationKey, request: VerifyRequest): Started {
    if (draining) return "draining";
    if (running(key) !== null) return "accepted";
    const before = queued.get(key);
    if (before !== undefined) return renew(before, request);
    const had = results.look(key);
    if (had !== null && had.report.kind !== "error") return "accepted";
    const { promise, resolve } = Promise.withResolvers<void>();
    const job: Job = {
      key,
      tenant: request.tenant,
      request,
      abort: new AbortController(),
      over: promise,
      leave: resolve,
      asked: clock.now(),
      check: WAITING,
      ahead: null,
    };
    const added = queue.add(job.tenant, request.urgency ?? "new", job);
    if (added !== "added") {
      meter.count("edgefleet_verifier_refused_total", { why: added });
      return added;
    }
    queued.set(key, job);
    worker ??= work();
    lookAhead();
    return "accepted";
  }

  /** The newer urls live longer. Whoever asks too gets it no later than the one who asked before. */
  function renew(job: Job, request: VerifyRequest): Started {
    const { tenant, urgency = "new" } = request;
    const place = queue.place(job);
    const urgent = place?.urgency === "again" && urgency === "new";
    const sooner = place?.urgency === urgency && queue.waiting(tenant) < place.before;
    const moves =
      tenant === job.tenant ? urgent : (urgent || sooner) && queue.waiting(tenant) < waiting.perTenant;
    if (moves) {
      queue.remove(job);
      queue.add(tenant, urgency, job);
      job.tenant = tenant;
    }
    job.request = request;
    return "accepted";
  }

  async function cancel(key: VerificationKey): Promise<void> {
    const waitingJob = queued.get(key);
    const leaving = current?.key === key ? current : null;
    if (waitingJob !== undefined) dequeue(waitingJob);
    leaving?.abort.abort();
    await Promise.all([results.forget(key), leaving?.over, waitingJob?.over]);
  }

  /** Its prefetch ends before it has left. */
  function dequeue(job: Job): void {
    queue.remove(job);
    queued.delete(job.key);
    job.abort.abort();
    void giveUp(job).then(() => {
      if (readied === job) readied = null;
      job.leave();
      lookAhead();
    });
  }

  return {
    start,
    cancel,
    look: (key) => {
      const job = running(key) ?? queued.get(key);
      if (job !== undefined) return { kind: "running", check: job.check };
      return results.look(key)?.report ?? null;
    },
    fullReport: (key) => results.look(key)?.full ?? null,
    counts: () => ({
      waiting: queue.size(),
      waitingAgain: queue.size("again"),
      tenants: queue.tenants(),
      running: current === null ? 0 : 1,
      finished: results.count(),
    }),
    draining: () => draining,
    drain: async () => {
      draining = true;
      const left = [...queued.values()];
      queue.clear();
      for (const job of left) dequeue(job);
      current?.abort.abort();
      await Promise.all([worker, ...left.map((job) => job.over)]);
      await results.written();
    },
  };
}
