import { basename } from "node:path";
import type { TSchema } from "typebox";
import type { BlobReference, Variant, Verification } from "../../src/api/model-release.ts";
import { verificationSchema } from "../../src/api/verification-spec.ts";
import { type Digest, parseDigest } from "../../src/base/digest.ts";
import { own } from "../../src/base/lookup.ts";
import { err, ok, type Result } from "../../src/base/result.ts";
import type { Reference, ReportSubject, VerifyRequest } from "../../src/verification/verification.ts";
import { isObject, type Json, type JsonObject } from "../json-pointer.ts";
import { overlay } from "../spec/bounds.ts";
import { problemsIn, sentence, withDefaults } from "../spec/check.ts";
import { dotted, isManifest, placesOf, type ReleaseFile, releaseIn } from "../spec/release-file.ts";
import type { YamlDocument, YamlDocuments } from "../yaml/documents.ts";
import type { VerifyOptions } from "./flags.ts";
import type { LocalFile, LocalFiles } from "./local-files.ts";

/** What is verified, and its title in reports. */
export type VerifyPlan = {
  readonly request: VerifyRequest;
  readonly title: string;
  readonly about: ReportSubject;
  /** Notes on how the files were read. */
  readonly notes: readonly string[];
};

/** Checks of a file: where each value stands, and where the files lie that it names. */
type Checks = {
  readonly verification: Json;
  readonly placeOf: YamlDocument["placeOf"] | null;
  readonly file: string | null;
  readonly notes: readonly string[];
};

/** Reads the files that the flags name; reports every mistake in them at once. */
export async function planVerification(
  options: VerifyOptions,
  files: LocalFiles,
  signal: AbortSignal,
): Promise<Result<VerifyPlan, readonly string[]>> {
  const problems: string[] = [];
  const read = await readRelease(options);
  if (!read.ok) return read;
  const release = ok(read.value?.release ?? null);
  const variant = release.value === null ? null : chooseVariant(release.value, options, problems);
  const checks = await readChecks(options, release.value);
  if (!checks.ok) return err([...problems, ...checks.error]);
  const verification = withFlags(options, checks.value, problems);
  const take = takeFiles(files, problems, signal);

  const model =
    options.model === null
      ? await take.beside(
          "the model",
          variant?.blob ?? null,
          release.value?.file ?? null,
          "give it as MODEL.onnx",
        )
      : await take.given("", options.model);
  const golden = await goldenFile(options, verification, checks.value, { problems, take });
  const parity = await referenceFile(options, "reference", take);
  const variantParity = await variantReference(options, {
    verification,
    release: release.value,
    variant,
    take,
  });
  const digest = expectedDigest(options, variant, problems);
  if (problems.length > 0 || model === null) return err(problems);

  const named = release.value === null ? "" : ` (${release.value.name}, variant ${variant?.name})`;
  return ok({
    title: `${model.path}${named}`,
    notes: [...(read.value?.notes ?? []), ...checks.value.notes],
    about: {
      namespace: null,
      release: release.value?.name ?? null,
      model: release.value?.spec.model ?? basename(model.path),
      version: release.value?.spec.version ?? "",
      variant: variant?.name ?? "",
      path: model.path,
      asked: verification as unknown as Verification,
      comparedWith: null,
    },
    request: {
      tenant: "",
      model: { ...model, digest: digest ?? model.digest },
      golden: golden.file === null ? null : { ...golden.file, digest: golden.expected ?? golden.file.digest },
      parity,
      variantParity,
      checks: verification as unknown as Verification,
    },
  });
}

/** Loads the parser only when there is a file to read. */
async function readYaml(file: string): Promise<Result<YamlDocuments, readonly string[]>> {
  const { readYamlFile } = await import("../yaml/file.ts");
  return readYamlFile(file);
}

type ReadRelease = { readonly release: ReleaseFile; readonly notes: readonly string[] };

async function readRelease({ one }: VerifyOptions): Promise<Result<ReadRelease | null, readonly string[]>> {
  const file = one("release");
  if (file === null) return ok(null);
  const read = await readYaml(file);
  if (!read.ok) return read;
  const release = releaseIn(file, read.value.documents);
  return release.ok ? ok({ release: release.value, notes: read.value.notes }) : release;
}

async function readChecks(
  { one }: VerifyOptions,
  release: ReleaseFile | null,
): Promise<Result<Checks, readonly string[]>> {
  const file = one("checks");
  if (release !== null) return ok(checksOf(release, []));
  if (file === null) return ok({ verification: {}, placeOf: null, file: null, notes: [] });
  const read = await readYaml(file);
  if (!read.ok) return read;
  const { documents, notes } = read.value;
  const [document] = documents;
  if (documents.some(isManifest)) {
    const found = releaseIn(file, documents);
    return found.ok ? ok(checksOf(found.value, notes)) : found;
  }
  if (document === undefined || documents.length > 1)
    return err([`${file}: there are ${documents.length} documents in it, and checks are one`]);
  if (!isObject(document.value))
    return err([`${document.placeOf("")}: checks are fields, such as timeout and golden`]);
  return ok({ verification: document.value, placeOf: document.placeOf, file, notes });
}

function checksOf({ spec, placeOf, file }: ReleaseFile, notes: readonly string[]): Checks {
  return {
    verification: (spec.verification ?? {}) as Json,
    placeOf: (pointer) => placeOf(`/spec/verification${pointer}`),
    file,
    notes,
  };
}

function chooseVariant(
  { spec, file }: ReleaseFile,
  { one }: VerifyOptions,
  problems: string[],
): Variant | null {
  const wanted = one("variant");
  const names = spec.variants.map(({ name }) => name).join(", ");
  const [only, second] = spec.variants;
  if (wanted === null && second !== undefined) {
    problems.push(`${file}: there are several variants: choose one with --variant: ${names}`);
    return null;
  }
  const found = wanted === null ? only : spec.variants.find(({ name }) => name === wanted);
  if (found === undefined) problems.push(`--variant ${wanted}: ${file} has ${names}`);
  return found ?? null;
}

/** In the checks of a file, a golden set needs neither blob nor digest: it is given beside them. */
const CHECKS_SCHEMA = ((): TSchema => {
  const { golden } = verificationSchema.properties;
  return {
    ...verificationSchema,
    properties: { ...verificationSchema.properties, golden: { ...golden, required: [] } },
  } as TSchema;
})();

const FILE_FLAGS: Readonly<Record<string, string>> = {
  golden: "golden",
  parity: "reference",
  variantParity: "variant-reference",
};

/** Bounds of the flags over those of the file, with all defaults; mistakes are reported where they were written. */
function withFlags(
  options: VerifyOptions,
  { verification, placeOf }: Checks,
  problems: string[],
): JsonObject {
  const merged = overlay(options.args, verification);
  const given = isObject(merged.verification) ? merged.verification : {};
  const started: Record<string, Json> = { ...given };
  if (options.one("golden") !== null) started["golden"] = given["golden"] ?? {};
  if (options.one("reference") !== null)
    started["parity"] = { with: "reference", ...(isObject(given["parity"]) ? given["parity"] : {}) };
  const complete = withDefaults(CHECKS_SCHEMA, started);
  const inFile = (pointer: string) => isInside(verification, pointer);
  const flagged = (pointer: string) =>
    [...merged.flagAt]
      .filter(([at]) => at === pointer || at.startsWith(`${pointer}/`))
      .map(([, flag]) => flag);
  for (const { pointer, message } of problemsIn(CHECKS_SCHEMA, complete)) {
    // Only a golden set that nothing uses is a mistake of all checks together. Where there is none, that is reported.
    if (pointer === "" && options.one("golden") === null && !inFile("/golden")) continue;
    const [flag] = pointer === "" ? ["--golden"] : flagged(pointer);
    const part = pointer.split("/")[1] ?? "";
    if (merged.flagAt.has(pointer)) problems.push(sentence(flag ?? pointer, message));
    else if (placeOf !== null && inFile(pointer))
      problems.push(`${placeOf(pointer)}: ${sentence(dotted(pointer).slice(1) || "this", message)}`);
    else if (part === "parity" && options.one("reference") === null)
      problems.push(`${flag ?? "parity"} needs --reference FILE`);
    else problems.push(sentence(flag ?? `--${own(FILE_FLAGS, part) ?? part}`, message));
  }
  return isObject(complete) ? complete : {};
}

function isInside(root: Json, pointer: string): boolean {
  let value: Json | undefined = root;
  for (const key of pointer.split("/").slice(1)) {
    if (Array.isArray(value)) value = value[Number(key)];
    else value = isObject(value) && Object.hasOwn(value, key) ? own(value, key) : undefined;
    if (value === undefined) return false;
  }
  return true;
}

type Take = {
  /** @param flag empty for the model. */
  readonly given: (flag: string, path: string) => Promise<LocalFile | null>;
  readonly beside: (
    what: string,
    blob: BlobReference | null,
    file: string | null,
    instead: string,
  ) => Promise<LocalFile | null>;
};

function takeFiles(files: LocalFiles, problems: string[], signal: AbortSignal): Take {
  return {
    given: async (flag, path) => {
      const taken = await files.take(path, signal);
      if (taken.ok) return taken.value;
      problems.push(`${flag === "" ? "" : `--${flag} `}${path}: ${taken.error}`);
      return null;
    },
    beside: async (what, blob, file, instead) => {
      if (blob === null || file === null) return null;
      const places = placesOf(blob, file);
      for (const place of places) {
        const taken = await files.take(place, signal);
        if (taken.ok) return taken.value;
      }
      problems.push(`${what} is not beside ${file} (looked for ${places.join(", ")}): ${instead}`);
      return null;
    },
  };
}

type Golden = { readonly file: LocalFile | null; readonly expected: Digest | null };

async function goldenFile(
  options: VerifyOptions,
  { golden: wanted }: JsonObject,
  { file }: Checks,
  { problems, take }: { readonly problems: string[]; readonly take: Take },
): Promise<Golden> {
  const path = options.one("golden");
  if (!isObject(wanted)) return { file: null, expected: null };
  const expected = typeof wanted["digest"] === "string" ? parseDigest(wanted["digest"]) : null;
  if (path !== null) return { file: await take.given("golden", path), expected };
  const blob = wanted["blob"];
  if (isObject(blob) && typeof blob["path"] === "string" && typeof blob["container"] === "string")
    return {
      file: await take.beside(
        "the golden set",
        { path: blob["path"], container: blob["container"] },
        file,
        "give it with --golden FILE",
      ),
      expected,
    };
  problems.push("a bound on golden samples needs --golden FILE");
  return { file: null, expected };
}

async function referenceFile(
  options: VerifyOptions,
  flag: "reference" | "variant-reference",
  take: Take,
): Promise<Reference | null> {
  const path = options.one(flag);
  if (path === null) return null;
  const taken = await take.given(flag, path);
  return taken === null ? null : { ...taken, name: basename(path) };
}

/** The variant that all others are compared with; `null` for that one itself, and where its file is not given. */
async function variantReference(
  options: VerifyOptions,
  about: {
    readonly verification: JsonObject;
    readonly release: ReleaseFile | null;
    readonly variant: Variant | null;
    readonly take: Take;
  },
): Promise<Reference | null> {
  const { verification, release, variant, take } = about;
  if (options.one("variant-reference") !== null) return referenceFile(options, "variant-reference", take);
  const wanted = verification["variantParity"];
  const name = isObject(wanted) ? wanted["reference"] : undefined;
  const reference = release?.spec.variants.find((one) => one.name === name);
  if (release === null || reference === undefined || reference.name === variant?.name) return null;
  const what = `variant ${reference.name}, which variantParity compares with,`;
  const instead = "give it with --variant-reference FILE";
  const taken = await take.beside(what, reference.blob, release.file, instead);
  return taken === null ? null : { ...taken, digest: reference.digest, name: `variant ${reference.name}` };
}

function expectedDigest({ one }: VerifyOptions, variant: Variant | null, problems: string[]): Digest | null {
  const written = one("digest");
  if (written === null) return variant?.digest ?? null;
  const digest = parseDigest(written);
  if (digest === null)
    problems.push(
      "--digest must be sha256: and 64 lower-case hexadecimal digits; sha256sum FILE prints them",
    );
  return digest;
}
