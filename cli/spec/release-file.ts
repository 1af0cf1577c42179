import { dirname, join } from "node:path";
import {
  type BlobReference,
  type ModelReleaseSpec,
  modelReleaseSpecSchema,
  modelReleaseStatusSchema,
} from "../../src/api/model-release.ts";
import { GROUP, VERSION } from "../../src/api/resource.ts";
import { suggestion } from "../../src/base/flags.ts";
import { err, ok, type Result } from "../../src/base/result.ts";
import { isObject, type Json, type JsonObject, pointerTo } from "../json-pointer.ts";
import type { YamlDocument } from "../yaml/documents.ts";
import { type Problem, problemsIn, sentence, unknownFieldsIn, withDefaults } from "./check.ts";
import { objectMetaProblems } from "./object-meta-problems.ts";

/** A ModelRelease as a file has it. */
export type ReleaseFile = {
  readonly file: string;
  readonly name: string;
  readonly metadata: JsonObject;
  readonly spec: ModelReleaseSpec;
  readonly placeOf: YamlDocument["placeOf"];
};

const API_VERSION = `${GROUP}/${VERSION}`;

export function isManifest({ value }: YamlDocument): boolean {
  return isObject(value) && (Object.hasOwn(value, "kind") || Object.hasOwn(value, "apiVersion"));
}

const KIND = "ModelRelease";

/** The one ModelRelease among the documents of a file, as the API server would store it; or every mistake in it. */
export function releaseIn(
  file: string,
  documents: readonly YamlDocument[],
): Result<ReleaseFile, readonly string[]> {
  const objects = documents.flatMap(objectsIn);
  const releases = objects.filter(({ value }) => isObject(value) && value["kind"] === KIND);
  const [document, second] = releases;
  if (document === undefined)
    return err([`${file}: there is no ModelRelease in it, but ${kindsText(objects)}`]);
  if (second !== undefined)
    return err([
      `${file}: there are ${releases.length} ModelReleases in it (${releases.map(nameOf).join(", ")}); keep the one to verify in a file of its own`,
    ]);
  const { placeOf } = document;
  const manifest = withDefaults({}, document.value) as JsonObject;
  const metadata = manifest["metadata"] ?? {};
  const spec = withDefaults(modelReleaseSpecSchema, manifest["spec"] ?? {});
  const problems = [
    ...frameProblems(manifest),
    ...objectMetaProblems(metadata).map(inField("/metadata")),
    ...problemsIn(modelReleaseSpecSchema, spec).map(inField("/spec")),
    ...unknownFieldsIn(modelReleaseStatusSchema, manifest["status"] ?? {}).map(inField("/status")),
  ].map(({ pointer, message }) => `${placeOf(pointer)}: ${sentence(dotted(pointer).slice(1), message)}`);
  if (problems.length > 0) return err(problems);
  return ok({
    file,
    name: nameOf(document),
    metadata: isObject(metadata) ? metadata : {},
    spec: spec as unknown as ModelReleaseSpec,
    placeOf,
  });
}

function inField(field: string): (problem: Problem) => Problem {
  return ({ pointer, message }) => ({ pointer: `${field}${pointer}`, message });
}

function frameProblems(manifest: JsonObject): readonly Problem[] {
  const wrongVersion =
    manifest["apiVersion"] === API_VERSION
      ? []
      : [{ pointer: "/apiVersion", message: `must be ${API_VERSION}` }];
  const known = ["apiVersion", "kind", "metadata", "spec", "status"];
  const unknown = Object.keys(manifest)
    .filter((key) => !known.includes(key))
    .map((key) => ({ pointer: pointerTo("", key), message: `is not a field${suggestion(key, known)}` }));
  return [...wrongVersion, ...unknown];
}

/** A document, or the objects of a list of them, as kubectl takes lists apart. */
function objectsIn(document: YamlDocument): readonly YamlDocument[] {
  const { value, placeOf } = document;
  const items = isObject(value) ? value["items"] : undefined;
  if (!isObject(value) || !Array.isArray(items) || !isList(value)) return [document];
  // The list of one kind says of each item what it is.
  const frame = value["kind"] === "List" ? {} : { apiVersion: API_VERSION, kind: KIND };
  return items.flatMap((item: Json, index) =>
    objectsIn({
      value: isObject(item) ? { ...frame, ...item } : item,
      placeOf: (pointer) => placeOf(`/items/${index}${pointer}`),
    }),
  );
}

function isList({ apiVersion, kind }: JsonObject): boolean {
  return (apiVersion === "v1" && kind === "List") || (apiVersion === API_VERSION && kind === `${KIND}List`);
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
