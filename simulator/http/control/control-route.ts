import type { TSchema } from "typebox";
import type { ManualClock } from "../../base/clock.ts";
import type { JsonValue } from "../../base/json.ts";
import type { Fleet } from "../../devices/fleet.ts";
import type { Hub } from "../../hub/hub.ts";
import type { Scenarios } from "../../scenario/run-scenario.ts";
import { type HttpReply, JSON_HEADERS } from "../transport/http-message.ts";
import type { Query, QueryParameter } from "./query-parameters.ts";
import type { Roster } from "./roster.ts";

/** What the control API acts on. */
export type ControlParts = {
  readonly hub: Hub;
  readonly fleet: Fleet;
  /** `null`: the clock is the machine's. */
  readonly manual: ManualClock | null;
  readonly seed: number;
  readonly scenarios: Scenarios;
  readonly roster: Roster;
};

export type Asked = {
  /** `undefined`: the request has no body. */
  readonly body: JsonValue | undefined;
  /** The body as it came. */
  readonly text: string;
  readonly query: Query;
  /** What stands for `{id}` in the path, decoded; empty where the path has none. */
  readonly id: string;
};

/** One method of one path: its parameters, its answers, and its handler. The OpenAPI document is made of these. */
export type ControlOperation = {
  readonly summary: string;
  /** By name; others are refused. */
  readonly query?: Readonly<Record<string, QueryParameter>>;
  /** What the body looks like. It is for the document: the handler has the better words for mistakes. */
  readonly body?: TSchema;
  /** The handler parses the body; it may be YAML. */
  readonly yaml?: true;
  /** Bodies that are possible, for the document. */
  readonly examples?: Readonly<Record<string, JsonValue>>;
  /** What comes with 200; `null`: 204 and no body. */
  readonly answer: TSchema | null;
  /** Statuses of refusals beside those that every operation may answer with. */
  readonly refusals?: readonly number[];
  readonly handle: (parts: ControlParts, asked: Asked) => HttpReply | Promise<HttpReply>;
};

export const CONTROL_METHODS = ["GET", "POST", "PUT", "DELETE"] as const;
export type ControlMethod = (typeof CONTROL_METHODS)[number];

export type ControlRoute = {
  /** Such as `/sim/faults/{id}`. */
  readonly path: string;
  readonly methods: Readonly<Partial<Record<ControlMethod, ControlOperation>>>;
};

export const NO_CONTENT: HttpReply = { status: 204, headers: {}, body: null };

/** An operation that only takes something away: it has no answer. */
export function clears(summary: string, clear: (parts: ControlParts) => void): ControlOperation {
  return {
    summary,
    answer: null,
    handle: (parts) => {
      clear(parts);
      return NO_CONTENT;
    },
  };
}

export function answered(body: object): HttpReply {
  return { status: 200, headers: JSON_HEADERS, body: `${JSON.stringify(body, null, 2)}\n` };
}

/** Every problem in a list, and all of them in one text. */
export function refused(
  status: number,
  problems: readonly string[],
  headers: Readonly<Record<string, string>> = {},
): HttpReply {
  return {
    status,
    headers: { ...JSON_HEADERS, ...headers },
    body: `${JSON.stringify({ error: problems.join("; "), problems })}\n`,
  };
}
