import type { ObjectKey } from "../api/resource.ts";

/**
 * Which verifications are under way for whom, so that what is no longer wanted can be stopped. In memory only: a
 * finalizer would hold an object back for no more than an early end of something that ends anyway.
 */
export type ActiveVerifications<Verification> = {
  /** @returns what was asked for this variant before, if it was another one and no other variant waits for it. */
  readonly note: (key: ObjectKey, variant: string, asked: Verification) => Verification | null;
  /** It has ended. */
  readonly ended: (key: ObjectKey, variant: string) => void;
  /** The object is gone. @returns what no variant waits for any more. */
  readonly gone: (key: ObjectKey) => readonly Verification[];
};

export function createActiveVerifications<Verification>(): ActiveVerifications<Verification> {
  const byObject = new Map<ObjectKey, Map<string, Verification>>();

  function isWanted(asked: Verification): boolean {
    for (const variants of byObject.values())
      for (const other of variants.values()) if (other === asked) return true;
    return false;
  }

  return {
    note: (key, variant, asked) => {
      const variants = byObject.get(key) ?? new Map<string, Verification>();
      const before = variants.get(variant);
      byObject.set(key, variants.set(variant, asked));
      return before === undefined || isWanted(before) ? null : before;
    },
    ended: (key, variant) => {
      const variants = byObject.get(key);
      variants?.delete(variant);
      if (variants?.size === 0) byObject.delete(key);
    },
    gone: (key) => {
      const left = [...new Set(byObject.get(key)?.values() ?? [])];
      byObject.delete(key);
      return left.filter((asked) => !isWanted(asked));
    },
  };
}
