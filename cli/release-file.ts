import { dirname, join } from "node:path";
import {
  type BlobReference,
  type ModelReleaseSpec,
  modelReleaseSpecSchema,
} from "../src/api/model-release.ts";
import { GROUP, VERSION } from "../src/api/resource.ts";
import { err, ok, type Result } from "../src/base/result.ts";
import { suggestion } from "./command-line.ts";
import { isObject, type Json, type JsonObject } from "./json-pointer.ts";
import { problemsIn, sentence, withDefaults } from "./spec-check.ts";
import type { YamlDocument } from "./yaml-file.ts";

/** A ModelRelease as a file has it. */
export type ReleaseFile = {
  readonly file: string;
  readonly name: string;
  readonly spec: ModelReleaseSpec;
  readonly placeOf: YamlDocument["placeOf"];
};

const API_VERSION = `${GROUP}/${VERSION}`;

export function isManifest({ value }: YamlDocument): boolean {
  return isObject(value) && (Object.hasOwn(value, "kind") || Object.hasOwn(value, "apiVersion"));
}

/** The one ModelRelease among the documents of a file, as the API server would store it; or every mistake in it. */
export function releaseIn(
  file: string,
  documents: readonly YamlDocument[],
): Result<ReleaseFile, readonly string[]> {
  const releases = documents.filter(({ value }) => isObject(value) && value["kind"] === "ModelRelease");
  const [document, second] = releases;
  if (document === undefined)
    return err([`${file}: there is no ModelRelease in it, but ${kindsText(documents)}`]);
  if (second !== undefined)
    return err([
      `${file}: there are ${releases.length} ModelReleases in it (${releases.map(nameOf).join(", ")}); keep the one to verify in a file of its own`,
    ]);
  const { placeOf } = document;
  const manifest = withDefaults({}, document.value) as JsonObject;
  const problems: string[] = [];
  if (manifest["apiVersion"] !== API_VERSION)
    problems.push(`${placeOf("/apiVersion")}: apiVersion must be ${API_VERSION}`);
  const known = ["apiVersion", "kind", "metadata", "spec", "status"];
  for (const key of Object.keys(manifest))
    if (!known.includes(key))
      problems.push(`${placeOf(`/${key}`)}: ${key} is not a field${suggestion(key, known)}`);
  const spec = withDefaults(modelReleaseSpecSchema, manifest["spec"] ?? {});
  for (const { pointer, message } of problemsIn(modelReleaseSpecSchema, spec))
    problems.push(`${placeOf(`/spec${pointer}`)}: ${sentence(`spec${dotted(pointer)}`, message)}`);
  if (problems.length > 0) return err(problems);
  return ok({
    file,
    name: nameOf(document),
    spec: spec as unknown as ModelReleaseSpec,
    placeOf,
  });
}

/** `/golden/minimumAccuracy` → `.golden.minimumAccuracy`, `/variants/0` → `.variants[0]`. */
export function dotted(pointer: string): string {
  return pointer
    .split("/")
    .slice(1)
    .map((key) => (/^[0-9]+$/.test(key) ? `[${key}]` : `.${key.replaceAll("~1", "/").replaceAll("~0", "~")}`))
    .join("");
}

/** Where a blob may lie beside a file that names it, the likeliest place first. */
export function placesOf(blob: BlobReference, file: string): readonly string[] {
  const beside = dirname(file);
  const name = blob.path.split("/").at(-1) ?? "";
  return [...new Set([join(beside, blob.container, blob.path), join(beside, blob.path), join(beside, name)])];
}

function nameOf({ value }: YamlDocument): string {
  const metadata: Json | undefined = isObject(value) ? value["metadata"] : undefined;
  const name = isObject(metadata) ? metadata["name"] : undefined;
  return typeof name === "string" ? name : "one without a name";
}

function kindsText(documents: readonly YamlDocument[]): string {
  return documents
    .map(({ value }) =>
      isObject(value) && typeof value["kind"] === "string" ? value["kind"] : "something without a kind",
    )
    .join(", ");
}
