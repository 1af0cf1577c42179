import { createHash } from "node:crypto";
import { constants, createReadStream } from "node:fs";
import { chmod, chown, copyFile, realpath, stat, symlink } from "node:fs/promises";
import { dirname } from "node:path";
import { pathToFileURL } from "node:url";
import { REASONS } from "../../src/api/reasons.ts";
import type { Digest } from "../../src/base/digest.ts";
import { err, ok, type Result } from "../../src/base/result.ts";
import type { Download } from "../../src/verification/verification.ts";
import type { Fetch } from "../../src/verifier/files/download.ts";
import type { SandboxFeatures } from "../../src/verifier/process/sandbox.ts";
import { fileFault } from "../file-fault.ts";

/** Files of this machine instead of downloads: read in place, and never changed. */
export type LocalFiles = {
  /** A file as a request names it; its digest is that of its bytes. An error says what is wrong with it. */
  readonly take: (path: string, signal: AbortSignal) => Promise<Result<LocalFile, string>>;
  /** Puts a file where the model's process can read it, with the digest that `take` computed. */
  readonly fetch: (features: SandboxFeatures) => Fetch;
  /** A file that has changed since it was taken, if there is one: the measurement is of neither version. */
  readonly changed: () => Promise<string | null>;
};

export type LocalFile = Download & { readonly path: string; readonly digest: Digest };

type Taken = LocalFile & { readonly stamp: string };

export function localFiles(): LocalFiles {
  const taken = new Map<string, Taken>();
  return {
    take: async (path, signal) => {
      try {
        const stamp = await stampOf(path);
        if (typeof stamp === "object") return err(stamp.problem);
        const hash = createHash("sha256");
        for await (const chunk of createReadStream(path, { signal })) hash.update(chunk as Uint8Array);
        const file: Taken = {
          path,
          url: pathToFileURL(path).href,
          digest: `sha256:${hash.digest("hex")}` as Digest,
          sizeBytes: (await stat(path)).size,
          stamp,
        };
        taken.set(file.url, file);
        return ok(file);
      } catch (thrown) {
        return err(fileFault(thrown));
      }
    },
    fetch: (features) => async (from, to) => {
      const file = taken.get(from.url);
      if (file === undefined) return err({ reason: REASONS.BlobMissing, message: "it was not given" });
      try {
        await place(await realpath(file.path), to, features);
        return ok({ path: to, digest: file.digest });
      } catch (thrown) {
        return err({ reason: REASONS.VerificationError, message: `${file.path}: ${fileFault(thrown)}` });
      }
    },
    changed: async () => {
      for (const { path, stamp } of taken.values()) {
        const now = await stampOf(path).catch(() => null);
        if (now !== stamp) return path;
      }
      return null;
    },
  };
}

/**
 * A link, unless the model has a user of its own to whom the file is closed: then a copy, which takes no room where the
 * file system can share it.
 */
async function place(path: string, to: string, features: SandboxFeatures): Promise<void> {
  if (!features.user || (await isOpenToAll(path))) return symlink(path, to);
  await copyFile(path, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
  // The directory's group is that user's; a copy has the owner and the group of the file.
  const { uid, gid } = await stat(dirname(to));
  await chown(to, uid, gid);
  await chmod(to, 0o640);
}

async function isOpenToAll(path: string): Promise<boolean> {
  if (((await stat(path)).mode & 0o004) === 0) return false;
  for (let at = dirname(path); ; at = dirname(at)) {
    if (((await stat(at)).mode & 0o001) === 0) return false;
    if (at === dirname(at)) return true;
  }
}

/** What a write to the file, or another file in its place, would change. */
async function stampOf(path: string): Promise<string | { readonly problem: string }> {
  const about = await stat(path, { bigint: true });
  if (!about.isFile()) return { problem: about.isDirectory() ? "is a directory" : "is not a file" };
  return [about.dev, about.ino, about.size, about.mtimeNs].join(" ");
}
