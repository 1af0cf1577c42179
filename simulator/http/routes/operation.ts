import { isObject, type JsonObject, type JsonValue } from "../../base/json.ts";
import { type Answer, ok, refuse } from "../../hub/errors.ts";
import type { Hub } from "../../hub/hub.ts";
import type { OperationClass } from "../../hub/limits/throttle.ts";
import type { IfMatch } from "../../hub/preconditions.ts";
import type { Right } from "../../hub/sas.ts";
import { type HttpReply, type HttpRequest, JSON_HEADERS } from "../transport/http-message.ts";

/** What a request asks for, before anything is done: enough to authorise, to throttle, to inject faults, to count. */
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

/** `conditional`: it names the etag that it expects. */
export type RoutedOperation = Operation & { readonly conditional: boolean };

/** A request, read as far as all routes read it. */
export type Asked = {
  readonly hub: Hub;
  readonly request: HttpRequest;
  readonly url: URL;
  readonly method: string;
  readonly ifMatch: IfMatch;
  readonly body: JsonValue | undefined;
};

/** The routes below one first segment of the path; `segments` are those after it. `null`: nothing here answers to that. */
export type Room = (asked: Asked, segments: readonly string[]) => Operation | null;

type Identifying = Omit<Operation, "run" | "name" | "right" | "writes">;

export function reads(base: Identifying, name: string, run: Operation["run"]): Operation {
  return { ...base, name, right: "RegistryRead", writes: null, run };
}

export function changes(base: Identifying, name: string, run: Operation["run"]): Operation {
  return { ...base, name, right: "RegistryWrite", writes: "identity", run };
}

const LIST_LIMIT = 1000;

export function reply(
  body: JsonValue,
  headers: Readonly<Record<string, string>> = {},
  status = 200,
): Answer<HttpReply> {
  return ok({ status, headers: { ...JSON_HEADERS, ...headers }, body: JSON.stringify(body) });
}

/** Status of the answer to a PUT of a module or a configuration. */
export function putStatus({ hub, ifMatch }: Asked): number {
  return ifMatch === null ? Number(hub.options.undocumented["created-status"]) : 200;
}

export const NO_CONTENT: HttpReply = { status: 204, headers: {}, body: null };

export function empty(answer: Answer<unknown>): Answer<HttpReply> {
  return answer.ok ? ok(NO_CONTENT) : answer;
}

export function withObject(
  asked: Asked,
  run: (body: JsonObject) => ReturnType<Operation["run"]>,
): Operation["run"] {
  const { body } = asked;
  return () => (isObject(body) ? run(body) : refuse("ArgumentNull", "The body must be a JSON object"));
}

/** The most a client may ask for in one list. */
export function topOf(url: URL): number {
  const top = Number(url.searchParams.get("top") ?? LIST_LIMIT);
  return Number.isInteger(top) && top >= 1 && top <= LIST_LIMIT ? top : LIST_LIMIT;
}
