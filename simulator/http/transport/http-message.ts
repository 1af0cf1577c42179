import { randomBytes } from "node:crypto";
import { ownValue } from "../../base/json.ts";
import { errorBody, type Refusal } from "../../hub/errors.ts";

/** A request as it came in, without its transport. */
export type HttpRequest = {
  readonly method: string;
  /** Path and query, as sent. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  readonly body: string;
};

/** `null` for a target that is neither a path nor a whole URL. A path may begin with two slashes and is a path still. */
export function urlOf(request: Pick<HttpRequest, "url">): URL | null {
  return URL.parse(request.url.startsWith("/") ? `https://hub${request.url}` : request.url);
}

export type HttpReply = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** `null`: no body. */
  readonly body: string | null;
};

export const JSON_HEADERS = { "Content-Type": "application/json; charset=utf-8" } as const;

export function headerOf(request: Pick<HttpRequest, "headers">, name: string): string | undefined {
  const value = ownValue(request.headers, name);
  return typeof value === "string" ? value : value?.[0];
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
