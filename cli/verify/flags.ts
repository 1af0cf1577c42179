import {
  type Arguments,
  allFlags,
  type FlagGroups,
  flagsHelp,
  HELP,
  readFlags,
} from "../../src/base/flags.ts";
import { own } from "../../src/base/lookup.ts";
import { bytesOf } from "../../src/base/quantity.ts";
import { BOUND_FLAGS } from "../spec/bounds.ts";

export const OUTPUTS = ["text", "json", "yaml", "junit"] as const;
export type Output = (typeof OUTPUTS)[number];

export type Format = Output | "html";

/** Formats of `--report`, by the end of the file's name. */
const REPORTS: Readonly<Record<string, Format>> = {
  html: "html",
  json: "json",
  yaml: "yaml",
  yml: "yaml",
  xml: "junit",
  txt: "text",
};

export const VERIFY_FLAGS: FlagGroups = {
  "What is verified, and against what": {
    checks: { value: "FILE", help: "bounds: spec.verification, or a manifest that has it, as YAML or JSON" },
    release: {
      value: "FILE",
      help: "a ModelRelease: its bounds, digests and, where they lie beside it, its files",
    },
    variant: { value: "NAME", help: "which variant of --release (default: the only one)" },
    golden: {
      value: "FILE",
      help: "known answers: an .npz of inputs, labels and output:NAME, or ONNX test data",
    },
    reference: { value: "FILE", help: "model to compare with, as parity does" },
    "variant-reference": { value: "FILE", help: "model to compare with, as variantParity does" },
    digest: { value: "DIGEST", help: "what the model's sha256 must be" },
  },
  ...BOUND_FLAGS,
  "What a model may take": {
    ...BOUND_FLAGS["What a model may take"],
    "memory-limit": { value: "SIZE", help: "memory the model may use, at least 128Mi (default 2Gi)" },
  },
  "What is told, and where": {
    output: { value: OUTPUTS.join("|"), help: "what goes to stdout (default text)", short: "o" },
    report: {
      value: "FILE",
      help: "write a report too: .html, .json, .yaml, .xml (JUnit) or .txt",
      repeats: true,
    },
    quiet: { value: null, help: "no progress", short: "q" },
    help: HELP,
  },
};

export type VerifyOptions = {
  readonly args: Arguments;
  readonly model: string | null;
  readonly memoryBytes: number;
  readonly output: Output;
  readonly reports: readonly { readonly file: string; readonly format: Format }[];
  readonly quiet: boolean;
  readonly one: (flag: string) => string | null;
};

const LEAST_MEMORY = 128 * 2 ** 20;

/** What the command line says by itself, and everything that is wrong with it. */
export function readVerifyFlags(args: readonly string[]): {
  readonly options: VerifyOptions;
  readonly problems: readonly string[];
} {
  const given = readFlags(args, allFlags(VERIFY_FLAGS));
  const problems = [...given.problems];
  const one = (flag: string) => given.values.get(flag)?.[0] ?? null;
  const [model = null, ...more] = given.positionals;
  if (more.length > 0) problems.push(`one model at a time, and there is more: ${more.join(", ")}`);
  if (model === null && one("release") === null)
    problems.push("say which model: edgefleet verify MODEL.onnx, or --release FILE");
  if (one("checks") !== null && one("release") !== null)
    problems.push("--checks and --release both say what good means: give one of them");
  if (one("variant") !== null && one("release") === null) problems.push("--variant needs --release");
  const memory = one("memory-limit") ?? "2Gi";
  const memoryBytes = bytesOf(memory) ?? 0;
  if (memoryBytes < LEAST_MEMORY)
    problems.push(`--memory-limit must be a size of at least 128Mi, such as 512Mi or 2Gi`);
  const wanted = one("output") ?? "text";
  const output = OUTPUTS.find((known) => known === wanted);
  if (output === undefined) problems.push(`--output must be one of ${OUTPUTS.join(", ")}`);
  const reports = (given.values.get("report") ?? []).map((file) => {
    const format = own(REPORTS, /\.([a-z]+)$/i.exec(file)?.[1]?.toLowerCase() ?? "");
    if (format === undefined)
      problems.push(
        `--report ${file}: the name must end in .html, .json, .yaml, .xml or .txt, which says its format`,
      );
    return { file, format: format ?? "text" };
  });
  const quiet = given.values.has("quiet");
  return {
    options: { args: given, model, memoryBytes, output: output ?? "text", reports, quiet, one },
    problems,
  };
}

export function verifyHelp(): string {
  return [
    "usage: edgefleet verify MODEL.onnx [flags]",
    "       edgefleet verify --release MANIFEST.yaml [--variant NAME] [MODEL.onnx] [flags]",
    "",
    "Makes the checks of a ModelRelease on this machine, in the process and within the limits of the verifier of the",
    "operator: digest and load always, the rest as far as a file or a flag gives a bound. Files are read where they are",
    "and never changed. Flags win over a file.",
    "",
    "examples:",
    "  edgefleet verify model.onnx --golden golden.npz --minimum-accuracy 0.95 --p95 20ms",
    "  edgefleet verify model.onnx --checks verification.yaml --golden golden.npz",
    "  edgefleet verify --release release.yaml --variant fp32 --output junit > report.xml",
    "  edgefleet verify int8.onnx --reference fp32.onnx --golden golden.npz --minimum-agreement 0.98",
    "",
    ...flagsHelp(VERIFY_FLAGS),
    "exit status: 0 every check passed, 1 the model failed, 2 a flag, a file that was given or a golden set is wrong, or",
    "does not fit, 3 there is no verdict for a reason that is not the model's, 130 Ctrl-C",
    "",
  ].join("\n");
}
