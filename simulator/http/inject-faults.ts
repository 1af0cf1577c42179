import type { ServerResponse } from "node:http";
import { nameOfStatus, type Refusal } from "../hub/errors.ts";
import type { AppliedFault, FaultRule, MALFORMED_BODIES } from "../hub/faults/faults.ts";
import type { Hub } from "../hub/hub.ts";
import { changeConcurrently } from "./routes/concurrent-change.ts";
import type { Operation } from "./routes/operation.ts";
import { wait } from "./transport/delivery.ts";
import { type HttpReply, type HttpRequest, JSON_HEADERS, refusalReply } from "./transport/http-message.ts";

type FaultedRequest = {
  readonly hub: Hub;
  readonly request: HttpRequest;
  readonly operation: Operation;
  readonly response: ServerResponse;
  /** Breaks the connection of a response. */
  readonly reset: (response: ServerResponse) => void;
};

/** Success that no client can use: what a proxy or a captive portal gives, and what the vendor's client stumbles over. */
const MALFORMED: Readonly<Record<(typeof MALFORMED_BODIES)[number], HttpReply>> = {
  html: {
    status: 200,
    headers: { "Content-Type": "text/html" },
    body: "<!doctype html><title>Sign in</title><p>Sign in to use this network.</p>",
  },
  emptyObject: { status: 200, headers: JSON_HEADERS, body: "{}" },
  noContent: { status: 204, headers: {}, body: null },
};

/** Answers with the reply that a fault gives instead of the real one; `null`: the request continues. */
export async function injectFaults(
  faults: readonly AppliedFault[],
  { hub, request, operation, response, reset }: FaultedRequest,
): Promise<HttpReply | null> {
  const refusal = (refused: Refusal) => refusalReply(refused, new Date(hub.now()));
  for (const { rule, delay } of faults) {
    switch (rule.kind) {
      case "latency":
        await wait(delay);
        break;
      case "hang":
        hub.counters.request(operation.operation, operation.name, "hang", operation.cost);
        await closed(response);
        return null;
      case "reset":
      case "outage":
        hub.counters.request(operation.operation, operation.name, "reset", operation.cost);
        reset(response);
        return null;
      case "status":
        return refusal(refusalOf(rule, rule.status, rule.retryAfterSeconds));
      case "malformed":
        return MALFORMED[rule.variant];
      case "conflict":
        if (rule.variant === "answer") return refusal(refusalOf(rule, 412, null));
        await changeConcurrently(hub, request);
        break;
      // The body's, and those that act on the hub as a whole.
      case "partialBody":
      case "slowBody":
      case "stale":
      case "lostReport":
      case "clockSkew":
      case "restart":
      case "regionalOutage":
        break;
    }
  }
  return null;
}

function refusalOf({ id }: FaultRule, status: number, retryAfterSeconds: number | null): Refusal {
  const code = nameOfStatus(status);
  return { status, code, message: `Injected by the fault rule ${id}`, form: "A", retryAfterSeconds };
}

export function closed(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    if (response.closed) resolve();
    else response.once("close", () => resolve());
  });
}
