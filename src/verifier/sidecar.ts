import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { err, ok, type Result } from "../base/result.ts";
import type { Clock } from "../base/time.ts";
import type { Log } from "../telemetry/telemetry.ts";
import { DOWNLOAD_LIMITS, type DownloadLimits, downloader } from "./download.ts";
import { createJobs } from "./jobs.ts";
import { buildSandbox } from "./sandbox.ts";
import { startServer } from "./server.ts";
import type { Settings } from "./settings.ts";
import { verify, WORK_PREFIX } from "./verify.ts";
import { verifierVersion } from "./version.ts";

export type SidecarDeps = {
  readonly clock: Clock;
  readonly log: Log;
  readonly downloads?: DownloadLimits;
  /** Verifications that may wait, and verdicts that are remembered. */
  readonly waiting?: number;
  readonly remembered?: number;
};

export type Sidecar = {
  readonly version: string;
  /** Stops what runs, closes and removes the socket, removes all files. */
  readonly stop: () => Promise<void>;
};

const WAITING = 256;
const REMEMBERED = 1024;

/** Starts the verifier: tidies up, tries ONNX Runtime in a child process, serves. An error is a sentence. */
export async function startSidecar(settings: Settings, deps: SidecarDeps): Promise<Result<Sidecar, string>> {
  const { clock, log } = deps;
  const tidied = await tidy(settings.workdir, log);
  if (!tidied.ok) return tidied;
  const sandbox = await buildSandbox();
  const told = await verifierVersion({ ...settings, sandbox }, new AbortController().signal);
  if (!told.ok) return told;
  const version = told.value;
  const verifyDeps = {
    workdir: settings.workdir,
    memoryBytes: settings.memoryBytes,
    sandbox,
    fetch: downloader(deps.downloads ?? DOWNLOAD_LIMITS, clock),
    version,
    clock,
  };
  const jobs = createJobs({
    verify: (request, begin, signal) => verify(request, begin, verifyDeps, signal),
    waiting: deps.waiting ?? WAITING,
    remembered: deps.remembered ?? REMEMBERED,
    clock,
    log,
  });
  const server = await startServer(settings.socket, { jobs, version, walls: sandbox.walls, log });
  if (!server.ok) return server;
  if (sandbox.lacking.length > 0)
    log.warn("models run without some of the walls", { lacking: sandbox.lacking.join("; ") });
  log.info("verifier is ready", {
    socket: settings.socket,
    version,
    memoryBytes: settings.memoryBytes,
    walls: Object.entries(sandbox.walls)
      .flatMap(([wall, there]) => (there ? [wall] : []))
      .join(", "),
  });
  return ok({
    version,
    stop: async () => {
      const closed = server.value.close();
      await jobs.drain();
      await closed;
      log.info("verifier has stopped");
    },
  });
}

/** Removes what verifications of an earlier life have left, and nothing else. */
async function tidy(workdir: string, log: Log): Promise<Result<void, string>> {
  try {
    await mkdir(workdir, { recursive: true, mode: 0o700 });
    const left = (await readdir(workdir)).filter((name) => name.startsWith(WORK_PREFIX));
    for (const name of left) await rm(join(workdir, name), { recursive: true, force: true });
    if (left.length > 0) log.info("removed files of an earlier life", { directories: left.length });
    return ok(undefined);
  } catch (thrown) {
    const code = thrown instanceof Error && "code" in thrown ? String(thrown.code) : "unknown error";
    return err(`cannot use ${workdir}: ${code}`);
  }
}
