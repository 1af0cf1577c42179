import { type Arguments, commandFlags, HELP } from "../../src/base/flags.ts";
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

export const VERIFY_FLAGS = commandFlags({
  "What is verified, and against what": {
    checks: { value: "FILE", help: "bounds: spec.verification, or a manifest that has it, as YAML or JSON" },
    release: {
      value: "FILE",
      help: "a ModelRelease: its bounds, its digests and, if they are next to it, its files",
    },
    variant: { value: "NAME", help: "which variant of --release (default: the only one)" },
    golden: {
      value: "FILE",
      help: "known answers: an .npz of inputs, labels and output:NAME, or ONNX test data",
    },
    reference: { value: "FILE", help: "model to compare with, as parity does" },
    "variant-reference": { value: "FILE", help: "model to compare with, as variantParity does" },
    digest: { value: "DIGEST", help: "expected SHA-256 of the model" },
  },
  ...BOUND_FLAGS,
  "What a model may take": {
    ...BOUND_FLAGS["What a model may take"],
    "memory-limit": { value: "SIZE", help: "memory the model may use, at least 128Mi (default 2Gi)" },
  },
  Output: {
    output: { value: OUTPUTS.join("|"), help: "what goes to stdout (default text)", short: "o" },
    report: {
      value: "FILE",
      help: "also write a report: .html, .json, .yaml, .xml (JUnit) or .txt",
      repeats: true,
    },
    quiet: { value: null, help: "no progress", short: "q" },
    help: HELP,
  },
});

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

/** The options of the command line, and every mistake in it. No file is read. */
export function readVerifyFlags(args: readonly string[]): {
  readonly options: VerifyOptions;
  readonly problems: readonly string[];
} {
  const given = VERIFY_FLAGS.read(args);
  const problems = [...given.problems];
  const one = (flag: string) => given.values.get(flag)?.[0] ?? null;
  const [model = null, ...more] = given.positionals;
  if (more.length > 0) problems.push(`only one model at a time, unexpected: ${more.join(", ")}`);
  if (model === null && one("release") === null)
    problems.push("a model is missing: edgefleet verify MODEL.onnx, or --release FILE");
  if (one("checks") !== null && one("release") !== null)
    problems.push("--checks and --release both set the bounds: give only one of them");
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
    "Runs the checks of a ModelRelease on this machine, in the same process and within the same limits as the operator's",
    "verifier: Digest and Load always, the others where a file or a flag sets a bound. Files are read in place and never",
    "changed. Flags override files.",
    "",
    "examples:",
    "  edgefleet verify model.onnx --golden golden.npz --minimum-accuracy 0.95 --p95 20ms",
    "  edgefleet verify model.onnx --checks verification.yaml --golden golden.npz",
    "  edgefleet verify --release release.yaml --variant fp32 --output junit > report.xml",
    "  edgefleet verify int8.onnx --reference fp32.onnx --golden golden.npz --minimum-agreement 0.98",
    "",
    ...VERIFY_FLAGS.help(),
    "exit status: 0 every check passed, 1 the model failed, 2 a flag, an input file or a golden set is wrong, or",
    "does not fit, 3 there is no verdict for a reason that is not the model's, 130 Ctrl-C",
    "",
  ].join("\n");
}
