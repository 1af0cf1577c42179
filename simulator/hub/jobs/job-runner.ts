import type { SimClock } from "../../base/clock.ts";
import type { JsonObject } from "../../base/json.ts";
import { type Answer, ok, type Refusal, refuse } from "../errors.ts";
import { type MethodCall, parseMethodCall } from "../messaging/methods.ts";
import type { IfMatch } from "../preconditions.ts";
import type { TwinKey } from "../twins/twin.ts";
import type { TwinChange } from "../twins/twins.ts";
import { type Job, type JobStatus, queryOf, twinWorkOf } from "./job.ts";
import { hasEnded, type JobRuns, type Run } from "./job-runs.ts";

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

export type JobRunnerOptions = {
  /** Jobs that run at one time. */
  readonly concurrent: number;
  /** Devices of all jobs together, a second. */
  readonly devicesPerSecond: number;
};

/** Carries jobs out: starts what is due, and reaches one device after the other at the pace of the tier. */
export type JobRunner = {
  /** Jobs that run now. */
  readonly running: () => number;
  /** Starts what is due, the earliest first, as long as there is room for one more. */
  readonly launch: () => void;
  readonly end: (run: Run, status: JobStatus, failureReason: string | null) => void;
  /** Continues what had not ended; a method that was under way is called again. */
  readonly resume: () => void;
};

/** Devices in one go where nothing throttles: requests get in between. */
const BATCH = 100;
const TOO_LATE =
  "The job did not start within the specified period: the device did not come online, or there was not enough time";

/** Longer than most: a job's end launches the next one, so its steps call each other in a circle. */
export function createJobRunner(hub: JobsHub, runs: JobRuns, options: JobRunnerOptions): JobRunner {
  const { clock } = hub;
  /** Those that run, the one whose turn it is first. */
  const running: Run[] = [];
  const startReaching = pacedBy(clock, running, 1000 / options.devicesPerSecond, reach);

  /** Starts what is due, the earliest first, as long as there is room for one more. */
  function launch(): void {
    const due = runs
      .waiting()
      .filter((run) => run.job.startAt <= clock.now())
      .sort((a, b) => a.job.startAt - b.job.startAt);
    for (const run of due) {
      if (running.length < options.concurrent) start(run);
      else runs.change(run, { status: "queued" });
    }
  }

  function start(run: Run): void {
    const keys = hub.select(queryOf(run.job.queryCondition));
    const deadline = clock.now() + run.job.maxExecutionSeconds * 1000;
    runs.change(run, { status: "running", deadline });
    running.push(run);
    if (!keys.ok) {
      end(run, "failed", keys.refusal.message);
      return;
    }
    for (const key of keys.value) runs.addDevice(run, key);
    for (const key of [...keys.value].reverse()) run.pending.push(key);
    run.open = keys.value.length;
    clock.schedule(run.job.maxExecutionSeconds * 1000, expire, run);
    if (keys.value.length === 0) end(run, "completed", null);
    else startReaching();
  }

  function reach(run: Run, key: TwinKey): void {
    runs.changeDevice(run, key, { status: "running", startAt: clock.now() });
    const charged = hub.charge(Buffer.byteLength(JSON.stringify(run.job.work)));
    if (!charged.ok) settle(run, key, charged);
    else if (run.job.type === "scheduleUpdateTwin") settle(run, key, patchTwin(hub, run.job, key));
    else
      callMethod(hub, run, key).then(
        (answer) => settle(run, key, answer),
        (problem: unknown) => settle(run, key, refuse("ServerError", String(problem))),
      );
  }

  function settle(run: Run, key: TwinKey, answer: Answer<JsonObject | null>): void {
    // What ended with its job stays as it is.
    if (run.devices.get(key)?.status !== "running") return;
    const endAt = clock.now();
    runs.changeDevice(
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
    runs.endDevices(run, {
      status: "failed",
      error: { code: "JobRunPreconditionFailed", description: TOO_LATE },
    });
    end(run, "failed", `The job did not end within ${run.job.maxExecutionSeconds} seconds`);
  }

  function end(run: Run, status: JobStatus, failureReason: string | null): void {
    const at = running.indexOf(run);
    if (at >= 0) running.splice(at, 1);
    runs.change(run, { status, failureReason, endAt: clock.now() });
    run.ended.abort();
    clock.schedule(0, launch, undefined);
  }

  function resume(): void {
    for (const run of runs.all()) {
      if (run.job.status !== "running") continue;
      running.push(run);
      for (const [key, device] of [...run.devices].reverse()) if (!hasEnded(device)) run.pending.push(key);
      run.open = run.pending.length;
      if (run.open === 0) end(run, "completed", null);
      clock.schedule(Math.max(0, (run.job.deadline ?? 0) - clock.now()), expire, run);
      startReaching();
    }
    for (const { job } of runs.waiting())
      clock.schedule(Math.max(0, job.startAt - clock.now()), launch, undefined);
  }

  return { running: () => running.length, launch, end, resume };
}

/** Starts to reach the pending devices of runs, one each `interval` milliseconds; the runs take turns. Idempotent. */
function pacedBy(
  clock: SimClock,
  running: Run[],
  interval: number,
  reach: (run: Run, key: TwinKey) => void,
): () => void {
  /** When the next device may be reached. */
  let nextAt = 0;
  let ticking = false;

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

  return tickSoon;
}

function patchTwin(hub: JobsHub, job: Job, key: TwinKey): Answer<null> {
  const work = twinWorkOf(job);
  if (!work.ok) return work;
  const written = hub.patch(key, work.value.change, work.value.ifMatch);
  return written.ok ? ok(null) : written;
}

async function callMethod(hub: JobsHub, { job, ended }: Run, key: TwinKey): Promise<Answer<JsonObject>> {
  const asked = parseMethodCall(job.work);
  if (!asked.ok) return asked;
  // A device that is offline is waited for as long as the job may take.
  const left = (job.deadline ?? 0) - hub.clock.now();
  const connectTimeout = Math.max(asked.value.connectTimeout, left);
  return hub.invoke(key, { ...asked.value, connectTimeout }, ended.signal);
}

function errorOf(refusal: Refusal): { readonly code: string; readonly description: string } {
  return { code: refusal.code, description: refusal.message };
}
