import { isObject } from "../base/json.ts";
import { type Answer, ok, refuse } from "../hub/errors.ts";
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
      const size = pageSizeOf(headerOf(request, "x-ms-max-item-count"), hub.options.maximumPageSize);
      if (!size.ok) return size;
      const continuation = headerOf(request, "x-ms-continuation") ?? null;
      const page = hub.index.query(text, { size: size.value, continuation });
      if (!page.ok) return page;
      const next = page.value.continuation;
      return reply(page.value.rows, {
        "x-ms-item-type": page.value.itemType,
        // Left out at the end: the client takes an empty header for one more page.
        ...(next === null ? {} : { "x-ms-continuation": next }),
      });
    },
  };
}

function pageSizeOf(header: string | undefined, maximum: number): Answer<number> {
  if (header === undefined) return ok(Math.min(DEFAULT_PAGE, maximum));
  const size = Number(header);
  if (!Number.isInteger(size) || size < 1)
    return refuse("ArgumentInvalid", `x-ms-max-item-count must be a whole number above 0, not ${header}`);
  return ok(Math.min(size, maximum));
}
