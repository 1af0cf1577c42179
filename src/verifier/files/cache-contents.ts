import { rm } from "node:fs/promises";
import type { Meter } from "../../telemetry/telemetry.ts";
import type { CachedBlob } from "./cached-blob.ts";

// What the cache holds and the room it takes: the longest unused leaves first, and nothing leaves while it is in use.

export type CacheContents = {
  readonly get: (digest: string) => CachedBlob | undefined;
  readonly add: (blob: CachedBlob) => void;
  /** It is now the last one to leave. */
  readonly markNewest: (blob: CachedBlob) => void;
  /** Idempotent. Its bytes count until it is gone. */
  readonly remove: (blob: CachedBlob) => Promise<void>;
  /** Resolves once no file of this digest is being removed. */
  readonly removed: (digest: string) => Promise<void>;
  readonly fits: (bytes: number) => boolean;
  /** Evicts what is not in use until `bytes` fit; nothing where that would not be enough. */
  readonly makeRoom: (bytes: number) => Promise<void>;
  /** @returns whether there was anything to evict. */
  readonly evictUnused: () => Promise<boolean>;
  /** Room for a file that is being downloaded, until the returned function is called. */
  readonly reserve: (bytes: number) => () => void;
  readonly counts: () => { readonly files: number; readonly bytes: number };
};

/** @param found in the order in which they are to leave. */
export function createCacheContents(
  found: readonly CachedBlob[],
  budgetBytes: number,
  meter: Meter,
): CacheContents {
  // The order of a Map is that of insertion: the first is the one that was used longest ago.
  const blobs = new Map(found.map((blob) => [blob.digest, blob]));
  const leaving = new Map<string, Promise<void>>();
  let bytes = sizeOf(found);
  let reserved = 0;

  const fits = (wanted: number) => bytes + reserved + wanted <= budgetBytes;
  const unused = () => [...blobs.values()].filter(({ users }) => users === 0);

  async function remove(blob: CachedBlob): Promise<void> {
    if (blobs.get(blob.digest) !== blob) return;
    blobs.delete(blob.digest);
    const gone = rm(blob.path, { recursive: true, force: true });
    leaving.set(blob.digest, gone);
    try {
      await gone;
      bytes -= blob.bytes;
    } finally {
      leaving.delete(blob.digest);
    }
  }

  async function evict(blob: CachedBlob): Promise<void> {
    meter.count("edgefleet_verifier_cache_evictions_total");
    await remove(blob);
  }

  return {
    remove,
    fits,
    get: (digest) => blobs.get(digest),
    add: (blob) => {
      blobs.set(blob.digest, blob);
      bytes += blob.bytes;
    },
    markNewest: (blob) => {
      blobs.delete(blob.digest);
      blobs.set(blob.digest, blob);
    },
    removed: async (digest) => leaving.get(digest),
    makeRoom: async (wanted) => {
      const candidates = unused();
      if (!fits(wanted - sizeOf(candidates))) return;
      for (const blob of candidates) {
        if (fits(wanted)) return;
        if (blob.users === 0) await evict(blob);
      }
    },
    evictUnused: async () => {
      const candidates = unused();
      for (const blob of candidates) await evict(blob);
      return candidates.length > 0;
    },
    reserve: (wanted) => {
      reserved += wanted;
      return () => {
        reserved -= wanted;
      };
    },
    counts: () => ({ files: blobs.size, bytes }),
  };
}

function sizeOf(blobs: readonly CachedBlob[]): number {
  return blobs.reduce((sum, blob) => sum + blob.bytes, 0);
}
