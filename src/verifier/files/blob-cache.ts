import { createHash, randomUUID } from "node:crypto";
import { constants, createReadStream } from "node:fs";
import { chmod, copyFile, link, lstat, mkdir, readdir, rename, rm, utimes } from "node:fs/promises";
import { join } from "node:path";
import { REASONS } from "../../api/reasons.ts";
import { orAborted } from "../../base/abort.ts";
import { errorCodeOf } from "../../base/guards.ts";
import { err, ok, type Result } from "../../base/result.ts";
import type { Clock } from "../../base/time.ts";
import type { Log, Meter } from "../../telemetry/telemetry.ts";
import type { Download } from "../../verification/verification.ts";
import type { DownloadFault, Fetch } from "./download.ts";

/** Files that were downloaded before, by their digest: never more bytes than the budget, also not while they are used. */
export type BlobCache = {
  readonly hold: () => Hold;
  readonly counts: () => { readonly files: number; readonly bytes: number };
};

/** What one verification fetches stays until it is released. */
export type Hold = {
  /** From the cache, or downloaded into it if it has room: at `to` it is a link to what is kept. */
  readonly fetch: Fetch;
  /** Into the cache, if it has room: a failure is for whoever needs the file. */
  readonly ahead: (from: Download, signal: AbortSignal) => Promise<void>;
  readonly release: () => void;
};

export type BlobCacheDeps = {
  /** Other files in it are left alone. */
  readonly directory: string;
  /** 0: nothing is kept. */
  readonly budgetBytes: number;
  /** Whether nobody who is given a file can change it: else its digest is taken at every use. */
  readonly untouchable: boolean;
  readonly download: Fetch;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
};

/** What a file looks like from outside: whoever writes to it changes that. */
type Look = { readonly inode: bigint; readonly size: bigint; readonly written: bigint };

type Entry = {
  readonly digest: string;
  readonly path: string;
  readonly bytes: number;
  users: number;
  /** When its digest was last seen to be right; `null`: not yet in this life. */
  look: Look | null;
  /** Blobs that were read and had these bytes, each in one state. */
  readonly confirmed: Set<string>;
};

type End = Result<Entry, DownloadFault> | { readonly ok: "wrong"; readonly digest: string };

type Loading = {
  readonly end: Promise<End>;
  readonly abort: AbortController;
  /** Who waits for it. */
  users: number;
  /** Once it is there, its users are this one's. */
  entry: Entry | null;
};

/** What a file takes on disk is a multiple of this: many small ones count, too. */
const BLOCK = 4096;
const KEPT = /^blob-([0-9a-f]{64})$/;
const PART = /^blob-part-/;
/** Of one file: more are read again. */
const MOST_CONFIRMED = 1000;
const DIRECTORY_MODE = 0o700;
/** Nobody may write, and whoever can reach it may read: a model's process is a user of its own. */
const FILE_MODE = 0o444;

/**
 * The directory is the index: a file's name is its digest, its time of change when it was last used. What an earlier
 * life has left is checked when it is first used; its half files, and what is beyond the budget, go at once.
 * @returns the system's code where the directory cannot be used.
 */
export async function openBlobCache(deps: BlobCacheDeps): Promise<Result<BlobCache, string>> {
  try {
    await mkdir(deps.directory, { recursive: true, mode: DIRECTORY_MODE });
    const entries = await readEntries(deps.directory);
    return ok(await createBlobCache(deps, entries));
  } catch (thrown) {
    return err(codeOf(thrown));
  }
}

async function readEntries(directory: string): Promise<readonly Entry[]> {
  const found: { readonly entry: Entry; readonly used: number }[] = [];
  for (const name of await readdir(directory)) {
    const path = join(directory, name);
    const digest = KEPT.exec(name)?.[1];
    const about = await lstat(path);
    if (PART.test(name) || (digest !== undefined && !about.isFile()))
      await rm(path, { recursive: true, force: true });
    else if (digest !== undefined)
      found.push({
        entry: {
          ...{ digest: `sha256:${digest}`, path, bytes: onDisk(about.size), users: 0, look: null },
          confirmed: new Set(),
        },
        used: about.mtimeMs,
      });
  }
  return found.sort((a, b) => a.used - b.used).map(({ entry }) => entry);
}

async function createBlobCache(deps: BlobCacheDeps, found: readonly Entry[]): Promise<BlobCache> {
  const { directory, budgetBytes, untouchable, download, clock, log, meter } = deps;
  // The order of a Map is that of insertion: the first is the one that was used longest ago.
  const entries = new Map(found.map((entry) => [entry.digest, entry]));
  const loadings = new Map<string, Loading>();
  const leaving = new Map<string, Promise<void>>();
  let bytes = found.reduce((sum, entry) => sum + entry.bytes, 0);
  let reserved = 0;

  const fits = (wanted: number) => bytes + reserved + wanted <= budgetBytes;

  /** Removes what is not in use, the longest unused first, until there is room: nothing if that would not be enough. */
  async function makeRoom(wanted: number): Promise<void> {
    const unused = [...entries.values()].filter(({ users }) => users === 0);
    if (!fits(wanted - unused.reduce((sum, entry) => sum + entry.bytes, 0))) return;
    for (const entry of unused) {
      if (fits(wanted)) return;
      if (entry.users === 0) await evict(entry);
    }
  }

  function touch(path: string): Promise<void> {
    const now = clock.now() / 1000;
    return utimes(path, now, now);
  }

  async function evict(entry: Entry): Promise<void> {
    meter.count("edgefleet_verifier_cache_evictions_total");
    await drop(entry);
  }

  async function drop(entry: Entry): Promise<void> {
    if (entries.get(entry.digest) !== entry) return;
    entries.delete(entry.digest);
    const gone = rm(entry.path, { recursive: true, force: true });
    leaving.set(entry.digest, gone);
    try {
      await gone;
      bytes -= entry.bytes;
    } finally {
      leaving.delete(entry.digest);
    }
  }

  /** Its user has it already, so that it does not go meanwhile. */
  async function isRight(entry: Entry, signal: AbortSignal): Promise<boolean> {
    const look = await lookAt(entry.path);
    if (look === null) return false;
    if (!untouchable || entry.look === null || !same(entry.look, look)) {
      if ((await digestOfFile(entry.path, signal)) !== entry.digest) return false;
      await chmod(entry.path, FILE_MODE);
    }
    await touch(entry.path);
    entry.look = await lookAt(entry.path);
    return entry.look !== null;
  }

  /** Whether it is right, and used from now on. */
  async function useKept(entry: Entry, signal: AbortSignal): Promise<boolean> {
    entry.users += 1;
    entries.delete(entry.digest);
    entries.set(entry.digest, entry);
    let right = false;
    try {
      right = await isRight(entry, signal);
    } finally {
      if (!right) entry.users -= 1;
    }
    if (right) return true;
    log.warn("a cached file was damaged and is removed", { digest: entry.digest });
    meter.count("edgefleet_verifier_cache_requests_total", { result: "damaged" });
    await drop(entry);
    return false;
  }

  /** Room was reserved for it. */
  function load(from: Download): Loading {
    const abort = new AbortController();
    const part = join(directory, `blob-part-${randomUUID()}`);
    reserved += onDisk(from.sizeBytes);
    const loading: Loading = { end: bring(), abort, users: 1, entry: null };
    loadings.set(from.digest, loading);
    return loading;

    async function bring(): Promise<End> {
      try {
        const got = await download(from, part, abort.signal);
        if (!got.ok) return got;
        if (got.value.digest !== from.digest) return { ok: "wrong", digest: got.value.digest };
        const path = join(directory, from.digest.replace("sha256:", "blob-"));
        await chmod(part, FILE_MODE);
        await touch(part);
        await rename(part, path);
        const look = await lookAt(path);
        const size = onDisk(look === null ? from.sizeBytes : Number(look.size));
        const confirmed = new Set<string>();
        const entry: Entry = {
          digest: from.digest,
          path,
          bytes: size,
          users: loading.users,
          look,
          confirmed,
        };
        confirm(entry, from);
        entries.set(from.digest, entry);
        loading.entry = entry;
        bytes += size;
        return ok(entry);
      } catch (thrown) {
        return err(brokenBy(thrown));
      } finally {
        await rm(part, { force: true });
        loadings.delete(from.digest);
        reserved -= onDisk(from.sizeBytes);
      }
    }
  }

  /** Waits for a download that several may share. Whoever leaves does not end it for the others. */
  async function share(loading: Loading, signal: AbortSignal): Promise<End> {
    const end = await orAborted(loading.end, signal);
    if (end !== null) return end;
    if (loading.entry !== null) {
      loading.entry.users -= 1;
      return err(CANCELLED);
    }
    loading.users -= 1;
    if (loading.users === 0) {
      loading.abort.abort();
      await loading.end;
    }
    return err(CANCELLED);
  }

  /** The file, which is in use from now on; `null`: there is no room for it. */
  async function get(from: Download, signal: AbortSignal): Promise<End | null> {
    for (;;) {
      if (signal.aborted) return err(CANCELLED);
      await leaving.get(from.digest);
      const kept = entries.get(from.digest);
      if (kept !== undefined) {
        if (!(await useKept(kept, signal))) continue;
        if (isConfirmed(kept, from))
          meter.count("edgefleet_verifier_cache_requests_total", { result: "hit" });
        return ok(kept);
      }
      const under = loadings.get(from.digest);
      if (under !== undefined) {
        if (!under.abort.signal.aborted) {
          under.users += 1;
          const end = await share(under, signal);
          if (end.ok === true || signal.aborted) return end;
        }
        // Another url may do better than that one.
        await under.end;
        continue;
      }
      const wanted = onDisk(from.sizeBytes);
      await makeRoom(wanted);
      // That takes a while: meanwhile somebody else may have begun.
      if (loadings.has(from.digest) || entries.has(from.digest)) continue;
      if (!fits(wanted)) return null;
      meter.count("edgefleet_verifier_cache_requests_total", { result: "miss" });
      return share(load(from), signal);
    }
  }

  async function getInto(from: Download, to: string, held: Entry[], signal: AbortSignal): ReturnType<Fetch> {
    const got = await get(from, signal);
    if (got === null) {
      meter.count("edgefleet_verifier_cache_requests_total", { result: "noRoom" });
      return download(from, to, signal);
    }
    if (got.ok === "wrong") return ok({ path: to, digest: got.digest });
    if (!got.ok) return got;
    held.push(got.value);
    if (!isConfirmed(got.value, from)) {
      // The verdict is about this blob, and bytes that came from another one say nothing of it.
      meter.count("edgefleet_verifier_cache_requests_total", { result: "unconfirmed" });
      const read = await download(from, to, signal);
      if (read.ok && read.value.digest === from.digest) confirm(got.value, from);
      return read;
    }
    await place(got.value.path, to);
    return ok({ path: to, digest: got.value.digest });
  }

  /** A disk that is full of what we keep is no reason to fail. */
  async function emptied(): Promise<boolean> {
    const unused = [...entries.values()].filter(({ users }) => users === 0);
    for (const entry of unused) await evict(entry);
    return unused.length > 0;
  }

  /** Everything that goes wrong with the disk is a fault of this download. */
  async function safely<T>(work: Promise<Result<T, DownloadFault>>, signal: AbortSignal) {
    try {
      return await work;
    } catch (thrown) {
      return err(signal.aborted ? CANCELLED : brokenBy(thrown));
    }
  }

  await makeRoom(0);
  return {
    counts: () => ({ files: entries.size, bytes }),
    hold: () => {
      const held: Entry[] = [];
      return {
        fetch: async (from, to, signal) => {
          const got = await safely(getInto(from, to, held, signal), signal);
          if (got.ok || got.error.diskFull !== true || !(await emptied())) return got;
          await rm(to, { force: true });
          return safely(getInto(from, to, held, signal), signal);
        },
        ahead: async (from, signal) => {
          const got = await get(from, signal).catch(() => null);
          if (got?.ok === true) held.push(got.value);
        },
        release: () => {
          for (const entry of held.splice(0)) entry.users -= 1;
        },
      };
    },
  };
}

/** The blob and its state; `null`: the bytes are all that counts. */
function sourceOf({ url, etag }: Download): string | null {
  if (etag === undefined) return null;
  const end = url.indexOf("?");
  return `${end < 0 ? url : url.slice(0, end)} ${etag}`;
}

function isConfirmed({ confirmed }: Entry, from: Download): boolean {
  const source = sourceOf(from);
  return source === null || confirmed.has(source);
}

function confirm({ confirmed }: Entry, from: Download): void {
  const source = sourceOf(from);
  if (source === null) return;
  if (confirmed.size >= MOST_CONFIRMED) confirmed.clear();
  confirmed.add(source);
}

const CANCELLED: DownloadFault = { reason: REASONS.StoreUnavailable, message: "the download was cancelled" };

function brokenBy(thrown: unknown): DownloadFault {
  return {
    reason: REASONS.VerificationError,
    message: `the cache of downloads cannot be used: ${codeOf(thrown)}`,
    ...(codeOf(thrown) === "ENOSPC" ? { diskFull: true } : {}),
  };
}

function onDisk(bytes: number): number {
  return Math.max(1, Math.ceil(bytes / BLOCK)) * BLOCK;
}

/** `null`: there is no such file. */
async function lookAt(path: string): Promise<Look | null> {
  const about = await lstat(path, { bigint: true }).catch(() => null);
  return about === null || !about.isFile()
    ? null
    : { inode: about.ino, size: about.size, written: about.mtimeNs };
}

function same(a: Look, b: Look): boolean {
  return a.inode === b.inode && a.size === b.size && a.written === b.written;
}

/** The same file under another name; a copy where that is on another disk. */
async function place(path: string, to: string): Promise<void> {
  try {
    await link(path, to);
  } catch (thrown) {
    if (codeOf(thrown) !== "EXDEV") throw thrown;
    await copyFile(path, to, constants.COPYFILE_EXCL);
  }
}

async function digestOfFile(path: string, signal: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { signal, highWaterMark: 1 << 20 })) hash.update(chunk);
  return `sha256:${hash.digest("hex")}`;
}

function codeOf(thrown: unknown): string {
  return errorCodeOf(thrown) ?? "unknown error";
}
