import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parse } from "../../api/parse.ts";
import { verifyReportSchema } from "../../api/verifier-wire.ts";
import { errorCodeText } from "../../base/guards.ts";
import { err, ok, type Result } from "../../base/result.ts";
import type { Log } from "../../telemetry/telemetry.ts";
import type { VerificationKey } from "../../verification/verification.ts";
import type { Verified } from "../checks/run.ts";

/** What verifications have come to. Verdicts are kept on disk too; errors, which are asked for again, are not. */
export type Results = {
  /** `null`: there is none, or it was forgotten. What is looked at is forgotten later. */
  readonly look: (key: VerificationKey) => Verified | null;
  /** To be seen at once. */
  readonly put: (key: VerificationKey, verified: Verified) => void;
  /** Resolves once it is gone from disk too. */
  readonly forget: (key: VerificationKey) => Promise<void>;
  readonly count: () => number;
  /** Resolves once everything so far is on disk, or could not be written. */
  readonly written: () => Promise<void>;
};

export type ResultLimits = {
  readonly count: number;
  /** Of all together, as they are written. */
  readonly bytes: number;
};

type Kept = { readonly verified: Verified; readonly bytes: number };

const FORMAT = "edgefleet.dev/verification-result/v1";
const FILE = /^([A-Za-z0-9._-]{1,128})\.json$/;

/**
 * Reads what earlier lives of this version have left in `directory`, the oldest first. Files that are damaged, of
 * another version or too many are removed, and said so in the log.
 * @returns the system's code where the directory cannot be used.
 */
export async function openResults(
  directory: string,
  limits: ResultLimits,
  version: string,
  log: Log,
): Promise<Result<Results, string>> {
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const results = createResults(limits, directory, version, log);
    await readAll(directory, version, results, log);
    await results.written();
    return ok(results);
  } catch (thrown) {
    return err(errorCodeText(thrown));
  }
}

/** The order of the map is that of the last use: what was not looked at for longest is forgotten first. */
function createResults(
  limits: ResultLimits,
  directory: string,
  version: string,
  log: Log,
): Results & { readonly adopt: (key: VerificationKey, kept: Kept) => void } {
  const kept = new Map<VerificationKey, Kept>();
  let bytes = 0;
  // One file operation after the other: what was forgotten is not written later.
  let last = Promise.resolve();

  function then(operation: () => Promise<void>): Promise<void> {
    last = last.then(operation).catch((thrown: unknown) => {
      log.error("a verdict could not be kept on disk", errorCodeText(thrown));
    });
    return last;
  }

  function drop(key: VerificationKey): void {
    bytes -= kept.get(key)?.bytes ?? 0;
    kept.delete(key);
  }

  function adopt(key: VerificationKey, one: Kept): void {
    drop(key);
    kept.set(key, one);
    bytes += one.bytes;
    for (const oldest of kept.keys()) {
      if (kept.size <= limits.count && bytes <= limits.bytes) break;
      drop(oldest);
      void then(() => rm(fileOf(directory, oldest), { force: true }));
    }
  }

  return {
    adopt,
    look: (key) => {
      const found = kept.get(key);
      if (found === undefined) return null;
      kept.delete(key);
      kept.set(key, found);
      return found.verified;
    },
    put: (key, verified) => {
      const text = written(key, version, verified);
      adopt(key, { verified, bytes: Buffer.byteLength(text) });
      if (verified.report.kind === "error" || !kept.has(key)) return;
      void then(() => writeWhole(directory, key, text));
    },
    forget: (key) => {
      drop(key);
      return then(() => rm(fileOf(directory, key), { force: true }));
    },
    count: () => kept.size,
    written: () => last,
  };
}

async function readAll(
  directory: string,
  version: string,
  results: ReturnType<typeof createResults>,
  log: Log,
): Promise<void> {
  const found = await Promise.all(
    (await readdir(directory)).map(async (name) => ({ name, about: await stat(join(directory, name)) })),
  );
  found.sort((a, b) => a.about.mtimeMs - b.about.mtimeMs);
  let damaged = 0;
  let foreign = 0;
  for (const { name, about } of found) {
    const path = join(directory, name);
    const key = about.isFile() ? (FILE.exec(name)?.[1] as VerificationKey | undefined) : undefined;
    const read = key === undefined ? "damaged" : readBack(key, version, await readFile(path, "utf8"));
    if (typeof read === "string" || key === undefined) {
      if (read === "foreign") foreign += 1;
      else damaged += 1;
      await rm(path, { recursive: true, force: true });
    } else {
      results.adopt(key, { verified: read, bytes: about.size });
    }
  }
  if (damaged > 0) log.warn("removed damaged verdicts", { files: damaged });
  if (foreign > 0) log.info("removed verdicts of another version", { files: foreign });
  if (results.count() > 0) log.info("loaded the verdicts of a previous run", { verdicts: results.count() });
}

/** The checksum is a line of its own, so that it is over exactly the bytes behind it. */
function written(key: VerificationKey, version: string, verified: Verified): string {
  const text = JSON.stringify({ format: FORMAT, key, version, ...verified });
  return `${checksumOf(text)}\n${text}\n`;
}

function readBack(key: VerificationKey, version: string, text: string): Verified | "damaged" | "foreign" {
  const [checksum = "", json = "", end, ...more] = text.split("\n");
  if (end !== "" || more.length > 0 || checksum !== checksumOf(json)) return "damaged";
  const { format, key: own, version: writer, report, full } = fieldsOf(json);
  if (format !== FORMAT || writer !== version) return "foreign";
  const parsed = parse(verifyReportSchema, report);
  // With its checksum right, the full report is what this version has written.
  return own === key && parsed.ok ? { report: parsed.value, full: full as Verified["full"] } : "damaged";
}

function fieldsOf(json: string): Readonly<Record<string, unknown>> {
  try {
    return { ...JSON.parse(json) };
  } catch {
    return {};
  }
}

/** Not there, or there as a whole, even if we are killed in the middle. */
async function writeWhole(directory: string, key: VerificationKey, text: string): Promise<void> {
  const path = fileOf(directory, key);
  const part = `${path}.part`;
  try {
    await writeFile(part, text, { mode: 0o600 });
    await rename(part, path);
  } catch (thrown) {
    await rm(part, { force: true });
    throw thrown;
  }
}

function fileOf(directory: string, key: VerificationKey): string {
  return join(directory, `${key}.json`);
}

function checksumOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
