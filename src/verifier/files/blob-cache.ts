import { randomUUID } from "node:crypto";
import { mkdir, rename, rm } from "node:fs/promises";
import { REASONS } from "../../api/reasons.ts";
import { errorCodeOf, errorCodeText } from "../../base/guards.ts";
import { err, ok, type Result } from "../../base/result.ts";
import type { Clock } from "../../base/time.ts";
import type { Log, Meter } from "../../telemetry/telemetry.ts";
import type { Download } from "../../verification/verification.ts";
import { type CacheContents, createCacheContents } from "./cache-contents.ts";
import {
  blobPath,
  type CachedBlob,
  cachedBlobsIn,
  confirm,
  isConfirmed,
  isIntact,
  linkOrCopy,
  makeReadOnly,
  markUsed,
  newCachedBlob,
  partPath,
  sizeOnDisk,
} from "./cached-blob.ts";
import type { DownloadFault, Fetch } from "./download.ts";
import { CANCELLED, type DownloadEnd, type SharedDownload, waitFor } from "./shared-download.ts";

/** Files that were downloaded before, by their digest: never more bytes than the budget, in use or not. */
export type BlobCache = {
  readonly hold: () => Hold;
  readonly counts: CacheContents["counts"];
};

/** What one verification fetches stays until it is released. */
export type Hold = {
  /** From the cache, or downloaded into it if it has room: at `to` it is a link to the cached file. */
  readonly fetch: Fetch;
  /** Into the cache, if it has room. A failure is not reported: `fetch` will meet it again. */
  readonly prefetch: (from: Download, signal: AbortSignal) => Promise<void>;
  readonly release: () => void;
};

export type BlobCacheDeps = {
  /** Other files in it are left alone. */
  readonly directory: string;
  /** 0: nothing is cached. */
  readonly budgetBytes: number;
  /** Whether no process that is given a file can change it: otherwise its digest is taken at every use. */
  readonly untouchable: boolean;
  readonly download: Fetch;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
};

type Cache = BlobCacheDeps & {
  readonly contents: CacheContents;
  /** By digest: a file is downloaded once, however many wait for it. */
  readonly downloads: Map<string, SharedDownload>;
};

type CacheRequest = "hit" | "miss" | "damaged" | "noRoom" | "unconfirmed";

const DIRECTORY_MODE = 0o700;

/**
 * The directory is the index: a file's name is its digest, its modification time is when it was last used. Files of a
 * previous run are verified when they are first used; its unfinished files, and what exceeds the budget, are removed now.
 * @returns the system's code where the directory cannot be used.
 */
export async function openBlobCache(deps: BlobCacheDeps): Promise<Result<BlobCache, string>> {
  try {
    await mkdir(deps.directory, { recursive: true, mode: DIRECTORY_MODE });
    const found = await cachedBlobsIn(deps.directory);
    const contents = createCacheContents(found, deps.budgetBytes, deps.meter);
    await contents.makeRoom(0);
    const cache: Cache = { ...deps, contents, downloads: new Map() };
    return ok({ hold: () => createHold(cache), counts: contents.counts });
  } catch (thrown) {
    return err(errorCodeText(thrown));
  }
}

function createHold(cache: Cache): Hold {
  const held: CachedBlob[] = [];
  return {
    fetch: async (from, to, signal) => {
      const got = await orFault(fetchInto(cache, from, to, held, signal), signal);
      // A disk that is full of cached files is no reason to fail.
      if (got.ok || got.error.diskFull !== true || !(await cache.contents.evictUnused())) return got;
      await rm(to, { force: true });
      return orFault(fetchInto(cache, from, to, held, signal), signal);
    },
    prefetch: async (from, signal) => {
      const got = await acquire(cache, from, signal).catch(() => null);
      if (got?.ok === true) held.push(got.value);
    },
    release: () => {
      for (const blob of held.splice(0)) blob.users -= 1;
    },
  };
}

async function fetchInto(
  cache: Cache,
  from: Download,
  to: string,
  held: CachedBlob[],
  signal: AbortSignal,
): ReturnType<Fetch> {
  const got = await acquire(cache, from, signal);
  if (got === null) {
    count(cache, "noRoom");
    return cache.download(from, to, signal);
  }
  if (got.ok === "wrong") return ok({ path: to, digest: got.digest });
  if (!got.ok) return got;
  const blob = got.value;
  held.push(blob);
  if (!isConfirmed(blob, from)) {
    // The verdict is about this blob, and bytes that came from another one say nothing of it.
    count(cache, "unconfirmed");
    const read = await cache.download(from, to, signal);
    if (read.ok && read.value.digest === from.digest) confirm(blob, from);
    return read;
  }
  await linkOrCopy(blob.path, to);
  return ok({ path: to, digest: blob.digest });
}

/** The file, which is in use from now on; `null`: there is no room for it. */
async function acquire(cache: Cache, from: Download, signal: AbortSignal): Promise<DownloadEnd | null> {
  const { contents, downloads } = cache;
  for (;;) {
    if (signal.aborted) return err(CANCELLED);
    await contents.removed(from.digest);
    const cached = contents.get(from.digest);
    if (cached !== undefined) {
      if (!(await useCached(cache, cached, signal))) continue;
      if (isConfirmed(cached, from)) count(cache, "hit");
      return ok(cached);
    }
    const running = downloads.get(from.digest);
    if (running !== undefined) {
      if (!running.abort.signal.aborted) {
        running.users += 1;
        const end = await waitFor(running, signal);
        if (end.ok === true || signal.aborted) return end;
      }
      // It failed or was cancelled: another URL may do better.
      await running.end;
      continue;
    }
    const wanted = sizeOnDisk(from.sizeBytes);
    await contents.makeRoom(wanted);
    // That takes a while: another verification may have begun meanwhile.
    if (downloads.has(from.digest) || contents.get(from.digest) !== undefined) continue;
    if (!contents.fits(wanted)) return null;
    count(cache, "miss");
    return waitFor(startDownload(cache, from), signal);
  }
}

/** Whether it is intact, and in use from now on. It is in use while it is verified, so that it is not evicted meanwhile. */
async function useCached(cache: Cache, blob: CachedBlob, signal: AbortSignal): Promise<boolean> {
  const { contents, clock, untouchable, log } = cache;
  blob.users += 1;
  contents.markNewest(blob);
  let intact = false;
  try {
    intact = await isIntact(blob, { writable: !untouchable, clock, signal });
  } finally {
    if (!intact) blob.users -= 1;
  }
  if (intact) return true;
  log.warn("a cached file was damaged and is removed", { digest: blob.digest });
  count(cache, "damaged");
  await contents.remove(blob);
  return false;
}

/** Room must have been made for it. */
function startDownload(cache: Cache, from: Download): SharedDownload {
  const abort = new AbortController();
  const release = cache.contents.reserve(sizeOnDisk(from.sizeBytes));
  const part = partPath(cache.directory, randomUUID());
  const download: SharedDownload = { end: run(), abort, users: 1, blob: null };
  cache.downloads.set(from.digest, download);
  return download;

  async function run(): Promise<DownloadEnd> {
    try {
      const got = await cache.download(from, part, abort.signal);
      if (!got.ok) return got;
      if (got.value.digest !== from.digest) return { ok: "wrong", digest: got.value.digest };
      const blob = await keep(cache, from, part);
      blob.users = download.users;
      download.blob = blob;
      cache.contents.add(blob);
      return ok(blob);
    } catch (thrown) {
      return err(unusable(thrown));
    } finally {
      await rm(part, { force: true });
      cache.downloads.delete(from.digest);
      release();
    }
  }
}

async function keep({ directory, clock }: Cache, from: Download, part: string): Promise<CachedBlob> {
  const path = blobPath(directory, from.digest);
  await makeReadOnly(part);
  await markUsed(part, clock.now());
  await rename(part, path);
  const blob = await newCachedBlob(from.digest, path, from.sizeBytes);
  confirm(blob, from);
  return blob;
}

/** Whatever goes wrong with the disk is a fault of this download. */
async function orFault<T>(work: Promise<Result<T, DownloadFault>>, signal: AbortSignal) {
  try {
    return await work;
  } catch (thrown) {
    return err(signal.aborted ? CANCELLED : unusable(thrown));
  }
}

function unusable(thrown: unknown): DownloadFault {
  return {
    reason: REASONS.VerificationError,
    message: `the cache of downloads cannot be used: ${errorCodeText(thrown)}`,
    ...(errorCodeOf(thrown) === "ENOSPC" ? { diskFull: true } : {}),
  };
}

function count({ meter }: Cache, result: CacheRequest): void {
  meter.count("edgefleet_verifier_cache_requests_total", { result });
}
