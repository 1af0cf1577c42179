import { type JsonObject, type JsonValue, valueAt } from "../../base/json.ts";
import type { Row } from "./expression.ts";

export const JOB_TYPES = ["scheduleUpdateTwin", "scheduleDeviceMethod"] as const;
export type JobType = (typeof JOB_TYPES)[number];

/** What a job does, or did, to one twin. */
export type DeviceJob = {
  readonly jobId: string;
  readonly type: JobType;
  readonly deviceId: string;
  readonly moduleId: string | null;
  readonly status: "pending" | "running" | "completed" | "failed" | "cancelled";
  readonly createdAt: number;
  readonly updatedAt: number;
  readonly startAt: number | null;
  readonly endAt: number | null;
  /** `{status, payload}` of the device's answer to a method. */
  readonly response: JsonObject | null;
  readonly error: { readonly code: string; readonly description: string } | null;
};

/** As queries of `devices.jobs` answer with it; attributes without a value are left out. */
export function deviceJobDocument(deviceJob: DeviceJob): JsonObject {
  const document: Record<string, JsonValue> = {};
  for (const name of DEVICE_JOB_ATTRIBUTES) {
    const value = attributeOf(name, deviceJob);
    if (value !== undefined) document[name] = value;
  }
  return document;
}

/** The same for conditions: nothing is built that is not looked at. */
export function deviceJobRow(deviceJob: DeviceJob): Row {
  return { valueAt: ([root = "", ...rest]) => valueAt(attributeOf(root, deviceJob), rest) };
}

const DEVICE_JOB_ATTRIBUTES = [
  "deviceId",
  "moduleId",
  "jobId",
  "jobType",
  "status",
  "startTimeUtc",
  "endTimeUtc",
  "createdDateTimeUtc",
  "lastUpdatedDateTimeUtc",
  "outcome",
  "error",
] as const;

function attributeOf(name: string, deviceJob: DeviceJob): JsonValue | undefined {
  const { startAt, endAt, response } = deviceJob;
  switch (name) {
    case "deviceId":
      return deviceJob.deviceId;
    case "moduleId":
      return deviceJob.moduleId ?? undefined;
    case "jobId":
      return deviceJob.jobId;
    case "jobType":
      return deviceJob.type;
    case "status":
      return deviceJob.status;
    case "startTimeUtc":
      return startAt === null ? undefined : time(startAt);
    case "endTimeUtc":
      return endAt === null ? undefined : time(endAt);
    case "createdDateTimeUtc":
    // An example of the documentation has the shorter name.
    case "createdTimeUtc":
      return time(deviceJob.createdAt);
    case "lastUpdatedDateTimeUtc":
      return time(deviceJob.updatedAt);
    case "outcome":
      return response === null ? {} : { deviceMethodResponse: response };
    case "error":
      return deviceJob.error ?? undefined;
    default:
      return undefined;
  }
}

const time = (at: number): string => new Date(at).toISOString();
