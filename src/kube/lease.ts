import type { Attempt, Fault } from "../base/fault.ts";
import { err, ok, type Result } from "../base/result.ts";
import { type Clock, elapsed, type Instant, instant, type Millis, millis, seconds } from "../base/time.ts";
import { jittered } from "../runtime/clock.ts";
import type { RuntimeDeps } from "../runtime/deps.ts";
import { linkedSignal } from "../runtime/linked-signal.ts";
import { FIELD_MANAGER, JSON_PATCH, type KubeFault } from "./call.ts";
import type { Transport } from "./transport.ts";

export type Lease = {
  /** `null`: it was let go of. */
  readonly holder: string | null;
  /** How long the holder may go without renewing before others may take over. */
  readonly duration: Millis;
  readonly acquiredAt: Instant;
  /** By the holder's clock: for people. Nobody else decides by it. */
  readonly renewedAt: Instant;
  /** How often it has changed hands. */
  readonly transitions: number;
  /** Changes with each write; opaque. */
  readonly version: string;
};

export type LeaseTiming = {
  readonly duration: Millis;
  /** A leader that has not renewed for this long steps down. Less than `duration` by more than clocks can differ. */
  readonly renewBy: Millis;
  /** Between two renewals, and between two looks of those who wait. */
  readonly retry: Millis;
};

export const LEASE_TIMING: LeaseTiming = { duration: seconds(15), renewBy: seconds(10), retry: seconds(2) };

export type LeaseStore = {
  readonly read: (signal: AbortSignal) => Attempt<Lease | null>;
  /** Under `expected` (`null`: there is none yet); `conflict` when it is no longer that version. */
  readonly write: (
    next: Omit<Lease, "version">,
    expected: string | null,
    signal: AbortSignal,
  ) => Attempt<Lease>;
};

/** A LeaseStore, and when the API server last answered through it. */
export type HeardLeaseStore = LeaseStore & { readonly answeredAt: () => Instant | null };

/** What a candidate knows of the Lease: it measures by its own clock how long a version has not been renewed. */
export type Sighting = { readonly lease: Lease; readonly unrenewedFor: Millis };

export type LeaseMove =
  | { readonly kind: "acquire" }
  | { readonly kind: "renew" }
  | { readonly kind: "wait"; readonly delay: Millis };

/** Pure: what the candidate `me` does about what it sees. */
export function decideLease(me: string, seen: Sighting | null, timing: LeaseTiming): LeaseMove {
  if (seen === null || seen.lease.holder === null) return { kind: "acquire" };
  if (seen.lease.holder === me) return { kind: "renew" };
  const left = seen.lease.duration - seen.unrenewedFor;
  if (left <= 0) return { kind: "acquire" };
  return { kind: "wait", delay: millis(Math.min(left, timing.retry)) };
}

/**
 * The sighting after another look. A gap between two looks counts for two retries at most: a candidate that was itself
 * asleep, or whose clock was set, must not conclude that the holder was.
 */
export function sight(
  before: (Sighting & { readonly at: Instant }) | null,
  lease: Lease,
  now: Instant,
  timing: LeaseTiming,
): Sighting & { readonly at: Instant } {
  if (before === null || before.lease.version !== lease.version)
    return { lease, unrenewedFor: millis(0), at: now };
  const gap = Math.min(elapsed(before.at, now), 2 * timing.retry);
  return { lease, unrenewedFor: millis(before.unrenewedFor + gap), at: now };
}

export type Election = {
  readonly store: LeaseStore;
  /** Unique for each process, so that a restarted one does not take itself for the old one. */
  readonly me: string;
  readonly timing: LeaseTiming;
};

/**
 * Waits for leadership, runs `body` while it lasts, and waits again when it is lost; until `signal` aborts, or `body`
 * ends by itself or throws.
 *
 *     wait ──acquired──▶ lead ──could not renew in time, or another holds it──▶ body's signal aborts ──▶ wait
 *
 * A leader steps down `renewBy` after the last renewal that it can prove was *sent*, others wait for `duration` after
 * they *saw* it: between the two nobody leads, however slow the answers were. After a clean end the Lease is let go of,
 * once `body` has returned, so that the next one need not wait.
 */
export async function whileLeading(
  election: Election,
  deps: RuntimeDeps,
  signal: AbortSignal,
  body: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const log = deps.log.with({ me: election.me });
  deps.meter.gauge("edgefleet_leader", 0);
  while (!signal.aborted) {
    const won = await acquire(election, deps, signal);
    if (won === null) return;
    log.info("leading", { transitions: won.lease.transitions });
    deps.meter.gauge("edgefleet_leader", 1);
    const end = await lead(election, won, deps, signal, body).finally(() =>
      deps.meter.gauge("edgefleet_leader", 0),
    );
    if (end.kind === "stopped") {
      log.info("no longer leading: stopped");
      return;
    }
    log.warn("no longer leading", { cause: end.cause });
  }
}

/** A lease of ours, and when the write that proves it was sent. */
type Held = { readonly lease: Lease; readonly sentAt: Instant };

/** `null`: we were stopped. */
async function acquire(
  { store, me, timing }: Election,
  deps: RuntimeDeps,
  signal: AbortSignal,
): Promise<Held | null> {
  let seen: (Sighting & { readonly at: Instant }) | null = null;
  let failures = 0;
  let waitedFor: string | null = null;
  while (!signal.aborted) {
    const looked = await within(timing.renewBy, deps.clock, signal, store.read);
    let delay = timing.retry;
    if (looked.ok) {
      seen = looked.value === null ? null : sight(seen, looked.value, deps.clock.now(), timing);
      const move = decideLease(me, seen, timing);
      if (move.kind === "wait") {
        delay = move.delay;
        failures = 0;
        const holder = seen?.lease.holder ?? null;
        if (holder !== waitedFor) deps.log.info("waiting for the Lease", { me, holder });
        waitedFor = holder;
      } else {
        const sentAt = deps.clock.now();
        const next = claim(me, seen?.lease ?? null, sentAt, timing);
        const written = await within(timing.renewBy, deps.clock, signal, (inner) =>
          store.write(next, seen?.lease.version ?? null, inner),
        );
        // An answer that took too long proves nothing any more.
        if (written.ok && elapsed(sentAt, deps.clock.now()) < timing.renewBy)
          return { lease: written.value, sentAt };
        if (!written.ok && written.error.kind !== "conflict") failures += 1;
        if (!written.ok) deps.log.debug("lease not acquired", { cause: written.error.message });
      }
    } else {
      failures += 1;
      if (failures === 3) deps.log.warn("lease cannot be read", { cause: looked.error.message });
    }
    await deps.clock.sleep(jittered(delay, deps.random), signal);
  }
  return null;
}

function claim(me: string, before: Lease | null, now: Instant, timing: LeaseTiming): Omit<Lease, "version"> {
  const ours = before?.holder === me;
  return {
    holder: me,
    duration: timing.duration,
    acquiredAt: ours ? before.acquiredAt : now,
    renewedAt: now,
    transitions: before === null ? 0 : before.transitions + (ours ? 0 : 1),
  };
}

type LeadEnd = { readonly kind: "stopped" } | { readonly kind: "lost"; readonly cause: string };

async function lead(
  election: Election,
  won: Held,
  deps: RuntimeDeps,
  signal: AbortSignal,
  body: (signal: AbortSignal) => Promise<void>,
): Promise<LeadEnd> {
  using working = linkedSignal(signal);
  // The Lease is renewed until the body has returned, also while it is being stopped.
  const returned = new AbortController();
  const renewal = renew(election, won, deps, returned.signal, () => {
    working.abort(new Error("leadership was lost"));
  });
  try {
    await body(working.signal);
  } finally {
    returned.abort();
    const last = await renewal;
    if (last.ok) await letGo(election, last.value, deps);
  }
  const last = await renewal;
  return last.ok ? { kind: "stopped" } : { kind: "lost", cause: last.error };
}

/** Renews until `done` aborts: the Lease as it is then. Or calls `onLost`, and says why it is not ours any more. */
async function renew(
  { store, me, timing }: Election,
  won: Held,
  deps: RuntimeDeps,
  done: AbortSignal,
  onLost: () => void,
): Promise<Result<Lease, string>> {
  let held = won;
  let lostBecause: string | null = null;
  const lost = new AbortController();
  using nap = linkedSignal(done);
  // A timer of its own: leadership ends on time, whatever a renewal is waiting for.
  let deadline = startDeadline();

  function startDeadline(): Deadline {
    const left = millis(timing.renewBy - elapsed(held.sentAt, deps.clock.now()));
    return expireAfter(deps.clock, left, () => lose("it could not be renewed in time"));
  }

  function lose(cause: string): void {
    lostBecause = cause;
    lost.abort();
    nap.abort();
    onLost();
  }

  async function renewOnce(): Promise<void> {
    const sentAt = deps.clock.now();
    const written = await store.write(claim(me, held.lease, sentAt, timing), held.lease.version, lost.signal);
    if (written.ok) {
      held = { lease: written.value, sentAt };
      deadline.cancel();
      deadline = startDeadline();
      return;
    }
    deps.log.debug("lease not renewed", { cause: written.error.message });
    if (written.error.kind === "conflict") await lookWhose();
  }

  /** A renewal of ours may have arrived although its answer did not: then the Lease is ours, under a newer version. */
  async function lookWhose(): Promise<void> {
    const looked = await store.read(lost.signal);
    if (!looked.ok || lost.signal.aborted) return;
    if (looked.value?.holder === me) held = { lease: looked.value, sentAt: held.sentAt };
    else lose(`it is held by ${looked.value?.holder ?? "nobody"}`);
  }

  while (!nap.signal.aborted) {
    await deps.clock.sleep(timing.retry, nap.signal);
    if (!nap.signal.aborted) await renewOnce();
  }
  deadline.cancel();
  return lostBecause === null ? ok(held.lease) : err(lostBecause);
}

type Deadline = { readonly cancel: () => void };

function expireAfter(clock: Clock, delay: Millis, expire: () => void): Deadline {
  const timer = new AbortController();
  const onTime = () => {
    if (!timer.signal.aborted) expire();
  };
  clock.sleep(delay, timer.signal).then(onTime, onTime);
  return { cancel: () => timer.abort() };
}

async function letGo({ store, timing }: Election, last: Lease, deps: RuntimeDeps): Promise<void> {
  const free = { ...last, holder: null, renewedAt: deps.clock.now() };
  const written = await within(timing.retry, deps.clock, new AbortController().signal, (signal) =>
    store.write(free, last.version, signal),
  );
  // Nobody is hurt: the others wait until it runs out.
  if (!written.ok) deps.log.info("lease was not let go of", { cause: written.error.message });
}

async function within<T>(
  timeout: Millis,
  clock: Clock,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  using link = linkedSignal(signal);
  const timer = expireAfter(clock, timeout, link.abort);
  try {
    return await work(link.signal);
  } finally {
    timer.cancel();
  }
}

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

/** `store`, which remembers when it was last answered. That the Lease has changed meanwhile is an answer, too. */
export function heardLeaseStore(store: LeaseStore, clock: Pick<Clock, "now">): HeardLeaseStore {
  let answeredAt: Instant | null = null;
  async function hear<T>(attempt: Attempt<T>): Attempt<T> {
    const answer = await attempt;
    if (answer.ok || answer.error.kind === "conflict") answeredAt = clock.now();
    return answer;
  }
  return {
    read: (signal) => hear(store.read(signal)),
    write: (next, expected, signal) => hear(store.write(next, expected, signal)),
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
