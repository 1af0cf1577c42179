import type { ManualClock, SimClock } from "../base/clock.ts";
import { parseDuration } from "../base/duration.ts";
import { ANY, type Fields, PERCENT, readFields } from "../base/fields.ts";
import {
  isObject,
  type JsonObject,
  type JsonValue,
  ownValue,
  type ParsedJson,
  parseJson,
  setKey,
} from "../base/json.ts";
import { parseBehaviours } from "../devices/behaviour.ts";
import type { Fleet } from "../devices/fleet.ts";
import { DEFAULT_LIFETIME } from "../hub/cloud-messages.ts";
import { EVENT_SOURCES, type EventSource } from "../hub/event-feed.ts";
import { FAULT_KINDS, type FaultRule } from "../hub/faults.ts";
import type { Hub } from "../hub/hub.ts";
import { isBasic } from "../hub/tier.ts";
import { twinKey } from "../hub/twin.ts";
import { type HttpReply, type HttpRequest, JSON_HEADERS, urlOf } from "./http-message.ts";
import type { ControlApi } from "./server.ts";

// The simulator's own API under /sim, on the port of the hub: what a test does to the world. It asks for no key; the
// simulator is meant for loopback and test networks.

export type ControlParts = {
  readonly hub: Hub;
  readonly fleet: Fleet;
  /** `null`: the clock is the machine's. */
  readonly manual: ManualClock | null;
  readonly seed: number;
};

type Asked = { readonly body: JsonValue | undefined; readonly url: URL; readonly id: string | null };
type Handler = (asked: Asked) => HttpReply | Promise<HttpReply>;

export function createControlApi(parts: ControlParts): ControlApi {
  const handlers = handlersOf(parts);
  return (request) => {
    const url = urlOf(request);
    if (url === null) return null;
    const [root, room = "", ...rest] = url.pathname.split("/").filter((segment) => segment !== "");
    if (root !== "sim") return null;
    return handle(handlers, { request, url, room, rest });
  };
}

/** `undefined` where a percent sign is followed by no proper code. */
function decodedSegment(segment: string): string | undefined {
  try {
    return decodeURIComponent(segment);
  } catch {
    return undefined;
  }
}

async function handle(
  handlers: Readonly<Record<string, Readonly<Record<string, Handler>>>>,
  asked: {
    readonly request: HttpRequest;
    readonly url: URL;
    readonly room: string;
    readonly rest: readonly string[];
  },
): Promise<HttpReply> {
  const { request, url, room, rest } = asked;
  const methods = ownValue(handlers, [room, ...(rest[0] === "behaviours" ? rest : [])].join("/"));
  if (methods === undefined)
    return refused(404, [
      `there is no /sim/${room}; there are ${Object.keys(handlers)
        .map((name) => `/sim/${name}`)
        .join(", ")}`,
    ]);
  const handler = ownValue(methods, request.method);
  if (handler === undefined)
    return refused(405, [`${request.method} is not possible here; ${Object.keys(methods).join(", ")} are`]);
  const body = parseBody(request.body);
  if (!body.ok) return refused(400, [`the body is ${body.problem}`]);
  const id = rest[0] === undefined ? null : decodedSegment(rest[0]);
  if (id === undefined) return refused(400, [`${rest[0]} is not encoded as a path must be`]);
  return handler({ body: body.value, url, id });
}

function handlersOf({
  hub,
  fleet,
  manual,
  seed,
}: ControlParts): Readonly<Record<string, Readonly<Record<string, Handler>>>> {
  const behavioursReply = () => answered({ behaviours: fleet.behaviours().map((rule) => rule.source) });
  const putBehaviours = (body: JsonValue | undefined, keep: boolean) => {
    const parsed = parseBehaviours(body ?? null, seed);
    if (!parsed.ok) return refused(400, parsed.problems);
    fleet.setBehaviours(keep ? [...fleet.behaviours(), ...parsed.behaviours] : parsed.behaviours);
    return behavioursReply();
  };
  const behaviours: Readonly<Record<string, Handler>> = {
    GET: behavioursReply,
    POST: ({ body }) => putBehaviours(body, true),
    PUT: ({ body }) => putBehaviours(body, false),
    DELETE: () => putBehaviours([], false),
  };
  return {
    health: {
      GET: () =>
        answered({
          status: "ok",
          now: timeOf(hub.clock),
          devices: hub.registry.count(),
          virtualClock: manual !== null,
        }),
    },
    counters: {
      GET: () =>
        answered({ ...hub.counters.report(), budgets: hub.throttle.left(), quota: hub.quota.report() }),
      DELETE: () => {
        hub.counters.reset();
        return NO_CONTENT;
      },
    },
    faults: {
      GET: () => answered({ faults: hub.faults.list().map(faultDocument) }),
      POST: ({ body }) => {
        const parsed = parseFault(body, hub.clock.now());
        if (!parsed.ok) return refused(400, parsed.problems);
        hub.faults.put(parsed.rule);
        return answered(faultDocument(parsed.rule));
      },
      DELETE: ({ id }) => {
        if (id === null) hub.faults.clear();
        else if (!hub.faults.remove(id)) return refused(404, [`there is no fault ${id}`]);
        return NO_CONTENT;
      },
    },
    fleet: {
      GET: ({ url }) => {
        const summary = fleet.summary();
        const top = Number(url.searchParams.get("devices") ?? 0);
        const devices =
          top > 0 ? { list: fleet.list().slice(0, top), identities: identitiesOf(hub).slice(0, top) } : {};
        return answered({
          ...summary,
          ...devices,
          configurations: hub.configurations.list().map(({ id }) => id),
          behaviours: fleet.behaviours().map((rule) => rule.source),
        });
      },
      POST: behaviours["POST"] as Handler,
      PUT: behaviours["PUT"] as Handler,
    },
    "fleet/behaviours": behaviours,
    clock: {
      GET: () => answered({ now: timeOf(hub.clock), virtual: manual !== null }),
      POST: async ({ body }) => {
        if (manual === null)
          return refused(409, ["the clock is the machine's; start with --virtual-clock to move it"]);
        const problems: string[] = [];
        const fields = readFields(isObject(body) ? body : {}, "", problems);
        const milliseconds = fields.optionalNumber("advanceMilliseconds", ANY);
        if (milliseconds === null && problems.length === 0)
          fields.complain("advanceMilliseconds", "is needed");
        fields.done();
        if (problems.length > 0 || milliseconds === null) return refused(400, problems);
        await manual.advance(milliseconds);
        return answered({ now: timeOf(hub.clock), virtual: true });
      },
    },
    events: { GET: ({ url }) => readEvents(hub, url.searchParams) },
    messages: { POST: ({ body }) => sendMessage(hub, body) },
    evaluate: { POST: () => answered({ twinWrites: hub.evaluate() }) },
  };
}

const EVENTS_PER_PAGE = 100;
const MOST_EVENTS_PER_PAGE = 1000;

/** `from`, `limit`, `device` and `source`; a page says where the next begins. */
function readEvents(hub: Hub, asked: URLSearchParams): HttpReply {
  const problems: string[] = [];
  const integer = (name: string, fallback: number): number => {
    const written = asked.get(name);
    if (written !== null && !/^[0-9]{1,15}$/.test(written)) problems.push(`${name} must be a whole number`);
    return written === null ? fallback : Number(written);
  };
  const from = integer("from", 1);
  const limit = Math.min(Math.max(1, integer("limit", EVENTS_PER_PAGE)), MOST_EVENTS_PER_PAGE);
  const source = asked.get("source");
  if (source !== null && !isEventSource(source))
    problems.push(`source must be one of ${EVENT_SOURCES.join(", ")}`);
  for (const name of asked.keys())
    if (!["from", "limit", "device", "source"].includes(name)) problems.push(`${name} is not known`);
  if (problems.length > 0) return refused(400, problems);
  return answered(
    hub.events.read({
      from,
      limit,
      source: source !== null && isEventSource(source) ? source : null,
      deviceId: asked.get("device"),
    }),
  );
}

function isEventSource(name: string): name is EventSource {
  return EVENT_SOURCES.some((source) => source === name);
}

/** What a service sends over AMQP to a real hub: a message to a device, which waits until the device takes it. */
function sendMessage(hub: Hub, body: JsonValue | undefined): HttpReply {
  if (!isObject(body)) return refused(400, ["a message must be an object"]);
  const problems: string[] = [];
  const fields = readFields(body, "", problems);
  const device = fields.text("device", "");
  if (device === "" && problems.length === 0) fields.complain("device", "is needed");
  const given = fields.raw("properties") ?? {};
  const properties: Record<string, string | null> = {};
  if (!isObject(given)) fields.complain("properties", "must be an object");
  else
    for (const [name, value] of Object.entries(given)) {
      if (typeof value === "string" || value === null) setKey(properties, name, value);
      else fields.complain(`properties.${name}`, "must be text or null");
    }
  const system = {
    "$.mid": fields.optionalText("messageId"),
    "$.cid": fields.optionalText("correlationId"),
    "$.ct": fields.optionalText("contentType"),
    "$.ce": fields.optionalText("contentEncoding"),
  };
  for (const [name, value] of Object.entries(system)) if (value !== null) properties[name] = value;
  const content = fields.raw("body") ?? "";
  const lifetime = fields.duration("expiresIn", DEFAULT_LIFETIME);
  fields.done();
  if (problems.length > 0) return refused(400, problems);
  if (hub.registry.get(device, null)?.enabled !== true)
    return refused(404, [`there is no device ${device} that is enabled`]);
  if (isBasic(hub.options.tier)) return refused(403, [`tier ${hub.options.tier} has no messages to devices`]);
  if (hub.quota.spent()) return refused(403, ["the daily quota of messages is used up until midnight UTC"]);
  if (hub.options.throttling && !hub.throttle.take("cloudMessage", 1))
    return refused(429, ["too many messages to devices; try again later"]);
  const text = typeof content === "string" ? content : JSON.stringify(content);
  const sent = hub.messages.send(device, { body: Buffer.from(text), properties, lifetime });
  if (!sent.ok) return refused(sent.refusal.status, [sent.refusal.message]);
  hub.quota.charge("cloudMessage", sent.value.body.length);
  return answered({ sequenceNumber: sent.value.sequenceNumber, pending: hub.messages.pending(device) });
}

/** Every identity of a device, with its tags and what its twins desire of models: `module` is null in the device's own. */
function identitiesOf(hub: Hub): readonly JsonObject[] {
  return [...hub.registry.devices()].map(({ deviceId, enabled }) => {
    const pointers = [null, ...hub.registry.modulesOf(deviceId).map(({ moduleId }) => moduleId)].flatMap(
      (module) => {
        const pointer = hub.twins.get(twinKey(deviceId, module))?.desired.value["model"];
        if (!isObject(pointer)) return [];
        // Its url is a secret: whoever has it may download.
        const { url: _, ...told } = pointer;
        return [{ module, ...told }];
      },
    );
    return { deviceId, enabled, tags: hub.twins.get(twinKey(deviceId, null))?.tags ?? {}, pointers };
  });
}

function timeOf(clock: SimClock): string {
  return new Date(clock.now()).toISOString();
}

type ParsedFault =
  | { readonly ok: true; readonly rule: FaultRule }
  | { readonly ok: false; readonly problems: readonly string[] };

let faultsMade = 0;

/** `until` is a number of requests, or a duration such as `30s` from `now`. */
export function parseFault(body: JsonValue | undefined, now: number): ParsedFault {
  if (!isObject(body)) return { ok: false, problems: ["a fault must be an object"] };
  const problems: string[] = [];
  const fields = readFields(body, "", problems);
  const kind = fields.oneOf("kind", FAULT_KINDS, null);
  if (body["kind"] === undefined) fields.complain("kind", `is needed: one of ${FAULT_KINDS.join(", ")}`);
  const rule: FaultRule = {
    id: fields.text("id", `fault-${++faultsMade}`),
    kind: kind ?? "status",
    operations: fields.texts("operations", ["*"]),
    devices: fields.text("devices", "*"),
    percent: fields.number("percent", 100, PERCENT),
    when: fields.oneOf("when", ["before", "after"], "before") ?? "before",
    status: fields.number("status", 503, { least: 400, most: 599 }),
    milliseconds: fields.duration("milliseconds", 0),
    retryAfterSeconds: fields.optionalNumber("retryAfter", ANY),
    ...parseUntil(fields, now),
  };
  if (kind === "status" && body["status"] === undefined)
    fields.complain("status", "is needed for kind status");
  const needsTime = kind === "latency" || kind === "stale";
  if (needsTime && rule.milliseconds <= 0) fields.complain("milliseconds", `is needed for kind ${kind}`);
  fields.done();
  return problems.length === 0 ? { ok: true, rule } : { ok: false, problems };
}

function parseUntil(fields: Fields, now: number): Pick<FaultRule, "expiresAt" | "remaining"> {
  const until = fields.raw("until");
  if (until === undefined) return { expiresAt: null, remaining: null };
  if (typeof until === "number" && Number.isInteger(until) && until > 0)
    return { expiresAt: null, remaining: until };
  const length = typeof until === "string" ? parseDuration(until) : null;
  if (length === null || length <= 0) {
    fields.complain("until", "must be a number of requests, or a duration such as 30s");
    return { expiresAt: null, remaining: null };
  }
  return { expiresAt: now + length, remaining: null };
}

function faultDocument(rule: FaultRule): JsonObject {
  const { expiresAt, ...rest } = rule;
  return { ...rest, expiresAt: expiresAt === null ? null : new Date(expiresAt).toISOString() };
}

const NO_CONTENT: HttpReply = { status: 204, headers: {}, body: null };

function answered(body: object): HttpReply {
  return { status: 200, headers: JSON_HEADERS, body: `${JSON.stringify(body, null, 2)}\n` };
}

function refused(status: number, problems: readonly string[]): HttpReply {
  return {
    status,
    headers: JSON_HEADERS,
    body: `${JSON.stringify({ error: problems.join("; "), problems })}\n`,
  };
}

function parseBody(body: string): ParsedJson | { readonly ok: true; readonly value: undefined } {
  return body.trim() === "" ? { ok: true, value: undefined } : parseJson(body);
}
