import type { IncomingHttpHeaders } from "node:http";
import type { TokenCredential } from "@azure/identity";
import { Registry } from "azure-iothub/dist/registry.js";
import type { Attempt, Fault } from "../base/fault.ts";
import { isRecord } from "../base/guards.ts";
import { err, ok, type Result, unreachable } from "../base/result.ts";
import { type Instant, type Millis, seconds } from "../base/time.ts";
import type { RuntimeDeps } from "../runtime/deps.ts";
import { linkedSignal } from "../runtime/linked-signal.ts";
import { requestUnder } from "./azure-agent.ts";
import { cleanMessage, type ErrorAnswer, faultOfAnswer, faultOfError, isAbsent } from "./faults.ts";
import type { Json, Lane } from "./hub.ts";
import type { OperationClass, Throttle } from "./throttle.ts";

// azure-iothub signs, holds tokens and speaks HTTPS for us. We go through its lowest call, `executeApiCall`, because the
// methods above it crash the process on bodies they do not expect, overwrite identities unconditionally, delete
// configurations unconditionally and page queries wrongly. What it throws ends here: its errors carry a live SAS.

export type HubAccess =
  | { readonly kind: "connectionString"; readonly connectionString: string }
  /** Workload identity, for example: any credential of @azure/identity. */
  | {
      readonly kind: "credential";
      readonly host: string;
      readonly credential: Pick<TokenCredential, "getToken">;
    };

export type AzureWireOptions = RuntimeDeps & {
  readonly access: HubAccess;
  readonly throttle: Throttle;
  /** Of one call, from its turn to the end of its answer. */
  readonly deadline?: Millis;
};

// ── one call: its turn, its deadline, its fault ──

export type Call = {
  readonly operation: string;
  readonly class: OperationClass;
  readonly lane?: Lane;
  /** What the credential must be allowed, by the hub's names. */
  readonly right: string;
  readonly method: "GET" | "PUT" | "PATCH" | "POST" | "DELETE";
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** An etag without quotes, or `*`. */
  readonly ifMatch?: string;
  readonly body?: Json;
};
/** absent: the hub itself says that there is no such object. */
export type Answer =
  | { readonly kind: "present"; readonly body: unknown; readonly headers: IncomingHttpHeaders }
  | { readonly kind: "absent" };
export type Caller = (call: Call, signal: AbortSignal) => Attempt<Answer>;

export function createCaller(options: AzureWireOptions, send: Send): Caller {
  const { throttle, clock, meter, random, deadline = seconds(15) } = options;

  async function underDeadline(call: Call, signal: AbortSignal): Promise<Sent> {
    using limit = linkedSignal(signal);
    const timer = clock.sleep(deadline, limit.signal).then((): Sent => ({ kind: "late" }));
    const sent = await Promise.race([send(call, limit.signal), timer]);
    limit.abort();
    return sent;
  }

  return async (call, signal) => {
    const { class: operationClass, lane = "normal" } = call;
    // Everything on the way to the hub may resolve such a path, and it would name something else.
    if (/\/\.{1,2}(\/|$)/.test(call.path))
      return err({
        kind: "rejected",
        message: `${call.operation}: an id of dots alone would be resolved as a path; choose another`,
      });
    const queued = clock.now();
    const turn = await throttle.take(operationClass, lane, signal);
    const started = clock.now();
    meter.observe("edgefleet_hub_throttle_wait_seconds", (started - queued) / 1000, {
      class: operationClass,
      lane,
    });
    if (!turn.ok) return turn;
    const sent = await underDeadline(call, signal);
    const judged = judge(call, sent, { now: clock.now(), random, deadline, stopped: signal.aborted });
    meter.observe("edgefleet_hub_request_duration_seconds", (clock.now() - started) / 1000, {
      class: operationClass,
    });
    meter.count("edgefleet_hub_requests_total", {
      class: operationClass,
      result: judged.ok ? "ok" : judged.error.kind,
    });
    if (!judged.ok && judged.error.kind === "throttled")
      throttle.drain(operationClass, judged.error.retryAfter);
    return judged;
  };
}

type Moment = {
  readonly now: Instant;
  readonly random: () => number;
  readonly deadline: Millis;
  readonly stopped: boolean;
};

function judge(call: Call, sent: Sent, moment: Moment): Result<Answer, Fault> {
  const { operation, right } = call;
  const { now, random, deadline, stopped } = moment;
  switch (sent.kind) {
    case "answered":
      return ok({ kind: "present", body: sent.body, headers: sent.headers });
    case "refused":
      if (isAbsent(sent.answer)) return ok({ kind: "absent" });
      return err(faultOfAnswer(sent.answer, { operation, right, now, random }));
    case "failed":
      if (stopped) return err({ kind: "unavailable", message: `${operation}: stopped` });
      return err(faultOfError(sent.error, operation));
    case "unauthenticated":
      return err({
        kind: sent.silent ? "unavailable" : "denied",
        message: `${operation}: no token for the hub: ${sent.message}`,
      });
    case "late":
      return err({
        kind: "unavailable",
        message: stopped
          ? `${operation}: stopped`
          : `${operation}: no answer from the hub within ${deadline} ms`,
      });
    default:
      return unreachable(sent);
  }
}

// ── the wire: azure-iothub, and the last place that sees its errors ──

type Sent =
  | { readonly kind: "answered"; readonly body: unknown; readonly headers: IncomingHttpHeaders }
  | { readonly kind: "refused"; readonly answer: ErrorAnswer }
  /** No token: `silent` where the token service did not answer, as opposed to refusing. */
  | { readonly kind: "unauthenticated"; readonly silent: boolean; readonly message: string }
  | { readonly kind: "failed"; readonly error: unknown }
  | { readonly kind: "late" };
/** Never rejects. */
type Send = (call: Call, signal: AbortSignal) => Promise<Sent>;

type Done = (error: unknown, body?: unknown, response?: unknown) => void;
type RestClient = {
  readonly setOptions: (options: { readonly http: { readonly agent: unknown } }) => void;
  readonly executeApiCall: (
    method: Call["method"],
    path: string,
    headers: Record<string, string>,
    body: Json | null,
    options: { readonly request: ReturnType<typeof requestUnder> },
    done: Done,
  ) => void;
};

const API_VERSION = "2021-04-12";

export function openWire(
  options: AzureWireOptions,
  agent: unknown,
): { readonly host: string; readonly send: Send } {
  const { host, registry } = openRegistry(options.access);
  const rest = Reflect.get(registry, "_restApiClient") as RestClient;
  rest.setOptions({ http: { agent } });
  reuseSignatures(rest);

  const send: Send = (call, signal) =>
    new Promise((resolve) => {
      const headers: Record<string, string> = { ...call.headers };
      if (call.ifMatch !== undefined) headers["If-Match"] = `"${call.ifMatch}"`;
      if (call.body !== undefined) headers["Content-Type"] = "application/json; charset=utf-8";
      const path = `${call.path}?api-version=${API_VERSION}`;
      try {
        rest.executeApiCall(
          call.method,
          path,
          headers,
          call.body ?? null,
          { request: requestUnder(signal) },
          (error, body, response) => resolve(sentOf(error, body, response)),
        );
      } catch (error) {
        resolve({ kind: "failed", error });
      }
    });
  return { host, send };
}

/** Seconds for which a signature is used again; the SDK makes each for an hour. */
const SIGNATURE_FRESH = 1800;

/** With a connection string the SDK signs every call separately, although a signature is valid for an hour. */
function reuseSignatures(rest: RestClient): void {
  const config: unknown = Reflect.get(rest, "_config");
  const signature: unknown = isRecord(config) ? config["sharedAccessSignature"] : undefined;
  if (typeof signature !== "object" || signature === null) return;
  const extend: unknown = Reflect.get(signature, "extend");
  if (typeof extend !== "function") return;
  let made: { readonly expiry: number; readonly text: unknown } | null = null;
  const extendOnce = (expiry: number) => {
    // Also after the clock was set back.
    if (made === null || Math.abs(expiry - made.expiry) > SIGNATURE_FRESH)
      made = { expiry, text: Reflect.apply(extend, signature, [expiry]) };
    return made.text;
  };
  Reflect.set(signature, "extend", extendOnce);
}

function sentOf(error: unknown, body: unknown, response: unknown): Sent {
  if (error === null || error === undefined) return { kind: "answered", body, headers: headersOf(response) };
  if (isTokenFailure(error)) return { kind: "unauthenticated", silent: error.silent, message: error.message };
  if (!isRecord(error)) return { kind: "failed", error };
  const { response: refused, responseBody: text } = error;
  const status = isRecord(refused) ? refused["statusCode"] : undefined;
  if (typeof status !== "number") return { kind: "failed", error };
  const answer = { status, headers: headersOf(refused), body: typeof text === "string" ? text : "" };
  return { kind: "refused", answer };
}

function headersOf(response: unknown): IncomingHttpHeaders {
  const headers: unknown = isRecord(response) ? response["headers"] : undefined;
  return isRecord(headers) ? (headers as IncomingHttpHeaders) : {};
}

function openRegistry(access: HubAccess): { readonly host: string; readonly registry: Registry } {
  switch (access.kind) {
    case "connectionString": {
      const parts = new Set(access.connectionString.split(";").map((part) => part.split("=")[0]?.trim()));
      const missing = ["HostName", "SharedAccessKeyName", "SharedAccessKey"].filter(
        (name) => !parts.has(name),
      );
      if (missing.length > 0)
        throw new Error(`the connection string of the hub has no ${missing.join(", no ")}`);
      const host = /(?:^|;)\s*HostName=([^;]+)/.exec(access.connectionString)?.[1] ?? "";
      return { host, registry: Registry.fromConnectionString(access.connectionString) };
    }
    case "credential":
      return {
        host: access.host,
        registry: Registry.fromTokenCredential(access.host, guarded(access.credential)),
      };
    default:
      return unreachable(access);
  }
}

type TokenFailure = { readonly tokenFailure: true; readonly silent: boolean; readonly message: string };

function isTokenFailure(error: unknown): error is TokenFailure {
  return isRecord(error) && error["tokenFailure"] === true;
}

/** One request for a token at a time, and failures with a message of ours: the SDK requests a token for each call in flight. */
function guarded(credential: Pick<TokenCredential, "getToken">): TokenCredential {
  let asking: ReturnType<TokenCredential["getToken"]> | null = null;

  async function ask(...asked: Parameters<TokenCredential["getToken"]>) {
    try {
      return await credential.getToken(...asked);
    } catch (error) {
      const status = isRecord(error) ? error["statusCode"] : undefined;
      const silent = !(typeof status === "number" && status >= 400 && status < 500 && status !== 429);
      const message = error instanceof Error ? cleanMessage(error.message) : "unknown failure";
      const failure: TokenFailure = { tokenFailure: true, silent, message };
      throw failure;
    } finally {
      asking = null;
    }
  }

  return {
    getToken: (...asked) => {
      asking ??= ask(...asked);
      return asking;
    },
  };
}
