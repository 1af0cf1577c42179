import { isObject, type JsonObject } from "../base/json.ts";
import { type Answer, ok, refuse } from "../hub/errors.ts";
import type { HttpReply, HttpRequest } from "./http-message.ts";
import { headerOf } from "./http-message.ts";
import { type Asked, type Operation, reply } from "./room.ts";

const DEFAULT_PAGE = 100;

/** `POST /devices/query` */
export function routeQuery({ hub, request, body }: Asked): Operation {
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
      const asked = pageAskedFor(request, hub.options.maximumPageSize);
      if (!asked.ok) return asked;
      const page = hub.index.query(text, asked.value);
      return page.ok ? replyPage(page.value.rows, page.value.itemType, page.value.continuation) : page;
    },
  };
}

/** The page that the headers of a request ask for. */
export function pageAskedFor(
  request: HttpRequest,
  maximum: number,
): Answer<{ readonly size: number; readonly continuation: string | null }> {
  const size = pageSizeOf(headerOf(request, "x-ms-max-item-count"), maximum);
  if (!size.ok) return size;
  return ok({ size: size.value, continuation: headerOf(request, "x-ms-continuation") ?? null });
}

export function replyPage(
  rows: readonly JsonObject[],
  itemType: string,
  continuation: string | null,
): Answer<HttpReply> {
  return reply(rows, {
    "x-ms-item-type": itemType,
    // Left out at the end: the client takes an empty header for one more page.
    ...(continuation === null ? {} : { "x-ms-continuation": continuation }),
  });
}

function pageSizeOf(header: string | undefined, maximum: number): Answer<number> {
  if (header === undefined) return ok(Math.min(DEFAULT_PAGE, maximum));
  const size = Number(header);
  if (!Number.isInteger(size) || size < 1)
    return refuse("ArgumentInvalid", `x-ms-max-item-count must be a whole number above 0, not ${header}`);
  return ok(Math.min(size, maximum));
}
