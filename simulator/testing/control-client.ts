import { request } from "node:https";
import type { Endpoint } from "../simulator.ts";

export type ControlReply = {
  readonly status: number;
  readonly body: Record<string, never> & { readonly problems?: readonly string[] };
};

/** One call of the control API, `path` without `/sim/`. */
export function controlCall(
  endpoint: Pick<Endpoint, "port" | "ca">,
  method: string,
  path: string,
  body?: unknown,
): Promise<ControlReply> {
  return new Promise((resolve, reject) => {
    const call = request(
      { host: "127.0.0.1", port: endpoint.port, ca: endpoint.ca, method, path: `/sim/${path}` },
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
    call.on("error", reject).end(body === undefined ? undefined : JSON.stringify(body));
  });
}
