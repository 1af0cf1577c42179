import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parse } from "yaml";
import type { BlobReference, ModelReleaseSpec, Verification } from "../src/api/model-release.ts";
import type { Duration } from "../src/base/time.ts";
import { systemClock } from "../src/runtime/clock.ts";
import type { Download, VerifyReport } from "../src/verification/verification.ts";
import { verify } from "../src/verifier/checks/run.ts";
import { DOWNLOAD_LIMITS, downloader } from "../src/verifier/files/download.ts";
import { buildSandbox } from "../src/verifier/process/sandbox.ts";
import { type BlobServer, startBlobServer } from "../test/builders/verifier/blob-server.ts";

// The story's releases before the real verifier: real downloads, real child processes, ONNX Runtime.

const PLANT = join(import.meta.dirname, "plant");
const PRODUCTION = join(import.meta.dirname, "production");
/** What parity is judged by, as the operator would find it. */
const FIRST = "20-release-1.0.0.yaml";
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

const ALWAYS = ["Digest", "Load", "Signature", "Golden", "Latency"];
test.each([
  [PLANT, "20-release-1.0.0.yaml", []],
  [PLANT, "40-release-2.0.0.yaml", ["Determinism", "Parity", "Memory"]],
  [PLANT, "50-release-2.1.0-slow.yaml", ["Determinism", "Parity", "Memory"]],
  [PRODUCTION, "10-release.yaml", ["Determinism", "Parity", "VariantParity", "Memory"]],
])("%s/%s passes every check", async (folder, manifest, more) => {
  const verdicts = await verdictsOn(manifest, folder);
  for (const [index, verdict] of verdicts.entries()) {
    expect(verdict).toMatchObject({ kind: "passed" });
    const checks = "checks" in verdict ? verdict.checks : [];
    // The first variant is the one that the others are held against.
    const skipped = checks.filter(({ outcome }) => outcome === "Skipped").map(({ name }) => name);
    expect(skipped).toEqual(index === 0 && more.includes("VariantParity") ? ["VariantParity"] : []);
    expect(new Set(checks.map(({ name }) => name))).toEqual(new Set([...ALWAYS, ...more]));
  }
});

test.each([
  ["60-release-3.0.0-inaccurate.yaml", "AccuracyTooLow"],
  ["61-release-3.0.1-lying.yaml", "DigestMismatch"],
  ["62-release-3.0.2-broken.yaml", "LoadFailed"],
])("%s is refused: %s", async (manifest, reason) => {
  expect(await verdictsOn(manifest)).toMatchObject([{ kind: "failed", reason }]);
});

/** One verdict for each variant of the release. */
async function verdictsOn(manifest: string, folder = PLANT): Promise<readonly VerifyReport[]> {
  const spec = await specOf(join(folder, manifest));
  const [first] = (await specOf(join(PLANT, FIRST))).variants;
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
            parity:
              checks.parity === undefined
                ? null
                : { ...(await downloadOf(first!)), name: "digits-1.0.0 (fp32)" },
            variantParity:
              checks.variantParity === undefined || variant === spec.variants[0]
                ? null
                : { ...(await downloadOf(spec.variants[0]!)), name: "this release (fp32)" },
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

async function specOf(file: string): Promise<ModelReleaseSpec> {
  return (parse(await readFile(file, "utf8")) as { readonly spec: ModelReleaseSpec }).spec;
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
