import { elapsed, type Instant, type Millis, millis, seconds } from "../../base/time.ts";

// What a candidate for leadership decides about the Lease that it sees. Pure.

export type Lease = {
  /** `null`: it was released. */
  readonly holder: string | null;
  /** How long the holder may go without renewing before others may take over. */
  readonly duration: Millis;
  readonly acquiredAt: Instant;
  /** By the holder's clock, for people: no other candidate decides by it. */
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
  /** Between two renewals, and between two reads of those who wait. */
  readonly retry: Millis;
};

export const LEASE_TIMING: LeaseTiming = { duration: seconds(15), renewBy: seconds(10), retry: seconds(2) };

/** What a candidate knows of the Lease: it measures by its own clock how long a version has not been renewed. */
export type LeaseObservation = { readonly lease: Lease; readonly unrenewedFor: Millis };

export type LeaseMove =
  | { readonly kind: "acquire" }
  | { readonly kind: "renew" }
  | { readonly kind: "wait"; readonly delay: Millis };

/** Pure: what the candidate `me` does about what it sees. */
export function decideLease(me: string, seen: LeaseObservation | null, timing: LeaseTiming): LeaseMove {
  if (seen === null || seen.lease.holder === null) return { kind: "acquire" };
  if (seen.lease.holder === me) return { kind: "renew" };
  const left = seen.lease.duration - seen.unrenewedFor;
  if (left <= 0) return { kind: "acquire" };
  return { kind: "wait", delay: millis(Math.min(left, timing.retry)) };
}

/**
 * The observation after another read. A gap between two reads counts as two retries at most: a candidate that was itself
 * suspended, or whose clock was set, must not conclude that the holder was.
 */
export function observe(
  before: (LeaseObservation & { readonly at: Instant }) | null,
  lease: Lease,
  now: Instant,
  timing: LeaseTiming,
): LeaseObservation & { readonly at: Instant } {
  if (before === null || before.lease.version !== lease.version)
    return { lease, unrenewedFor: millis(0), at: now };
  const gap = Math.min(elapsed(before.at, now), 2 * timing.retry);
  return { lease, unrenewedFor: millis(before.unrenewedFor + gap), at: now };
}

/** The Lease as `me` writes it, whether to take it or to renew it. */
export function claim(
  me: string,
  before: Lease | null,
  now: Instant,
  timing: LeaseTiming,
): Omit<Lease, "version"> {
  const ours = before?.holder === me;
  return {
    holder: me,
    duration: timing.duration,
    acquiredAt: ours ? before.acquiredAt : now,
    renewedAt: now,
    transitions: before === null ? 0 : before.transitions + (ours ? 0 : 1),
  };
}
