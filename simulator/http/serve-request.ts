import type { ServerResponse } from "node:http";
import { type Answer, ok, type Refused, refuse } from "../hub/errors.ts";
import type { AppliedFault } from "../hub/faults/faults.ts";
import type { Hub } from "../hub/hub.ts";
import { authorize } from "../hub/sas.ts";
import { injectFaults } from "./inject-faults.ts";
import { chargesOf, isMetered } from "./routes/metering.ts";
import type { Operation } from "./routes/operation.ts";
import { routeServiceRequest } from "./routes/service-api.ts";
import { isInTier } from "./routes/tier-check.ts";
import { deliver, send } from "./transport/delivery.ts";
import { type HttpReply, type HttpRequest, headerOf, refusalReply } from "./transport/http-message.ts";

/** Serves one request of the service API: authorisation, faults, limits, the operation itself, counting. */
export type ServeRequest = (request: HttpRequest, response: ServerResponse) => Promise<void>;

/** `reset` breaks the connection of a response. */
export function serviceOf(hub: Hub, reset: (response: ServerResponse) => void): ServeRequest {
  return async (request, response) => {
    const routed = routeServiceRequest(hub, request);
    const right = routed.ok ? routed.value.right : "ServiceConnect";
    // A client without the right does not learn what exists.
    const allowed = authorize(
      headerOf(request, "authorization"),
      right,
      { ...hub.options, policies: hub.policies },
      hub.tokenTime(),
    );
    if (!allowed.ok)
      return finish(hub, response, routed.ok ? routed.value : null, failureReply(hub, allowed));
    if (!routed.ok) return send(response, failureReply(hub, routed));
    const operation = routed.value;
    const faults = hub.faults.faultsFor(operation);
    const faulted = { hub, request, operation, response, reset };
    const early = await injectFaults(
      faults.filter(({ rule }) => rule.when === "before"),
      faulted,
    );
    if (early !== null) return finish(hub, response, operation, early, faults);
    if (response.destroyed || response.closed) return;
    const reply = await carryOut(hub, operation, request);
    const late = await injectFaults(
      faults.filter(({ rule }) => rule.when === "after"),
      faulted,
    );
    await finish(hub, response, operation, late ?? reply, faults);
  };
}

async function carryOut(hub: Hub, operation: Operation, request: HttpRequest): Promise<HttpReply> {
  const admitted = await admit(hub, operation, request);
  if (!admitted.ok) return failureReply(hub, admitted);
  const done = await operation.run();
  const reply = done.ok ? done.value : failureReply(hub, done);
  for (const { what, bytes } of chargesOf(operation, request, reply)) hub.quota.charge(what, bytes);
  // What was answered, and what was read, survives a crash.
  const committed = hub.persistence.commit();
  if (!committed.ok && operation.writes !== null) return failureReply(hub, committed);
  if (operation.writes !== null && reply.status < 300) hub.counters.write(operation.writes);
  return reply;
}

/** Tier, quota and budget, in this order: what does not exist costs nothing. Waits in the queue, where there is one. */
async function admit(hub: Hub, operation: Operation, request: HttpRequest): Promise<Answer<void>> {
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
  if (queued > 0) await turn(hub, queued);
  return ok(undefined);
}

/** Budgets come back by the time of the simulated world, and so do queues. */
function turn(hub: Hub, milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    hub.clock.schedule(milliseconds, resolve, undefined);
  });
}

async function finish(
  hub: Hub,
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

export function failureReply(hub: Hub, refused: Refused): HttpReply {
  return refusalReply(refused.refusal, new Date(hub.now()));
}
