import type { Hub } from "../../hub/hub.ts";
import type { HttpRequest } from "../transport/http-message.ts";
import { routeServiceRequest } from "./service-api.ts";

/**
 * Writes what a request is about, as another client might just before it: the etag is another one afterwards, and
 * nothing else. Where the thing is not there nothing happens, and the request itself finds out.
 */
export async function changeConcurrently(hub: Hub, request: HttpRequest): Promise<void> {
  const headers = { ...request.headers, "if-match": '"*"' };
  const ask = async (method: string, body: string) => {
    const routed = routeServiceRequest(hub, { method, url: request.url, headers, body });
    return routed.ok ? await routed.value.run() : routed;
  };
  if (request.url.startsWith("/twins/")) {
    await ask("PATCH", '{"tags":{}}');
    return;
  }
  const current = await ask("GET", "");
  if (current.ok && current.value.body !== null) await ask("PUT", current.value.body);
}
