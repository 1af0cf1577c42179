import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import { askingForCertificates, type ServerCertificate } from "../base/certificates.ts";
import { type Answer, ok, refuse } from "../hub/errors.ts";
import { type AppliedFault, seversAll } from "../hub/faults/faults.ts";
import type { Hub } from "../hub/hub.ts";
import { authorize } from "../hub/sas.ts";
import { closed, injectFaults } from "./inject-faults.ts";
import { chargesOf, isMetered } from "./routes/metering.ts";
import type { Operation } from "./routes/operation.ts";
import { routeServiceRequest } from "./routes/service-api.ts";
import { isInTier } from "./routes/tier-check.ts";
import { createConnections } from "./transport/connections.ts";
import { deliver, send } from "./transport/delivery.ts";
import { type HttpReply, type HttpRequest, headerOf, refusalReply } from "./transport/http-message.ts";

export type Server = {
  /** Resolves with the port. */
  readonly listen: (port: number, host: string) => Promise<number>;
  /** Told of requests to go on with another protocol; nobody answers them otherwise. */
  readonly onUpgrade: (listener: (request: IncomingMessage, socket: Duplex, head: Buffer) => void) => void;
  readonly close: () => Promise<void>;
};

/** As it came in; `body` is `null` where it was too large to be kept. */
export type ReceivedRequest = Omit<HttpRequest, "body"> & { readonly body: string | null };

/** Answers what is not the hub's, such as requests under `/sim`; `null` for anything else. */
export type ControlApi = (request: ReceivedRequest) => Promise<HttpReply> | null;

const LARGEST_BODY = 1024 * 1024;

/** The HTTPS front of the hub: bodies, authorisation, faults, throttling, counting; what is meant is the routes' work. */
export function createServer(hub: Hub, certificate: ServerCertificate, control: ControlApi): Server {
  const connections = createConnections();
  const server = createHttpsServer(
    // Devices that come over WebSockets may prove themselves with a certificate; nobody else needs one.
    { ...askingForCertificates(certificate), SNICallback: shakeHands },
    (request, response) => {
      receive(request, response).catch((problem: unknown) => {
        process.emitWarning(problem instanceof Error ? problem : String(problem));
        if (!response.headersSent) send(response, failure(refuse("ServerError", "The simulator failed")));
      });
    },
  );
  server.keepAliveTimeout = 120_000;
  server.on("connection", connections.add);
  hub.faults.onPut((rule) => {
    if (seversAll(rule)) connections.resetNoted();
  });

  /** Who asks for the hub by its name gets no handshake while it cannot be reached; the control API goes by the address. */
  function shakeHands(name: string, done: (problem: Error | null) => void): void {
    const unreachable = name.toLowerCase() === hub.options.hostName.toLowerCase() && hub.faults.unreachable();
    if (unreachable === "blackHole") return;
    done(unreachable === "refuse" ? new Error("the hub cannot be reached") : null);
  }

  /** Whether the request never arrives; what a client sees of that is done here. */
  async function isOutOfReach(request: HttpRequest, response: ServerResponse): Promise<boolean> {
    const unreachable = hub.faults.unreachable();
    if (unreachable === null) return false;
    const routed = routeServiceRequest(hub, request);
    const result = unreachable === "refuse" ? "reset" : "hang";
    if (routed.ok) hub.counters.request(routed.value.operation, routed.value.name, result, routed.value.cost);
    if (unreachable === "refuse") reset(response);
    else await closed(response);
    return true;
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
        (await controlled) ?? failure(refuse("MessageTooLarge", `A body may have ${LARGEST_BODY} bytes`));
      return send(response, { ...reply, headers: { ...reply.headers, Connection: "close" } });
    }
    if (controlled !== null) {
      const reply = await controlled;
      const committed = hub.persistence.commit();
      return send(response, committed.ok || request.method === "GET" ? reply : failure(committed));
    }
    if (response.socket !== null) connections.note(response.socket);
    const asked = { ...request, body: body.text };
    if (!(await isOutOfReach(asked, response))) await serve(asked, response);
  }

  async function serve(request: HttpRequest, response: ServerResponse): Promise<void> {
    const routed = routeServiceRequest(hub, request);
    const right = routed.ok ? routed.value.right : "ServiceConnect";
    // Who may not ask is not told what is there.
    const allowed = authorize(
      headerOf(request, "authorization"),
      right,
      { ...hub.options, policies: hub.policies },
      hub.tokenTime(),
    );
    if (!allowed.ok) return finish(response, routed.ok ? routed.value : null, failure(allowed));
    if (!routed.ok) return send(response, failure(routed));
    const operation = routed.value;
    const faults = hub.faults.faultsFor(operation);
    const suffering = { hub, request, operation, response, reset };
    const early = await injectFaults(
      faults.filter(({ rule }) => rule.when === "before"),
      suffering,
    );
    if (early !== null) return finish(response, operation, early, faults);
    if (response.destroyed || response.closed) return;
    const reply = await carryOut(operation, request);
    const late = await injectFaults(
      faults.filter(({ rule }) => rule.when === "after"),
      suffering,
    );
    await finish(response, operation, late ?? reply, faults);
  }

  async function carryOut(operation: Operation, request: HttpRequest): Promise<HttpReply> {
    const admitted = await admit(operation, request);
    if (!admitted.ok) return failure(admitted);
    const done = await operation.run();
    const reply = done.ok ? done.value : failure(done);
    for (const { what, bytes } of chargesOf(operation, request, reply)) hub.quota.charge(what, bytes);
    // What is answered, and what is read, is there after a crash too.
    const committed = hub.persistence.commit();
    if (!committed.ok && operation.writes !== null) return failure(committed);
    if (operation.writes !== null && reply.status < 300) hub.counters.write(operation.writes);
    return reply;
  }

  /** Tier, quota and budget, in this order: what is not there costs nothing. A queue is waited for. */
  async function admit(operation: Operation, request: HttpRequest): Promise<Answer<void>> {
    const { tier, throttling, retryAfter } = hub.options;
    if (!isInTier(tier, operation, request.body))
      return refuse("OperationNotAvailableInCurrentTier", `Tier ${tier} has no ${operation.name}`);
    if (isMetered(operation) && hub.quota.spent())
      return refuse("IotHubQuotaExceeded", "The daily quota of messages is used up until midnight UTC");
    const queued = throttling ? hub.throttle.reserve(operation.operation, operation.cost) : 0;
    if (queued === null) {
      const text = `Too many requests of class ${operation.operation}; try again later`;
      const { refusal } = refuse("ThrottlingException", text);
      return { ok: false, refusal: { ...refusal, retryAfterSeconds: retryAfter } };
    }
    if (queued > 0) await turn(queued);
    return ok(undefined);
  }

  /** Budgets come back by the time of the simulated world, and so do queues. */
  function turn(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      hub.clock.schedule(milliseconds, resolve, undefined);
    });
  }

  async function finish(
    response: ServerResponse,
    operation: Operation | null,
    reply: HttpReply,
    faults: readonly AppliedFault[] = [],
  ): Promise<void> {
    if (response.destroyed || response.closed) return;
    const skewed = hub.faults.skew() !== 0;
    const delivered = deliver(response, reply, { faults, date: skewed ? new Date(hub.tokenTime()) : null });
    if (operation === null) {
      await delivered;
      return;
    }
    const outcome = await delivered;
    const result = outcome === "sent" ? reply.status : outcome;
    hub.counters.request(operation.operation, operation.name, result, operation.cost);
  }

  function failure(refused: Extract<Answer<never>, { readonly ok: false }>): HttpReply {
    return refusalReply(refused.refusal, new Date(hub.now()));
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

type Body =
  | { readonly kind: "whole"; readonly text: string }
  | { readonly kind: "tooLarge" }
  /** The client broke off: nobody is there to be answered. */
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
