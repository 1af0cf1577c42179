import { err, ok, type Result, unreachable } from "../../base/result.ts";
import { type Millis, seconds } from "../../base/time.ts";
import type { KubeFault } from "../transport/call.ts";

// What a list-watch gives, and how it is read from the answers of the API server. Pure.

/** What a cache needs to know of each object that it keeps. */
export type Cached = {
  readonly key: string;
  readonly namespace: string;
  readonly uid: string;
  readonly resourceVersion: string;
};

/** expired: the API server forgot the version (410), so all must be listed again. */
export type WatchFault =
  | { readonly kind: "expired"; readonly message: string }
  | { readonly kind: "broken"; readonly message: string; readonly retryAfter: Millis | null };

export type WatchEvent<T> =
  | { readonly kind: "applied" | "deleted"; readonly object: T; readonly at: string }
  | { readonly kind: "bookmark"; readonly at: string };

export type ListPage<T> = { readonly items: readonly T[]; readonly at: string };

/** The event on one line of a watch. */
export function watchEventOf<T>(
  line: string,
  project: (raw: unknown) => T,
): Result<WatchEvent<T>, WatchFault> {
  const parsed = attempt(() => JSON.parse(line) as { readonly type: string; readonly object: RawObject });
  if (!parsed.ok) return parsed;
  const { type, object } = parsed.value;
  switch (type) {
    case "ADDED":
    case "MODIFIED":
    case "DELETED":
      return attempt(() => ({
        kind: type === "DELETED" ? "deleted" : "applied",
        object: project(object),
        at: object.metadata.resourceVersion,
      }));
    case "BOOKMARK":
      return attempt(() => ({ kind: "bookmark", at: object.metadata.resourceVersion }));
    case "ERROR": {
      const message = `the API server ended the watch: ${object.code} ${object.message ?? object.reason ?? ""}`;
      if (object.code === 410) return err({ kind: "expired", message });
      const after = object.details?.retryAfterSeconds;
      return err(broken(message, after === undefined ? null : seconds(after)));
    }
    default:
      return err(broken(`a watch event of an unknown type: ${JSON.stringify(type)}`));
  }
}

type RawObject = {
  readonly metadata: { readonly resourceVersion: string };
  readonly code?: number;
  readonly message?: string;
  readonly reason?: string;
  readonly details?: { readonly retryAfterSeconds?: number };
};

/** An answer that does not read as it should is a broken watch, never an empty one. */
export function attempt<T>(read: () => T): Result<T, WatchFault> {
  try {
    return ok(read());
  } catch (cause) {
    return err(broken(`unreadable: ${cause instanceof Error ? cause.message : String(cause)}`));
  }
}

export function broken(message: string, retryAfter: Millis | null = null): WatchFault {
  return { kind: "broken", message, retryAfter };
}

export function watchFaultOf(fault: KubeFault): WatchFault {
  switch (fault.kind) {
    case "expired":
      return { kind: "expired", message: fault.message };
    case "throttled":
      return broken(fault.message, fault.retryAfter);
    case "unavailable":
    case "conflict":
    case "denied":
    case "rejected":
    case "missing":
      return broken(fault.message);
    default:
      return unreachable(fault);
  }
}
