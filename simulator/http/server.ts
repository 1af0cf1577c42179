import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import { askingForCertificates, type ServerCertificate } from "../base/certificates.ts";
import { refuse } from "../hub/errors.ts";
import { seversAll } from "../hub/faults/faults.ts";
import type { Hub } from "../hub/hub.ts";
import { closed } from "./inject-faults.ts";
import { routeServiceRequest } from "./routes/service-api.ts";
import { failureReply, serviceOf } from "./serve-request.ts";
import { createConnections } from "./transport/connections.ts";
import { send } from "./transport/delivery.ts";
import type { HttpReply, HttpRequest } from "./transport/http-message.ts";

export type Server = {
  /** Resolves with the port. */
  readonly listen: (port: number, host: string) => Promise<number>;
  /** Takes requests to switch to another protocol; they are not answered otherwise. */
  readonly onUpgrade: (listener: (request: IncomingMessage, socket: Duplex, head: Buffer) => void) => void;
  readonly close: () => Promise<void>;
};

/** As it came in; `body` is `null` where it was too large to be read. */
export type ReceivedRequest = Omit<HttpRequest, "body"> & { readonly body: string | null };

/** Answers what is not the hub's, such as requests under `/sim`; `null` for anything else. */
export type ControlApi = (request: ReceivedRequest) => Promise<HttpReply> | null;

const LARGEST_BODY = 1024 * 1024;

/** The HTTPS front of the hub: connections and bodies, the control API, and requests of the service API. */
export function createServer(hub: Hub, certificate: ServerCertificate, control: ControlApi): Server {
  const connections = createConnections();
  const serve = serviceOf(hub, reset);
  const server = createHttpsServer(
    // Devices that come over WebSockets may prove themselves with a certificate; other clients need none.
    { ...askingForCertificates(certificate), SNICallback: shakeHands },
    (request, response) => {
      receive(request, response).catch((problem: unknown) => {
        process.emitWarning(problem instanceof Error ? problem : String(problem));
        if (!response.headersSent)
          send(response, failureReply(hub, refuse("ServerError", "The simulator failed")));
      });
    },
  );
  server.keepAliveTimeout = 120_000;
  server.on("connection", connections.add);
  hub.faults.onPut((rule) => {
    if (seversAll(rule)) connections.resetNoted();
  });

  /** A client that names the hub gets no handshake while it cannot be reached; the control API is reached by address. */
  function shakeHands(name: string, done: (problem: Error | null) => void): void {
    const unreachable = name.toLowerCase() === hub.options.hostName.toLowerCase() && hub.faults.unreachable();
    if (unreachable === "blackHole") return;
    done(unreachable === "refuse" ? new Error("the hub cannot be reached") : null);
  }

  function reset(response: ServerResponse): void {
    if (response.socket !== null) connections.reset(response.socket);
    response.destroy();
  }

  async function receive(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await readBody(message);
    if (body.kind === "broken") return;
    const request: ReceivedRequest = {
      method: message.method ?? "GET",
      url: message.url ?? "/",
      headers: message.headers,
      body: body.kind === "whole" ? body.text : null,
    };
    const controlled = control(request);
    if (body.kind === "tooLarge") {
      // What is left of it is not read: the connection ends with the answer.
      response.once("finish", () => message.destroy());
      const reply =
        (await controlled) ??
        failureReply(hub, refuse("MessageTooLarge", `A body may have ${LARGEST_BODY} bytes`));
      return send(response, { ...reply, headers: { ...reply.headers, Connection: "close" } });
    }
    if (controlled !== null) {
      const reply = await controlled;
      const committed = hub.persistence.commit();
      return send(response, committed.ok || request.method === "GET" ? reply : failureReply(hub, committed));
    }
    if (response.socket !== null) connections.note(response.socket);
    const asked = { ...request, body: body.text };
    if (!(await isOutOfReach(hub, asked, response, reset))) await serve(asked, response);
  }

  return {
    listen: (port, host) =>
      new Promise((resolve, reject) => {
        server.once("error", reject);
        server.listen(port, host, () => resolve((server.address() as AddressInfo).port));
      }),
    onUpgrade: (listener) => {
      server.on("upgrade", (request, socket: TLSSocket, head) => {
        connections.note(socket);
        const unreachable = hub.faults.unreachable();
        if (unreachable === null) listener(request, socket, head);
        else if (unreachable === "refuse") connections.reset(socket);
      });
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        connections.destroyAll();
      }),
  };
}

/** Whether the request never arrives; what a client sees of that is done here. */
async function isOutOfReach(
  hub: Hub,
  request: HttpRequest,
  response: ServerResponse,
  reset: (response: ServerResponse) => void,
): Promise<boolean> {
  const unreachable = hub.faults.unreachable();
  if (unreachable === null) return false;
  const routed = routeServiceRequest(hub, request);
  const result = unreachable === "refuse" ? "reset" : "hang";
  if (routed.ok) hub.counters.request(routed.value.operation, routed.value.name, result, routed.value.cost);
  if (unreachable === "refuse") reset(response);
  else await closed(response);
  return true;
}

type Body =
  | { readonly kind: "whole"; readonly text: string }
  | { readonly kind: "tooLarge" }
  /** The client broke off: there is no one to answer. */
  | { readonly kind: "broken" };

function readBody(message: IncomingMessage): Promise<Body> {
  const chunks: Buffer[] = [];
  let size = 0;
  return new Promise((resolve) => {
    message.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size <= LARGEST_BODY) chunks.push(chunk);
      else {
        message.pause();
        resolve({ kind: "tooLarge" });
      }
    });
    message.once("end", () => resolve({ kind: "whole", text: Buffer.concat(chunks).toString("utf8") }));
    message.once("error", () => resolve({ kind: "broken" }));
    message.once("close", () => resolve({ kind: "broken" }));
  });
}
