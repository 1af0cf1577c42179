import type { Fault } from "../base/fault.ts";
import { unreachable } from "../base/result.ts";
import { type Millis, seconds } from "../base/time.ts";

/** The only four things a reconcile may ask of the queue. */
export type Outcome =
  | { readonly kind: "settled" }
  /** Waiting, not failing: reconcile again after `delay`. */
  | { readonly kind: "wakeAfter"; readonly delay: Millis; readonly why: string }
  /** Failure: exponential back-off with jitter, and no sooner than `atLeast`. */
  | { readonly kind: "retry"; readonly cause: string; readonly atLeast?: Millis }
  /** Only a new spec or an administrator helps; retried at long intervals all the same. */
  | { readonly kind: "stalled"; readonly cause: string };

export type Reconcile<Key> = (key: Key, signal: AbortSignal) => Promise<Outcome>;

export const SETTLED: Outcome = { kind: "settled" };

export function outcomeOfFault(fault: Fault): Outcome {
  switch (fault.kind) {
    case "throttled":
      return { kind: "retry", cause: fault.message, atLeast: fault.retryAfter };
    case "conflict":
    case "unavailable":
      return { kind: "retry", cause: fault.message };
    case "denied":
      // Rights and credentials are fixed outside, and no event says when.
      return { kind: "retry", cause: fault.message, atLeast: seconds(30) };
    case "rejected":
      return { kind: "stalled", cause: fault.message };
    default:
      return unreachable(fault);
  }
}
