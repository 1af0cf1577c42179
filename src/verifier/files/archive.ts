import { Buffer } from "node:buffer";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import type { Header } from "tar-stream";
import { err, ok, type Result } from "../../base/result.ts";
import { isZip, readZip, shown, unsafeName } from "./zip.ts";

export type ArchiveKind = "zip" | "tar" | "tar.gz";
export type ArchiveFile = { readonly name: string; readonly content: Buffer };

export const MOST_FILES = 10_000;
/** POSIX ustar and GNU tar both have it here. */
const TAR_MAGIC = 257;
const CHUNK = 64 * 1024;

/** Recognized by the first bytes; `null` for anything else. */
export function archiveKind(bytes: Uint8Array): ArchiveKind | null {
  if (isZip(bytes)) return "zip";
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) return "tar.gz";
  const magic = Buffer.from(bytes.subarray(TAR_MAGIC, TAR_MAGIC + 5)).toString("latin1");
  return magic === "ustar" ? "tar" : null;
}

/**
 * Reads the files of an archive into memory; nothing is written anywhere.
 * @param limit bytes that all of it may take once inflated.
 * @param wanted other files are passed over.
 * @returns a sentence that says what cannot be read, or what is refused: links, devices, sparse files, names that lead
 * elsewhere, two files of one name. It never throws.
 */
export async function readArchive(
  bytes: Uint8Array,
  kind: ArchiveKind,
  limit: number,
  wanted: (name: string) => boolean,
): Promise<Result<readonly ArchiveFile[], string>> {
  if (kind === "zip") return readZipFiles(bytes, limit, wanted);
  try {
    return await readTarFiles(bytes, kind, limit, wanted);
  } catch (thrown) {
    if (thrown instanceof Refused) return err(thrown.message);
    const why = thrown instanceof Error ? thrown.message : String(thrown);
    return err(`it is a broken ${kind} archive, or cut off (${why})`);
  }
}

/** Leaves a stream by the way that streams have. */
class Refused extends Error {}

function readZipFiles(
  bytes: Uint8Array,
  limit: number,
  wanted: (name: string) => boolean,
): Result<readonly ArchiveFile[], string> {
  const entries = readZip(bytes, limit, MOST_FILES);
  if (!entries.ok) return entries;
  const files: ArchiveFile[] = [];
  for (const entry of entries.value.filter(({ name }) => wanted(name))) {
    const content = entry.read();
    if (!content.ok) return err(`"${shown(entry.name)}": ${content.error}`);
    files.push({ name: entry.name, content: content.value });
  }
  return ok(files);
}

async function readTarFiles(
  bytes: Uint8Array,
  kind: "tar" | "tar.gz",
  limit: number,
  wanted: (name: string) => boolean,
): Promise<Result<readonly ArchiveFile[], string>> {
  const files: ArchiveFile[] = [];
  const names = new Set<string>();
  // Few golden sets are of this kind, and it is many files.
  const { extract } = await import("tar-stream");
  const tar = extract();
  const fed = pipeline(inflated(bytes, kind, limit), tar).then(
    () => null,
    (problem: unknown) => problem,
  );
  try {
    for await (const entry of tar) {
      const { header } = entry;
      const problem = problemOf(header) ?? duplicateOf(header.name, names);
      if (problem !== null) throw new Refused(problem);
      const keep = header.type !== "directory" && wanted(header.name);
      const pieces: Buffer[] = [];
      for await (const piece of entry) if (keep) pieces.push(piece as Buffer);
      if (keep) files.push({ name: header.name, content: Buffer.concat(pieces) });
    }
  } finally {
    tar.destroy();
  }
  const thrown = await fed;
  if (thrown !== null) throw thrown;
  return ok(files);
}

function duplicateOf(name: string, names: Set<string>): string | null {
  if (names.has(name)) return `it has two files named "${shown(name)}"`;
  names.add(name);
  return names.size > MOST_FILES ? `it has more than ${MOST_FILES} files` : null;
}

function problemOf({ name, type, ...header }: Header): string | null {
  const unsafe = unsafeName(name);
  if (unsafe !== null) return unsafe;
  if (type === "link" || type === "symlink") return `"${shown(name)}" is a link; links are not followed`;
  const extensions: unknown = header.pax ?? {};
  const sparse = Object.keys(extensions as object).some((key) => key.startsWith("GNU.sparse"));
  if (sparse || (type !== "file" && type !== "contiguous-file" && type !== "directory"))
    return `"${shown(name)}" is ${sparse ? "sparse" : (type ?? "of a kind that is not known")}; only files and directories are read`;
  return null;
}

/** The archive in pieces; it is never in memory as a whole. */
async function* inflated(
  bytes: Uint8Array,
  kind: "tar" | "tar.gz",
  limit: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  const pieces = kind === "tar" ? chunksOf(bytes) : Readable.from(chunksOf(bytes)).pipe(createGunzip());
  let total = 0;
  for await (const piece of pieces) {
    total += piece.length;
    if (total > limit) throw new Refused(`it would take more than the ${limit} bytes that are allowed`);
    yield piece;
  }
}

function* chunksOf(bytes: Uint8Array): Generator<Uint8Array, void, undefined> {
  for (let at = 0; at < bytes.length; at += CHUNK) yield bytes.subarray(at, at + CHUNK);
}
