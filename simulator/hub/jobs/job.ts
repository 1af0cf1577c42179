import { isObject, type JsonObject } from "../../base/json.ts";
import { type Answer, ok, refuse } from "../errors.ts";
import { parseMethodCall } from "../messaging/methods.ts";
import type { IfMatch } from "../preconditions.ts";
import { JOB_TYPES, type JobType } from "../query/device-job.ts";
import { parseQuery } from "../query/query.ts";
import { parseTwinChange, type TwinChange } from "../twins/twins.ts";
import type { Undocumented } from "../undocumented.ts";

export const JOB_STATUSES = ["scheduled", "queued", "running", "completed", "failed", "cancelled"] as const;
export type JobStatus = (typeof JOB_STATUSES)[number];

/** A scheduled job: plain data, never changed in place. Times are milliseconds since the Unix epoch. */
export type Job = {
  readonly jobId: string;
  readonly type: JobType;
  readonly queryCondition: string;
  /** `updateTwin` or `cloudToDeviceMethod`, as it was sent. */
  readonly work: JsonObject;
  readonly createdAt: number;
  readonly startAt: number;
  readonly endAt: number | null;
  readonly maxExecutionSeconds: number;
  /** When what has no result yet is given up; `null` before the job runs. */
  readonly deadline: number | null;
  readonly status: JobStatus;
  readonly failureReason: string | null;
};

export type JobDraft = Omit<Job, "createdAt" | "endAt" | "deadline" | "status" | "failureReason">;

export type JobStatistics = Readonly<
  Record<`${"device" | "failed" | "succeeded" | "running" | "pending"}Count`, number>
>;

const LONGEST_ID = 128;
const LONGEST_QUERY = 8192;
const DEFAULT_EXECUTION_SECONDS = 3600;

/** The query behind a condition: a WHERE part over devices, one that begins with FROM, or `*` for every device. */
export function queryOf(condition: string): string {
  const text = condition.trim();
  if (text === "*") return "SELECT * FROM devices";
  return /^from\s/i.test(text) ? `SELECT * ${text}` : `SELECT * FROM devices WHERE ${text}`;
}

/** The body of `PUT /jobs/v2/{id}`; `now` is milliseconds since the Unix epoch. */
export function parseJob(
  jobId: string,
  body: JsonObject,
  now: number,
  undocumented: Undocumented,
): Answer<JobDraft> {
  if (jobId.length > LONGEST_ID)
    return refuse("ArgumentInvalid", `jobId may have ${LONGEST_ID} characters, not ${jobId.length}`);
  if (body["jobId"] !== undefined && body["jobId"] !== null && body["jobId"] !== jobId)
    return refuse("ArgumentInvalid", "jobId of the body is not that of the path");
  const type = JOB_TYPES.find((known) => known === body["type"]);
  if (type === undefined) return refuse("GenericBadRequest", `type must be one of ${JOB_TYPES.join(", ")}`);
  const condition = parseCondition(body["queryCondition"], undocumented);
  if (!condition.ok) return condition;
  const work = type === "scheduleUpdateTwin" ? parseUpdateTwin(body) : parseMethod(body);
  if (!work.ok) return work;
  const startAt = parseStart(body["startTime"], now);
  if (!startAt.ok) return startAt;
  const seconds = body["maxExecutionTimeInSeconds"] ?? DEFAULT_EXECUTION_SECONDS;
  if (typeof seconds !== "number" || !Number.isInteger(seconds) || seconds < 1)
    return refuse("ArgumentInvalid", "maxExecutionTimeInSeconds must be a whole number above 0");
  return ok({
    jobId,
    type,
    queryCondition: condition.value,
    work: work.value,
    startAt: startAt.value,
    maxExecutionSeconds: seconds,
  });
}

function parseCondition(written: unknown, undocumented: Undocumented): Answer<string> {
  if (typeof written !== "string" || written.trim() === "")
    return refuse("ArgumentNull", "queryCondition is needed; '*' stands for every device");
  const text = queryOf(written);
  // The hub says so, although no etag has anything to do with it.
  if (text.length > LONGEST_QUERY)
    return refuse(
      "PreconditionFailed",
      `The query of the job has ${text.length} characters; at most ${LONGEST_QUERY} are allowed`,
    );
  const query = parseQuery(text, undocumented);
  if (!query.ok) return query;
  if (query.value.source === "devices.jobs")
    return refuse("ArgumentInvalid", "queryCondition must select devices or modules of devices");
  return ok(written);
}

function parseUpdateTwin(body: JsonObject): Answer<JsonObject> {
  const written = body["updateTwin"];
  if (!isObject(written)) return refuse("ArgumentNull", "updateTwin is needed for scheduleUpdateTwin");
  if (typeof written["etag"] !== "string" || written["etag"] === "")
    return refuse("ArgumentInvalid", "updateTwin must have an etag; '*' stands for any");
  const change = parseTwinChange(written);
  if (!change.ok) return change;
  if (change.value.tags === null && change.value.desired === null)
    return refuse("ArgumentInvalid", "updateTwin has neither tags nor properties.desired");
  return ok(written);
}

function parseMethod(body: JsonObject): Answer<JsonObject> {
  const written = body["cloudToDeviceMethod"];
  if (!isObject(written))
    return refuse("ArgumentNull", "cloudToDeviceMethod is needed for scheduleDeviceMethod");
  const call = parseMethodCall(written);
  return call.ok ? ok(written) : { ok: false, refusal: { ...call.refusal, form: "A" } };
}

const ISO_TIME = /^(\d{4})-(\d\d)-(\d\d)T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(Z|[+-]\d\d:\d\d)?$/i;

function parseStart(written: unknown, now: number): Answer<number> {
  if (written === undefined || written === null || written === "") return ok(now);
  const [text, year, month, day, zone] = typeof written === "string" ? (ISO_TIME.exec(written) ?? []) : [];
  const last = new Date(Date.UTC(Number(year), Number(month), 0)).getUTCDate();
  // Without its zone it is UTC, as the vendor's clients have it, and not what the zone of this machine makes of it.
  const at = Number(day) <= last ? Date.parse(zone === undefined ? `${text}Z` : `${text}`) : Number.NaN;
  return Number.isNaN(at) ? refuse("ArgumentInvalid", "startTime must be a time of ISO 8601") : ok(at);
}

/** What a twin job writes, and under which etag; the body was checked when the job was made. */
export function twinWorkOf(job: Job): Answer<{ readonly change: TwinChange; readonly ifMatch: IfMatch }> {
  const change = parseTwinChange(job.work);
  if (!change.ok) return change;
  const etag = String(job.work["etag"]).replace(/^"(.*)"$/, "$1");
  return ok({ change: change.value, ifMatch: { any: etag === "*", etag } });
}

const time = (at: number): string => new Date(at).toISOString();

/** As `/jobs/v2` answers with it. */
export function jobDocument(job: Job, statistics: JobStatistics): JsonObject {
  const isTwin = job.type === "scheduleUpdateTwin";
  return {
    jobId: job.jobId,
    queryCondition: job.queryCondition,
    createdTime: time(job.createdAt),
    startTime: time(job.startAt),
    ...(job.endAt === null ? {} : { endTime: time(job.endAt) }),
    maxExecutionTimeInSeconds: job.maxExecutionSeconds,
    type: job.type,
    cloudToDeviceMethod: isTwin ? null : job.work,
    updateTwin: isTwin ? job.work : null,
    status: job.status,
    ...(job.failureReason === null ? {} : { failureReason: job.failureReason }),
    deviceJobStatistics: statistics,
  };
}
