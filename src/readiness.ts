import { elapsed, type Instant, seconds } from "./base/time.ts";

export type CacheState = {
  readonly kind: string;
  /** Listed whole once. */
  readonly isSynced: () => boolean;
  /** Whether a list, a watch event or a bookmark has come lately. */
  readonly isCurrent: () => boolean;
  /** Why its last list or watch broke; `null`: the API server answers. */
  readonly problem: () => string | null;
};

/** A leader renews every two seconds, and who waits looks as often. */
const LEASE_SILENCE = seconds(30);

/**
 * Why this replica can neither lead nor take over; `null`: it can. `prerequisites` are what the API server must have
 * answered, apart from lists. `lease` is when the API server last answered about the
 * Lease (`null`: never), and left out without leader election.
 */
export function whyUnready(
  prerequisites: readonly { readonly problem: () => string | null }[],
  caches: readonly CacheState[],
  lease: { readonly answeredAt: Instant | null } | null,
  now: Instant,
): string | null {
  const problems = prerequisites.map(({ problem }) => problem()).filter((problem) => problem !== null);
  const unlisted = caches.filter(({ isSynced }) => !isSynced());
  if (unlisted.length > 0) problems.push(`not listed yet: ${unlisted.map(withProblem).join(", ")}`);
  if (problems.length > 0) return problems.join("; ");
  const stale = caches.filter(({ isCurrent }) => !isCurrent());
  if (stale.length > 0)
    return `the watches have been silent for minutes: ${stale.map(withProblem).join(", ")}`;
  if (lease === null) return null;
  if (lease.answeredAt === null) return "the Lease has not been read yet";
  return elapsed(lease.answeredAt, now) > LEASE_SILENCE
    ? `the Lease could be neither read nor written for ${LEASE_SILENCE / 1000} s`
    : null;
}

function withProblem({ kind, problem }: CacheState): string {
  const why = problem();
  return why === null ? kind : `${kind} (${why})`;
}
