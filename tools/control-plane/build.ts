import { execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { errorCodeOf } from "../../src/base/guards.ts";
import { killOnExit } from "../stack/exit-guard.ts";
import type { Binaries } from "./start-binaries.ts";

export type Progress = (line: string) => void;

const GIT_VERSION = "v1.36.3";
const [MAJOR, MINOR] = GIT_VERSION.slice(1).split(".");
const STAMP = "k8s.io/component-base/version";
const FLAGS = [
  "-trimpath",
  "-buildvcs=false",
  "-ldflags",
  // Without its version stamped in, the server calls itself v0.0.0 and clients misjudge it.
  `-s -w -X ${STAMP}.gitVersion=${GIT_VERSION} -X ${STAMP}.gitMajor=${MAJOR} -X ${STAMP}.gitMinor=${MINOR}`,
];
const PACKAGES = [
  { file: "etcd", path: "go.etcd.io/etcd/server/v3" },
  { file: "kubectl", path: "k8s.io/kubernetes/cmd/kubectl" },
  { file: "kube-controller-manager", path: "k8s.io/kubernetes/cmd/kube-controller-manager" },
  { file: "kube-apiserver", path: "k8s.io/kubernetes/cmd/kube-apiserver" },
] as const;
const OLDEST_GO = [1, 26] as const;
const MODULE = import.meta.dirname;
const TICK_MILLISECONDS = 20_000;
const LOCK_POLL_MILLISECONDS = 500;

/** Where the binaries of this `go.mod`, `go.sum`, set of flags and platform are kept, whether or not they are there. */
export function cacheDirectory(): string {
  const cache = process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache");
  const identity = createHash("sha256");
  for (const file of ["go.mod", "go.sum"]) identity.update(readFileSync(join(MODULE, file)));
  identity.update(JSON.stringify([FLAGS, process.platform, process.arch]));
  return join(cache, "edge-fleet-operator", "control-plane", identity.digest("hex").slice(0, 16));
}

/** The binaries that an earlier build left; `null` where there are none. The directory appears in one piece. */
export function cachedBinaries(): Binaries | null {
  const directory = cacheDirectory();
  return PACKAGES.every(({ file }) => existsSync(join(directory, file))) ? binariesIn(directory) : null;
}

/** `null` where Go can build them, else why it cannot. */
export async function whyGoCannot(): Promise<string | null> {
  try {
    // In the module, so that a Go which fetches newer toolchains does so now.
    const { stdout } = await promisify(execFile)("go", ["env", "GOVERSION"], { cwd: MODULE });
    const [, major = "0", minor = "0"] = /go(\d+)\.(\d+)/.exec(stdout) ?? [];
    const enough =
      Number(major) > OLDEST_GO[0] || (Number(major) === OLDEST_GO[0] && Number(minor) >= OLDEST_GO[1]);
    return enough ? null : `Go ${OLDEST_GO.join(".")} or newer is needed, this is ${stdout.trim()}`;
  } catch (error) {
    const missing = errorCodeOf(error) === "ENOENT";
    return missing ? "go is not installed" : `go does not work: ${(error as Error).message.trim()}`;
  }
}

/** Builds the binaries into the cache, or waits for another process that does. Some minutes with an empty Go cache. */
export async function buildBinaries(progress: Progress): Promise<Binaries> {
  const directory = cacheDirectory();
  mkdirSync(join(directory, ".."), { recursive: true });
  const unlock = await lock(`${directory}.lock`, progress);
  try {
    return cachedBinaries() ?? (await buildInto(directory, progress));
  } finally {
    unlock();
  }
}

async function buildInto(directory: string, progress: Progress): Promise<Binaries> {
  const partial = `${directory}.partial`;
  rmSync(partial, { recursive: true, force: true }); // of a build that was interrupted
  mkdirSync(partial, { recursive: true });
  progress("building the control plane from Go modules; this takes some minutes, once");
  const start = Date.now();
  for (const [index, { file, path }] of PACKAGES.entries()) {
    const step = `${index + 1}/${PACKAGES.length} ${file}`;
    progress(`${step}: building (${secondsSince(start)} s so far)`);
    const ticker = setInterval(
      () => progress(`${step}: still building (${secondsSince(start)} s so far)`),
      TICK_MILLISECONDS,
    );
    try {
      await goBuild(join(partial, file), path);
    } finally {
      clearInterval(ticker);
    }
  }
  rmSync(directory, { recursive: true, force: true });
  renameSync(partial, directory);
  progress(`built in ${secondsSince(start)} s: ${directory}`);
  return binariesIn(directory);
}

async function goBuild(target: string, path: string): Promise<void> {
  const child = spawn("go", ["build", ...FLAGS, "-o", target, path], {
    cwd: MODULE,
    env: { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-mod=readonly", GOWORK: "off" },
    detached: true,
    stdio: ["ignore", "ignore", "pipe"],
  });
  const free = child.pid === undefined ? null : killOnExit({ kind: "group", pid: child.pid });
  let complaint = "";
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    complaint = (complaint + chunk).slice(-8192);
  });
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", resolve);
    });
    if (code !== 0) throw new Error(`go build ${path} failed:\n${complaint}`);
  } finally {
    free?.();
  }
}

/** A directory can be created only once; the pid in it shows whether its creator still runs. */
async function lock(path: string, progress: Progress): Promise<() => void> {
  let announced = false;
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
    if (!announced) progress("another process is building the control plane; waiting for it");
    announced = true;
    await sleep(LOCK_POLL_MILLISECONDS);
  }
}

async function holderLives(path: string): Promise<boolean> {
  let pid = pidIn(path);
  if (pid === null) {
    await sleep(LOCK_POLL_MILLISECONDS); // its creator may be about to write the file
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

function binariesIn(directory: string): Binaries {
  return {
    etcd: join(directory, "etcd"),
    apiServer: join(directory, "kube-apiserver"),
    controllerManager: join(directory, "kube-controller-manager"),
    kubectl: join(directory, "kubectl"),
  };
}

function secondsSince(start: number): number {
  return Math.round((Date.now() - start) / 1000);
}
