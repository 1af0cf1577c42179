import type { Fault } from "../base/fault.ts";
import { isRecord } from "../base/guards.ts";
import { own } from "../base/lookup.ts";
import { redact } from "../base/redact.ts";
import { cut } from "../base/text.ts";
import { elapsed, type Instant, type Millis, millis, minutes, parseHttpDate, seconds } from "../base/time.ts";

/** An answer of the hub that is not a success, as it came. */
export type ErrorAnswer = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  readonly body: string;
};

/** The hub's symbolic error code, where it gave one, and its message without tracking ids. */
export type HubError = { readonly code: string | null; readonly text: string };

/** What a fault is about: the call, the right it needs, the moment and a source of jitter in [0, 1). */
export type FaultContext = {
  readonly operation: string;
  readonly right: string;
  readonly now: Instant;
  readonly random: () => number;
};

const LONGEST_MESSAGE = 500;
const THROTTLED = seconds(10);
const THROTTLED_JITTER = seconds(5);
// The daily quota is reset at midnight UTC, or raised when the hub gets another unit; a retry now and then finds out.
const QUOTA_SPENT = minutes(10);

// Newer paths answer with a number where older ones answer with a name; only the numbers that are handled differently.
const NAME_OF_NUMBER: Readonly<Record<string, string>> = {
  "400004": "ArgumentInvalid",
  "401001": "IotHubNotFound",
  "403001": "IotHubSuspended",
  "403002": "IotHubQuotaExceeded",
  "404001": "DeviceNotFound",
  "404010": "ModuleNotFound",
  "409001": "DeviceAlreadyExists",
  "412001": "PreconditionFailed",
  "413001": "MessageTooLarge",
  "413002": "TooManyDevices",
  "413003": "TooManyModulesOnDevice",
  "429001": "ThrottlingException",
};
// A missing hub or path says nothing about a device or a configuration.
const NOT_OF_AN_OBJECT = new Set(["IotHubNotFound", "ResourceNotFound"]);
const TOO_LARGE = new Set(["MessageTooLarge", "RequestEntityTooLarge"]);

/**
 * The fault that an answer of status 300 and above comes to, by status and code. It never holds the response, whose
 * request carries a live SAS.
 */
export function faultOfAnswer(answer: ErrorAnswer, context: FaultContext): Fault {
  const { code, text } = hubErrorOf(answer);
  const message = `${context.operation}: the hub answered ${answer.status}${code === null ? "" : ` ${code}`}${text === "" ? "" : `: ${text}`}`;
  switch (answer.status) {
    case 400:
    case 405:
    case 411:
      return { kind: "rejected", message };
    case 401:
      return { kind: "denied", message: `${message}; the credential needs ${context.right}` };
    case 403:
      if (code === "IotHubQuotaExceeded")
        return {
          kind: "throttled",
          retryAfter: QUOTA_SPENT,
          message: `${message}; the daily message quota of the hub is used up until midnight UTC, or until it gets more units`,
        };
      return { kind: "denied", message: `${message}; the credential needs ${context.right}` };
    case 409:
    case 412:
      return { kind: "conflict", message };
    case 413:
      if (code !== null && TOO_LARGE.has(code)) return { kind: "rejected", message };
      return { kind: "rejected", message: `the hub is full: ${message}` };
    case 429:
      return { kind: "throttled", retryAfter: retryAfterOf(answer, context), message };
    default:
      return { kind: "unavailable", message };
  }
}

/**
 * Whether the hub itself says that there is no such device, module or configuration. A 404 without an error code of the hub
 * comes from a proxy and proves nothing: treating it as an absence would create and delete on an outage.
 */
export function isAbsent(answer: ErrorAnswer): boolean {
  if (answer.status !== 404) return false;
  const { code } = hubErrorOf(answer);
  return code !== null && !NOT_OF_AN_OBJECT.has(code);
}

/** A call that got no answer at all: network, TLS, deadline, a body that broke off. */
export function faultOfError(error: unknown, operation: string): Fault {
  const code = propertyOf(error, "code");
  const message = propertyOf(error, "message");
  // Node says "connect ECONNREFUSED 127.0.0.1:443", and the code once more.
  const parts = message?.includes(code ?? "") === true ? [message] : [code, message];
  const what = parts.filter((part) => part !== null && part !== "").join(" ") || "unknown failure";
  return { kind: "unavailable", message: `${operation}: no answer from the hub: ${cleanMessage(what)}` };
}

/** A success whose body is not what the service API answers, such as the sign-in page of a proxy. */
export function faultOfShape(operation: string, expected: string): Fault {
  return {
    kind: "unavailable",
    message: `${operation}: the answer is not ${expected}; something between us and the hub may be answering in its place`,
  };
}

export function hubErrorOf({ headers, body }: Pick<ErrorAnswer, "headers" | "body">): HubError {
  const header = first(headers["iothub-errorcode"]);
  const outer = parsed(body);
  const message = textIn(outer, "Message") ?? textIn(outer, "message");
  const inner = message === null ? null : parsed(message);
  const number = inner?.["errorCode"] ?? outer?.["errorCode"];
  if (number !== undefined) {
    const name = header ?? own(NAME_OF_NUMBER, String(number)) ?? String(number);
    return { code: name, text: cleanMessage(textIn(inner ?? outer, "message") ?? "") };
  }
  const written = /^\s*ErrorCode:([A-Za-z0-9_.]+)\s*;?([\s\S]*)$/.exec(message ?? "");
  if (written !== null) return { code: header ?? written[1] ?? null, text: cleanMessage(written[2] ?? "") };
  return {
    code: header ?? textIn(outer, "Code") ?? textIn(outer, "code"),
    text: cleanMessage(message ?? ""),
  };
}

function retryAfterOf(answer: ErrorAnswer, { now, random }: FaultContext): Millis {
  const written = first(answer.headers["retry-after"])?.trim();
  if (written !== undefined && /^[0-9]+$/.test(written)) return seconds(Number(written));
  const at = written === undefined ? null : parseHttpDate(written);
  if (at !== null) return elapsed(now, at);
  return millis(THROTTLED + random() * THROTTLED_JITTER);
}

/** One line, no tracking ids (each would make a new event of the same fact), nothing secret, no more than 500 characters. */
export function cleanMessage(text: string): string {
  const line = redact(text)
    .replace(/[;,.]?\s*Tracking ?ID\s*:?\s*[0-9A-Za-z:/.-]+( [0-9]+:[0-9:.]+Z?)?/gi, "")
    .replace(/\s+/g, " ")
    .trim();
  return cut(line, LONGEST_MESSAGE);
}

function parsed(text: string): Readonly<Record<string, unknown>> | null {
  if (!/^\s*\{/.test(text)) return null;
  try {
    const value: unknown = JSON.parse(text);
    return isRecord(value) ? value : null;
  } catch {
    return null;
  }
}

function textIn(object: Readonly<Record<string, unknown>> | null, key: string): string | null {
  const value = own(object, key);
  return typeof value === "string" ? value : null;
}

function propertyOf(error: unknown, key: "code" | "message"): string | null {
  const value = isRecord(error) ? error[key] : undefined;
  return typeof value === "string" ? value : null;
}

function first(value: string | readonly string[] | undefined): string | null {
  if (value === undefined) return null;
  return typeof value === "string" ? value : (value[0] ?? null);
}
