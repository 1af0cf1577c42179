import { type TProperties, Type } from "typebox";
import type { JsonObject } from "../../base/json.ts";
import { FAULT_KINDS, LARGEST_RATE, SCOPES, WHEN } from "../../hub/faults/fault-rules.ts";
import {
  CONFLICTS,
  type FaultKind,
  MALFORMED_BODIES,
  PARTIAL_BODIES,
  UNREACHABLE,
} from "../../hub/faults/faults.ts";
import { DURATION, nullable, object, oneOf, TIME } from "./control-schema.ts";

const LENGTH = "^[+]?([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$";
const POSITIVE = Type.Union([Type.Number({ exclusiveMinimum: 0 }), Type.String({ pattern: LENGTH })], {
  description: "milliseconds, or a text such as 30s",
});
const NOT_NEGATIVE = Type.Union([Type.Number({ minimum: 0 }), Type.String({ pattern: LENGTH })], {
  description: "milliseconds, or a text such as 30s",
});
const SPREAD = Type.Union([
  POSITIVE,
  object({ min: NOT_NEGATIVE, max: NOT_NEGATIVE }),
  object({ p50: NOT_NEGATIVE, p95: NOT_NEGATIVE, p99: NOT_NEGATIVE }),
]);

/** What only a kind has. */
const EFFECTS: Readonly<Record<FaultKind, TProperties>> = {
  status: {
    status: Type.Number({ minimum: 400, maximum: 599 }),
    retryAfter: Type.Optional(
      Type.Number({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description: "seconds" }),
    ),
  },
  hang: {},
  reset: {},
  outage: {},
  lostReport: {},
  latency: { milliseconds: SPREAD },
  slowBody: { bytesPerSecond: Type.Number({ minimum: 1, maximum: LARGEST_RATE }) },
  partialBody: { variant: Type.Optional(oneOf(PARTIAL_BODIES)) },
  malformed: { variant: Type.Optional(oneOf(MALFORMED_BODIES)) },
  conflict: { variant: Type.Optional(oneOf(CONFLICTS)) },
  stale: { milliseconds: POSITIVE },
  clockSkew: { milliseconds: DURATION },
  restart: { milliseconds: POSITIVE, reconnectWithin: Type.Optional(NOT_NEGATIVE) },
  regionalOutage: {
    variant: Type.Optional(oneOf(UNREACHABLE)),
    reconnectWithin: Type.Optional(NOT_NEGATIVE),
  },
};

const COMMON: TProperties = {
  operations: Type.Optional(
    Type.Array(Type.String(), { description: "classes (twinWrite), operations (twin.patch), or *" }),
  ),
  devices: Type.Optional(Type.String({ description: "glob of device ids" })),
  percent: Type.Optional(Type.Number({ minimum: 0, maximum: 100 })),
  when: Type.Optional(oneOf(WHEN)),
};

function schemaOf(kind: FaultKind) {
  const scope = SCOPES[kind];
  const named = Object.entries(COMMON).filter(([name]) => scope.some((one) => one === name));
  const lasting = Type.String({ pattern: LENGTH });
  const until = scope.includes("requests")
    ? Type.Union([Type.Integer({ minimum: 1 }), lasting], {
        description: "a number of requests, or a duration",
      })
    : lasting;
  return object({
    id: Type.Optional(Type.String({ description: "a fault of the same id is replaced" })),
    kind: Type.Literal(kind),
    ...EFFECTS[kind],
    ...Object.fromEntries(named),
    ...(kind === "restart" ? {} : { until: Type.Optional(until) }),
  });
}

/** As it is written. */
export const FAULT = Type.Unsafe<JsonObject>({ anyOf: FAULT_KINDS.map(schemaOf) });

/** What is answered: a rule with everything that was left out. */
export const FAULT_RULE = object({
  id: Type.String(),
  kind: oneOf(FAULT_KINDS),
  operations: Type.Array(Type.String()),
  devices: Type.String(),
  percent: Type.Number(),
  when: oneOf(WHEN),
  status: Type.Optional(Type.Number()),
  retryAfterSeconds: Type.Optional(nullable(Type.Number())),
  milliseconds: Type.Optional(Type.Union([Type.Number(), Type.Record(Type.String(), Type.Number())])),
  bytesPerSecond: Type.Optional(Type.Number()),
  variant: Type.Optional(Type.String()),
  reconnectWithin: Type.Optional(Type.Number()),
  expiresAt: nullable(TIME),
  remaining: nullable(Type.Integer({ minimum: 1 })),
});
