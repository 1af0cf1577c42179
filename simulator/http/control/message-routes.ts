import { Type } from "typebox";
import { readFields } from "../../base/fields.ts";
import { isObject } from "../../base/json.ts";
import type { Hub } from "../../hub/hub.ts";
import { ACKS, DEFAULT_LIFETIME } from "../../hub/messaging/cloud-messages.ts";
import { EVENT_SOURCES } from "../../hub/messaging/event-log.ts";
import { OUTCOMES } from "../../hub/messaging/feedback-log.ts";
import { readContent } from "../../hub/messaging/message-content.ts";
import { sendCloudMessage } from "../../hub/messaging/send-message.ts";
import { twinKey } from "../../hub/twins/twin.ts";
import type { HttpReply } from "../transport/http-message.ts";
import { type Asked, answered, type ControlRoute, refused } from "./control-route.ts";
import { ANY_OBJECT, ANYTHING, COUNT, DURATION, nullable, object, oneOf, TIME } from "./control-schema.ts";
import { MESSAGE_SCHEMA, needed } from "./message-fields.ts";
import type { Query, QueryParameter } from "./query-parameters.ts";

// What goes between the cloud and devices beside the service API: events of devices, and messages to them.

const ENTRIES_PER_PAGE = 100;
const MOST_ENTRIES_PER_PAGE = 1000;
const PAGE: Readonly<Record<"from" | "limit", QueryParameter>> = {
  from: { kind: "integer", description: "the first sequence number that is wanted; 1 by default" },
  limit: { kind: "integer", description: "entries of a page: 100 by default, at most 1000" },
};

export const EVENT = object({
  sequenceNumber: Type.Integer({ minimum: 1 }),
  body: ANYTHING,
  bodyEncoding: oneOf(["json", "utf-8", "base64"]),
  properties: ANY_OBJECT,
  systemProperties: ANY_OBJECT,
  annotations: ANY_OBJECT,
});

const FEEDBACK = object({
  sequenceNumber: Type.Integer({ minimum: 1 }),
  originalMessageId: nullable(Type.String()),
  enqueuedTimeUtc: TIME,
  statusCode: oneOf(Object.keys(OUTCOMES)),
  description: Type.String(),
  deviceId: Type.String(),
  deviceGenerationId: Type.String(),
});

const MESSAGE = object({
  device: Type.String({ minLength: 1 }),
  ...MESSAGE_SCHEMA,
  expiresIn: Type.Optional(DURATION),
  ack: Type.Optional(oneOf(ACKS)),
});

const INPUT = object({
  device: Type.String({ minLength: 1 }),
  module: Type.String({ minLength: 1 }),
  input: Type.String({ pattern: "^[^/+#]+$" }),
  ...MESSAGE_SCHEMA,
});

export const MESSAGE_ROUTES: readonly ControlRoute[] = [
  {
    path: "/sim/events",
    methods: {
      GET: {
        summary: "Events as from the built-in endpoint; a page says where the next begins",
        query: {
          ...PAGE,
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
              limit: limitOf(query),
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
        examples: {
          "a greeting": { device: "cam-1", body: "hello", properties: { a: "b" } },
          "a message with feedback": { device: "cam-1", messageId: "m-1", ack: "full", expiresIn: "5m" },
        },
        answer: object({ sequenceNumber: Type.Integer(), pending: COUNT }),
        refusals: [403, 413, 429],
        handle: ({ hub }, asked) => sendMessage(hub, asked),
      },
    },
  },
  {
    path: "/sim/messages/feedback",
    methods: {
      GET: {
        summary: "What became of messages whose senders asked for feedback; the newest thousand",
        query: PAGE,
        answer: object({ feedback: Type.Array(FEEDBACK) }),
        handle: ({ hub }, { query }) =>
          answered({ feedback: hub.messages.feedback(query.integer("from", 1), limitOf(query)) }),
      },
    },
  },
  {
    path: "/sim/inputs",
    methods: {
      POST: {
        summary:
          "Brings a message to an input of a module, as a route of edgeHub would; nothing is kept for later",
        body: INPUT,
        answer: object({
          delivered: Type.Boolean({ description: "false: the module does not listen on its inputs" }),
        }),
        handle: ({ hub }, asked) => sendInput(hub, asked),
      },
    },
  },
];

function limitOf(query: Query): number {
  return Math.min(Math.max(1, query.integer("limit", ENTRIES_PER_PAGE)), MOST_ENTRIES_PER_PAGE);
}

/** What a service sends over AMQP to a real hub. */
function sendMessage(hub: Hub, { body }: Asked): HttpReply {
  if (!isObject(body)) return refused(400, ["a message must be an object"]);
  const problems: string[] = [];
  const fields = readFields(body, "", problems);
  const device = needed(fields, "device");
  const content = readContent(fields);
  const lifetime = fields.duration("expiresIn", DEFAULT_LIFETIME);
  const ack = fields.oneOf("ack", ACKS, "none") ?? "none";
  fields.done();
  if (problems.length > 0) return refused(400, problems);
  const sent = sendCloudMessage(hub, device, { ...content, lifetime, ack });
  if (!sent.ok) return refused(sent.refusal.status, [sent.refusal.message]);
  return answered({ sequenceNumber: sent.value.sequenceNumber, pending: hub.messages.pending(device) });
}

function sendInput(hub: Hub, { body }: Asked): HttpReply {
  if (!isObject(body)) return refused(400, ["a message must be an object"]);
  const problems: string[] = [];
  const fields = readFields(body, "", problems);
  const device = needed(fields, "device");
  const module = needed(fields, "module");
  const input = needed(fields, "input");
  if (/[/+#]/.test(input)) fields.addProblem("input", "must not have any of / + #");
  const content = readContent(fields);
  fields.done();
  if (problems.length > 0) return refused(400, problems);
  if (hub.registry.get(device, module) === undefined)
    return refused(404, [`there is no module ${module} of device ${device}`]);
  return answered({ delivered: hub.inputs.send(twinKey(device, module), { input, ...content }) });
}
