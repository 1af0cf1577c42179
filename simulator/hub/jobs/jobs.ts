import type { JsonObject } from "../../base/json.ts";
import { type Answer, ok, refuse } from "../errors.ts";
import { sizeOf, type Tier } from "../limits/tier.ts";
import type { PersistedRecords } from "../persistence.ts";
import type { DeviceJob, JobType } from "../query/device-job.ts";
import type { Undocumented } from "../undocumented.ts";
import { type Job, type JobStatistics, type JobStatus, parseJob } from "./job.ts";
import { createJobRunner, type JobRunnerOptions, type JobsHub } from "./job-runner.ts";
import { createJobRuns, hasEnded } from "./job-runs.ts";

/** Jobs that update twins or call methods of many devices, one after the other at the pace of the tier. */
export type Jobs = {
  readonly create: (jobId: string, body: JsonObject) => Answer<Job>;
  readonly get: (jobId: string) => Job | undefined;
  readonly cancel: (jobId: string) => Answer<Job>;
  /** In the order in which they were made; `null` is any. */
  readonly list: (filter: {
    readonly type: JobType | null;
    readonly status: JobStatus | null;
  }) => readonly Job[];
  readonly statisticsOf: (jobId: string) => JobStatistics;
  readonly deviceJobs: () => Iterable<DeviceJob>;
  /** Jobs, and what they did to each device. */
  readonly persisted: readonly PersistedRecords[];
  /** Continues what had not ended; a method that was under way is called again. */
  readonly resume: () => void;
};

export type JobsOptions = JobRunnerOptions & { readonly undocumented: Undocumented };

/** Jobs that run at one time. Source: Microsoft's table of quotas and throttling. */
export function concurrentJobsOf(tier: Tier): number {
  return { 1: 1, 2: 5, 3: 10 }[sizeOf(tier)];
}

export function createJobs(hub: JobsHub, options: JobsOptions): Jobs {
  const { clock } = hub;
  const runs = createJobRuns(clock);
  const runner = createJobRunner(hub, runs, options);

  function create(jobId: string, body: JsonObject): Answer<Job> {
    runs.forgetOld();
    const now = clock.now();
    const draft = parseJob(jobId, body, now, options.undocumented);
    if (!draft.ok) return draft;
    if (runs.get(jobId) !== undefined) return refuse("JobAlreadyExists", `Job ${jobId} already exists`);
    const later = draft.value.startAt > now;
    const queued = runs.waiting().filter((run) => run.job.status === "queued").length;
    if (!later && runner.running() + queued >= options.concurrent)
      return refuse(
        "ThrottlingMaxActiveJobCountExceeded",
        `${options.concurrent} jobs are active already, as many as the hub's tier lets run; try again later`,
      );
    const job: Job = {
      ...draft.value,
      createdAt: now,
      endAt: null,
      deadline: null,
      status: later ? "scheduled" : "queued",
      failureReason: null,
    };
    runs.add(job);
    clock.schedule(job.startAt - now, runner.launch, undefined);
    return ok(job);
  }

  return {
    create,
    resume: runner.resume,
    persisted: runs.persisted,
    get(jobId) {
      runs.forgetOld();
      return runs.get(jobId)?.job;
    },
    cancel(jobId) {
      runs.forgetOld();
      const run = runs.get(jobId);
      if (run === undefined) return refuse("JobNotFound", `Job ${jobId} does not exist`);
      if (hasEnded(run.job)) return ok(run.job);
      runs.endDevices(run, { status: "cancelled" });
      runner.end(run, "cancelled", null);
      return ok(run.job);
    },
    list({ type, status }) {
      runs.forgetOld();
      return runs
        .all()
        .map((run) => run.job)
        .filter((job) => (type === null || job.type === type) && (status === null || job.status === status));
    },
    statisticsOf(jobId) {
      const statuses = [...(runs.get(jobId)?.devices.values() ?? [])].map((device) => device.status);
      const count = (...wanted: readonly DeviceJob["status"][]) =>
        statuses.filter((status) => wanted.includes(status)).length;
      return {
        deviceCount: statuses.length,
        failedCount: count("failed", "cancelled"),
        succeededCount: count("completed"),
        runningCount: count("running"),
        pendingCount: count("pending"),
      };
    },
    *deviceJobs() {
      runs.forgetOld();
      for (const run of runs.all()) yield* run.devices.values();
    },
  };
}
