import type { Fault } from "../../base/fault.ts";
import { errorCodeOf, isRecord } from "../../base/guards.ts";
import { clip } from "../../base/text.ts";
import { type Instant, type Millis, millis, seconds } from "../../base/time.ts";
import { type Call, JSON_PATCH, type KubeFault } from "./call.ts";

/** A server that asks for a longer pause than this is asked again after this. */
const LONGEST_RETRY_AFTER = seconds(300);

/** What the API server says when it refuses. */
type Status = {
  readonly message?: string;
  readonly reason?: string;
  readonly details?: { readonly name?: string; readonly retryAfterSeconds?: number };
};

/** The fault that an answer of status 300 and above comes to. `now`: for a Retry-After that is a date. */
export function faultOfAnswer(
  code: number,
  retryAfter: string | string[] | undefined,
  body: string,
  call: Call,
  now: Instant,
): KubeFault {
  const status = statusOf(body);
  const message = `${describeCall(call)}: ${code} ${status.message ?? status.reason ?? "without a message"}`;
  const delay =
    retryAfterOf(retryAfter, now) ?? retryAfterOf(status.details?.retryAfterSeconds?.toString(), now);
  switch (code) {
    case 401:
    case 403:
      return { kind: "denied", message };
    case 404:
      return { kind: "missing", message };
    case 409:
      return { kind: "conflict", message };
    case 410:
      return { kind: "expired", message };
    case 422:
      // A JSON Patch that cannot be applied (its `test` fails) is answered like an invalid object, but no object is named.
      if (call.contentType === JSON_PATCH && status.details?.name === undefined)
        return {
          kind: "conflict",
          message: `${describeCall(call)}: the object is no longer the one that was read`,
        };
      return { kind: "rejected", message };
    case 408:
      return { kind: "unavailable", message };
    case 429:
      return { kind: "throttled", retryAfter: delay ?? seconds(1), message };
    default:
      if (code < 500) return { kind: "rejected", message };
      return delay === null
        ? { kind: "unavailable", message }
        : { kind: "throttled", retryAfter: delay, message };
  }
}

function statusOf(body: string): Status {
  try {
    const parsed: unknown = JSON.parse(body);
    return isRecord(parsed) ? parsed : {};
  } catch {
    return { message: clip(body, 200) };
  }
}

/** Retry-After: seconds, or a date. `null` for neither. */
function retryAfterOf(written: string | string[] | undefined, now: Instant): Millis | null {
  if (typeof written !== "string" || written.trim() === "") return null;
  const given = Number(written);
  const delay = Number.isFinite(given) ? given * 1000 : Date.parse(written) - now;
  return Number.isNaN(delay) ? null : millis(Math.min(Math.max(0, delay), LONGEST_RETRY_AFTER));
}

/** No answer, or one that cannot be read. */
export function faultOfError(call: Call, cause: unknown): Fault {
  const what = errorCodeOf(cause) ?? (cause instanceof Error ? cause.message : "no answer");
  return { kind: "unavailable", message: `${describeCall(call)}: ${what}` };
}

/** The method and the path without its query. */
export function describeCall(call: Call): string {
  return `${call.method} ${call.path.split("?")[0]}`;
}
