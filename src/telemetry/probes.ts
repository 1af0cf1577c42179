import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { type Address, formatAddress } from "../base/address.ts";
import { errorCodeOf } from "../base/guards.ts";

export type ProbeAnswers = {
  /** Why this process cannot serve yet, or any more; `null`: it can. */
  readonly unready: () => string | null | Promise<string | null>;
  readonly metrics: () => Promise<string>;
  readonly metricsType: string;
  /** Called once it listens, with the port (the one the machine chose where 0 was asked for). */
  readonly listening?: (port: number) => void;
};

/** The address cannot be had: taken, not allowed, or none of this machine's. */
export class ProbeAddressError extends Error {
  override readonly name = "ProbeAddressError";
}

export type Probes = {
  /** Listens until `signal` aborts; rejects with a ProbeAddressError when the address cannot be had. */
  readonly run: (signal: AbortSignal) => Promise<void>;
  /** The port once it listens (the one the machine chose where 0 was asked for), else `null`. */
  readonly port: () => number | null;
};

/** `/healthz` (this process answers), `/readyz` and `/metrics` over HTTP; anything else is 404. */
export function createProbes(at: Address, answers: ProbeAnswers): Probes {
  let listening: number | null = null;

  async function answer(path: string, response: ServerResponse): Promise<void> {
    switch (path) {
      case "/healthz":
        return send(response, 200, "ok\n");
      case "/readyz": {
        const why = await answers.unready();
        return why === null ? send(response, 200, "ok\n") : send(response, 503, `not ready: ${why}\n`);
      }
      case "/metrics":
        return send(response, 200, await answers.metrics(), answers.metricsType);
      default:
        return send(response, 404, "not found\n");
    }
  }

  return {
    port: () => listening,
    run: async (signal) => {
      const server = createServer((request, response) => {
        if (request.method !== "GET" && request.method !== "HEAD") return send(response, 405, "only GET\n");
        const path = (request.url ?? "/").split("?")[0] ?? "/";
        answer(path, response).catch(() => send(response, 500, "could not answer\n"));
      });
      await listen(server, at);
      listening = (server.address() as AddressInfo).port;
      answers.listening?.(listening);
      await close(server, signal);
      listening = null;
    },
  };
}

function send(
  response: ServerResponse,
  status: number,
  text: string,
  type = "text/plain; charset=utf-8",
): void {
  response.writeHead(status, { "content-type": type });
  response.end(text);
}

function listen(server: Server, at: Address): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (cause: Error) => {
      const code = errorCodeOf(cause) ?? cause.message;
      reject(new ProbeAddressError(`${formatAddress(at)} cannot be listened on: ${code}`, { cause }));
    };
    server.once("error", onError);
    // Without a host, Node listens on IPv6 and IPv4, and on IPv4 alone where there is no IPv6.
    server.listen({ port: at.port, ...(at.host === "" ? {} : { host: at.host }) }, () => {
      server.removeListener("error", onError);
      resolve();
    });
  });
}

/** Resolves when the server has closed: after `signal` has aborted. */
function close(server: Server, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    server.once("close", resolve);
    const stop = () => {
      server.close();
      server.closeAllConnections();
    };
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
}
