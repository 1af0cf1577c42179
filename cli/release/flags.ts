import { type Arguments, commandFlags, HELP } from "../../src/base/flags.ts";
import { BOUND_FLAGS } from "../spec/bounds.ts";
import { namespaceFault, objectNameFault } from "../spec/object-meta-problems.ts";

export const RELEASE_FLAGS = commandFlags({
  "What the release is": {
    model: { value: "NAME", help: "name of the model, such as digits" },
    version: { value: "VERSION", help: "its version, such as 2.1.0" },
    name: { value: "NAME", help: "name of the object (default MODEL-VERSION)" },
    namespace: { value: "NAME", help: "its namespace (default: whatever kubectl applies it to)" },
  },
  "Its files, and where they go in the store": {
    variant: {
      value: "NAME=FILE",
      help: "another variant; MODEL.onnx is the one called default",
      repeats: true,
    },
    container: { value: "NAME", help: "blob container (default models)" },
    path: {
      value: "[VARIANT=]PATH",
      help: "path in the container (default MODEL/VERSION/FILE); may be repeated",
      repeats: true,
    },
    "device-class": {
      value: "[VARIANT=]CLASS",
      help: "a class of devices that the variant is for; may be repeated",
      repeats: true,
    },
    golden: { value: "FILE", help: "golden set; needs a bound on golden samples" },
    "parity-with": {
      value: "RELEASE",
      help: "what bounds on a difference compare with (default previous)",
    },
    "golden-path": { value: "PATH", help: "its path in the container (default MODEL/VERSION/FILE)" },
  },
  ...BOUND_FLAGS,
  "Bounds from a measurement": {
    measure: { value: null, help: "run the model here, and bound latency and memory by what was measured" },
    margin: { value: "FACTOR", help: "factor on the measured values (default 2)" },
  },
  "What is written": {
    output: { value: "FILE", help: "file to write (default stdout)", short: "o" },
    force: { value: null, help: "overwrite an existing file" },
    help: HELP,
  },
});

export type ReleaseOptions = {
  readonly args: Arguments;
  readonly model: string;
  readonly version: string;
  readonly name: string;
  readonly namespace: string | null;
  readonly container: string;
  /** File of each variant, by its name. */
  readonly files: readonly { readonly variant: string; readonly file: string }[];
  readonly pathOf: (variant: string) => string | null;
  readonly classesOf: (variant: string) => readonly string[];
  readonly golden: { readonly file: string; readonly path: string | null } | null;
  /** The release that bounds on a difference compare with. */
  readonly parityWith: string | null;
  readonly measure: boolean;
  readonly margin: number;
  readonly output: string | null;
  readonly force: boolean;
};

const DEFAULT_VARIANT = "default";

/** The options of the command line, and every mistake in it. No file is read. */
export function readReleaseFlags(args: readonly string[]): {
  readonly options: ReleaseOptions;
  readonly problems: readonly string[];
} {
  const given = RELEASE_FLAGS.read(args);
  const problems = [...given.problems];
  const all = (flag: string) => given.values.get(flag) ?? [];
  const one = (flag: string) => all(flag)[0] ?? null;
  const needed = (flag: string) => {
    const value = one(flag);
    if (value === null && !problems.some((problem) => problem.startsWith(`--${flag} needs`)))
      problems.push(`--${flag} is needed`);
    return value ?? "";
  };
  const model = needed("model");
  const version = needed("version");
  const [first, ...more] = given.positionals;
  if (more.length > 0)
    problems.push(
      `one MODEL.onnx is the variant ${DEFAULT_VARIANT}: name the others, as in --variant int8=${more[0]}`,
    );
  const files = [
    ...(first === undefined ? [] : [{ variant: DEFAULT_VARIANT, file: first }]),
    ...all("variant").flatMap((written) => {
      const [, variant, file] = /^([^=]+)=(.+)$/.exec(written) ?? [];
      if (variant !== undefined && file !== undefined) return [{ variant, file }];
      problems.push(`--variant ${written}: write it like fp32=model.onnx`);
      return [];
    }),
  ];
  if (files.length === 0 && all("variant").length === 0)
    problems.push("a file is missing: edgefleet release new MODEL.onnx, or --variant NAME=FILE");
  const names = files.map(({ variant }) => variant);
  const twice = names.filter((variant, index) => names.indexOf(variant) !== index);
  for (const variant of new Set(twice)) problems.push(`--variant: there is more than one called ${variant}`);
  const paths = byVariant("path", all("path"), names, problems);
  const classes = byVariant("device-class", all("device-class"), names, problems);
  for (const variant of new Set(names))
    if ((paths.get(variant)?.length ?? 0) > 1) problems.push(`--path: variant ${variant} has more than one`);
  const goldenFile = one("golden");
  const goldenPath = one("golden-path");
  if (goldenFile === null && goldenPath !== null) problems.push("--golden-path needs --golden FILE");
  if (one("margin") !== null && !given.values.has("measure")) problems.push("--margin needs --measure");
  const margin = Number(one("margin") ?? 2);
  if (!(margin >= 1 && margin <= 1000)) problems.push("--margin must be a number from 1 to 1000");
  const name = one("name") ?? `${model}-${version}`.toLowerCase().replaceAll(/[^a-z0-9.-]/g, "-");
  const nameFault = objectNameFault(name);
  if (model !== "" && version !== "" && nameFault !== null) problems.push(`--name ${nameFault}: ${name}`);
  const namespace = one("namespace");
  const fault = namespace === null ? null : namespaceFault(namespace);
  if (fault !== null) problems.push(`--namespace ${fault}: ${namespace}`);
  return {
    options: {
      args: given,
      model,
      version,
      name,
      namespace,
      container: one("container") ?? "models",
      files,
      pathOf: (variant) => paths.get(variant)?.[0] ?? null,
      classesOf: (variant) => classes.get(variant) ?? [],
      golden: goldenFile === null ? null : { file: goldenFile, path: goldenPath },
      parityWith: one("parity-with"),
      measure: given.values.has("measure"),
      margin,
      output: one("output"),
      force: given.values.has("force"),
    },
    problems,
  };
}

/** `fp32=a` is of that variant, `a` alone of the only one, or of the one without a name. */
function byVariant(
  flag: string,
  written: readonly string[],
  names: readonly string[],
  problems: string[],
): ReadonlyMap<string, readonly string[]> {
  const found = new Map<string, string[]>();
  for (const text of written) {
    const at = text.indexOf("=");
    const named = names.find((name) => at > 0 && name === text.slice(0, at));
    const variant = named ?? (names.length === 1 ? names[0] : names.find((name) => name === DEFAULT_VARIANT));
    if (variant === undefined) {
      problems.push(`--${flag} ${text}: say of which variant, as in ${names[0] ?? "fp32"}=${text}`);
      continue;
    }
    const known = found.get(variant) ?? [];
    found.set(variant, [...known, named === undefined ? text : text.slice(at + 1)]);
  }
  return found;
}

export function releaseHelp(): string {
  return [
    "usage: edgefleet release new MODEL.onnx --model NAME --version VERSION [flags]",
    "       edgefleet release new --variant fp32=A.onnx --variant int8=B.onnx --model NAME --version VERSION [flags]",
    "",
    "Writes the manifest of a ModelRelease: digests of the files, the signature that ONNX Runtime reports, bounds from flags.",
    "A golden set that does not fit the model is refused.",
    "",
    "examples:",
    "  edgefleet release new model.onnx --model digits --version 2.1.0 --p95 20ms -o release.yaml",
    "  edgefleet release new model.onnx --model digits --version 2.1.0 --golden golden.npz --minimum-accuracy 0.95",
    "  edgefleet release new --variant fp32=a.onnx --variant int8=b.onnx --device-class int8=jetson-nano \\",
    "    --model digits --version 2.1.0 --measure",
    "",
    ...RELEASE_FLAGS.help(),
    "exit status: 0 written, 1 a model could not be loaded or measured, 2 a flag or an input file is wrong,",
    "3 it could not be written or measured, 130 Ctrl-C",
    "",
  ].join("\n");
}
