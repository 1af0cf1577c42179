import { randomBytes } from "node:crypto";
import { isObject, type JsonObject, type JsonValue } from "../base/json.ts";
import { parseTargetCondition } from "../hub/conditions.ts";
import { configurationEtag, metricProblem, parseModulesContent } from "../hub/configurations.ts";
import { identityDocument, twinDocument } from "../hub/document.ts";
import { type Answer, errorBody, ok, type Refusal, refuse } from "../hub/errors.ts";
import type { Hub } from "../hub/hub.ts";
import type { Identity } from "../hub/identity.ts";
import { parseMethodCall } from "../hub/methods.ts";
import { type IfMatch, parseIfMatch } from "../hub/preconditions.ts";
import type { Right } from "../hub/sas.ts";
import type { OperationClass } from "../hub/throttle.ts";
import { type Twin, twinEtag, twinKey } from "../hub/twin.ts";
import { parseTwinChange } from "../hub/twins.ts";

/** A request as it came in, without its transport. */
export type HttpRequest = {
  readonly method: string;
  /** Path and query, as sent. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  readonly body: string;
};

export type HttpReply = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** `null`: no body. */
  readonly body: string | null;
};

/** What a request asks for, before anything is done: enough to authorise, to throttle, to strike with faults, to count. */
export type Operation = {
  readonly operation: OperationClass;
  readonly name: string;
  readonly device: string | null;
  readonly right: Right;
  /** Tokens of the budget: the entries of a bulk request. */
  readonly cost: number;
  readonly writes: "identity" | "twin" | "configuration" | null;
  readonly run: () => Answer<HttpReply> | Promise<Answer<HttpReply>>;
};

/** Versions of the API whose requests look like the ones that are served here. */
const API_VERSION = /^20(1[89]|2[0-9])-[0-9]{2}-[0-9]{2}(-preview)?$/;
const DEFAULT_PAGE = 100;
const LIST_LIMIT = 1000;

export const JSON_HEADERS = { "Content-Type": "application/json; charset=utf-8" } as const;

/** Finds out what is asked for. A refusal means that nothing here answers to that. */
export function routeServiceRequest(hub: Hub, request: HttpRequest): Answer<Operation> {
  const url = new URL(request.url, "https://hub");
  const version = url.searchParams.get("api-version");
  if (version === null || !API_VERSION.test(version))
    return refuse("InvalidProtocolVersion", `api-version ${version ?? "(none)"} is not supported`);
  const segments = segmentsOf(url.pathname);
  if (segments === null) return refuse("ArgumentInvalid", "The path is not encoded as it must be");
  const ifMatch = parseIfMatch(headerOf(request, "if-match"));
  if (!ifMatch.ok) return ifMatch;
  const body = parseBody(request);
  if (!body.ok) return body;
  const asked: Asked = {
    hub,
    request,
    url,
    ifMatch: ifMatch.value,
    body: body.value,
    method: request.method,
  };
  const [room, ...rest] = segments;
  const found = room === undefined ? null : (ROOMS[room]?.(asked, rest) ?? null);
  if (found !== null) return ok(found);
  return refuse("ResourceNotFound", `${request.method} ${url.pathname} is not served by this simulator`);
}

type Asked = {
  readonly hub: Hub;
  readonly request: HttpRequest;
  readonly url: URL;
  readonly method: string;
  readonly ifMatch: IfMatch;
  readonly body: JsonValue | undefined;
};

type Room = (asked: Asked, segments: readonly string[]) => Operation | null;

const ROOMS: Readonly<Record<string, Room>> = {
  devices: routeDevices,
  twins: routeTwins,
  configurations: routeConfigurations,
  statistics: routeStatistics,
};

function segmentsOf(path: string): readonly string[] | null {
  try {
    return path
      .split("/")
      .filter((segment) => segment !== "")
      .map(decodeURIComponent);
  } catch {
    return null;
  }
}

export function headerOf(request: HttpRequest, name: string): string | undefined {
  const value = request.headers[name];
  return typeof value === "string" ? value : value?.[0];
}

function parseBody(request: HttpRequest): Answer<JsonValue | undefined> {
  if (request.body === "") return ok(undefined);
  try {
    return ok(JSON.parse(request.body) as JsonValue);
  } catch {
    return refuse("IotHubFormatError", "The body is not JSON");
  }
}

function reply(body: JsonValue, headers: Readonly<Record<string, string>> = {}): Answer<HttpReply> {
  return ok({ status: 200, headers: { ...JSON_HEADERS, ...headers }, body: JSON.stringify(body) });
}

const NO_CONTENT: HttpReply = { status: 204, headers: {}, body: null };

function empty(answer: Answer<unknown>): Answer<HttpReply> {
  return answer.ok ? ok(NO_CONTENT) : answer;
}

function withObject(asked: Asked, run: (body: JsonObject) => ReturnType<Operation["run"]>): Operation["run"] {
  const { body } = asked;
  return () => (isObject(body) ? run(body) : refuse("ArgumentNull", "The body must be a JSON object"));
}

/** The most a client may ask for in one list. */
function topOf(url: URL): number {
  const top = Number(url.searchParams.get("top") ?? LIST_LIMIT);
  return Number.isInteger(top) && top >= 1 && top <= LIST_LIMIT ? top : LIST_LIMIT;
}

// /devices

function routeDevices(asked: Asked, segments: readonly string[]): Operation | null {
  const { hub, method } = asked;
  const [device, second, module, beyond] = segments;
  if (beyond !== undefined) return null;
  if (device === undefined) {
    if (method === "GET") return listDevices(asked);
    return method === "POST" ? bulk(asked) : null;
  }
  if (device === "query" && second === undefined && method === "POST") return query(asked);
  if (second === undefined) return routeDevice(asked, device);
  if (second === "applyConfigurationContent" && module === undefined && method === "POST")
    return {
      operation: "configuration",
      name: "configuration.apply",
      device,
      right: "RegistryWrite",
      cost: 1,
      writes: "configuration",
      run: withObject(asked, (body) => applyContent(hub, device, body)),
    };
  if (second !== "modules") return null;
  return module === undefined ? listModules(asked, device) : routeModule(asked, device, module);
}

type Identifying = Omit<Operation, "run" | "name" | "right" | "writes">;

function reads(base: Identifying, name: string, run: Operation["run"]): Operation {
  return { ...base, name, right: "RegistryRead", writes: null, run };
}

function changes(base: Identifying, name: string, run: Operation["run"]): Operation {
  return { ...base, name, right: "RegistryWrite", writes: "identity", run };
}

function routeDevice(asked: Asked, device: string): Operation | null {
  const { hub, method, ifMatch } = asked;
  const base = { operation: "identity", device, cost: 1 } as const;
  switch (method) {
    case "GET":
      return reads(base, "identity.get", () => {
        const identity = hub.registry.get(device, null);
        if (identity === undefined) return refuse("DeviceNotFound", `Device ${device} not registered`);
        return replyIdentity(hub, identity);
      });
    case "PUT":
      return changes(
        base,
        ifMatch === null ? "identity.create" : "identity.update",
        withObject(asked, (body) => {
          const written = hub.registry.putDevice(device, body, ifMatch);
          return written.ok ? replyIdentity(hub, written.value) : written;
        }),
      );
    case "DELETE":
      return changes(base, "identity.delete", () => empty(hub.registry.removeDevice(device, ifMatch)));
    default:
      return null;
  }
}

function routeModule(asked: Asked, device: string, module: string): Operation | null {
  const { hub, method, ifMatch } = asked;
  const base = { operation: "identity", device, cost: 1 } as const;
  switch (method) {
    case "GET":
      return reads(base, "module.get", () => {
        const identity = hub.registry.get(device, module);
        return identity === undefined
          ? refuse("ModuleNotFound", `Module ${module} on device ${device} not registered`)
          : replyIdentity(hub, identity);
      });
    case "PUT":
      return changes(
        base,
        ifMatch === null ? "module.create" : "module.update",
        withObject(asked, (body) => {
          const written = hub.registry.putModule(device, module, body, ifMatch);
          return written.ok ? replyIdentity(hub, written.value) : written;
        }),
      );
    case "DELETE":
      return changes(base, "module.delete", () => empty(hub.registry.removeModule(device, module, ifMatch)));
    default:
      return null;
  }
}

function replyIdentity(hub: Hub, identity: Identity): Answer<HttpReply> {
  const activity = hub.activityOf(twinKey(identity.deviceId, identity.moduleId));
  return reply(identityDocument(identity, activity), { ETag: `"${identity.etag}"` });
}

function listDevices({ hub, url }: Asked): Operation {
  return {
    operation: "identity",
    name: "identity.list",
    device: null,
    right: "RegistryRead",
    cost: 1,
    writes: null,
    run: () => {
      const listed: JsonObject[] = [];
      const top = topOf(url);
      for (const identity of hub.registry.devices()) {
        if (listed.length >= top) break;
        listed.push(identityDocument(identity, hub.activityOf(identity.deviceId)));
      }
      return reply(listed);
    },
  };
}

function listModules({ hub, method }: Asked, device: string): Operation | null {
  if (method !== "GET") return null;
  return reads({ operation: "identity", device, cost: 1 }, "module.list", () => {
    if (hub.registry.get(device, null) === undefined)
      return refuse("DeviceNotFound", `Device ${device} not registered`);
    return reply(
      hub.registry
        .modulesOf(device)
        .map((identity) =>
          identityDocument(identity, hub.activityOf(twinKey(identity.deviceId, identity.moduleId))),
        ),
    );
  });
}

function bulk({ hub, body }: Asked): Operation {
  const entries = Array.isArray(body) ? (body as readonly JsonValue[]) : null;
  return {
    operation: "identity",
    name: "identity.bulk",
    device: null,
    right: "RegistryWrite",
    cost: Math.max(1, entries?.length ?? 1),
    writes: "identity",
    run: () => {
      if (entries === null) return refuse("ArgumentInvalid", "The body must be a JSON array");
      const done = hub.registry.bulk(entries);
      if (!done.ok) return done;
      const answer = { isSuccessful: done.value.length === 0, errors: done.value, warnings: [] };
      const status = answer.isSuccessful ? 200 : 400;
      return ok({ status, headers: JSON_HEADERS, body: JSON.stringify(answer) });
    },
  };
}

function query({ hub, request, body }: Asked): Operation {
  return {
    operation: "query",
    name: "query",
    device: null,
    right: "ServiceConnect",
    cost: 1,
    writes: null,
    run: () => {
      const text = isObject(body) ? body["query"] : undefined;
      if (typeof text !== "string") return refuse("ArgumentNull", "The body needs a query");
      const size = pageSizeOf(headerOf(request, "x-ms-max-item-count"), hub.options.maximumPageSize);
      if (!size.ok) return size;
      const continuation = headerOf(request, "x-ms-continuation") ?? null;
      const page = hub.index.query(text, { size: size.value, continuation });
      if (!page.ok) return page;
      const next = page.value.continuation;
      return reply(page.value.rows, {
        "x-ms-item-type": page.value.itemType,
        // Left out at the end: the client takes an empty header for one more page.
        ...(next === null ? {} : { "x-ms-continuation": next }),
      });
    },
  };
}

function pageSizeOf(header: string | undefined, maximum: number): Answer<number> {
  if (header === undefined) return ok(Math.min(DEFAULT_PAGE, maximum));
  const size = Number(header);
  if (!Number.isInteger(size) || size < 1)
    return refuse("ArgumentInvalid", `x-ms-max-item-count must be a whole number above 0, not ${header}`);
  return ok(Math.min(size, maximum));
}

function applyContent(hub: Hub, device: string, body: JsonObject): Answer<HttpReply> {
  const identity = hub.registry.get(device, null);
  if (identity === undefined) return refuse("DeviceNotFound", `Device ${device} not registered`);
  if (body["deviceContent"] !== undefined || body["moduleContent"] !== undefined)
    return refuse("InvalidConfigurationContent", "only modulesContent can be applied to a device");
  const modules = body["modulesContent"];
  if (!isObject(modules)) return refuse("InvalidConfigurationContent", "modulesContent must be an object");
  if (!identity.iotEdge) return refuse("InvalidOperation", `${device} is not an IoT Edge device`);
  const content = parseModulesContent(modules);
  if (!content.ok) return content;
  hub.evaluation.applyOnce(device, content.value.settings);
  return ok(NO_CONTENT);
}

// /twins

function routeTwins(asked: Asked, segments: readonly string[]): Operation | null {
  const [device, second, third, fourth, beyond] = segments;
  if (device === undefined || beyond !== undefined) return null;
  if (second === undefined) return routeTwin(asked, device, null);
  if (second === "methods" && third === undefined) return invokeMethod(asked, device, null);
  if (second !== "modules" || third === undefined) return null;
  if (fourth === undefined) return routeTwin(asked, device, third);
  return fourth === "methods" ? invokeMethod(asked, device, third) : null;
}

function routeTwin(asked: Asked, device: string, module: string | null): Operation | null {
  const { hub, method, ifMatch } = asked;
  const key = twinKey(device, module);
  const base = { device, right: "ServiceConnect", cost: 1 } as const;
  const write = (name: "patch" | "replace") =>
    withObject(asked, (body) => {
      const change = parseTwinChange(body);
      if (!change.ok) return change;
      const written = hub.twins[name](key, change.value, ifMatch);
      return written.ok ? replyTwin(hub, written.value) : written;
    });
  switch (method) {
    case "GET":
      return {
        ...base,
        operation: "twinRead",
        name: "twin.get",
        writes: null,
        run: () => {
          const twin = hub.twins.get(key);
          if (twin !== undefined) return replyTwin(hub, twin);
          return module === null || hub.registry.get(device, null) === undefined
            ? refuse("DeviceNotFound", `Device ${device} not registered`)
            : refuse("ModuleNotFound", `Module ${module} on device ${device} not registered`);
        },
      };
    case "PATCH":
      return { ...base, operation: "twinWrite", name: "twin.patch", writes: "twin", run: write("patch") };
    case "PUT":
      return { ...base, operation: "twinWrite", name: "twin.replace", writes: "twin", run: write("replace") };
    default:
      return null;
  }
}

function replyTwin(hub: Hub, twin: Twin): Answer<HttpReply> {
  const identity = hub.registry.get(twin.deviceId, twin.moduleId);
  if (identity === undefined) return refuse("DeviceNotFound", `Device ${twin.deviceId} not registered`);
  const activity = hub.activityOf(twinKey(twin.deviceId, twin.moduleId));
  return reply(twinDocument(identity, twin, activity), { ETag: `"${twinEtag(twin)}"` });
}

function invokeMethod(asked: Asked, device: string, module: string | null): Operation | null {
  if (asked.method !== "POST") return null;
  return {
    operation: "method",
    name: "method",
    device,
    right: "ServiceConnect",
    cost: Math.max(1, Math.ceil(asked.request.body.length / 4096)),
    writes: null,
    run: withObject(asked, async (body) => {
      const { hub } = asked;
      const call = parseMethodCall(body);
      if (!call.ok) return call;
      // A disabled device is not there for methods; its modules are not either.
      if (hub.registry.get(device, null)?.enabled !== true)
        return refuse("DeviceNotFound", `Device ${device} not registered`, "B");
      if (hub.registry.get(device, module) === undefined)
        return refuse("ModuleNotFound", `Module ${module} on device ${device} not registered`, "B");
      const answered = await hub.methods.invoke(twinKey(device, module), call.value);
      return answered.ok ? reply(answered.value) : answered;
    }),
  };
}

// /configurations

function routeConfigurations(asked: Asked, segments: readonly string[]): Operation | null {
  const { hub, method, ifMatch, url } = asked;
  const [id, beyond] = segments;
  if (beyond !== undefined) return null;
  const base = { operation: "configuration", device: null, cost: 1 } as const;
  const looks = (name: string, run: Operation["run"]): Operation => ({
    ...base,
    name: `configuration.${name}`,
    right: "ServiceConnect",
    writes: null,
    run,
  });
  const writes = (name: string, run: Operation["run"]): Operation => ({
    ...base,
    name: `configuration.${name}`,
    right: "RegistryWrite",
    writes: "configuration",
    run,
  });
  if (id === undefined) {
    if (method !== "GET") return null;
    return looks("list", () =>
      reply(hub.configurations.list().slice(0, topOf(url)).map(hub.configurations.document)),
    );
  }
  if (id === "testQueries" && method === "POST") return looks("test", withObject(asked, testQueries));
  switch (method) {
    case "GET":
      return looks("get", () => {
        const configuration = hub.configurations.get(id);
        if (configuration === undefined)
          return refuse("ConfigurationNotFound", `Configuration ${id} does not exist`);
        return reply(hub.configurations.document(configuration), {
          ETag: `"${configurationEtag(configuration)}"`,
        });
      });
    case "PUT":
      return writes(
        ifMatch === null ? "create" : "update",
        withObject(asked, (body) => {
          const written = hub.configurations.put(id, body, ifMatch);
          if (!written.ok) return written;
          return reply(hub.configurations.document(written.value), {
            ETag: `"${configurationEtag(written.value)}"`,
          });
        }),
      );
    case "DELETE":
      return writes("delete", () => empty(hub.configurations.remove(id, ifMatch)));
    default:
      return null;
  }
}

function testQueries(body: JsonObject): Answer<HttpReply> {
  const condition = parseTargetCondition(
    typeof body["targetCondition"] === "string" ? body["targetCondition"] : "",
  );
  const metrics = isObject(body["customMetricQueries"]) ? body["customMetricQueries"] : {};
  const errors: Record<string, string> = {};
  for (const [name, text] of Object.entries(metrics)) {
    const problem = metricProblem(text);
    if (problem !== null) errors[name] = problem;
  }
  return reply({
    targetConditionError: condition.ok ? null : condition.refusal.message,
    customMetricQueryErrors: errors,
  });
}

// /statistics

function routeStatistics({ hub, method }: Asked, segments: readonly string[]): Operation | null {
  const [what, beyond] = segments;
  if (method !== "GET" || beyond !== undefined || (what !== "devices" && what !== "service")) return null;
  return reads({ operation: "identity", device: null, cost: 1 }, `statistics.${what}`, () => {
    const all = [...hub.registry.devices()];
    if (what === "service") {
      const connected = all.filter(
        (identity) => hub.activityOf(identity.deviceId).connectionState === "Connected",
      );
      return reply({ connectedDeviceCount: connected.length });
    }
    const enabled = all.filter((identity) => identity.enabled).length;
    return reply({
      totalDeviceCount: all.length,
      enabledDeviceCount: enabled,
      disabledDeviceCount: all.length - enabled,
    });
  });
}

/** A refusal as it goes over the wire. `at` is the time it is stamped with. */
export function refusalReply(refusal: Refusal, at: Date): HttpReply {
  const retryAfter = refusal.retryAfterSeconds;
  return {
    status: refusal.status,
    headers: {
      ...JSON_HEADERS,
      "iothub-errorcode": refusal.code,
      ...(retryAfter === null ? {} : { "Retry-After": String(retryAfter) }),
    },
    body: errorBody(refusal, randomBytes(16).toString("hex").toUpperCase(), at),
  };
}
