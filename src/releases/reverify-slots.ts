import type { ObjectKey } from "../api/resource.ts";

/**
 * Slots for verifications of what has a verdict already, so that those of new releases never wait behind many of them.
 * In memory only: what runs takes its slot again after a restart.
 */
export type ReverifySlots = {
  /**
   * Whether this variant may be verified again now; it holds the slot until `release`.
   * @param urgent a person requested it: it comes before all that was not requested.
   */
  readonly acquire: (key: ObjectKey, variant: string, urgent: boolean) => boolean;
  /** For what runs already. */
  readonly force: (key: ObjectKey, variant: string) => void;
  /** Releases the slot; idempotent. */
  readonly release: (key: ObjectKey, variant: string) => void;
  /** The object is gone. */
  readonly releaseAll: (key: ObjectKey) => void;
  /** Called with the object that may have a slot that has become free. */
  readonly onFree: (listener: (key: ObjectKey) => void) => void;
};

/** @param limit how many are verified again at a time. */
export function createReverifySlots(limit = 1): ReverifySlots {
  const holding = new Map<string, ObjectKey>();
  // First come, first served: a Map is in the order of insertion.
  const waiting = new Map<string, { readonly key: ObjectKey; readonly urgent: boolean }>();
  const listeners: ((key: ObjectKey) => void)[] = [];
  const nameOf = (key: ObjectKey, variant: string) => `${key}/${variant}`;

  function force(key: ObjectKey, variant: string): void {
    const name = nameOf(key, variant);
    waiting.delete(name);
    holding.set(name, key);
  }

  function callNext(): void {
    if (holding.size >= limit) return;
    const [first] = waiting.values();
    const next = [...waiting.values()].find(({ urgent }) => urgent) ?? first;
    if (next !== undefined) for (const listener of listeners) listener(next.key);
  }

  return {
    force,
    acquire: (key, variant, urgent) => {
      const name = nameOf(key, variant);
      if (holding.has(name)) return true;
      if (holding.size >= limit) {
        waiting.set(name, { key, urgent });
        return false;
      }
      force(key, variant);
      return true;
    },
    release: (key, variant) => {
      const name = nameOf(key, variant);
      if (holding.delete(name) || waiting.delete(name)) callNext();
    },
    releaseAll: (key) => {
      for (const [name, owner] of holding) if (owner === key) holding.delete(name);
      for (const [name, owner] of waiting) if (owner.key === key) waiting.delete(name);
      callNext();
    },
    onFree: (listener) => void listeners.push(listener),
  };
}
