import type { Attempt, Fault } from "../../base/fault.ts";
import { err, ok } from "../../base/result.ts";
import { type Clock, type Instant, instant, seconds } from "../../base/time.ts";
import { FIELD_MANAGER, JSON_PATCH, type KubeFault } from "../transport/call.ts";
import type { Transport } from "../transport/transport.ts";
import { LEASE_TIMING, type Lease } from "./lease.ts";

export type LeaseStore = {
  readonly read: (signal: AbortSignal) => Attempt<Lease | null>;
  /** Under `expected` (`null`: there is none yet); `conflict` when it is no longer that version. */
  readonly write: (
    next: Omit<Lease, "version">,
    expected: string | null,
    signal: AbortSignal,
  ) => Attempt<Lease>;
};

/** A LeaseStore that knows when the API server last answered through it. */
export type MonitoredLeaseStore = LeaseStore & { readonly answeredAt: () => Instant | null };

type RawLease = {
  readonly metadata: { readonly resourceVersion: string };
  readonly spec?: {
    readonly holderIdentity?: string | null;
    readonly leaseDurationSeconds?: number | null;
    readonly acquireTime?: string | null;
    readonly renewTime?: string | null;
    readonly leaseTransitions?: number | null;
  };
};

/** The Lease `namespace/name` of coordination.k8s.io/v1; it is created when it is first written. */
export function createLeaseStore(
  transport: Transport,
  at: { readonly namespace: string; readonly name: string },
): LeaseStore {
  const all = `/apis/coordination.k8s.io/v1/namespaces/${encodeURIComponent(at.namespace)}/leases`;
  const one = `${all}/${encodeURIComponent(at.name)}`;
  const manager = `?fieldManager=${FIELD_MANAGER}`;

  return {
    read: async (signal) => {
      const answer = await transport.call({ method: "GET", path: one }, signal);
      if (answer.ok) return ok(leaseOf(answer.value as RawLease));
      return answer.error.kind === "missing" ? ok(null) : err(faultOf(answer.error));
    },
    write: async (next, expected, signal) => {
      const spec = specOf(next);
      const answer = await transport.call(
        expected === null
          ? {
              method: "POST",
              path: all + manager,
              body: {
                apiVersion: "coordination.k8s.io/v1",
                kind: "Lease",
                metadata: { namespace: at.namespace, name: at.name },
                spec,
              },
            }
          : {
              method: "PATCH",
              path: one + manager,
              contentType: JSON_PATCH,
              body: [
                { op: "test", path: "/metadata/resourceVersion", value: expected },
                { op: "add", path: "/spec", value: spec },
              ],
            },
        signal,
      );
      return answer.ok ? ok(leaseOf(answer.value as RawLease)) : err(faultOf(answer.error));
    },
  };
}

/** `store`, with the time of its last answer; a conflict is an answer, too. */
export function monitorLeaseStore(store: LeaseStore, clock: Pick<Clock, "now">): MonitoredLeaseStore {
  let answeredAt: Instant | null = null;
  async function monitored<T>(attempt: Attempt<T>): Attempt<T> {
    const answer = await attempt;
    if (answer.ok || answer.error.kind === "conflict") answeredAt = clock.now();
    return answer;
  }
  return {
    read: (signal) => monitored(store.read(signal)),
    write: (next, expected, signal) => monitored(store.write(next, expected, signal)),
    answeredAt: () => answeredAt,
  };
}

function specOf(lease: Omit<Lease, "version">) {
  return {
    holderIdentity: lease.holder ?? "",
    leaseDurationSeconds: Math.max(1, Math.ceil(lease.duration / 1000)),
    acquireTime: microTime(lease.acquiredAt),
    renewTime: microTime(lease.renewedAt),
    leaseTransitions: lease.transitions,
  };
}

function leaseOf({ metadata, spec }: RawLease): Lease {
  const holder = spec?.holderIdentity ?? "";
  return {
    holder: holder === "" ? null : holder,
    duration: seconds(spec?.leaseDurationSeconds ?? LEASE_TIMING.duration / 1000),
    acquiredAt: parseMicroTime(spec?.acquireTime),
    renewedAt: parseMicroTime(spec?.renewTime),
    transitions: spec?.leaseTransitions ?? 0,
    version: metadata.resourceVersion,
  };
}

function microTime(at: Instant): string {
  return new Date(at).toISOString().replace("Z", "000Z");
}

function parseMicroTime(written: string | null | undefined): Instant {
  const at = Date.parse(written ?? "");
  return instant(Number.isNaN(at) ? 0 : at);
}

/** A Lease that is gone is not the one that was read. */
function faultOf(fault: KubeFault): Fault {
  if (fault.kind === "missing") return { kind: "conflict", message: fault.message };
  if (fault.kind === "expired") return { kind: "unavailable", message: fault.message };
  return fault;
}
