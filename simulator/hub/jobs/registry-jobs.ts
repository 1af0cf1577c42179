import { randomUUID } from "node:crypto";
import type { SimClock } from "../../base/clock.ts";
import { type JsonObject, ownValue } from "../../base/json.ts";
import { type Answer, ok, refuse } from "../errors.ts";
import { createListeners, type PersistedRecords } from "../persistence.ts";
import type { Bulk } from "../registry/bulk.ts";
import { type BlobContainers, redactedUri } from "./blob-container.ts";
import { importLines } from "./registry-import.ts";

/** A job that writes all identities to a blob, or reads entries from one: plain data. Times are milliseconds. */
export type RegistryJob = {
  readonly jobId: string;
  readonly type: "import" | "export";
  readonly status: "enqueued" | "running" | "completed" | "failed" | "cancelled";
  /** Percent. */
  readonly progress: number;
  readonly startAt: number;
  readonly endAt: number | null;
  /** Without what grants access. */
  readonly inputBlobContainerUri: string | null;
  readonly outputBlobContainerUri: string;
  readonly excludeKeysInExport: boolean;
  readonly failureReason: string | null;
};

export type RegistryJobs = {
  /** Answers once the hub has seen that it may write to the output container. */
  readonly create: (body: JsonObject) => Promise<Answer<RegistryJob>>;
  readonly get: (jobId: string) => RegistryJob | undefined;
  readonly list: () => readonly RegistryJob[];
  readonly cancel: (jobId: string) => Answer<void>;
  readonly persisted: PersistedRecords;
  /** What was under way when the process ended has failed: the access to its containers was held nowhere. */
  readonly resume: () => void;
};

export type RegistryJobsHub = {
  readonly clock: SimClock;
  readonly blobs: BlobContainers;
  readonly bulk: Bulk;
  readonly exportLines: (excludeKeys: boolean) => readonly string[];
};

type Draft = {
  readonly type: "import" | "export";
  readonly input: string;
  readonly output: string;
  readonly inputBlob: string;
  readonly outputBlob: string;
  readonly excludeKeys: boolean;
};

const DEVICES = "devices.txt";
const ERRORS = "importErrors.log";
const HELD = 30 * 24 * 3_600_000;

/** One import or export at a time; both are a few steps with waits in between, written one after the other. */
export function createRegistryJobs(hub: RegistryJobsHub): RegistryJobs {
  const { clock, blobs } = hub;
  const jobs = new Map<string, RegistryJob>();
  const changes = createListeners();
  const stops = new Map<string, AbortController>();
  /** Also while a new job is looked at: of two that come at once the second is refused. */
  let busy = false;

  async function create(body: JsonObject): Promise<Answer<RegistryJob>> {
    const draft = parseDraft(body);
    if (!draft.ok) return draft;
    if (busy)
      return refuse("JobQuotaExceeded", "Another import or export job is active; one may run at a time");
    busy = true;
    const stop = new AbortController();
    const { type, output, outputBlob } = draft.value;
    // It is empty until the job has something to say, and stays so where nothing went wrong.
    const writable = await blobs.write(output, type === "export" ? outputBlob : ERRORS, "", stop.signal);
    if (!writable.ok) {
      busy = false;
      return writable;
    }
    const job = note(newJob(draft.value, clock.now()));
    stops.set(job.jobId, stop);
    clock.schedule(0, (jobId) => clock.track(carryOut(jobId, draft.value, stop.signal)), job.jobId);
    return ok(job);
  }

  function note(job: RegistryJob): RegistryJob {
    jobs.set(job.jobId, job);
    changes.notify(job.jobId);
    return job;
  }

  function change(jobId: string, news: Partial<RegistryJob>): void {
    const had = jobs.get(jobId);
    if (had !== undefined && had.endAt === null) note({ ...had, ...news });
  }

  async function carryOut(jobId: string, draft: Draft, signal: AbortSignal): Promise<void> {
    change(jobId, { status: "running" });
    const done =
      draft.type === "export" ? await runExport(draft, signal) : await runImport(jobId, draft, signal);
    stops.delete(jobId);
    busy = false;
    change(
      jobId,
      done.ok
        ? { status: "completed", progress: 100, endAt: clock.now() }
        : { status: "failed", failureReason: done.refusal.message, endAt: clock.now() },
    );
  }

  function runExport(draft: Draft, signal: AbortSignal): Promise<Answer<void>> {
    const lines = hub.exportLines(draft.excludeKeys);
    return blobs.write(draft.output, draft.outputBlob, lines.map((line) => `${line}\n`).join(""), signal);
  }

  async function runImport(jobId: string, draft: Draft, signal: AbortSignal): Promise<Answer<void>> {
    const text = await blobs.read(draft.input, draft.inputBlob, signal);
    if (!text.ok) return text;
    const progress = (percent: number) => change(jobId, { progress: percent });
    const errors = await importLines(text.value, hub.bulk, progress, signal);
    return errors.length === 0 ? ok(undefined) : blobs.write(draft.output, ERRORS, errors.join(""), signal);
  }

  function forgetOld(): void {
    const before = clock.now() - HELD;
    for (const [jobId, job] of jobs) {
      if (job.endAt === null || job.endAt >= before) continue;
      jobs.delete(jobId);
      changes.notify(jobId);
    }
  }

  return {
    create,
    get(jobId) {
      forgetOld();
      return jobs.get(jobId);
    },
    list() {
      forgetOld();
      return [...jobs.values()];
    },
    cancel(jobId) {
      if (!jobs.has(jobId)) return refuse("JobNotFound", `Job ${jobId} does not exist`);
      change(jobId, { status: "cancelled", endAt: clock.now() });
      stops.get(jobId)?.abort();
      return ok(undefined);
    },
    persisted: {
      kind: "registryJob",
      record: (jobId) => jobs.get(jobId),
      restore: (jobId, record) => jobs.set(jobId, record as RegistryJob),
      onChange: changes.add,
    },
    resume() {
      const failureReason = "The hub was restarted while the job was under way";
      for (const jobId of jobs.keys()) change(jobId, { status: "failed", failureReason, endAt: clock.now() });
    },
  };
}

function newJob({ type, input, output, excludeKeys }: Draft, now: number): RegistryJob {
  return {
    jobId: randomUUID(),
    type,
    status: "enqueued",
    progress: 0,
    startAt: now,
    endAt: null,
    inputBlobContainerUri: type === "import" ? redactedUri(input) : null,
    outputBlobContainerUri: redactedUri(output),
    excludeKeysInExport: excludeKeys,
    failureReason: null,
  };
}

function parseDraft(body: JsonObject): Answer<Draft> {
  const type = (["import", "export"] as const).find((known) => known === body["type"]);
  if (type === undefined) return refuse("GenericBadRequest", "type must be import or export");
  const authentication = body["storageAuthenticationType"] ?? "keyBased";
  if (typeof authentication !== "string" || authentication.toLowerCase() !== "keybased")
    return refuse(
      "ManagedIdentityNotEnabled",
      "this simulator has no managed identity: storageAuthenticationType must be keyBased",
    );
  if (body["includeConfigurations"] === true)
    return refuse("InvalidOperation", "this simulator does not export or import configurations");
  const text = (name: string, fallback: string): string => {
    const value = ownValue(body, name);
    return typeof value === "string" && value !== "" ? value : fallback;
  };
  const output = text("outputBlobContainerUri", "");
  const input = text("inputBlobContainerUri", "");
  if (output === "") return refuse("ArgumentNull", "outputBlobContainerUri is needed");
  if (type === "import" && input === "") return refuse("ArgumentNull", "inputBlobContainerUri is needed");
  return ok({
    type,
    input,
    output,
    inputBlob: text("inputBlobName", DEVICES),
    outputBlob: text("outputBlobName", DEVICES),
    excludeKeys: body["excludeKeysInExport"] === true,
  });
}

/** As `/jobs` answers with it: JobProperties. */
export function registryJobDocument(job: RegistryJob): JsonObject {
  return {
    jobId: job.jobId,
    startTimeUtc: new Date(job.startAt).toISOString(),
    ...(job.endAt === null ? {} : { endTimeUtc: new Date(job.endAt).toISOString() }),
    type: job.type,
    status: job.status,
    progress: job.progress,
    ...(job.inputBlobContainerUri === null ? {} : { inputBlobContainerUri: job.inputBlobContainerUri }),
    outputBlobContainerUri: job.outputBlobContainerUri,
    excludeKeysInExport: job.excludeKeysInExport,
    storageAuthenticationType: "keyBased",
    failureReason: job.failureReason,
  };
}
