import { basename } from "node:path";
import type { Verification } from "../../src/api/model-release.ts";
import { isReleaseFault } from "../../src/api/reasons.ts";
import { verificationSchema } from "../../src/api/verification-spec.ts";
import { err, ok, type Result } from "../../src/base/result.ts";
import type { Duration } from "../../src/base/time.ts";
import type { Signature } from "../../src/verifier/onnx/tensor.ts";
import { buildSandbox } from "../../src/verifier/process/sandbox.ts";
import { isObject, type JsonObject } from "../json-pointer.ts";
import { problemsIn, withDefaults } from "../spec/check.ts";
import { type LocalFile, localFiles } from "../verify/local-files.ts";
import { reasonOf } from "../verify/subject.ts";
import { verifyHere } from "../verify/verify-here.ts";
import type { VariantFile } from "./manifest.ts";

const MEMORY = 2 * 2 ** 30;

/** What was found in the variants, in their order. */
export type Inspected = {
  readonly signatures: readonly Signature[];
  /** Why the golden set does not fit one of the variants. */
  readonly misfits: readonly string[];
  /** Bounds on golden samples that a variant does not meet. */
  readonly notes: readonly string[];
};

/** `failed`: the model itself cannot be loaded. */
export type NotInspected = { readonly failed: boolean; readonly message: string };

/** Loads each variant as the verifier would, and runs it with the golden set where there is one. */
export async function inspectModels(
  variants: readonly VariantFile[],
  about: { readonly golden: LocalFile | null; readonly verification: JsonObject },
  signal: AbortSignal,
): Promise<Result<Inspected, NotInspected>> {
  const checks = checksOf(about.verification, about.golden !== null);
  const signatures: Signature[] = [];
  const misfits: string[] = [];
  const notes: string[] = [];
  const sandbox = buildSandbox();
  for (const { name, file } of variants) {
    const files = localFiles();
    const taken = await files.take(file.path, signal);
    const golden = about.golden === null ? null : await files.take(about.golden.path, signal);
    if (!taken.ok) return err({ failed: false, message: `${file.path}: ${taken.error}` });
    if (golden?.ok === false)
      return err({ failed: false, message: `${about.golden?.path}: ${golden.error}` });
    const request = {
      tenant: "",
      model: taken.value,
      golden: golden?.value ?? null,
      parity: null,
      variantParity: null,
      checks,
    };
    let check = "";
    const begin = (begun: string) => {
      check = begun;
    };
    const { report, full } = await verifyHere(
      request,
      { files, memoryBytes: MEMORY, sandbox, begin },
      signal,
    );
    const { reason, message } = reasonOf(report);
    const variant = variants.length > 1 ? `variant ${name}` : "the model";
    if (report.kind !== "passed" && check !== "Golden")
      return err({ failed: report.kind === "failed", message: `${variant} could not be loaded: ${message}` });
    if (report.kind !== "passed" && isReleaseFault(reason))
      misfits.push(`--golden ${basename(golden?.value.path ?? "")} does not fit ${variant}: ${message}`);
    else if (report.kind === "failed") notes.push(`${variant} does not pass its golden set: ${message}`);
    else if (report.kind !== "passed") return err({ failed: false, message: `${variant}: ${message}` });
    if (full?.model !== null && full !== null)
      signatures.push({ inputs: full.model.inputs, outputs: full.model.outputs } as Signature);
  }
  return ok({ signatures, misfits, notes });
}

/** Bounds that are themselves wrong are reported elsewhere: then the golden set is read, and no more. */
function checksOf(
  verification: JsonObject,
  hasGolden: boolean,
): Verification & { readonly timeout: Duration } {
  const { timeout, golden } = verification;
  const asked = withDefaults(verificationSchema, {
    ...(timeout === undefined ? {} : { timeout }),
    ...(hasGolden && golden !== undefined ? { golden } : {}),
  });
  const isWrong = problemsIn(verificationSchema, asked).some(({ pointer }) => pointer !== "");
  const reading = isObject(golden) ? { golden: { blob: golden["blob"], digest: golden["digest"] } } : {};
  const checks = isWrong ? withDefaults(verificationSchema, hasGolden ? (reading as JsonObject) : {}) : asked;
  return checks as unknown as Verification & { readonly timeout: Duration };
}
