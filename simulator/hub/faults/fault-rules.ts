import { parseDuration } from "../../base/duration.ts";
import { ANY, type Fields, PERCENT, readFields } from "../../base/fields.ts";
import { isObject, type JsonObject, type JsonValue } from "../../base/json.ts";
import type { Spread } from "../../base/spread.ts";
import {
  CONFLICTS,
  type FaultEffect,
  type FaultKind,
  type FaultRule,
  MALFORMED_BODIES,
  PARTIAL_BODIES,
  UNREACHABLE,
} from "./faults.ts";

// What is written about a fault, in a request of the control API or in a scenario, and the rule that it means.

export const FAULT_KINDS = [
  "status",
  "hang",
  "reset",
  "latency",
  "slowBody",
  "partialBody",
  "malformed",
  "conflict",
  "outage",
  "regionalOutage",
  "restart",
  "stale",
  "lostReport",
  "clockSkew",
] as const satisfies readonly FaultKind[];

export const WHEN = ["before", "after"] as const;
/** Which of the fields that are common to many kinds a kind has. */
export type Scope = "operations" | "devices" | "percent" | "when" | "requests";
const ANSWER: readonly Scope[] = ["operations", "devices", "percent", "requests"];
const REQUEST: readonly Scope[] = [...ANSWER, "when"];

/** `requests`: `until` may be a number of them. */
export const SCOPES: Readonly<Record<FaultKind, readonly Scope[]>> = {
  status: REQUEST,
  hang: REQUEST,
  reset: REQUEST,
  outage: REQUEST,
  latency: REQUEST,
  malformed: REQUEST,
  slowBody: ANSWER,
  partialBody: ANSWER,
  conflict: ANSWER,
  lostReport: ["devices", "percent", "requests"],
  stale: [],
  clockSkew: [],
  restart: [],
  regionalOutage: [],
};

export const LARGEST_RATE = 1_000_000_000;
const RESTART_RECONNECT = 5000;
const REGION_RECONNECT = 30_000;

export type ParsedFault =
  | { readonly ok: true; readonly rule: FaultRule }
  | { readonly ok: false; readonly problems: readonly string[] };

/** Every mistake is reported at once, below `path`. Durations count from `now`, milliseconds since the epoch. */
export function parseFault(
  body: JsonValue | undefined,
  about: { readonly now: number; readonly id: () => string; readonly path?: string },
): ParsedFault {
  if (!isObject(body)) return { ok: false, problems: ["a fault must be an object"] };
  const problems: string[] = [];
  const rule = readFault(readFields(body, about.path ?? "", problems), body, about);
  return rule !== null && problems.length === 0 ? { ok: true, rule } : { ok: false, problems };
}

function readFault(
  fields: Fields,
  body: JsonObject,
  about: { readonly now: number; readonly id: () => string },
): FaultRule | null {
  const kind = fields.oneOf("kind", FAULT_KINDS, null);
  if (kind === null && fields.raw("kind") === undefined)
    fields.addProblem("kind", `is needed: one of ${FAULT_KINDS.join(", ")}`);
  // What a kind that is not known might have is not known either: the fields of most are taken for good.
  const scope = kind === null ? REQUEST : SCOPES[kind];
  const has = (name: Scope) => scope.includes(name);
  const effect = kind === null ? null : readEffect(fields, kind);
  const id = fields.optionalText("id");
  const common = {
    operations: has("operations") ? fields.texts("operations", ["*"]) : ["*"],
    devices: has("devices") ? fields.text("devices", "*") : "*",
    percent: has("percent") ? fields.number("percent", 100, PERCENT) : 100,
    when: has("when") ? (fields.oneOf("when", WHEN, "before") ?? "before") : "before",
    ...(kind === "restart"
      ? { expiresAt: about.now + positive(fields, "milliseconds"), remaining: null }
      : readUntil(fields, about.now, has("requests"))),
  } as const;
  if (kind === null) for (const name of Object.keys(body)) if (EFFECT_FIELDS.includes(name)) fields.raw(name);
  fields.done();
  return effect === null ? null : { ...effect, id: id ?? about.id(), ...common };
}

const EFFECT_FIELDS = [
  "status",
  "retryAfter",
  "milliseconds",
  "bytesPerSecond",
  "variant",
  "reconnectWithin",
];

function readEffect(fields: Fields, kind: FaultKind): FaultEffect {
  switch (kind) {
    case "status": {
      const status = fields.optionalNumber("status", { least: 400, most: 599 });
      if (status === null && fields.raw("status") === undefined)
        fields.addProblem("status", "is needed for kind status");
      return { kind, status: status ?? 503, retryAfterSeconds: fields.optionalNumber("retryAfter", ANY) };
    }
    case "hang":
    case "reset":
    case "outage":
    case "lostReport":
      return { kind };
    case "latency":
      return { kind, milliseconds: readSpread(fields, "milliseconds") };
    case "slowBody": {
      const rate = fields.optionalNumber("bytesPerSecond", { least: 1, most: LARGEST_RATE });
      if (rate === null && fields.raw("bytesPerSecond") === undefined)
        fields.addProblem("bytesPerSecond", "is needed for kind slowBody");
      return { kind, bytesPerSecond: rate ?? 1 };
    }
    case "partialBody":
      return { kind, variant: fields.oneOf("variant", PARTIAL_BODIES, "cut") ?? "cut" };
    case "malformed":
      return { kind, variant: fields.oneOf("variant", MALFORMED_BODIES, "html") ?? "html" };
    case "conflict":
      return { kind, variant: fields.oneOf("variant", CONFLICTS, "change") ?? "change" };
    case "stale":
      return { kind, milliseconds: positive(fields, "milliseconds") };
    case "clockSkew": {
      const milliseconds = fields.optionalDuration("milliseconds");
      if (milliseconds === 0 || fields.raw("milliseconds") === undefined)
        fields.addProblem("milliseconds", "is needed for kind clockSkew: how far the clock is ahead, or -1h");
      return { kind, milliseconds: milliseconds ?? 0 };
    }
    case "restart":
      return { kind, reconnectWithin: notNegative(fields, "reconnectWithin", RESTART_RECONNECT) };
    case "regionalOutage":
      return {
        kind,
        variant: fields.oneOf("variant", UNREACHABLE, "refuse") ?? "refuse",
        reconnectWithin: notNegative(fields, "reconnectWithin", REGION_RECONNECT),
      };
  }
}

function readSpread(fields: Fields, name: string): Spread {
  const written = fields.raw(name);
  if (!isObject(written)) return positive(fields, name);
  const inner = fields.inner(name);
  if (inner === null) return 0;
  const bounds = "min" in written || "max" in written;
  const names = bounds ? ["min", "max"] : ["p50", "p95", "p99"];
  const values = names.map((one) => {
    const value = inner.optionalDuration(one);
    if (inner.raw(one) === undefined) inner.addProblem(one, "is needed");
    return value;
  });
  const known = values.filter((value) => value !== null);
  const [first = 0, second = 0, third = 0] = known;
  if (known.length === values.length && known.some((value, at) => value < (known[at - 1] ?? 0)))
    fields.addProblem(name, `must not be negative, and none of ${names.join(", ")} less than the one before`);
  return bounds ? { min: first, max: second } : { p50: first, p95: second, p99: third };
}

function positive(fields: Fields, name: string): number {
  const value = fields.optionalDuration(name);
  if (value === null && fields.raw(name) === undefined)
    fields.addProblem(name, "is needed: milliseconds, or a duration such as 30s");
  if (value !== null && value <= 0) fields.addProblem(name, "must be more than nothing");
  return value ?? 1;
}

function notNegative(fields: Fields, name: string, fallback: number): number {
  const value = fields.duration(name, fallback);
  if (value < 0) fields.addProblem(name, "must not be negative");
  return value;
}

/** `until` is a number of requests, or a duration such as `30s` from `now`. */
function readUntil(
  fields: Fields,
  now: number,
  countsRequests: boolean,
): Pick<FaultRule, "expiresAt" | "remaining"> {
  const until = fields.raw("until");
  if (until === undefined) return { expiresAt: null, remaining: null };
  if (countsRequests && typeof until === "number" && Number.isInteger(until) && until > 0)
    return { expiresAt: null, remaining: until };
  const length = typeof until === "string" ? parseDuration(until) : null;
  if (length !== null && length > 0) return { expiresAt: now + length, remaining: null };
  const what = countsRequests ? "a number of requests, or a duration" : "a duration";
  fields.addProblem("until", `must be ${what} such as 30s`);
  return { expiresAt: null, remaining: null };
}

/** A rule as it is listed. */
export function faultDocument(rule: FaultRule): JsonObject {
  const { expiresAt, ...rest } = rule;
  return { ...rest, expiresAt: expiresAt === null ? null : new Date(expiresAt).toISOString() };
}
