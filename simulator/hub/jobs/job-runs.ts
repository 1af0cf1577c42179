import type { SimClock } from "../../base/clock.ts";
import { createListeners, type PersistedRecords } from "../persistence.ts";
import type { DeviceJob } from "../query/device-job.ts";
import type { TwinKey } from "../twins/twin.ts";
import type { Job } from "./job.ts";

/** Results are held for thirty days after a job's end. */
const HELD = 30 * 24 * 3_600_000;

/** A job and what it does to each device. */
export type Run = {
  job: Job;
  readonly devices: Map<TwinKey, DeviceJob>;
  /** Those that nothing was done to yet; the last comes first. */
  readonly pending: TwinKey[];
  /** Devices without a result. */
  open: number;
  readonly ended: AbortController;
};

/** Every job that is remembered, as it is written to a state file. */
export type JobRuns = {
  readonly add: (job: Job) => void;
  readonly get: (jobId: string) => Run | undefined;
  /** In the order in which they were made. */
  readonly all: () => readonly Run[];
  /** Jobs that have not started. */
  readonly waiting: () => readonly Run[];
  readonly change: (run: Run, news: Partial<Job>) => void;
  readonly addDevice: (run: Run, key: TwinKey) => void;
  readonly changeDevice: (run: Run, key: TwinKey, news: Partial<DeviceJob>) => void;
  /** Gives up on all devices that have no result yet. */
  readonly endDevices: (run: Run, news: Partial<DeviceJob>) => void;
  readonly forgetOld: () => void;
  /** Jobs, and what they did to each device. */
  readonly persisted: readonly PersistedRecords[];
};

const ENDED: readonly string[] = ["completed", "failed", "cancelled"];

export function hasEnded({ status }: Pick<Job | DeviceJob, "status">): boolean {
  return ENDED.includes(status);
}

export function createJobRuns(clock: SimClock): JobRuns {
  const runs = new Map<string, Run>();
  const jobChanges = createListeners();
  const deviceChanges = createListeners();

  function changeDevice(run: Run, key: TwinKey, news: Partial<DeviceJob>): void {
    const had = run.devices.get(key);
    if (had === undefined) return;
    run.devices.set(key, { ...had, ...news, updatedAt: clock.now() });
    deviceChanges.notify(recordName(run.job.jobId, key));
  }

  return {
    add: (job) => {
      runs.set(job.jobId, newRun(job));
      jobChanges.notify(job.jobId);
    },
    get: (jobId) => runs.get(jobId),
    all: () => [...runs.values()],
    waiting: () =>
      [...runs.values()].filter(({ job }) => job.status === "scheduled" || job.status === "queued"),
    change: (run, news) => {
      run.job = { ...run.job, ...news };
      jobChanges.notify(run.job.jobId);
    },
    addDevice: (run, key) => {
      run.devices.set(key, pendingJob(run.job, key, clock.now()));
      deviceChanges.notify(recordName(run.job.jobId, key));
    },
    changeDevice,
    endDevices: (run, news) => {
      for (const [key, device] of run.devices)
        if (!hasEnded(device)) changeDevice(run, key, { ...news, endAt: clock.now() });
    },
    forgetOld: () => {
      const before = clock.now() - HELD;
      for (const [jobId, { job, devices }] of runs) {
        if (job.endAt === null || job.endAt >= before) continue;
        runs.delete(jobId);
        jobChanges.notify(jobId);
        for (const key of devices.keys()) deviceChanges.notify(recordName(jobId, key));
      }
    },
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
  };
}

function newRun(job: Job): Run {
  return { job, devices: new Map(), pending: [], open: 0, ended: new AbortController() };
}

function pendingJob({ jobId, type }: Job, key: TwinKey, now: number): DeviceJob {
  const [deviceId = "", moduleId = null] = key.split("/");
  return {
    ...{ jobId, type, deviceId, moduleId, status: "pending" },
    ...{ createdAt: now, updatedAt: now, startAt: null, endAt: null, response: null, error: null },
  };
}

/** Keys of twins have no line breaks. */
function recordName(jobId: string, key: TwinKey): string {
  return `${jobId}\n${key}`;
}

function namesIn(name: string): readonly [jobId: string, key: TwinKey] {
  const at = name.lastIndexOf("\n");
  return [name.slice(0, at), name.slice(at + 1)];
}
