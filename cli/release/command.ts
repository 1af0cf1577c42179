import { closeSync, openSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { modelReleaseSpecSchema } from "../../src/api/model-release.ts";
import { verificationSchema } from "../../src/api/verification-spec.ts";
import { suggestion } from "../../src/base/flags.ts";
import { errorCodeOf } from "../../src/base/guards.ts";
import { err, ok, type Result } from "../../src/base/result.ts";
import { signatureDifferences } from "../../src/verifier/checks/signature.ts";
import { bytesInFile } from "../../src/verifier/files/byte-source.ts";
import { readOnnxFile } from "../../src/verifier/onnx/file.ts";
import type { Signature, TensorInfo } from "../../src/verifier/onnx/tensor.ts";
import { EXIT, reportUsageErrors } from "../exit-status.ts";
import { fileFault } from "../file-fault.ts";
import { isObject, type Json, type JsonObject } from "../json-pointer.ts";
import { overlay } from "../spec/bounds.ts";
import { type Problem, problemsIn, sentence, withDefaults } from "../spec/check.ts";
import { dotted } from "../spec/release-file.ts";
import type { Terminal } from "../terminal.ts";
import { type LocalFile, localFiles } from "../verify/local-files.ts";
import { type ReleaseOptions, readReleaseFlags, releaseHelp } from "./flags.ts";
import { inspectModels, type NotInspected } from "./inspect-models.ts";
import { manifestText, type VariantFile } from "./manifest.ts";
import { measureModels } from "./measure-models.ts";

/** `edgefleet release new`; returns the exit status. */
export async function releaseCommand(
  args: readonly string[],
  terminal: Terminal,
  signal: AbortSignal,
): Promise<number> {
  const [verb, ...rest] = args;
  if (verb === "--help" || verb === "-h") {
    terminal.out(releaseHelp());
    return EXIT.passed;
  }
  if (verb !== "new") {
    const problem =
      verb === undefined
        ? "a command is missing: edgefleet release new"
        : `release ${verb} is not a command${suggestion(verb, ["new"])}`;
    return reportUsageErrors([problem], terminal, "release");
  }
  const { options, problems } = readReleaseFlags(rest);
  if (options.args.values.has("help")) {
    terminal.out(releaseHelp());
    return EXIT.passed;
  }
  const release = await describe(options, [...problems], signal);
  if (signal.aborted) return EXIT.environment;
  if (!release.ok)
    return release.error.kind === "wrong"
      ? reportUsageErrors(release.error.problems, terminal, "release new")
      : notRun(release.error, terminal);
  const { variants, notes } = release.value;
  let { verification } = release.value;
  if (options.measure) {
    const measured = await measureModels(variants, { verification, margin: options.margin }, signal);
    if (!measured.ok) return notRun(measured.error, terminal);
    verification = measured.value;
  }
  const text = manifestText(options, { ...release.value, verification });
  for (const note of notes) terminal.err(`${note}\n`);
  return write(text, options, terminal);
}

function notRun(
  { failed, message }: { readonly failed: boolean; readonly message: string },
  terminal: Terminal,
): number {
  terminal.err(`${message}\n`);
  return failed ? EXIT.failed : EXIT.environment;
}

async function write(text: string, { output, force }: ReleaseOptions, terminal: Terminal): Promise<number> {
  if (output === null) {
    terminal.out(text);
    return EXIT.passed;
  }
  try {
    await writeFile(output, text, { flag: force ? "w" : "wx" });
    return EXIT.passed;
  } catch (thrown) {
    const exists = errorCodeOf(thrown) === "EEXIST";
    const hint = exists ? "; --force overwrites it" : "";
    terminal.err(`--output ${output}: ${fileFault(thrown)}${hint}\n`);
    return exists ? EXIT.usage : EXIT.environment;
  }
}

type Described = {
  readonly variants: readonly VariantFile[];
  readonly golden: LocalFile | null;
  readonly verification: JsonObject;
  /** Notes for the user beyond the manifest. */
  readonly notes: readonly string[];
};

/** The input is wrong, or it could not be inspected. */
type NotDescribed =
  | { readonly kind: "wrong"; readonly problems: readonly string[] }
  | ({ readonly kind: "notRun" } & NotInspected);

/** Reads the files and checks that a release can be made of them; reports every mistake at once. */
async function describe(
  options: ReleaseOptions,
  problems: string[],
  signal: AbortSignal,
): Promise<Result<Described, NotDescribed>> {
  const files = localFiles();
  const variants: VariantFile[] = [];
  for (const { variant, file } of options.files) {
    const taken = await files.take(file, signal);
    const fault = taken.ok ? headerFault(taken.value) : taken.error;
    if (!taken.ok || fault !== null) {
      problems.push(`${file}: ${fault}`);
      continue;
    }
    const path = options.pathOf(variant) ?? `${options.model}/${options.version}/${basename(file)}`;
    const deviceClasses = options.classesOf(variant);
    variants.push({ name: variant, file: taken.value, path, deviceClasses });
  }
  const golden = options.golden === null ? null : await files.take(options.golden.file, signal);
  if (golden !== null && !golden.ok) problems.push(`--golden ${options.golden?.file}: ${golden.error}`);
  const { verification, flagAt } = boundsOf(options, golden?.ok === true ? golden.value : null, problems);
  const described: Described = {
    variants,
    golden: golden?.ok === true ? golden.value : null,
    verification,
    notes: [],
  };
  problems.push(...problemsOf(options, described, flagAt));
  const inspected = await inspectModels(variants, described, signal);
  if (!inspected.ok && problems.length === 0) return err({ kind: "notRun", ...inspected.error });
  if (inspected.ok) problems.push(...inspected.value.misfits);
  if (problems.length > 0 || !inspected.ok) return err({ kind: "wrong", problems });
  const { signature, notes } = signatureOf(variants, inspected.value.signatures);
  return ok({
    ...described,
    verification: { ...(signature === null ? {} : { signature }), ...verification },
    notes: [...notes, ...inspected.value.notes],
  });
}

/** Why a file cannot be a release, whatever the model; `null`: it can. */
function headerFault({ path, sizeBytes }: LocalFile): string | null {
  const descriptor = openSync(path, "r");
  try {
    const header = readOnnxFile(bytesInFile(descriptor, sizeBytes));
    if (!header.ok) return header.error;
    const [external] = header.value.externalTensors;
    return external === undefined
      ? null
      : `tensor "${external}" is kept in another file; a release is one file: save the model without external data`;
  } finally {
    closeSync(descriptor);
  }
}

/** Only the bounds that were asked for. */
function boundsOf(options: ReleaseOptions, golden: LocalFile | null, problems: string[]) {
  const { verification, flagAt } = overlay(options.args, {});
  const bounds: Record<string, Json> = isObject(verification) ? { ...verification } : {};
  if (isObject(bounds["golden"]) && options.golden === null) {
    problems.push(`${flagUnder(flagAt, "/golden")} needs --golden FILE`);
    delete bounds["golden"];
  }
  if (golden !== null && options.golden !== null) {
    const path = options.golden.path ?? `${options.model}/${options.version}/${basename(golden.path)}`;
    const blob = { container: options.container, path };
    bounds["golden"] = {
      blob,
      digest: golden.digest,
      ...(isObject(bounds["golden"]) ? bounds["golden"] : {}),
    };
  }
  if (isObject(bounds["parity"]) || options.parityWith !== null)
    bounds["parity"] = {
      with: options.parityWith ?? "previous",
      ...(bounds["parity"] as JsonObject | undefined),
    };
  return { verification: bounds, flagAt };
}

function flagUnder(flagAt: ReadonlyMap<string, string>, pointer: string): string | undefined {
  return [...flagAt].find(([at]) => at === pointer || at.startsWith(`${pointer}/`))?.[1];
}

/** The signature that all variants share, as ONNX Runtime reports it, or a note that says why there is none. */
function signatureOf(
  variants: readonly VariantFile[],
  signatures: readonly Signature[],
): {
  readonly signature: JsonObject | null;
  readonly notes: readonly string[];
} {
  const [first] = signatures;
  if (first === undefined) return { signature: null, notes: [] };
  const side = (infos: readonly TensorInfo[]) =>
    infos.map(({ name, type, shape }) => ({
      name,
      type,
      shape: shape.map((axis) => (axis === "" ? "any" : axis)),
    }));
  const signature = { inputs: side(first.inputs), outputs: side(first.outputs) };
  const [problem] = problemsIn(verificationSchema.properties.signature, signature);
  if (problem !== undefined)
    return {
      signature: null,
      notes: [
        `no signature, because a release cannot express it: ${sentence(dotted(problem.pointer).slice(1), problem.message)}`,
      ],
    };
  const wanted = signature as unknown as Parameters<typeof signatureDifferences>[0];
  for (const [index, other] of signatures.entries()) {
    const differences = signatureDifferences(wanted, other);
    if (differences.length > 0)
      return {
        signature: null,
        notes: [
          `no signature: variant ${variants[index]?.name} differs from ${variants[0]?.name}: ${differences.join("; ")}`,
        ],
      };
  }
  return { signature, notes: [] };
}

/** What the API server would refuse, named by the flag that causes it. */
function problemsOf(
  options: ReleaseOptions,
  { variants, golden, verification }: Described,
  flagAt: ReadonlyMap<string, string>,
): readonly string[] {
  const { model, version, container } = options;
  const spec = {
    model,
    version,
    variants: variants.map(({ name, file, path, deviceClasses }) => ({
      name,
      ...(deviceClasses.length === 0 ? {} : { deviceClasses }),
      blob: { container, path },
      digest: file.digest,
    })),
    verification,
  };
  const found = problemsIn(modelReleaseSpecSchema, withDefaults(modelReleaseSpecSchema, spec));
  const isWrong = (pointer: string) => found.some((problem) => problem.pointer === pointer);
  // A missing value, and a value derived from it, would be reported twice.
  const isReported = ({ pointer }: Problem) =>
    (pointer === "/model" && model === "") ||
    (pointer === "/version" && version === "") ||
    (pointer.startsWith("/variants") && variants.length < Math.max(1, options.files.length)) ||
    (pointer === "/verification/golden" && options.golden !== null && golden === null) ||
    (pointer.endsWith("/blob/path") && (isWrong("/model") || isWrong("/version")));
  const reported = found
    .filter((problem) => !isReported(problem))
    .map(({ pointer, message }) => {
      const bound = pointer.startsWith("/verification/")
        ? flagUnder(flagAt, pointer.slice("/verification".length))
        : undefined;
      const [, flag] = FLAG_OF.find(([where]) => where.test(pointer)) ?? [];
      return sentence(bound ?? flag ?? `spec${dotted(pointer)}`, message);
    });
  return [...new Set(reported)];
}

const FLAG_OF: readonly (readonly [RegExp, string])[] = [
  [/^\/model$/, "--model"],
  [/^\/version$/, "--version"],
  [/\/blob\/container$/, "--container"],
  [/^\/verification\/golden\/blob\/path$/, "--golden-path"],
  [/\/blob\/path$/, "--path"],
  [/\/deviceClasses/, "--device-class"],
  [/^\/variants/, "--variant"],
  [/^\/verification(\/golden)?$/, "--golden"],
  [/^\/verification\/parity/, "--parity-with"],
  [/^$/, "--device-class"],
];
