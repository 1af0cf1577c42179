import { mkdtemp, readFile, rm } from "node:fs/promises";
import { findPackageJSON } from "node:module";
import { join } from "node:path";
import { err, ok, type Result } from "../base/result.ts";
import { seconds } from "../base/time.ts";
import { startModelProcess } from "./model-process.ts";
import { type VerifyDeps, WORK_PREFIX } from "./verify.ts";

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
    return ok(`edgefleet-verifier/${await productVersion()} onnxruntime/${started.value.runtimeVersion}`);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Of package.json. */
export async function productVersion(): Promise<string> {
  const path = findPackageJSON(import.meta.url);
  const manifest: unknown = path === undefined ? null : JSON.parse(await readFile(path, "utf8"));
  const version =
    typeof manifest === "object" && manifest !== null && "version" in manifest ? manifest.version : null;
  return typeof version === "string" ? version : "unknown";
}
