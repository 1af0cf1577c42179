import { isObject, type JsonObject } from "../../base/json.ts";
import { type Answer, ok, refuse } from "../../hub/errors.ts";
import type { HubOptions } from "../../hub/hub.ts";
import type { HttpReply, HttpRequest } from "../transport/http-message.ts";
import { headerOf } from "../transport/http-message.ts";
import { type Asked, type Operation, reply } from "./operation.ts";

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
      const asked = pageAskedFor(request, hub.options);
      if (!asked.ok) return asked;
      const page = hub.index.query(text, asked.value);
      return page.ok ? replyPage(page.value.rows, page.value.itemType, page.value.continuation) : page;
    },
  };
}

type PageSizes = Pick<HubOptions, "defaultPageSize" | "maximumPageSize">;

/** The page that the headers of a request ask for. */
export function pageAskedFor(
  request: HttpRequest,
  sizes: PageSizes,
): Answer<{ readonly size: number; readonly continuation: string | null }> {
  const size = pageSizeOf(headerOf(request, "x-ms-max-item-count"), sizes);
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

function pageSizeOf(
  header: string | undefined,
  { defaultPageSize, maximumPageSize: maximum }: PageSizes,
): Answer<number> {
  if (header === undefined) return ok(Math.min(defaultPageSize, maximum));
  const size = Number(header);
  if (!Number.isInteger(size) || size < 1)
    return refuse("ArgumentInvalid", `x-ms-max-item-count must be a whole number above 0, not ${header}`);
  return ok(Math.min(size, maximum));
}
