import { createHash } from "node:crypto";
import { constants, createReadStream } from "node:fs";
import { chmod, copyFile, link, lstat, readdir, rm, utimes } from "node:fs/promises";
import { join } from "node:path";
import { errorCodeOf } from "../../base/guards.ts";
import type { Clock, Instant } from "../../base/time.ts";
import type { Download } from "../../verification/verification.ts";

// One file of the cache: its name is its digest, its modification time is when it was last used.

export type CachedBlob = {
  readonly digest: string;
  readonly path: string;
  /** What it takes on disk. */
  readonly bytes: number;
  users: number;
  /** The file as it was when its digest was last verified; `null`: not yet in this run. */
  verified: FileState | null;
  /** Blobs that were read and had these bytes, each in one state. */
  readonly confirmed: Set<string>;
};

/** What changes whenever the file is written to. */
type FileState = { readonly inode: bigint; readonly size: bigint; readonly written: bigint };

/** What a file takes on disk is a multiple of this: many small ones count, too. */
const BLOCK = 4096;
const CACHED = /^blob-([0-9a-f]{64})$/;
const PART_PREFIX = "blob-part-";
/** Of one file: blobs beyond these are read again. */
const MOST_CONFIRMED = 1000;
/** Read-only for every user, and readable by all: a model's process runs as a user of its own. */
const FILE_MODE = 0o444;

export function sizeOnDisk(bytes: number): number {
  return Math.max(1, Math.ceil(bytes / BLOCK)) * BLOCK;
}

/** Where a download is written before its digest is known. */
export function partPath(directory: string, id: string): string {
  return join(directory, `${PART_PREFIX}${id}`);
}

export function blobPath(directory: string, digest: string): string {
  return join(directory, digest.replace("sha256:", "blob-"));
}

/** What a previous run has left, the longest unused first. Its unfinished files are removed, other files left alone. */
export async function cachedBlobsIn(directory: string): Promise<readonly CachedBlob[]> {
  const found: { readonly blob: CachedBlob; readonly used: number }[] = [];
  for (const name of await readdir(directory)) {
    const path = join(directory, name);
    const digest = CACHED.exec(name)?.[1];
    const about = await lstat(path);
    if (name.startsWith(PART_PREFIX) || (digest !== undefined && !about.isFile()))
      await rm(path, { recursive: true, force: true });
    else if (digest !== undefined)
      found.push({
        blob: {
          ...{ digest: `sha256:${digest}`, path, bytes: sizeOnDisk(about.size), users: 0, verified: null },
          confirmed: new Set(),
        },
        used: about.mtimeMs,
      });
  }
  return found.sort((a, b) => a.used - b.used).map(({ blob }) => blob);
}

/** @param path of a file whose digest is known to be right. */
export async function newCachedBlob(
  digest: string,
  path: string,
  expectedBytes: number,
): Promise<CachedBlob> {
  const verified = await fileStateOf(path);
  const bytes = sizeOnDisk(verified === null ? expectedBytes : Number(verified.size));
  return { digest, path, bytes, users: 0, verified, confirmed: new Set() };
}

/**
 * Whether the file still has the bytes that its name promises; if so, it counts as used now.
 * @param writable whether a process that is given the file could have changed it: its digest is then taken every time.
 */
export async function isIntact(
  blob: CachedBlob,
  {
    writable,
    clock,
    signal,
  }: { readonly writable: boolean; readonly clock: Clock; readonly signal: AbortSignal },
): Promise<boolean> {
  const state = await fileStateOf(blob.path);
  if (state === null) return false;
  if (writable || blob.verified === null || !sameState(blob.verified, state)) {
    if ((await digestOfFile(blob.path, signal)) !== blob.digest) return false;
    await makeReadOnly(blob.path);
  }
  await markUsed(blob.path, clock.now());
  blob.verified = await fileStateOf(blob.path);
  return blob.verified !== null;
}

export function makeReadOnly(path: string): Promise<void> {
  return chmod(path, FILE_MODE);
}

export function markUsed(path: string, now: Instant): Promise<void> {
  return utimes(path, now / 1000, now / 1000);
}

/** Whether this blob, in this state, was read and had these bytes; always, where the bytes are all that counts. */
export function isConfirmed({ confirmed }: CachedBlob, from: Download): boolean {
  const source = sourceOf(from);
  return source === null || confirmed.has(source);
}

export function confirm({ confirmed }: CachedBlob, from: Download): void {
  const source = sourceOf(from);
  if (source === null) return;
  if (confirmed.size >= MOST_CONFIRMED) confirmed.clear();
  confirmed.add(source);
}

/** The same file under another name; a copy where that is on another disk. */
export async function linkOrCopy(path: string, to: string): Promise<void> {
  try {
    await link(path, to);
  } catch (thrown) {
    if (errorCodeOf(thrown) !== "EXDEV") throw thrown;
    await copyFile(path, to, constants.COPYFILE_EXCL);
  }
}

/** The blob and its state; `null`: the bytes are all that counts. */
function sourceOf({ url, etag }: Download): string | null {
  if (etag === undefined) return null;
  const end = url.indexOf("?");
  return `${end < 0 ? url : url.slice(0, end)} ${etag}`;
}

/** `null`: there is no such file. */
async function fileStateOf(path: string): Promise<FileState | null> {
  const about = await lstat(path, { bigint: true }).catch(() => null);
  return about === null || !about.isFile()
    ? null
    : { inode: about.ino, size: about.size, written: about.mtimeNs };
}

function sameState(a: FileState, b: FileState): boolean {
  return a.inode === b.inode && a.size === b.size && a.written === b.written;
}

async function digestOfFile(path: string, signal: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { signal, highWaterMark: 1 << 20 })) hash.update(chunk);
  return `sha256:${hash.digest("hex")}`;
}
