import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { errorCodeText } from "../../base/guards.ts";
import { err, ok, type Result } from "../../base/result.ts";
import type { Clock } from "../../base/time.ts";
import type { Log } from "../../telemetry/telemetry.ts";
import type { VerifyDeps } from "../checks/check.ts";
import { verify, WORK_PREFIX } from "../checks/run.ts";
import { type BlobCache, openBlobCache } from "../files/blob-cache.ts";
import { DOWNLOAD_LIMITS, type DownloadLimits, downloader } from "../files/download.ts";
import { buildSandbox } from "../process/sandbox.ts";
import { lockDirectory } from "./directory-lock.ts";
import { type Exposed, type Health, healthOf } from "./health.ts";
import type { Prefetch, Verify } from "./job-worker.ts";
import { createJobs } from "./jobs.ts";
import { openResults, type ResultLimits } from "./results.ts";
import { startServer } from "./server.ts";
import type { Settings } from "./settings.ts";
import type { QueueBounds } from "./tenant-queue.ts";
import { verifierVersion } from "./version.ts";

export type SidecarDeps = {
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics?: Exposed;
  readonly downloads?: DownloadLimits;
  /** Verifications that may wait, of one tenant and in all; and verdicts that are remembered. */
  readonly waiting?: QueueBounds;
  readonly remembered?: ResultLimits;
};

export type Sidecar = {
  readonly version: string;
  readonly health: Health;
  /** Stops what runs, closes and removes the socket, removes the files of what ran. */
  readonly stop: () => Promise<void>;
};

const WAITING: QueueBounds = { perTenant: 256, inAll: 1024 };
const REMEMBERED: ResultLimits = { count: 1024, bytes: 64 * 2 ** 20 };
const RESULTS = "results";
const UNCOUNTED: Exposed = {
  meter: { count: () => undefined, gauge: () => undefined, observe: () => undefined },
  expose: () => Promise.resolve(""),
  contentType: "text/plain",
};

/** Starts the verifier: tidies up, tries ONNX Runtime in a child process, serves. An error is a sentence. */
export async function startSidecar(settings: Settings, deps: SidecarDeps): Promise<Result<Sidecar, string>> {
  const { workdir, cacheDir } = settings;
  const unlock: (() => Promise<void>)[] = [];
  const open = async () => {
    for (const directory of [workdir, cacheDir]) {
      const locked = await ownDirectory(directory);
      if (!locked.ok) return locked;
      unlock.push(locked.value);
    }
    return openSidecar(settings, deps);
  };
  const opened = await open();
  const giveBack = async () => {
    await Promise.all(unlock.map((one) => one()));
  };
  if (!opened.ok) {
    await giveBack();
    return opened;
  }
  const { stop } = opened.value;
  return ok({ ...opened.value, stop: () => stop().then(giveBack) });
}

async function openSidecar(settings: Settings, deps: SidecarDeps): Promise<Result<Sidecar, string>> {
  const { workdir, memoryBytes, socket } = settings;
  const { clock, log, metrics = UNCOUNTED } = deps;
  const { meter } = metrics;
  const tidied = await tidy(workdir, log);
  if (!tidied.ok) return tidied;
  const sandbox = await buildSandbox();
  const found = await verifierVersion({ ...settings, sandbox }, new AbortController().signal);
  if (!found.ok) return found;
  const version = found.value;
  const results = await openResults(join(workdir, RESULTS), deps.remembered ?? REMEMBERED, version, log);
  if (!results.ok) return err(`cannot use ${join(workdir, RESULTS)}: ${results.error}`);
  const cache = await openBlobCache({
    directory: settings.cacheDir,
    budgetBytes: settings.cacheBytes,
    untouchable: sandbox.features.user,
    download: downloader(deps.downloads ?? DOWNLOAD_LIMITS, clock, meter),
    clock,
    log,
    meter,
  });
  if (!cache.ok) return err(`cannot use ${settings.cacheDir}: ${cache.error}`);
  const jobs = createJobs({
    ...workers(cache.value, { workdir, memoryBytes, sandbox, version, clock, meter }),
    results: results.value,
    waiting: deps.waiting ?? WAITING,
    clock,
    log,
    meter,
  });
  const health = healthOf({ workdir, jobs, cache: cache.value, metrics });
  const server = await startServer(socket, { jobs, version, features: sandbox.features, health, log });
  if (!server.ok) return server;
  if (sandbox.lacking.length > 0)
    log.warn("models run without some of the sandbox's restrictions", {
      lacking: sandbox.lacking.join("; "),
    });
  log.info("verifier is ready", {
    socket,
    version,
    memoryBytes,
    cacheBytes: settings.cacheBytes,
    sandbox: Object.entries(sandbox.features)
      .flatMap(([feature, there]) => (there ? [feature] : []))
      .join(", "),
  });
  return ok({
    version,
    health,
    stop: async () => {
      const closed = server.value.close();
      await jobs.drain();
      await closed;
      log.info("verifier has stopped");
    },
  });
}

/** What fetches for a verification goes through the cache, and is kept there until the verification is over. */
function workers(
  cache: BlobCache,
  deps: Omit<VerifyDeps, "fetch">,
): { readonly verify: Verify; readonly prefetch: Prefetch } {
  return {
    verify: async (request, begin, signal) => {
      const { fetch, release } = cache.hold();
      try {
        return await verify(request, begin, { ...deps, fetch }, signal);
      } finally {
        release();
      }
    },
    prefetch: async ({ model, golden, parity, variantParity }, signal) => {
      const { prefetch, release } = cache.hold();
      for (const from of [model, golden, parity, variantParity])
        if (from !== null && from.sizeBytes <= deps.memoryBytes) await prefetch(from, signal);
      return release;
    },
  };
}

async function ownDirectory(directory: string): Promise<Result<() => Promise<void>, string>> {
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    return await lockDirectory(directory);
  } catch (thrown) {
    return err(`cannot use ${directory}: ${errorCodeText(thrown)}`);
  }
}

/** Removes what verifications of a previous run have left, and nothing else. */
async function tidy(workdir: string, log: Log): Promise<Result<void, string>> {
  try {
    const left = (await readdir(workdir)).filter((name) => name.startsWith(WORK_PREFIX));
    for (const name of left) await rm(join(workdir, name), { recursive: true, force: true });
    if (left.length > 0) log.info("removed files of a previous run", { directories: left.length });
    return ok(undefined);
  } catch (thrown) {
    return err(`cannot use ${workdir}: ${errorCodeText(thrown)}`);
  }
}
