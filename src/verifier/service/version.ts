import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { err, ok, type Result } from "../../base/result.ts";
import { seconds } from "../../base/time.ts";
import type { VerifyDeps } from "../checks/check.ts";
import { WORK_PREFIX } from "../checks/run.ts";
import { startModelProcess } from "../process/model-process.ts";
import { verifierText } from "./installed-version.ts";

/**
 * The verifier's own version and that of its ONNX Runtime, which a child process has loaded for it: a machine where it
 * does not load is noticed now. An error is a sentence.
 */
export async function verifierVersion(
  { workdir, memoryBytes, sandbox }: Pick<VerifyDeps, "workdir" | "memoryBytes" | "sandbox">,
  signal: AbortSignal,
): Promise<Result<string, string>> {
  const limits = { memoryBytes, deadline: seconds(30), threads: 1 };
  const directory = await mkdtemp(join(workdir, WORK_PREFIX));
  try {
    const started = await startModelProcess(limits, await sandbox.prepare(directory), signal);
    if (!started.ok)
      return err(
        `cannot run ONNX Runtime: ${"message" in started.error ? started.error.message : started.error.kind}`,
      );
    await started.value.end();
    return ok(await verifierText(started.value.runtimeVersion));
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
