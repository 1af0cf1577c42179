import { elapsed, type Instant, seconds } from "./base/time.ts";

export type CacheState = {
  readonly kind: string;
  /** Listed whole once. */
  readonly isSynced: () => boolean;
  /** Whether a list, a watch event or a bookmark has come lately. */
  readonly isCurrent: () => boolean;
};

/** A leader renews every two seconds, and who waits looks as often. */
const LEASE_SILENCE = seconds(30);

/**
 * Why this replica can neither lead nor take over; `null`: it can. `lease` is when the API server last answered about the
 * Lease (`null`: never), and left out without leader election.
 */
export function whyUnready(
  caches: readonly CacheState[],
  lease: { readonly answeredAt: Instant | null } | null,
  now: Instant,
): string | null {
  const unlisted = caches.filter(({ isSynced }) => !isSynced()).map(({ kind }) => kind);
  if (unlisted.length > 0) return `not listed yet: ${unlisted.join(", ")}`;
  const stale = caches.filter(({ isCurrent }) => !isCurrent()).map(({ kind }) => kind);
  if (stale.length > 0) return `the watches have been silent for minutes: ${stale.join(", ")}`;
  if (lease === null) return null;
  if (lease.answeredAt === null) return "the Lease has not been read yet";
  return elapsed(lease.answeredAt, now) > LEASE_SILENCE
    ? `the Lease could be neither read nor written for ${LEASE_SILENCE / 1000} s`
    : null;
}
