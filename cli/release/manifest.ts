import { basename } from "node:path";
import { Document, isCollection, isMap, isNode, visit } from "yaml";
import { GROUP, VERSION } from "../../src/api/resource.ts";
import type { JsonObject } from "../json-pointer.ts";
import type { LocalFile } from "../verify/local-files.ts";
import { isPlainText } from "../yaml/is-plain-text.ts";
import type { ReleaseOptions } from "./flags.ts";

export type VariantFile = {
  readonly name: string;
  readonly file: LocalFile;
  /** In the container. */
  readonly path: string;
  readonly deviceClasses: readonly string[];
};

/** In the order of the manifest. */
const CHECKS: readonly string[] = [
  "signature",
  "golden",
  "determinism",
  "parity",
  "latency",
  "throughput",
  "memory",
  "timeout",
];

/** Checks that are not listed come last: nothing that was asked for is left out. */
function placeOf(check: string): number {
  const place = CHECKS.indexOf(check);
  return place < 0 ? CHECKS.length : place;
}

/** A ModelRelease as YAML, with comments for its reader. */
export function manifestText(
  options: ReleaseOptions,
  about: {
    readonly variants: readonly VariantFile[];
    readonly golden: LocalFile | null;
    readonly verification: JsonObject;
  },
): string {
  const { model, version, name, namespace, container } = options;
  const { variants, golden, verification } = about;
  const checks = Object.fromEntries(
    Object.entries(verification).sort(([one], [other]) => placeOf(one) - placeOf(other)),
  );
  const document = new Document({
    apiVersion: `${GROUP}/${VERSION}`,
    kind: "ModelRelease",
    metadata: { name, ...(namespace === null ? {} : { namespace }) },
    spec: {
      model,
      version,
      variants: variants.map((variant) => ({
        name: variant.name,
        ...(variant.deviceClasses.length === 0 ? {} : { deviceClasses: variant.deviceClasses }),
        blob: { container, path: variant.path },
        digest: variant.file.digest,
      })),
      ...(Object.keys(checks).length === 0 ? {} : { verification: checks }),
    },
  });
  document.commentBefore =
    " A release is immutable: another file, or another bound, is a new object with a new version.\n Its files must be in the store before it is applied.";
  const say = (path: readonly (string | number)[], text: string) => {
    const node = document.getIn(path, true);
    if (isNode(node)) node.comment = ` ${text}`;
  };
  for (const [index, { file, deviceClasses }] of variants.entries()) {
    say(["spec", "variants", index, "digest"], `of ${printableName(file)}, ${file.sizeBytes} bytes`);
    if (deviceClasses.length === 0 && variants.length > 1)
      say(["spec", "variants", index, "name"], "for every class of devices that no other variant names");
  }
  if (golden !== null)
    say(
      ["spec", "verification", "golden", "digest"],
      `of ${printableName(golden)}, ${golden.sizeBytes} bytes`,
    );
  for (const side of ["inputs", "outputs"]) {
    const tensors = document.getIn(["spec", "verification", "signature", side], true);
    if (isCollection(tensors))
      for (const tensor of tensors.items) if (isCollection(tensor)) tensor.flow = true;
  }
  const asked = document.getIn(["spec", "verification"], true);
  const signature = isMap(asked)
    ? asked.items.find(({ key }) => String(key) === "signature")?.key
    : undefined;
  if (isNode(signature))
    signature.commentBefore = " As ONNX Runtime reports it; a name in a shape is an axis of any size.";
  const missing = ["golden", "latency", "memory"].filter((check) => !Object.hasOwn(checks, check));
  if (missing.length > 0)
    document.comment = ` Not asked for: ${missing.join(", ")}. kubectl explain modelrelease.spec.verification lists all of them.`;
  visit(document, {
    Scalar: (_, scalar) => {
      if (typeof scalar.value === "string" && !isPlainText(scalar.value)) scalar.type = "QUOTE_DOUBLE";
    },
  });
  // Without folding: what a line break in quotes means depends on the version of YAML.
  return escaped(document.toString({ lineWidth: 0, flowCollectionPadding: false }));
}

/** Inside quotes, where they are alone, characters that YAML 1.1 takes for line breaks or does not take at all. */
function escaped(text: string): string {
  return text.replaceAll(
    /[\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** A file's name goes into a comment: on one line. */
function printableName({ path }: LocalFile): string {
  return basename(path).replaceAll(/[\p{C}\p{Zl}\p{Zp}]/gu, "?");
}
