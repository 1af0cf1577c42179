import type { FullReport } from "../../api/verification-report.ts";
import type { Clock } from "../../base/time.ts";
import type { Log, Meter } from "../../telemetry/telemetry.ts";
import type { VerificationKey, VerifyReport, VerifyRequest } from "../../verification/verification.ts";
import {
  dequeue,
  type Job,
  newJob,
  type Prefetch,
  startWorking,
  type Verify,
  type Worker,
} from "./job-worker.ts";
import type { Results } from "./results.ts";
import { createTenantQueue, type QueueBounds } from "./tenant-queue.ts";

export type Started = "accepted" | "full" | "tenantFull" | "draining";

export type Jobs = {
  /**
   * Idempotent: a key that runs or has a verdict is left alone; one that waits keeps its place and takes the newer URLs;
   * one that ended in an error starts again.
   */
  readonly start: (key: VerificationKey, request: VerifyRequest) => Started;
  /** `null`: never asked, cancelled, or forgotten. */
  readonly look: (key: VerificationKey) => VerifyReport | null;
  /** Everything that led to a verdict; `null` where there is none. */
  readonly fullReport: (key: VerificationKey) => FullReport | null;
  /** Resolves once nothing of it is left. */
  readonly cancel: (key: VerificationKey) => Promise<void>;
  readonly counts: () => Counts;
  /** Accepts nothing more and stops what runs: the operator asks again for what is not done, after the restart. */
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
  readonly prefetch: Prefetch;
  readonly results: Results;
  readonly waiting: QueueBounds;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
};

/**
 * Runs one job at a time, tenants in turn: a measurement beside another one would mean nothing. While it runs, the
 * files of the next one are fetched.
 */
export function createJobs({ waiting, ...deps }: JobDeps): Jobs {
  const worker: Worker = {
    ...deps,
    queue: createTenantQueue<Job>(waiting),
    queued: new Map(),
    current: null,
    prefetched: null,
    working: null,
  };
  const { results, queue } = worker;
  let draining = false;
  return {
    start: (key, request) => (draining ? "draining" : start(worker, waiting, key, request)),
    cancel: (key) => cancel(worker, key),
    look: (key) => {
      const job = runningJob(worker, key) ?? worker.queued.get(key);
      if (job !== undefined) return { kind: "running", check: job.check };
      return results.look(key)?.report ?? null;
    },
    fullReport: (key) => results.look(key)?.full ?? null,
    counts: () => ({
      waiting: queue.size(),
      waitingAgain: queue.size("again"),
      tenants: queue.tenants(),
      running: worker.current === null ? 0 : 1,
      finished: results.count(),
    }),
    draining: () => draining,
    drain: async () => {
      draining = true;
      await stopAll(worker);
    },
  };
}

function runningJob({ current }: Worker, key: VerificationKey): Job | null {
  return current?.key === key && !current.abort.signal.aborted ? current : null;
}

function start(worker: Worker, waiting: QueueBounds, key: VerificationKey, request: VerifyRequest): Started {
  const { queue, queued, results, clock, meter } = worker;
  if (runningJob(worker, key) !== null) return "accepted";
  const before = queued.get(key);
  if (before !== undefined) {
    renew(worker, waiting, before, request);
    return "accepted";
  }
  const had = results.look(key);
  if (had !== null && had.report.kind !== "error") return "accepted";
  const job = newJob(key, request, clock.now());
  const added = queue.add(job.tenant, request.urgency ?? "new", job);
  if (added !== "added") {
    meter.count("edgefleet_verifier_refused_total", { why: added });
    return added;
  }
  queued.set(key, job);
  startWorking(worker);
  return "accepted";
}

/** The newer URLs live longer. A second tenant that asks gets the verdict no later than the first one would have. */
function renew({ queue }: Worker, { perTenant }: QueueBounds, job: Job, request: VerifyRequest): void {
  const { tenant, urgency = "new" } = request;
  const place = queue.place(job);
  const urgent = place?.urgency === "again" && urgency === "new";
  const sooner = place?.urgency === urgency && queue.waiting(tenant) < place.before;
  const moves = tenant === job.tenant ? urgent : (urgent || sooner) && queue.waiting(tenant) < perTenant;
  if (moves) {
    queue.remove(job);
    queue.add(tenant, urgency, job);
    job.tenant = tenant;
  }
  job.request = request;
}

async function cancel(worker: Worker, key: VerificationKey): Promise<void> {
  const { current, results } = worker;
  const waiting = worker.queued.get(key);
  const running = current?.key === key ? current : null;
  if (waiting !== undefined) dequeue(worker, waiting);
  running?.abort.abort();
  await Promise.all([results.forget(key), running?.over, waiting?.over]);
}

async function stopAll(worker: Worker): Promise<void> {
  const left = [...worker.queued.values()];
  worker.queue.clear(); // first, so that nothing more is fetched ahead
  for (const job of left) dequeue(worker, job);
  worker.current?.abort.abort();
  await Promise.all([worker.working, ...left.map((job) => job.over)]);
  await worker.results.written();
}
