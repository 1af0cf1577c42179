import type { Instant, Millis } from "../base/time.ts";
import { elapsed, minutes } from "../base/time.ts";

/** An EdgeDevice that is being deleted together with its identity, or was within the last minute. */
export type Leaving = {
  readonly uid: string;
  /** A person allows it until then, whatever else leaves. */
  readonly allowedUntil: Instant | null;
  /** `null`: its identity is still there. */
  readonly removedAt: Instant | null;
  /** Its status says that it waits for a person. */
  readonly isPaused: boolean;
};

/** How long a removal counts. */
export const BRAKE_WINDOW: Millis = minutes(1);
/** All namespaces together may remove so many times what one may: the deletion of a CRD meets all of them at once. */
const ALL_NAMESPACES = 3;

/**
 * Whether the removal of an identity has to wait for a person. It does where more than `limit` of its namespace leave
 * together or have left within a minute, where the namespaces together come to three times as many (each counted up to
 * the limit, so that one cannot stop the others), and for as long as another one of the namespace waits: so the brake
 * outlives a restart.
 * @param leaving by namespace, this one among them.
 * @param limit 0: there is no brake.
 */
export function mustWait(
  one: Pick<Leaving, "uid" | "allowedUntil" | "isPaused"> & { readonly namespace: string },
  leaving: ReadonlyMap<string, Iterable<Leaving>>,
  limit: number,
  now: Instant,
): boolean {
  if (limit === 0 || isAllowed(one, now)) return false;
  if (one.isPaused) return true;
  let all = 0;
  for (const [namespace, those] of leaving) {
    const isOwn = namespace === one.namespace;
    let count = 0;
    for (const other of those) {
      if (isAllowed(other, now) || hasLeft(other, now)) continue;
      if (other.isPaused) {
        if (isOwn) return true;
        continue;
      }
      count += 1;
      if (count > limit) break;
    }
    if (isOwn && count > limit) return true;
    all += Math.min(count, limit);
  }
  return all > ALL_NAMESPACES * limit;
}

/** Whether its removal counts no longer. */
export function hasLeft({ removedAt }: Pick<Leaving, "removedAt">, now: Instant): boolean {
  return removedAt !== null && elapsed(removedAt, now) >= BRAKE_WINDOW;
}

function isAllowed({ allowedUntil }: Pick<Leaving, "allowedUntil">, now: Instant): boolean {
  return allowedUntil !== null && allowedUntil > now;
}
