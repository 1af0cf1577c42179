import { RestError } from "@azure/storage-blob";
import type { Fault } from "../base/fault.ts";
import { asCode, errorCodeOf, isRecord } from "../base/guards.ts";
import { type Millis, seconds } from "../base/time.ts";

/** Waited for where the service throttles and does not say how long. */
const DEFAULT_RETRY_AFTER = seconds(5);
/** What @azure/identity throws when no credential is available. */
const CREDENTIAL_ERRORS = [
  "AuthenticationError",
  "AggregateAuthenticationError",
  "CredentialUnavailableError",
];

/**
 * What the caller must do about something that @azure/storage-blob or its credential threw; `null` for 404: there is no
 * such blob or container. Decided by status and code. The message is made of these alone, because the SDK's own texts
 * quote URLs and signatures.
 */
export function storeFault(what: string, thrown: unknown): Fault | null {
  const status = statusOf(thrown);
  const code = codeOf(thrown);
  const message = `${what}: ${[status, code].filter((part) => part !== null).join(" ") || "failed"}`;
  if (status === null || status === 0)
    return isCredentialError(thrown) ? { kind: "denied", message } : { kind: "unavailable", message };
  if (status === 429 || (status === 503 && (code === "ServerBusy" || retryAfterOf(thrown) !== null)))
    return { kind: "throttled", retryAfter: retryAfterOf(thrown) ?? DEFAULT_RETRY_AFTER, message };
  if (status >= 500 || status === 408) return { kind: "unavailable", message };
  if (status === 401 || status === 403 || isCredentialError(thrown)) return { kind: "denied", message };
  if (status === 404) return null;
  if (status === 409 || status === 412) return { kind: "conflict", message };
  return { kind: "rejected", message };
}

function isCredentialError(thrown: unknown): boolean {
  return thrown instanceof Error && CREDENTIAL_ERRORS.includes(thrown.name);
}

function statusOf(thrown: unknown): number | null {
  return isRecord(thrown) && typeof thrown["statusCode"] === "number" ? thrown["statusCode"] : null;
}

/** The service's code, such as `ServerBusy`, or the system's, such as `ECONNREFUSED`; answers to HEAD have it in a header only. */
function codeOf(thrown: unknown): string | null {
  const header = thrown instanceof RestError ? thrown.response?.headers.get("x-ms-error-code") : undefined;
  if (header !== undefined) return asCode(header);
  return errorCodeOf(thrown) ?? (thrown instanceof Error ? asCode(thrown.name) : null);
}

function retryAfterOf(thrown: unknown): Millis | null {
  const header = thrown instanceof RestError ? thrown.response?.headers.get("retry-after") : undefined;
  const amount = Number(header ?? Number.NaN);
  // A date instead of seconds is not worth a clock here: the default will do.
  return Number.isFinite(amount) && amount >= 0 ? seconds(amount) : null;
}
