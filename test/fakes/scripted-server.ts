import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { KubeConfig } from "@kubernetes/client-node";

export type Received = {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage["headers"];
  readonly body: unknown;
};
export type Answer = (response: ServerResponse, request: Received) => void | Promise<void>;

export type ScriptedServer = {
  readonly url: string;
  /** A kubeconfig of a user with a bearer token. */
  readonly config: KubeConfig;
  readonly received: readonly Received[];
  /** How many connections were opened. */
  readonly connections: () => number;
  readonly close: () => Promise<void>;
};

/** An HTTP server on loopback that gives each request the next answer; after the last one, the last one again. */
export async function startScriptedServer(...script: readonly Answer[]): Promise<ScriptedServer> {
  const received: Received[] = [];
  let connections = 0;
  const server = createServer(async (request, response) => {
    let text = "";
    for await (const chunk of request) text += chunk;
    const url = new URL(request.url ?? "/", "http://localhost");
    const one: Received = {
      method: request.method ?? "",
      path: url.pathname,
      query: url.searchParams,
      headers: request.headers,
      body: text === "" ? undefined : JSON.parse(text),
    };
    received.push(one);
    await script[Math.min(received.length, script.length) - 1]?.(response, one);
  });
  server.on("connection", () => {
    connections += 1;
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const config = new KubeConfig();
  config.loadFromClusterAndUser(
    { name: "scripted", server: url, skipTLSVerify: true },
    { name: "tester", token: "token-of-the-tester" },
  );
  return {
    url,
    config,
    received,
    connections: () => connections,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** One whole JSON answer. */
export function json(status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): Answer {
  return (response) => {
    response.writeHead(status, { "content-type": "application/json", ...headers });
    response.end(JSON.stringify(body));
  };
}

/** How the API server refuses. */
export function refusal(
  code: number,
  reason: string,
  details: Readonly<Record<string, unknown>> = {},
): Answer {
  return json(code, {
    kind: "Status",
    status: "Failure",
    reason,
    message: `because ${reason}`,
    details,
    code,
  });
}

/** These pieces, then whatever `end` does: "close" the answer well, "reset" the connection, or leave it "open". */
export function pieces(parts: readonly (string | Buffer)[], end: "close" | "reset" | "open"): Answer {
  return async (response) => {
    response.writeHead(200, { "content-type": "application/json" });
    for (const part of parts) {
      response.write(part);
      await new Promise((resolve) => setTimeout(resolve, 2)); // so that they travel apart
    }
    if (end === "close") response.end();
    if (end === "reset") response.destroy();
  };
}
