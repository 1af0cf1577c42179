import { request } from "node:https";
import { Errors } from "typebox/schema";
import { operationOf, routeOf } from "../http/control/control-routes.ts";
import { REFUSAL } from "../http/control/control-schema.ts";
import { refusalsOf } from "../http/control/openapi.ts";
import type { Endpoint } from "../simulator.ts";

export type ControlReply = {
  readonly status: number;
  readonly body: Record<string, never> & { readonly problems?: readonly string[] };
};

/** One call of the control API, `path` without `/sim/`. An answer that its OpenAPI document does not know rejects. */
export async function controlCall(
  endpoint: Pick<Endpoint, "port" | "ca">,
  method: string,
  path: string,
  body?: unknown,
): Promise<ControlReply> {
  const reply = await call(endpoint, method, `/sim/${path}`, body);
  const problem = problemOfReply(method, `/sim/${path}`, reply);
  if (problem !== null)
    throw new Error(`${method} /sim/${path} answered otherwise than documented: ${problem}`);
  return reply;
}

/** What of an answer is not in the document; `null` for an answer as it should be. */
export function problemOfReply(method: string, path: string, { status, body }: ControlReply): string | null {
  const { pathname } = new URL(path, "https://hub");
  const found = routeOf(
    pathname
      .split("/")
      .filter((segment) => segment !== "")
      .map(decodeURIComponent),
  );
  const operation = found === null ? null : operationOf(found.route, method);
  if (found === null || operation === null)
    return status === (found === null ? 404 : 405) ? problemIn(REFUSAL, body) : `status ${status}`;
  if (status === 204) return operation.answer === null ? null : "status 204";
  if (status === 200) return operation.answer === null ? "status 200" : problemIn(operation.answer, body);
  return refusalsOf(found.route, operation).includes(status) ? problemIn(REFUSAL, body) : `status ${status}`;
}

function problemIn(schema: object, value: unknown): string | null {
  const [fits, errors] = Errors(schema, value);
  return fits ? null : errors.map(({ instancePath, message }) => `${instancePath} ${message}`).join("; ");
}

function call(
  endpoint: Pick<Endpoint, "port" | "ca">,
  method: string,
  path: string,
  body: unknown,
): Promise<ControlReply> {
  return new Promise((resolve, reject) => {
    const sent = request(
      { host: "127.0.0.1", port: endpoint.port, ca: endpoint.ca, method, path },
      (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (chunk: string) => {
          text += chunk;
        });
        response.on("end", () =>
          resolve({ status: response.statusCode ?? 0, body: text === "" ? {} : JSON.parse(text) }),
        );
      },
    );
    sent.on("error", reject).end(body === undefined ? undefined : JSON.stringify(body));
  });
}
