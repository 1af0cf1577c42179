import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errorCodeText } from "../../base/guards.ts";
import type { Meter } from "../../telemetry/telemetry.ts";
import type { BlobCache } from "../files/blob-cache.ts";
import type { Jobs } from "./jobs.ts";

/** A meter, and what it has counted in the text format of Prometheus. */
export type Exposed = {
  readonly meter: Meter;
  readonly expose: () => Promise<string>;
  readonly contentType: string;
};

/** What probes and Prometheus ask for. */
export type Health = {
  /** Why nothing can be asked for now; `null`: it can. */
  readonly unready: () => Promise<string | null>;
  readonly metrics: () => Promise<string>;
  readonly metricsType: string;
};

/** That ONNX Runtime loads was seen at the start: without it there is no sidecar. */
export function healthOf(of: {
  readonly workdir: string;
  readonly jobs: Jobs;
  readonly cache: BlobCache;
  readonly metrics: Exposed;
}): Health {
  const { workdir, jobs, cache } = of;
  const { meter, expose, contentType } = of.metrics;

  async function unready(): Promise<string | null> {
    if (jobs.draining()) return "it is stopping";
    const file = join(workdir, ".ready");
    try {
      await writeFile(file, "ready", { mode: 0o600 });
      await rm(file, { force: true });
      return null;
    } catch (thrown) {
      const code = errorCodeText(thrown);
      return `its workdir cannot be written: ${code}`;
    }
  }

  return {
    unready,
    metricsType: contentType,
    metrics: async () => {
      const { waiting, waitingAgain, tenants, running, finished } = jobs.counts();
      const { bytes, files } = cache.counts();
      meter.gauge("edgefleet_verifier_queue_depth", waiting - waitingAgain, { urgency: "new" });
      meter.gauge("edgefleet_verifier_queue_depth", waitingAgain, { urgency: "again" });
      meter.gauge("edgefleet_verifier_queue_tenants", tenants);
      meter.gauge("edgefleet_verifier_running", running);
      meter.gauge("edgefleet_verifier_results", finished);
      meter.gauge("edgefleet_verifier_cache_bytes", bytes);
      meter.gauge("edgefleet_verifier_cache_files", files);
      meter.gauge("edgefleet_verifier_ready", (await unready()) === null ? 1 : 0);
      return expose();
    },
  };
}
