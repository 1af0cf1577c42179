import { Type } from "typebox";
import { parseDuration } from "../../base/duration.ts";
import { ANY, type Fields, PERCENT, readFields } from "../../base/fields.ts";
import { isObject, type JsonObject, type JsonValue } from "../../base/json.ts";
import { FAULT_KINDS, type FaultRule } from "../../hub/faults.ts";
import { answered, type ControlRoute, NO_CONTENT, refused } from "./control-route.ts";
import { DURATION, nullable, object, oneOf, TIME } from "./control-schema.ts";

// Faults of the hub: what is broken, for whom and for how long.

const WHEN = ["before", "after"] as const;
const LONGER_THAN_NOTHING = { anyOf: [{ type: "number", exclusiveMinimum: 0 }, { type: "string" }] };

/** What somebody writes. */
const FAULT = Type.Unsafe<JsonObject>({
  ...object({
    id: Type.Optional(Type.String({ description: "a fault of the same id is replaced" })),
    kind: oneOf(FAULT_KINDS),
    operations: Type.Optional(
      Type.Array(Type.String(), { description: "classes (twinWrite), operations (twin.patch), or *" }),
    ),
    devices: Type.Optional(Type.String({ description: "glob of device ids" })),
    percent: Type.Optional(Type.Number({ minimum: 0, maximum: 100 })),
    when: Type.Optional(oneOf(WHEN)),
    status: Type.Optional(Type.Number({ minimum: 400, maximum: 599 })),
    milliseconds: Type.Optional(DURATION),
    retryAfter: Type.Optional(
      Type.Number({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description: "seconds" }),
    ),
    until: Type.Optional(
      Type.Union(
        [Type.Integer({ minimum: 1 }), Type.String({ pattern: "^[+]?([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$" })],
        { description: "a number of requests, or a duration" },
      ),
    ),
  }),
  allOf: [
    { anyOf: [{ properties: { kind: { not: { const: "status" } } } }, { required: ["status"] }] },
    {
      anyOf: [
        { properties: { kind: { not: { enum: ["latency", "stale"] } } } },
        { required: ["milliseconds"], properties: { milliseconds: LONGER_THAN_NOTHING } },
      ],
    },
  ],
});

/** What is answered: a rule with everything that was left out. */
export const FAULT_RULE = object({
  id: Type.String(),
  kind: oneOf(FAULT_KINDS),
  operations: Type.Array(Type.String()),
  devices: Type.String(),
  percent: Type.Number(),
  when: oneOf(WHEN),
  status: Type.Number(),
  milliseconds: Type.Number(),
  retryAfterSeconds: nullable(Type.Number()),
  expiresAt: nullable(TIME),
  remaining: nullable(Type.Integer({ minimum: 1 })),
});

export const FAULT_ROUTES: readonly ControlRoute[] = [
  {
    path: "/sim/faults",
    methods: {
      GET: {
        summary: "The faults in force",
        answer: object({ faults: Type.Array(FAULT_RULE) }),
        handle: ({ hub }) => answered({ faults: hub.faults.list().map(faultDocument) }),
      },
      POST: {
        summary: "Adds a fault, or replaces the one of the same id",
        body: FAULT,
        examples: {
          "an outage of two minutes": { id: "night", kind: "outage", until: "2m" },
          "throttled writes": {
            kind: "status",
            status: 429,
            operations: ["twinWrite"],
            percent: 20,
            until: "30s",
          },
          "a lost answer": { kind: "reset", operations: ["twin.patch"], when: "after", until: 1 },
        },
        answer: FAULT_RULE,
        handle: ({ hub }, { body }) => {
          const parsed = parseFault(body, hub.clock.now());
          if (!parsed.ok) return refused(400, parsed.problems);
          hub.faults.put(parsed.rule);
          return answered(faultDocument(parsed.rule));
        },
      },
      DELETE: {
        summary: "Ends all faults",
        answer: null,
        handle: ({ hub }) => {
          hub.faults.clear();
          return NO_CONTENT;
        },
      },
    },
  },
  {
    path: "/sim/faults/{id}",
    methods: {
      GET: {
        summary: "One fault",
        answer: FAULT_RULE,
        handle: ({ hub }, { id }) => {
          const rule = hub.faults.list().find((one) => one.id === id);
          return rule === undefined
            ? refused(404, [`there is no fault ${id}`])
            : answered(faultDocument(rule));
        },
      },
      DELETE: {
        summary: "Ends one fault",
        answer: null,
        handle: ({ hub }, { id }) =>
          hub.faults.remove(id) ? NO_CONTENT : refused(404, [`there is no fault ${id}`]),
      },
    },
  },
];

type ParsedFault =
  | { readonly ok: true; readonly rule: FaultRule }
  | { readonly ok: false; readonly problems: readonly string[] };

let faultsMade = 0;

/** `until` is a number of requests, or a duration such as `30s` from `now`. */
function parseFault(body: JsonValue | undefined, now: number): ParsedFault {
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
    when: fields.oneOf("when", WHEN, "before") ?? "before",
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

export function faultDocument(rule: FaultRule): JsonObject {
  const { expiresAt, ...rest } = rule;
  return { ...rest, expiresAt: expiresAt === null ? null : new Date(expiresAt).toISOString() };
}
