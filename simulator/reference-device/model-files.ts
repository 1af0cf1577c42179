import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as pause } from "node:timers/promises";
import type { ModelPointer } from "../../src/api/device-contract.ts";
import { codeOfStatus } from "../devices/downloads.ts";
import type { UpdateError } from "../devices/slot.ts";

export type Fetched =
  | { readonly ok: true; readonly path: string; readonly digest: string }
  | { readonly ok: false; readonly error: UpdateError };

const TRIES = 3;
const FIRST_PAUSE = 1000;

/** Where the file of a digest lies once it was checked. */
export function fileOf(directory: string, digest: string): string {
  return join(directory, `${digest.replace(/[^A-Za-z0-9]/g, "-")}.onnx`);
}

/** Downloads beside the files that are there, and says which bytes came. No message has the url: it is a secret. */
export async function fetchModel(
  pointer: ModelPointer,
  directory: string,
  signal: AbortSignal,
): Promise<Fetched> {
  await mkdir(directory, { recursive: true });
  const path = `${fileOf(directory, pointer.digest)}.part`;
  let last: Fetched = failed("DownloadFailed", "nothing was tried");
  for (let tried = 0; tried < TRIES; tried++) {
    if (tried > 0) await pause(FIRST_PAUSE * 2 ** tried, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return last;
    last = await fetchOnce(pointer.url, path, signal);
    // The store has answered: the same question gets the same answer.
    if (last.ok || last.error.code !== "DownloadFailed") return last;
  }
  return last;
}

async function fetchOnce(url: string, path: string, signal: AbortSignal): Promise<Fetched> {
  try {
    const response = await fetch(url, { signal });
    if (!response.ok || response.body === null) {
      await response.body?.cancel();
      const { status } = response;
      return failed(codeOfStatus(status), `the store answered ${status}`);
    }
    const hash = createHash("sha256");
    const hashing = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        hash.update(chunk);
        done(null, chunk);
      },
    });
    await pipeline(Readable.fromWeb(response.body), hashing, createWriteStream(path), { signal });
    return { ok: true, path, digest: `sha256:${hash.digest("hex")}` };
  } catch (problem) {
    await rm(path, { force: true });
    const full = problem instanceof Error && "code" in problem && problem.code === "ENOSPC";
    return full
      ? failed("DiskFull", "there is no room for the file")
      : failed("DownloadFailed", "it broke off");
  }
}

function failed(code: string, message: string): Fetched {
  return { ok: false, error: { code, message } };
}

/** The file that was checked takes its place; of the others only those that are named stay. */
export async function keepModel(
  path: string,
  directory: string,
  digests: readonly string[],
): Promise<string> {
  const [digest = ""] = digests;
  const kept = fileOf(directory, digest);
  await rename(path, kept);
  const wanted = new Set(digests.map((one) => fileOf(directory, one)));
  for (const name of await readdir(directory)) {
    const file = join(directory, name);
    if (name.endsWith(".onnx") && !wanted.has(file)) await rm(file, { force: true });
  }
  return kept;
}
