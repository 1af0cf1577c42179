import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parse } from "yaml";
import type { BlobReference, ModelReleaseSpec, Verification } from "../src/api/model-release.ts";
import type { Duration } from "../src/base/time.ts";
import { systemClock } from "../src/runtime/clock.ts";
import type { Download, VerifyReport } from "../src/verification/verification.ts";
import { DOWNLOAD_LIMITS, downloader } from "../src/verifier/download.ts";
import { buildSandbox } from "../src/verifier/sandbox.ts";
import { verify } from "../src/verifier/verify.ts";
import { type BlobServer, startBlobServer } from "../test/builders/blob-server.ts";

// The story's releases before the real verifier: real downloads, real child processes, ONNX Runtime.

const PLANT = join(import.meta.dirname, "plant");
const FILES = join(import.meta.dirname, "models/files");
const never = new AbortController().signal;

let blobs: BlobServer;
let workdir: string;
beforeAll(async () => {
  blobs = await startBlobServer();
  workdir = await mkdtemp(join(tmpdir(), "verdicts-"));
});
afterAll(async () => {
  await blobs.stop();
  await rm(workdir, { recursive: true });
});

test.each(["20-release-1.0.0.yaml", "40-release-2.0.0.yaml", "50-release-2.1.0-slow.yaml"])(
  "%s passes every check",
  async (manifest) => {
    const verdicts = await verdictsOn(manifest);
    for (const verdict of verdicts) {
      expect(verdict).toMatchObject({ kind: "passed" });
      const checks =
        "checks" in verdict ? verdict.checks.map(({ name, outcome }) => `${name} ${outcome}`) : [];
      expect(checks).toEqual([
        "Digest Passed",
        "Load Passed",
        "Signature Passed",
        "Golden Passed",
        "Latency Passed",
      ]);
    }
  },
);

test.each([
  ["60-release-3.0.0-inaccurate.yaml", "AccuracyTooLow"],
  ["61-release-3.0.1-lying.yaml", "DigestMismatch"],
  ["62-release-3.0.2-broken.yaml", "LoadFailed"],
])("%s is refused: %s", async (manifest, reason) => {
  expect(await verdictsOn(manifest)).toMatchObject([{ kind: "failed", reason }]);
});

/** One verdict for each variant of the release. */
async function verdictsOn(manifest: string): Promise<readonly VerifyReport[]> {
  const { spec } = parse(await readFile(join(PLANT, manifest), "utf8")) as {
    readonly spec: ModelReleaseSpec;
  };
  const checks = withDefaults(spec.verification!);
  const golden = checks.golden === undefined ? null : await downloadOf(checks.golden);
  const deps = {
    workdir,
    memoryBytes: 512 * 2 ** 20,
    sandbox: await buildSandbox(),
    fetch: downloader(DOWNLOAD_LIMITS, systemClock()),
    version: "test",
    clock: systemClock(),
  };
  const verdicts: VerifyReport[] = [];
  for (const variant of spec.variants)
    verdicts.push(
      (
        await verify(
          {
            tenant: "plant-a",
            model: await downloadOf(variant),
            golden,
            parity: null,
            variantParity: null,
            checks,
          },
          () => undefined,
          deps,
          never,
        )
      ).report,
    );
  return verdicts;
}

/** The bytes that the store has, and the digest that the manifest says. */
async function downloadOf(named: {
  readonly blob: BlobReference;
  readonly digest: string;
}): Promise<Download> {
  return { ...blobs.put(await readFile(join(FILES, named.blob.path))), digest: named.digest };
}

/** What the API server fills in, except that no time is judged here: this machine may be busy with other tests. */
function withDefaults(written: Verification): Verification {
  if (written.latency === undefined) return written;
  return { ...written, latency: { p95: "1m" as Duration, warmup: 1, samples: 20, batchSize: 1, threads: 1 } };
}
