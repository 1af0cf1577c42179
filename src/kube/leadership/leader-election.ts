import { err, ok, type Result } from "../../base/result.ts";
import { type Clock, elapsed, type Instant, type Millis, millis } from "../../base/time.ts";
import { jittered } from "../../runtime/clock.ts";
import type { RuntimeDeps } from "../../runtime/deps.ts";
import { linkedSignal } from "../../runtime/linked-signal.ts";
import { claim, decideLease, type Lease, type LeaseObservation, type LeaseTiming, observe } from "./lease.ts";
import type { LeaseStore } from "./lease-store.ts";

export type Election = {
  readonly store: LeaseStore;
  /** Unique for each process, so that a restarted process is not mistaken for its predecessor. */
  readonly me: string;
  readonly timing: LeaseTiming;
};

/**
 * Waits for leadership, runs `body` while it lasts, and waits again when it is lost; until `signal` aborts, or `body`
 * returns or throws.
 *
 *     wait ──acquired──▶ lead ──could not renew in time, or another holds it──▶ body's signal aborts ──▶ wait
 *
 * A leader steps down `renewBy` after the last renewal that it can prove was *sent*, others wait for `duration` after
 * they *saw* it: between the two there is no leader, however slow the answers were. After a clean end the Lease is released,
 * once `body` has returned, so that the next candidate need not wait.
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

/** Without an election this process leads, and metrics say so: alerts ask only the leader about the hub. */
export async function leadAlone(
  { meter }: Pick<RuntimeDeps, "meter">,
  signal: AbortSignal,
  body: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  meter.gauge("edgefleet_leader", 1);
  await body(signal).finally(() => meter.gauge("edgefleet_leader", 0));
}

/** A Lease of ours, and when the write that proves it was sent. */
type Held = { readonly lease: Lease; readonly sentAt: Instant };

/** `null`: we were stopped. */
async function acquire(
  { store, me, timing }: Election,
  deps: RuntimeDeps,
  signal: AbortSignal,
): Promise<Held | null> {
  let seen: (LeaseObservation & { readonly at: Instant }) | null = null;
  let failures = 0;
  let waitedFor: string | null = null;
  while (!signal.aborted) {
    const read = await within([timing.renewBy, deps.clock], signal, store.read);
    let delay = timing.retry;
    if (read.ok) {
      seen = read.value === null ? null : observe(seen, read.value, deps.clock.now(), timing);
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
        const written = await within([timing.renewBy, deps.clock], signal, (inner) =>
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
      if (failures === 3) deps.log.warn("lease cannot be read", { cause: read.error.message });
    }
    await deps.clock.sleep(jittered(delay, deps.random), signal);
  }
  return null;
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
    if (last.ok) await releaseLease(election, last.value, deps);
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
    if (written.error.kind === "conflict") await readHolder();
  }

  /** A renewal of ours may have arrived although its answer did not: then the Lease is ours, under a newer version. */
  async function readHolder(): Promise<void> {
    const read = await store.read(lost.signal);
    if (!read.ok || lost.signal.aborted) return;
    const holder = read.value?.holder ?? null;
    if (holder === me && read.value !== null) held = { lease: read.value, sentAt: held.sentAt };
    else lose(holder === null ? "it has no holder any more" : `it is held by ${holder}`);
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

async function releaseLease({ store, timing }: Election, last: Lease, deps: RuntimeDeps): Promise<void> {
  const free = { ...last, holder: null, renewedAt: deps.clock.now() };
  const written = await within([timing.retry, deps.clock], new AbortController().signal, (signal) =>
    store.write(free, last.version, signal),
  );
  // Harmless: the other candidates wait until it expires.
  if (!written.ok) deps.log.info("lease was not released", { cause: written.error.message });
}

async function within<T>(
  [timeout, clock]: readonly [Millis, Clock],
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
