import { execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { errorCodeOf } from "../../src/base/guards.ts";
import { killOnExit } from "../stack/exit-guard.ts";

export type Progress = (line: string) => void;

/** Programs that are built from one Go module, whose go.mod and go.sum pin every version and checksum. */
export type GoBuild = {
  /** For people, and the folder in the cache. */
  readonly name: string;
  /** Directory with go.mod and go.sum. */
  readonly module: string;
  /** Arguments of `go build`. */
  readonly flags: readonly string[];
  /** Names of the binaries, and the packages that they are built from. */
  readonly packages: readonly { readonly file: string; readonly path: string }[];
};

const OLDEST_GO = [1, 26] as const;
const TICK_MILLISECONDS = 20_000;
const LOCK_POLL_MILLISECONDS = 500;

/** Where the binaries of this `go.mod`, `go.sum`, set of flags and platform are kept, whether or not they are there. */
export function cacheDirectory({ name, module, flags }: GoBuild): string {
  const cache = process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache");
  const identity = createHash("sha256");
  for (const file of ["go.mod", "go.sum"]) identity.update(readFileSync(join(module, file)));
  identity.update(JSON.stringify([flags, process.platform, process.arch]));
  return join(cache, "edge-fleet-operator", name, identity.digest("hex").slice(0, 16));
}

/** The directory of binaries that an earlier build left; `null` where there are none. It appears in one piece. */
export function cachedDirectory(build: GoBuild): string | null {
  const directory = cacheDirectory(build);
  return build.packages.every(({ file }) => existsSync(join(directory, file))) ? directory : null;
}

/** `null` where Go can build the module, else why it cannot. */
export async function whyGoCannot({ module }: Pick<GoBuild, "module">): Promise<string | null> {
  try {
    // In the module, so that a Go which fetches newer toolchains does so now.
    const { stdout } = await promisify(execFile)("go", ["env", "GOVERSION"], { cwd: module });
    const [, major = "0", minor = "0"] = /go(\d+)\.(\d+)/.exec(stdout) ?? [];
    const enough =
      Number(major) > OLDEST_GO[0] || (Number(major) === OLDEST_GO[0] && Number(minor) >= OLDEST_GO[1]);
    return enough ? null : `Go ${OLDEST_GO.join(".")} or newer is needed, this is ${stdout.trim()}`;
  } catch (error) {
    const missing = errorCodeOf(error) === "ENOENT";
    return missing ? "go is not installed" : `go does not work: ${(error as Error).message.trim()}`;
  }
}

/** Builds the binaries into the cache, or waits for another process that does; the directory with them. */
export async function buildIntoCache(build: GoBuild, progress: Progress): Promise<string> {
  const directory = cacheDirectory(build);
  mkdirSync(join(directory, ".."), { recursive: true });
  const unlock = await lock(`${directory}.lock`, build.name, progress);
  try {
    return cachedDirectory(build) ?? (await buildInto(directory, build, progress));
  } finally {
    unlock();
  }
}

async function buildInto(directory: string, build: GoBuild, progress: Progress): Promise<string> {
  const partial = `${directory}.partial`;
  rmSync(partial, { recursive: true, force: true }); // of a build that was interrupted
  mkdirSync(partial, { recursive: true });
  progress(`building ${build.name} from Go modules; this can take some minutes, once`);
  const start = Date.now();
  for (const [index, { file, path }] of build.packages.entries()) {
    const step = `${index + 1}/${build.packages.length} ${file}`;
    progress(`${step}: building (${secondsSince(start)} s so far)`);
    const ticker = setInterval(
      () => progress(`${step}: still building (${secondsSince(start)} s so far)`),
      TICK_MILLISECONDS,
    );
    try {
      await goBuild(join(partial, file), path, build);
    } finally {
      clearInterval(ticker);
    }
  }
  rmSync(directory, { recursive: true, force: true });
  renameSync(partial, directory);
  progress(`built in ${secondsSince(start)} s: ${directory}`);
  return directory;
}

async function goBuild(target: string, path: string, { module, flags }: GoBuild): Promise<void> {
  const child = spawn("go", ["build", ...flags, "-o", target, path], {
    cwd: module,
    env: { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-mod=readonly", GOWORK: "off" },
    detached: true,
    stdio: ["ignore", "ignore", "pipe"],
  });
  const free = child.pid === undefined ? null : killOnExit({ kind: "group", pid: child.pid });
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    errors = (errors + chunk).slice(-8192);
  });
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", resolve);
    });
    if (code !== 0) throw new Error(`go build ${path} failed:\n${errors}`);
  } finally {
    free?.();
  }
}

/** A directory can be made once only; the pid in it says whether its maker is alive. */
async function lock(path: string, name: string, progress: Progress): Promise<() => void> {
  let hasWaited = false;
  for (;;) {
    try {
      mkdirSync(path);
      writeFileSync(join(path, "pid"), String(process.pid));
      return () => rmSync(path, { recursive: true, force: true });
    } catch (error) {
      if (errorCodeOf(error) !== "EEXIST") throw error;
    }
    if (!(await holderLives(path))) {
      rmSync(path, { recursive: true, force: true });
      continue;
    }
    if (!hasWaited) progress(`another process is building ${name}; waiting for it`);
    hasWaited = true;
    await sleep(LOCK_POLL_MILLISECONDS);
  }
}

async function holderLives(path: string): Promise<boolean> {
  let pid = pidIn(path);
  if (pid === null) {
    await sleep(LOCK_POLL_MILLISECONDS); // its maker may be between the directory and the file
    pid = pidIn(path);
  }
  if (pid === null) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errorCodeOf(error) === "EPERM";
  }
}

function pidIn(path: string): number | null {
  try {
    return Number.parseInt(readFileSync(join(path, "pid"), "utf8"), 10) || null;
  } catch {
    return null;
  }
}

function secondsSince(start: number): number {
  return Math.round((Date.now() - start) / 1000);
}
