import { closeSync, openSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { modelReleaseSpecSchema, verificationSchema } from "../src/api/model-release.ts";
import { err, ok, type Result } from "../src/base/result.ts";
import { bytesInFile } from "../src/verifier/byte-source.ts";
import { signatureDifferences } from "../src/verifier/checks.ts";
import { type OnnxFile, readOnnxFile } from "../src/verifier/onnx-file.ts";
import type { TensorInfo } from "../src/verifier/tensor.ts";
import { overlay } from "./bounds.ts";
import { suggestion } from "./command-line.ts";
import { fileFault } from "./file-fault.ts";
import { isObject, type Json, type JsonObject } from "./json-pointer.ts";
import { type LocalFile, localFiles } from "./local-files.ts";
import { measureModels } from "./measure-models.ts";
import { dotted } from "./release-file.ts";
import { type ReleaseOptions, readReleaseFlags, releaseHelp } from "./release-flags.ts";
import { manifestText, type VariantFile } from "./release-manifest.ts";
import { type Problem, problemsIn, sentence, withDefaults } from "./spec-check.ts";
import type { Terminal } from "./terminal.ts";
import { complain, EXIT } from "./verify-command.ts";

/** `edgefleet release new`: answers with the exit status. */
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
        ? "say what to do: edgefleet release new"
        : `release ${verb} is no command${suggestion(verb, ["new"])}`;
    return complain([problem], terminal, "release");
  }
  const { options, problems } = readReleaseFlags(rest);
  if (options.args.values.has("help")) {
    terminal.out(releaseHelp());
    return EXIT.passed;
  }
  const release = await describe(options, [...problems], signal);
  if (signal.aborted) return EXIT.environment;
  if (!release.ok) return complain(release.error, terminal, "release new");
  const { variants, notes } = release.value;
  let { verification } = release.value;
  if (options.measure) {
    const measured = await measureModels(variants, { verification, margin: options.margin }, signal);
    if (!measured.ok) {
      terminal.err(`${measured.error.message}\n`);
      return measured.error.failed ? EXIT.failed : EXIT.environment;
    }
    verification = measured.value;
  }
  const text = manifestText(options, { ...release.value, verification });
  for (const note of notes) terminal.err(`${note}\n`);
  return write(text, options, terminal);
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
    const exists =
      typeof thrown === "object" && thrown !== null && "code" in thrown && thrown.code === "EEXIST";
    const hint = exists ? "; --force writes over it" : "";
    terminal.err(`--output ${output}: ${fileFault(thrown)}${hint}\n`);
    return exists ? EXIT.usage : EXIT.environment;
  }
}

type Described = {
  readonly variants: readonly VariantFile[];
  readonly golden: LocalFile | null;
  readonly verification: JsonObject;
  /** What a person should know beyond the manifest. */
  readonly notes: readonly string[];
};

/** Reads the files and checks that a release can be made of them; every mistake is told at once. */
async function describe(
  options: ReleaseOptions,
  problems: string[],
  signal: AbortSignal,
): Promise<Result<Described, readonly string[]>> {
  const files = localFiles();
  const variants: (VariantFile & { readonly header: OnnxFile })[] = [];
  for (const { variant, file } of options.files) {
    const taken = await files.take(file, signal);
    const header = taken.ok ? readHeader(taken.value) : taken;
    if (!taken.ok || !header.ok) {
      problems.push(`${file}: ${header.ok ? "" : header.error}`);
      continue;
    }
    const path = options.pathOf(variant) ?? `${options.model}/${options.version}/${basename(file)}`;
    const deviceClasses = options.classesOf(variant);
    variants.push({ name: variant, file: taken.value, header: header.value, path, deviceClasses });
  }
  const golden = options.golden === null ? null : await files.take(options.golden.file, signal);
  if (golden !== null && !golden.ok) problems.push(`--golden ${options.golden?.file}: ${golden.error}`);
  const { verification, flagAt } = boundsOf(options, golden?.ok === true ? golden.value : null, problems);
  const { signature, notes } = signatureOf(variants);
  const described: Described = {
    variants,
    golden: golden?.ok === true ? golden.value : null,
    verification: { ...(signature === null ? {} : { signature }), ...verification },
    notes,
  };
  problems.push(...problemsOf(options, described, flagAt));
  return problems.length > 0 ? err(problems) : ok(described);
}

function readHeader({ path, sizeBytes }: LocalFile): Result<OnnxFile, string> {
  const descriptor = openSync(path, "r");
  try {
    const header = readOnnxFile(bytesInFile(descriptor, sizeBytes));
    const [external] = header.ok ? header.value.externalTensors : [];
    return external === undefined
      ? header
      : err(
          `tensor "${external}" is kept in another file; a release is one file: save the model without external data`,
        );
  } finally {
    closeSync(descriptor);
  }
}

/** Only what somebody has asked for. */
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

/** What every variant takes and gives, or a note that says why there is no such thing. */
function signatureOf(variants: readonly (VariantFile & { readonly header: OnnxFile })[]): {
  readonly signature: JsonObject | null;
  readonly notes: readonly string[];
} {
  const [first, ...others] = variants;
  if (first === undefined) return { signature: null, notes: [] };
  const side = (infos: readonly TensorInfo[]) =>
    infos.map(({ name, type, shape }) => ({
      name,
      type,
      shape: shape.map((axis) => (axis === "" ? "any" : axis)),
    }));
  const signature = { inputs: side(first.header.inputs), outputs: side(first.header.outputs) };
  const [problem] = problemsIn(verificationSchema.properties.signature, signature);
  if (problem !== undefined)
    return {
      signature: null,
      notes: [
        `no signature, because a release cannot say it: ${sentence(dotted(problem.pointer).slice(1), problem.message)}`,
      ],
    };
  for (const { name, header } of others) {
    const wanted = signature as unknown as Parameters<typeof signatureDifferences>[0];
    const differences = signatureDifferences(wanted, header);
    if (differences.length > 0)
      return {
        signature: null,
        notes: [`no signature: variant ${name} differs from ${first.name}: ${differences.join("; ")}`],
      };
  }
  return { signature, notes: [] };
}

/** What the API server would refuse, told by the flag that has caused it. */
function problemsOf(
  options: ReleaseOptions,
  { variants, verification }: Described,
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
  // What is missing already, and what is made of it, would be told twice.
  const isTold = ({ pointer }: Problem) =>
    (pointer === "/model" && model === "") ||
    (pointer === "/version" && version === "") ||
    (pointer.startsWith("/variants") && variants.length < options.files.length) ||
    (pointer.endsWith("/blob/path") && (isWrong("/model") || isWrong("/version")));
  const told = found
    .filter((problem) => !isTold(problem))
    .map(({ pointer, message }) => {
      const bound = pointer.startsWith("/verification/")
        ? flagUnder(flagAt, pointer.slice("/verification".length))
        : undefined;
      const [, flag] = FLAG_OF.find(([where]) => where.test(pointer)) ?? [];
      return sentence(bound ?? flag ?? `spec${dotted(pointer)}`, message);
    });
  return [...new Set(told)];
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
