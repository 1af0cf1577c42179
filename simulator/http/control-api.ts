import { type ParsedJson, parseJson } from "../base/json.ts";
import { type ControlParts, refused } from "./control/control-route.ts";
import { CONTROL_ROUTES, methodsOf, operationOf, routeOf } from "./control/control-routes.ts";
import { readQuery } from "./control/query-parameters.ts";
import { createRoster } from "./control/roster.ts";
import type { ControlApi, ReceivedRequest } from "./server.ts";
import { type HttpReply, urlOf } from "./transport/http-message.ts";
import { originProblem } from "./transport/origin.ts";

// The simulator's own API under /sim, on the port of the hub: what a test does to the world. It asks for no key; the
// simulator is meant for loopback and test networks. Pages of other origins are kept out all the same.

export function createControlApi(given: Omit<ControlParts, "roster">, address: string): ControlApi {
  const parts = { ...given, roster: createRoster(given.hub) };
  const place = { address, hostName: parts.hub.options.hostName };
  return (request) => {
    const url = urlOf(request);
    if (url === null) return null;
    const segments = url.pathname.split("/").filter((segment) => segment !== "");
    if (segments[0] !== "sim") return null;
    const problem = originProblem(request, place);
    if (problem !== null) return Promise.resolve(refused(403, [problem]));
    return handle(parts, { request, url, segments }).then(hardened);
  };
}

async function handle(
  parts: ControlParts,
  asked: { readonly request: ReceivedRequest; readonly url: URL; readonly segments: readonly string[] },
): Promise<HttpReply> {
  const { request, url } = asked;
  const segments = decoded(asked.segments);
  if (segments === null) return refused(400, ["the path is not encoded as it must be"]);
  if (segments.length === 1) return listing(request.method);
  const found = routeOf(segments);
  if (found === null)
    return refused(404, [
      `there is no ${url.pathname}; there are ${CONTROL_ROUTES.map(({ path }) => path).join(", ")}`,
    ]);
  const operation = operationOf(found.route, request.method);
  if (operation === null) return notPossible(request.method, methodsOf(found.route));
  if (request.body === null) return refused(413, ["the body is larger than 1 MiB"]);
  const query = readQuery(url.searchParams, operation.query ?? {});
  const body = parseBody(operation.yaml ? "" : request.body);
  const problems = [...(query.ok ? [] : query.problems), ...(body.ok ? [] : [`the body is ${body.problem}`])];
  if (!query.ok || !body.ok) return refused(400, problems);
  return await operation.handle(parts, {
    body: body.value,
    text: request.body,
    query: query.query,
    id: found.id,
  });
}

/** A readable overview: one line for each operation. */
function listing(method: string): HttpReply {
  if (method !== "GET" && method !== "HEAD") return notPossible(method, ["GET", "HEAD"]);
  const lines = CONTROL_ROUTES.flatMap(({ path, methods }) =>
    Object.entries(methods).map(([name, { summary }]) => `${name.padEnd(6)} ${path.padEnd(22)} ${summary}`),
  );
  return {
    status: 200,
    headers: { "Content-Type": "text/plain; charset=utf-8" },
    body: `Control API of the IoT Hub simulator. As an OpenAPI document: /sim/openapi.json\n\n${lines.join("\n")}\n`,
  };
}

function notPossible(method: string, allowed: readonly string[]): HttpReply {
  return refused(405, [`${method} is not possible here; ${allowed.join(", ")} are`], {
    Allow: allowed.join(", "),
  });
}

/** Nothing of it is a page, and nothing is kept: the next answer is another one. */
function hardened(reply: HttpReply): HttpReply {
  return {
    ...reply,
    headers: { "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", ...reply.headers },
  };
}

function decoded(segments: readonly string[]): readonly string[] | null {
  try {
    return segments.map(decodeURIComponent);
  } catch {
    return null;
  }
}

function parseBody(body: string): ParsedJson | { readonly ok: true; readonly value: undefined } {
  return body.trim() === "" ? { ok: true, value: undefined } : parseJson(body);
}
