import { Type } from "typebox";
import { readFields } from "../../base/fields.ts";
import { isObject, type JsonValue, setKey } from "../../base/json.ts";
import { DEFAULT_LIFETIME } from "../../hub/cloud-messages.ts";
import { EVENT_SOURCES } from "../../hub/event-feed.ts";
import type { Hub } from "../../hub/hub.ts";
import { isBasic } from "../../hub/tier.ts";
import type { HttpReply } from "../http-message.ts";
import { type Asked, answered, type ControlRoute, refused } from "./control-route.ts";
import { ANY_OBJECT, ANYTHING, COUNT, DURATION, object, oneOf } from "./control-schema.ts";

// What goes between the cloud and devices beside the service API: events of devices, and messages to them.

const EVENTS_PER_PAGE = 100;
const MOST_EVENTS_PER_PAGE = 1000;

export const EVENT = object({
  sequenceNumber: Type.Integer({ minimum: 1 }),
  body: ANYTHING,
  bodyEncoding: oneOf(["json", "utf-8", "base64"]),
  properties: ANY_OBJECT,
  systemProperties: ANY_OBJECT,
  annotations: ANY_OBJECT,
});

const TEXT = Type.Optional(Type.String());
const MESSAGE = object({
  device: Type.String({ minLength: 1 }),
  body: Type.Optional(Type.Unknown({ description: "a text is sent as it is, anything else as JSON" })),
  properties: Type.Optional(Type.Record(Type.String(), Type.Union([Type.String(), Type.Null()]))),
  messageId: TEXT,
  correlationId: TEXT,
  contentType: TEXT,
  contentEncoding: TEXT,
  expiresIn: Type.Optional(DURATION),
});

export const MESSAGE_ROUTES: readonly ControlRoute[] = [
  {
    path: "/sim/events",
    methods: {
      GET: {
        summary: "Events as from the built-in endpoint; a page says where the next begins",
        query: {
          from: { kind: "integer", description: "the first sequence number that is wanted; 1 by default" },
          limit: { kind: "integer", description: "events of a page: 100 by default, at most 1000" },
          device: { kind: "text", description: "of this device only" },
          source: { kind: "choice", values: EVENT_SOURCES, description: "of this source only" },
        },
        answer: object({
          events: Type.Array(EVENT),
          next: Type.Integer({ minimum: 1, description: "where the next page begins" }),
          oldest: Type.Integer({ minimum: 1, description: "from here on nothing is missing" }),
        }),
        handle: ({ hub }, { query }) =>
          answered(
            hub.events.read({
              from: query.integer("from", 1),
              limit: Math.min(Math.max(1, query.integer("limit", EVENTS_PER_PAGE)), MOST_EVENTS_PER_PAGE),
              source: EVENT_SOURCES.find((source) => source === query.text("source")) ?? null,
              deviceId: query.text("device"),
            }),
          ),
      },
    },
  },
  {
    path: "/sim/messages",
    methods: {
      POST: {
        summary: "Sends a message to a device, which waits until the device takes it",
        body: MESSAGE,
        examples: { "a greeting": { device: "cam-1", body: "hello", properties: { a: "b" } } },
        answer: object({ sequenceNumber: Type.Integer(), pending: COUNT }),
        refusals: [403, 429],
        handle: ({ hub }, asked) => sendMessage(hub, asked),
      },
    },
  },
];

/** What a service sends over AMQP to a real hub. */
function sendMessage(hub: Hub, { body }: Asked): HttpReply {
  if (!isObject(body)) return refused(400, ["a message must be an object"]);
  const problems: string[] = [];
  const fields = readFields(body, "", problems);
  const device = fields.text("device", "");
  if (device === "" && problems.length === 0) fields.complain("device", "is needed");
  const given: JsonValue = fields.raw("properties") ?? {};
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
