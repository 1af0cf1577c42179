import { writeFile } from "node:fs/promises";
import type { Verification } from "../../../src/api/model-release.ts";
import { type Digest, digestOf } from "../../../src/base/digest.ts";
import { ok } from "../../../src/base/result.ts";
import type { Duration } from "../../../src/base/time.ts";
import { systemClock } from "../../../src/runtime/clock.ts";
import type { Download, VerifyRequest } from "../../../src/verification/verification.ts";
import { type Verified, verify } from "../../../src/verifier/checks/run.ts";
import { buildSandbox } from "../../../src/verifier/process/sandbox.ts";

export type Verifying = {
  /** What a request says of a file with these bytes. */
  readonly fileOf: (bytes: Uint8Array) => Download & { readonly digest: Digest };
  readonly verdictOn: (
    model: Uint8Array,
    checks: Partial<Verification>,
    more?: Partial<VerifyRequest>,
  ) => Promise<Verified>;
};

/** The verifier's own pipeline, with real child processes; files come from memory. */
export async function startVerifying(workdir: string, memoryBytes: number): Promise<Verifying> {
  const files = new Map<string, Uint8Array>();
  const deps = {
    workdir,
    memoryBytes,
    sandbox: await buildSandbox(),
    fetch: async (from: Download, to: string) => {
      await writeFile(to, files.get(from.digest) ?? "");
      return ok({ path: to, digest: from.digest });
    },
    version: "test",
    clock: systemClock(),
  };

  function fileOf(bytes: Uint8Array): Download & { readonly digest: Digest } {
    const digest = digestOf(bytes);
    files.set(digest, bytes);
    return { url: "memory:", digest, sizeBytes: bytes.length };
  }

  return {
    fileOf,
    verdictOn: (model, checks, more = {}) => {
      const request = {
        tenant: "plant-a",
        model: fileOf(model),
        golden: null,
        parity: null,
        variantParity: null,
        checks: { timeout: "5m" as Duration, ...checks },
        ...more,
      };
      return verify(request, () => undefined, deps, new AbortController().signal);
    },
  };
}
