import type { IncomingHttpHeaders } from "node:http";
import type { TokenCredential } from "@azure/identity";
import { Registry } from "azure-iothub/dist/registry.js";
import { type Attempt, err, type Fault, ok, type Result, unreachable } from "../base/result.ts";
import { type Clock, type Instant, type Millis, seconds } from "../base/time.ts";
import { linkedSignal } from "../runtime/linked-signal.ts";
import type { Log, Meter } from "../telemetry/telemetry.ts";
import { createHubAgent, type Endpoint, requestUnder } from "./azure-agent.ts";
import {
  cleanWords,
  type ErrorAnswer,
  faultOfAnswer,
  faultOfError,
  faultOfShape,
  isAbsent,
} from "./faults.ts";
import type { DeviceHub, Identity, Json, Lane, Page, Twin, TwinRef } from "./hub.ts";
import { createIntern, isJson } from "./reports.ts";
import type { OperationClass, Throttle } from "./throttle.ts";
import {
  configurationBody,
  configurationOf,
  DEVICES_QUERY,
  deviceRowOf,
  identityOf,
  keysOf,
  MODULES_QUERY,
  moduleRowOf,
  newIdentityBody,
  twinOf,
} from "./wire.ts";

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

export type AzureHubOptions = {
  readonly access: HubAccess;
  readonly endpoint: Endpoint | null;
  readonly throttle: Throttle;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
  /** 0 ≤ x < 1; for jitter. */
  readonly random: () => number;
  /** Of one call, from its turn to the end of its answer. */
  readonly deadline?: Millis;
  /** Rows that a page of a query may have; the hub may send fewer. */
  readonly pageSize?: number;
};

const IDENTITY_READ = "RegistryRead, or the role IoT Hub Registry Contributor";
const IDENTITY_WRITE = "RegistryWrite, or the role IoT Hub Registry Contributor";
const TWIN = "ServiceConnect, or the role IoT Hub Twin Contributor";
const CONFIGURATION = "ServiceConnect, or the role IoT Hub Data Contributor";

/** Throws for a connection string that lacks a part; it never says what the string holds. */
export function createAzureHub(options: AzureHubOptions): DeviceHub & { readonly close: () => void } {
  const { log } = options;
  const pageSize = String(options.pageSize ?? 1000);
  const agent = createHubAgent(options.endpoint);
  const { host, send } = openWire(options, agent);
  const call = createCaller(options, send);
  const intern = createIntern();

  async function readIdentity(device: string, operation: string, signal: AbortSignal): Attempt<Json | null> {
    const path = `/devices/${encodeURIComponent(device)}`;
    const answered = await call(
      { operation, class: "identity", right: IDENTITY_READ, method: "GET", path },
      signal,
    );
    if (!answered.ok) return answered;
    if (answered.value.kind === "absent") return ok(null);
    const { body } = answered.value;
    if (!isJson(body) || identityOf(body, device) === null)
      return err(faultOfShape(operation, "a device identity"));
    return ok(body);
  }

  async function writeIdentity(
    device: string,
    write: Omit<Call, "class" | "right" | "method" | "path">,
    signal: AbortSignal,
  ) {
    const path = `/devices/${encodeURIComponent(device)}`;
    const answered = await call(
      { ...write, class: "identity", right: IDENTITY_WRITE, method: "PUT", path },
      signal,
    );
    if (!answered.ok) return answered;
    if (answered.value.kind === "absent") return err(goneMeanwhile(write.operation, "the identity"));
    const identity = identityOf(answered.value.body, device);
    return identity === null ? err(faultOfShape(write.operation, "a device identity")) : ok(identity);
  }

  async function setEnabled(device: string, enabled: boolean, signal: AbortSignal): Attempt<Identity> {
    const operation = "setEnabled";
    const read = await readIdentity(device, operation, signal);
    if (!read.ok) return read;
    if (read.value === null) return err(goneMeanwhile(operation, "the identity"));
    const had = identityOf(read.value, device);
    if (had === null) return err(faultOfShape(operation, "a device identity"));
    if (had.enabled === enabled) return ok(had);
    // The write replaces all of the identity, and empty keys in it mean "make new ones": every device would be locked out.
    if (had.authentication === "sas" && keysOf(read.value) === null)
      return err({
        kind: "denied",
        message: `${operation}: the credential may not read the keys of the identity, and a write without them would replace them; it needs ${IDENTITY_READ}`,
      });
    const body = { ...read.value, status: enabled ? "enabled" : "disabled" };
    return await writeIdentity(device, { operation, ifMatch: had.etag, body }, signal);
  }

  async function patchTwin(...[ref, patch, lane, signal]: Parameters<DeviceHub["patchTwin"]>): Attempt<Twin> {
    const operation = "patchTwin";
    const body = {
      ...(patch.tags === undefined ? {} : { tags: patch.tags }),
      ...(patch.desired === undefined ? {} : { properties: { desired: patch.desired } }),
    };
    const request = {
      operation,
      class: "twinWrite",
      lane,
      right: TWIN,
      method: "PATCH",
      path: twinPath(ref),
    } as const;
    const answered = await call({ ...request, ifMatch: ref.etag, body }, signal);
    if (!answered.ok) return answered;
    if (answered.value.kind === "absent") return err(goneMeanwhile(operation, "the twin"));
    const twin = twinOf(answered.value.body, ref);
    return twin === null ? err(faultOfShape(operation, "a twin")) : ok(twin);
  }

  async function putConfiguration(
    write: Omit<Call, "class" | "right" | "method" | "path">,
    id: string,
    signal: AbortSignal,
  ) {
    const request = {
      ...write,
      class: "configuration",
      right: CONFIGURATION,
      method: "PUT",
      path: configurationPath(id),
    } as const;
    const answered = await call(request, signal);
    if (!answered.ok) return answered;
    if (answered.value.kind === "absent") return err(goneMeanwhile(write.operation, "the configuration"));
    const written = configurationOf(answered.value.body);
    if (written === null || written.id !== id) return err(faultOfShape(write.operation, "a configuration"));
    return ok(written);
  }

  async function query<Row>(
    asked: {
      readonly operation: string;
      readonly text: string;
      readonly from: string | null;
      readonly rowOf: (row: unknown) => Row | null;
    },
    signal: AbortSignal,
  ): Attempt<Page<Row>> {
    const { operation, text, from, rowOf } = asked;
    const headers = {
      "x-ms-max-item-count": pageSize,
      ...(from === null ? {} : { "x-ms-continuation": from }),
    };
    const answered = await call(
      {
        operation,
        class: "query",
        right: TWIN,
        method: "POST",
        path: "/devices/query",
        headers,
        body: { query: text },
      },
      signal,
    );
    if (!answered.ok) return answered;
    if (answered.value.kind === "absent" || !Array.isArray(answered.value.body))
      return err(faultOfShape(operation, "a page of rows"));
    const all: readonly unknown[] = answered.value.body;
    const rows = all.map(rowOf).filter((row) => row !== null);
    if (rows.length < all.length)
      log.warn("left out malformed rows of a query", { operation, rows: all.length - rows.length });
    const next = answered.value.headers["x-ms-continuation"];
    return ok({ rows, next: typeof next === "string" && next !== "" ? next : null });
  }

  return {
    host,
    getIdentity: async (device, signal) => {
      const read = await readIdentity(device, "getIdentity", signal);
      return read.ok ? ok(read.value === null ? null : identityOf(read.value, device)) : read;
    },
    getKeys: async (device, signal) => {
      const read = await readIdentity(device, "getKeys", signal);
      return read.ok ? ok(keysOf(read.value)) : read;
    },
    createIdentity: (identity, signal) =>
      writeIdentity(
        identity.device,
        { operation: "createIdentity", body: newIdentityBody(identity) },
        signal,
      ),
    setEnabled,
    removeIdentity: async (device, signal) => {
      const path = `/devices/${encodeURIComponent(device)}`;
      const request = {
        operation: "removeIdentity",
        class: "identity",
        right: IDENTITY_WRITE,
        method: "DELETE",
        path,
      } as const;
      return done(await call({ ...request, ifMatch: "*" }, signal));
    },
    getTwin: async (ref, lane, signal) => {
      const operation = "getTwin";
      const request = {
        operation,
        class: "twinRead",
        lane,
        right: TWIN,
        method: "GET",
        path: twinPath(ref),
      } as const;
      const answered = await call(request, signal);
      if (!answered.ok) return answered;
      if (answered.value.kind === "absent") return ok(null);
      const twin = twinOf(answered.value.body, ref);
      return twin === null ? err(faultOfShape(operation, "a twin")) : ok(twin);
    },
    patchTwin,
    listConfigurations: async (signal) => {
      const operation = "listConfigurations";
      const request = {
        operation,
        class: "configuration",
        right: CONFIGURATION,
        method: "GET",
        path: "/configurations",
      } as const;
      const answered = await call(request, signal);
      if (!answered.ok) return answered;
      if (answered.value.kind === "absent" || !Array.isArray(answered.value.body))
        return err(faultOfShape(operation, "a list of configurations"));
      const listed = answered.value.body.map(configurationOf);
      const whole = listed.filter((one) => one !== null);
      // One that we cannot read might be one of ours: to go on without it would create it again.
      return whole.length === listed.length
        ? ok(whole)
        : err(faultOfShape(operation, "a list of configurations"));
    },
    createConfiguration: (configuration, lane, signal) =>
      putConfiguration(
        { operation: "createConfiguration", lane, body: configurationBody(configuration) },
        configuration.id,
        signal,
      ),
    updateConfiguration: (had, change, lane, signal) => {
      const body = configurationBody({ ...had, ...change });
      return putConfiguration(
        { operation: "updateConfiguration", lane, ifMatch: had.etag, body },
        had.id,
        signal,
      );
    },
    removeConfiguration: async (had, lane, signal) => {
      const path = configurationPath(had.id);
      const request = {
        operation: "removeConfiguration",
        class: "configuration",
        lane,
        right: CONFIGURATION,
      } as const;
      return done(await call({ ...request, method: "DELETE", path, ifMatch: had.etag }, signal));
    },
    testCondition: async (targetCondition, signal) => {
      const operation = "testCondition";
      const request = { operation, class: "configuration", right: CONFIGURATION, method: "POST" } as const;
      const body = { targetCondition, customMetricQueries: {} };
      const answered = await call({ ...request, path: "/configurations/testQueries", body }, signal);
      if (!answered.ok) return answered.error.kind === "rejected" ? ok(answered.error.message) : answered;
      if (answered.value.kind === "absent" || !isJson(answered.value.body))
        return err(faultOfShape(operation, "the result of a test"));
      const error = answered.value.body["targetConditionError"];
      return ok(typeof error === "string" && error !== "" ? cleanWords(error) : null);
    },
    queryDevices: (from, signal) =>
      query(
        { operation: "queryDevices", text: DEVICES_QUERY, from, rowOf: (row) => deviceRowOf(row, intern) },
        signal,
      ),
    queryModules: (from, signal) =>
      query(
        { operation: "queryModules", text: MODULES_QUERY, from, rowOf: (row) => moduleRowOf(row, intern) },
        signal,
      ),
    close: () => agent.destroy(),
  };
}

function twinPath(ref: TwinRef): string {
  const device = `/twins/${encodeURIComponent(ref.device)}`;
  return ref.module === null ? device : `${device}/modules/${encodeURIComponent(ref.module)}`;
}

function configurationPath(id: string): string {
  return `/configurations/${encodeURIComponent(id)}`;
}

/** Removing what is not there is done. */
function done(answered: Result<Answer, Fault>): Result<void, Fault> {
  return answered.ok ? ok(undefined) : answered;
}

function goneMeanwhile(operation: string, what: string): Fault {
  return { kind: "conflict", message: `${operation}: ${what} is not on the hub any more` };
}

// ── one call: its turn, its deadline, its fault ──

type Call = {
  readonly operation: string;
  readonly class: OperationClass;
  readonly lane?: Lane;
  /** What the credential must be allowed, in the words of the hub. */
  readonly right: string;
  readonly method: "GET" | "PUT" | "PATCH" | "POST" | "DELETE";
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** An etag without quotes, or `*`. */
  readonly ifMatch?: string;
  readonly body?: Json;
};
/** absent: the hub itself says that there is no such thing. */
type Answer =
  | { readonly kind: "present"; readonly body: unknown; readonly headers: IncomingHttpHeaders }
  | { readonly kind: "absent" };
type Caller = (call: Call, signal: AbortSignal) => Attempt<Answer>;

function createCaller(options: AzureHubOptions, send: Send): Caller {
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

function openWire(options: AzureHubOptions, agent: unknown): { readonly host: string; readonly send: Send } {
  const { host, registry } = openRegistry(options.access);
  const rest = Reflect.get(registry, "_restApiClient") as RestClient;
  rest.setOptions({ http: { agent } });

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

function sentOf(error: unknown, body: unknown, response: unknown): Sent {
  if (error === null || error === undefined) return { kind: "answered", body, headers: headersOf(response) };
  if (isTokenFailure(error)) return { kind: "unauthenticated", silent: error.silent, message: error.message };
  const refused: unknown = typeof error === "object" ? Reflect.get(error, "response") : undefined;
  const status: unknown = isJson(refused) ? refused["statusCode"] : undefined;
  if (typeof status !== "number" || typeof error !== "object") return { kind: "failed", error };
  const text: unknown = Reflect.get(error, "responseBody");
  const answer = { status, headers: headersOf(refused), body: typeof text === "string" ? text : "" };
  return { kind: "refused", answer };
}

function headersOf(response: unknown): IncomingHttpHeaders {
  const headers: unknown = isJson(response) ? response["headers"] : undefined;
  return isJson(headers) ? (headers as IncomingHttpHeaders) : {};
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
  return typeof error === "object" && error !== null && Reflect.get(error, "tokenFailure") === true;
}

/** One request for a token at a time, and failures in our own words: the SDK asks anew for each call in flight. */
function guarded(credential: Pick<TokenCredential, "getToken">): TokenCredential {
  let asking: ReturnType<TokenCredential["getToken"]> | null = null;

  async function ask(...asked: Parameters<TokenCredential["getToken"]>) {
    try {
      return await credential.getToken(...asked);
    } catch (error) {
      const status: unknown =
        typeof error === "object" && error !== null ? Reflect.get(error, "statusCode") : undefined;
      const silent = !(typeof status === "number" && status >= 400 && status < 500 && status !== 429);
      const said = error instanceof Error ? cleanWords(error.message) : "unknown failure";
      const failure: TokenFailure = { tokenFailure: true, silent, message: said };
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
