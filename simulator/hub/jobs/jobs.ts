import type { SimClock } from "../../base/clock.ts";
import type { JsonObject } from "../../base/json.ts";
import { type Answer, ok, type Refusal, refuse } from "../errors.ts";
import { sizeOf, type Tier } from "../limits/tier.ts";
import { type MethodCall, parseMethodCall } from "../messaging/methods.ts";
import { createListeners, type PersistedRecords } from "../persistence.ts";
import type { IfMatch } from "../preconditions.ts";
import type { DeviceJob, JobType } from "../query/device-job.ts";
import type { TwinKey } from "../twins/twin.ts";
import type { TwinChange } from "../twins/twins.ts";
import type { Undocumented } from "../undocumented.ts";
import { type Job, type JobStatistics, type JobStatus, parseJob, queryOf, twinWorkOf } from "./job.ts";

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
  /** Goes on with what was not ended; a method that was under way is called again. */
  readonly resume: () => void;
};

export type JobsOptions = {
  /** Jobs that run at one time. */
  readonly concurrent: number;
  /** Devices of all jobs together, a second. */
  readonly devicesPerSecond: number;
  readonly undocumented: Undocumented;
};

/** What jobs need of the hub. */
export type JobsHub = {
  readonly clock: SimClock;
  /** Keys of the twins that a query finds. */
  readonly select: (query: string) => Answer<readonly TwinKey[]>;
  /** Counts the work on one device, `bytes` of it; a refusal where the hub carries out none. */
  readonly charge: (bytes: number) => Answer<void>;
  readonly patch: (key: TwinKey, change: TwinChange, ifMatch: IfMatch) => Answer<unknown>;
  readonly invoke: (key: TwinKey, call: MethodCall, signal: AbortSignal) => Promise<Answer<JsonObject>>;
};

/** Jobs that run at one time. Source: Microsoft's table of quotas and throttling. */
export function concurrentJobsOf(tier: Tier): number {
  return { 1: 1, 2: 5, 3: 10 }[sizeOf(tier)];
}

/** Results are held for thirty days after a job's end. */
const HELD = 30 * 24 * 3_600_000;
/** Devices in one go where nothing throttles: requests get in between. */
const BATCH = 100;

type Run = {
  job: Job;
  readonly devices: Map<TwinKey, DeviceJob>;
  /** Those that nothing was done to yet; the last comes first. */
  readonly pending: TwinKey[];
  /** Devices without a result. */
  open: number;
  readonly ended: AbortController;
};

const ENDED: readonly string[] = ["completed", "failed", "cancelled"];

export function createJobs(hub: JobsHub, options: JobsOptions): Jobs {
  const { clock } = hub;
  const runs = new Map<string, Run>();
  /** Those that run, the one whose turn it is first. */
  const running: Run[] = [];
  const interval = 1000 / options.devicesPerSecond;
  /** When the next device may be reached. */
  let nextAt = 0;
  let ticking = false;
  const jobChanges = createListeners();
  const deviceChanges = createListeners();

  const waiting = () =>
    [...runs.values()].filter(({ job }) => job.status === "scheduled" || job.status === "queued");

  function forgetOld(): void {
    const before = clock.now() - HELD;
    for (const [jobId, { job, devices }] of runs) {
      if (job.endAt === null || job.endAt >= before) continue;
      runs.delete(jobId);
      jobChanges.notify(jobId);
      for (const key of devices.keys()) deviceChanges.notify(recordName(jobId, key));
    }
  }

  function change(run: Run, news: Partial<Job>): void {
    run.job = { ...run.job, ...news };
    jobChanges.notify(run.job.jobId);
  }

  function create(jobId: string, body: JsonObject): Answer<Job> {
    forgetOld();
    const now = clock.now();
    const draft = parseJob(jobId, body, now, options.undocumented);
    if (!draft.ok) return draft;
    if (runs.has(jobId)) return refuse("JobAlreadyExists", `Job ${jobId} already exists`);
    const later = draft.value.startAt > now;
    const queued = waiting().filter((run) => run.job.status === "queued").length;
    if (!later && running.length + queued >= options.concurrent)
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
    runs.set(jobId, newRun(job));
    jobChanges.notify(jobId);
    clock.schedule(job.startAt - now, launch, undefined);
    return ok(job);
  }

  /** Starts what is due, the earliest first, as long as there is room for one more. */
  function launch(): void {
    const due = waiting()
      .filter((run) => run.job.startAt <= clock.now())
      .sort((a, b) => a.job.startAt - b.job.startAt);
    for (const run of due) {
      if (running.length < options.concurrent) start(run);
      else change(run, { status: "queued" });
    }
  }

  function start(run: Run): void {
    const now = clock.now();
    const keys = hub.select(queryOf(run.job.queryCondition));
    change(run, { status: "running", deadline: now + run.job.maxExecutionSeconds * 1000 });
    running.push(run);
    if (!keys.ok) {
      end(run, "failed", keys.refusal.message);
      return;
    }
    for (const key of keys.value) {
      const [deviceId = "", moduleId = null] = key.split("/");
      run.devices.set(key, {
        jobId: run.job.jobId,
        type: run.job.type,
        deviceId,
        moduleId,
        status: "pending",
        createdAt: now,
        updatedAt: now,
        startAt: null,
        endAt: null,
        response: null,
        error: null,
      });
      deviceChanges.notify(recordName(run.job.jobId, key));
    }
    for (const key of [...keys.value].reverse()) run.pending.push(key);
    run.open = keys.value.length;
    clock.schedule(run.job.maxExecutionSeconds * 1000, expire, run);
    if (keys.value.length === 0) end(run, "completed", null);
    else tickSoon();
  }

  function tickSoon(): void {
    if (ticking) return;
    ticking = true;
    clock.schedule(nextAt - clock.now(), tick, undefined);
  }

  function tick(): void {
    ticking = false;
    for (let done = 0; ; done++) {
      const run = running.find((one) => one.pending.length > 0);
      if (run === undefined) return;
      if (nextAt > clock.now() || done >= BATCH) {
        tickSoon();
        return;
      }
      nextAt = Math.max(nextAt, clock.now()) + interval;
      // Jobs that run side by side take turns.
      running.push(...running.splice(running.indexOf(run), 1));
      const key = run.pending.pop();
      if (key !== undefined) reach(run, key);
    }
  }

  function reach(run: Run, key: TwinKey): void {
    note(run, key, { status: "running", startAt: clock.now() });
    const charged = hub.charge(Buffer.byteLength(JSON.stringify(run.job.work)));
    if (!charged.ok) settle(run, key, charged);
    else if (run.job.type === "scheduleUpdateTwin") settle(run, key, patch(run.job, key));
    else
      call(run, key).then(
        (answer) => settle(run, key, answer),
        (problem: unknown) => settle(run, key, refuse("ServerError", String(problem))),
      );
  }

  function patch(job: Job, key: TwinKey): Answer<null> {
    const work = twinWorkOf(job);
    if (!work.ok) return work;
    const written = hub.patch(key, work.value.change, work.value.ifMatch);
    return written.ok ? ok(null) : written;
  }

  async function call({ job, ended }: Run, key: TwinKey): Promise<Answer<JsonObject>> {
    const asked = parseMethodCall(job.work);
    if (!asked.ok) return asked;
    // A device that is away is waited for as long as the job may take.
    const left = (job.deadline ?? 0) - clock.now();
    return hub.invoke(
      key,
      { ...asked.value, connectTimeout: Math.max(asked.value.connectTimeout, left) },
      ended.signal,
    );
  }

  function note(run: Run, key: TwinKey, news: Partial<DeviceJob>): void {
    const had = run.devices.get(key);
    if (had === undefined) return;
    run.devices.set(key, { ...had, ...news, updatedAt: clock.now() });
    deviceChanges.notify(recordName(run.job.jobId, key));
  }

  function settle(run: Run, key: TwinKey, answer: Answer<JsonObject | null>): void {
    // What ended with its job stays as it is.
    if (run.devices.get(key)?.status !== "running") return;
    const endAt = clock.now();
    note(
      run,
      key,
      answer.ok
        ? { status: "completed", endAt, response: answer.value }
        : { status: "failed", endAt, error: errorOf(answer.refusal) },
    );
    run.open -= 1;
    if (run.open === 0) end(run, "completed", null);
  }

  function expire(run: Run): void {
    if (run.job.status !== "running") return;
    const description =
      "The job did not start within the specified period: the device did not come online, or there was not enough time";
    leave(run, { status: "failed", error: { code: "JobRunPreconditionFailed", description } });
    end(run, "failed", `The job did not end within ${run.job.maxExecutionSeconds} seconds`);
  }

  /** Gives up on all devices that have no result yet. */
  function leave(run: Run, news: Partial<DeviceJob>): void {
    for (const [key, device] of run.devices)
      if (!ENDED.includes(device.status)) note(run, key, { ...news, endAt: clock.now() });
  }

  function end(run: Run, status: JobStatus, failureReason: string | null): void {
    const at = running.indexOf(run);
    if (at >= 0) running.splice(at, 1);
    change(run, { status, failureReason, endAt: clock.now() });
    run.ended.abort();
    clock.schedule(0, launch, undefined);
  }

  function resume(): void {
    for (const run of runs.values()) {
      if (run.job.status !== "running") continue;
      running.push(run);
      for (const [key, device] of [...run.devices].reverse())
        if (!ENDED.includes(device.status)) run.pending.push(key);
      run.open = run.pending.length;
      if (run.open === 0) end(run, "completed", null);
      clock.schedule(Math.max(0, (run.job.deadline ?? 0) - clock.now()), expire, run);
      tickSoon();
    }
    for (const { job } of waiting())
      clock.schedule(Math.max(0, job.startAt - clock.now()), launch, undefined);
  }

  return {
    create,
    resume,
    persisted: [
      {
        kind: "job",
        record: (jobId) => runs.get(jobId)?.job,
        restore: (jobId, record) => runs.set(jobId, newRun(record as unknown as Job)),
        onChange: jobChanges.add,
      },
      {
        kind: "deviceJob",
        record: (name) => {
          const [jobId, key] = namesIn(name);
          return runs.get(jobId)?.devices.get(key);
        },
        restore: (name, record) => {
          const [jobId, key] = namesIn(name);
          runs.get(jobId)?.devices.set(key, record as unknown as DeviceJob);
        },
        onChange: deviceChanges.add,
      },
    ],
    get(jobId) {
      forgetOld();
      return runs.get(jobId)?.job;
    },
    cancel(jobId) {
      forgetOld();
      const run = runs.get(jobId);
      if (run === undefined) return refuse("JobNotFound", `Job ${jobId} does not exist`);
      if (ENDED.includes(run.job.status)) return ok(run.job);
      leave(run, { status: "cancelled" });
      end(run, "cancelled", null);
      return ok(run.job);
    },
    list({ type, status }) {
      forgetOld();
      return [...runs.values()]
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
      forgetOld();
      for (const run of runs.values()) yield* run.devices.values();
    },
  };
}

function newRun(job: Job): Run {
  return { job, devices: new Map(), pending: [], open: 0, ended: new AbortController() };
}

/** Keys of twins have no line breaks. */
function recordName(jobId: string, key: TwinKey): string {
  return `${jobId}\n${key}`;
}

function namesIn(name: string): readonly [jobId: string, key: TwinKey] {
  const at = name.lastIndexOf("\n");
  return [name.slice(0, at), name.slice(at + 1)];
}

function errorOf(refusal: Refusal): { readonly code: string; readonly description: string } {
  return { code: refusal.code, description: refusal.message };
}
