import type { Verification } from "../../src/api/model-release.ts";
import { verificationSchema } from "../../src/api/verification-spec.ts";
import { own } from "../../src/base/lookup.ts";
import { err, ok, type Result } from "../../src/base/result.ts";
import type { Duration } from "../../src/base/time.ts";
import { buildSandbox } from "../../src/verifier/process/sandbox.ts";
import { isObject, type Json, type JsonObject } from "../json-pointer.ts";
import { withDefaults } from "../spec/check.ts";
import { localFiles } from "../verify/local-files.ts";
import { reasonOf } from "../verify/subject.ts";
import { verifyHere } from "../verify/verify-here.ts";
import type { VariantFile } from "./manifest.ts";

const MEMORY = 2 * 2 ** 30;
const MIB = 2 ** 20;
/** Mebibytes: what a process takes for itself differs by less than that from one time to the next. */
const LEAST_MEMORY = 16;

/** `failed`: the model cannot be run. */
export type NotMeasured = { readonly failed: boolean; readonly message: string };

/**
 * Runs each variant as the verifier would, with bounds that nothing breaks, and bounds p95 and memory by the most that
 * any of them took. Bounds that are there already stay.
 * @param margin how many times of what was measured is allowed.
 */
export async function measureModels(
  variants: readonly VariantFile[],
  wanted: { readonly verification: JsonObject; readonly margin: number },
  signal: AbortSignal,
): Promise<Result<JsonObject, NotMeasured>> {
  const { verification, margin } = wanted;
  const latency = isObject(verification["latency"]) ? verification["latency"] : {};
  const { p50: _p50, p99: _p99, ...howMeasured } = latency;
  const checks = withDefaults(verificationSchema, {
    ...(verification["timeout"] === undefined ? {} : { timeout: verification["timeout"] }),
    latency: { ...howMeasured, p95: "24h" },
    memory: { maximum: "1023Gi" },
  }) as unknown as Verification & { readonly timeout: Duration };
  let p95 = 0;
  let bytes = 0;
  const sandbox = buildSandbox();
  for (const { name, file } of variants) {
    const files = localFiles();
    const taken = await files.take(file.path, signal);
    if (!taken.ok) return err({ failed: false, message: `${file.path}: ${taken.error}` });
    const request = {
      tenant: "",
      model: taken.value,
      golden: null,
      parity: null,
      variantParity: null,
      checks,
    };
    const about = { files, memoryBytes: MEMORY, sandbox, begin: () => undefined };
    const { report, full } = await verifyHere(request, about, signal);
    if (report.kind !== "passed" || full === null)
      return err({
        failed: report.kind === "failed",
        message: `variant ${name} could not be measured: ${reasonOf(report).message}`,
      });
    for (const check of full.checks) {
      const details = (check.details ?? {}) as Partial<Measured>;
      p95 = Math.max(p95, details.timing?.p95.value ?? 0);
      bytes = Math.max(bytes, details.bytes ?? 0);
    }
  }
  const hasBound = ["p50", "p95", "p99"].some((bound) => own(latency, bound) !== undefined);
  const proposed: Record<string, Json> = {};
  if (!hasBound) proposed["latency"] = { p95: boundOf(p95 * margin), ...latency };
  if (verification["memory"] === undefined && bytes > 0)
    proposed["memory"] = { maximum: `${Math.max(LEAST_MEMORY, Math.ceil((bytes * margin) / MIB))}Mi` };
  return ok({ ...verification, ...proposed });
}

type Measured = { readonly timing: { readonly p95: { readonly value: number } }; readonly bytes: number };

/** Two significant digits, and at least a millisecond: any pause of the machine exceeds less. */
function boundOf(milliseconds: number): string {
  return `${Number(Math.ceil(Math.max(1, milliseconds)).toPrecision(2))}ms`;
}
