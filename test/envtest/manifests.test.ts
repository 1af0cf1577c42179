import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { isObject, type Json, type JsonObject } from "../../cli/json-pointer.ts";
import { releaseIn } from "../../cli/spec/release-file.ts";
import { documentsIn } from "../../cli/yaml/documents.ts";
import { CHOSEN_MANIFESTS, randomManifest } from "../builders/random-manifest.ts";

// What `edgefleet verify --release` reads of a manifest is what kubectl sends and the API server stores: the same files
// are taken, and the same values come out. MANIFESTS=2000 makes more of them, MANIFESTS_SEED repeats a seed that was
// printed.

const COUNT = Number(process.env["MANIFESTS"] ?? 200);
const SEED = Number(process.env["MANIFESTS_SEED"] ?? Math.floor(Math.random() * 1e9));

/** What is compared; `null`: the manifest was refused. */
type Taken = JsonObject | null;

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "edgefleet-manifests-"));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

async function kubectl(...args: readonly string[]): Promise<{ readonly out: string; readonly err: string }> {
  const child = spawn(inject("kubectl"), ["--kubeconfig", inject("kubeconfig"), ...args], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const read = { out: "", err: "" };
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    read.out += chunk;
  });
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    read.err += chunk;
  });
  await new Promise((resolve) => child.once("close", resolve));
  return read;
}

/** Where one file is refused kubectl prints no object at all: those that it names go, and the others are asked again. */
async function takenByKubectl(texts: readonly string[], name: string): Promise<readonly Taken[]> {
  const all = join(directory, name);
  const good = join(directory, `${name}-good`);
  await Promise.all([mkdir(all), mkdir(good)]);
  const files = texts.map((_, index) => `${String(index).padStart(5, "0")}.yaml`);
  await Promise.all(texts.map((text, index) => writeFile(join(all, files[index] ?? ""), text)));
  const first = await apply(all);
  const refused = first.err
    .split("\n")
    .filter((line) => !line.startsWith("Warning:"))
    .join("\n");
  const isGood = files.map((file) => !refused.includes(join(all, file)));
  await Promise.all(
    texts.map((text, index) => (isGood[index] ? writeFile(join(good, files[index] ?? ""), text) : null)),
  );
  const { out, err } = await apply(good);
  expect(err.split("\n").filter((line) => line !== "" && !line.startsWith("Warning:"))).toEqual([]);
  const objects = JSON.parse(out) as JsonObject;
  const items = Array.isArray(objects["items"]) ? objects["items"] : [objects];
  const releases = items.filter((item: Json) => isObject(item) && item["kind"] === "ModelRelease");
  return isGood.map((isTaken) => (isTaken ? stored(releases.shift() as JsonObject) : null));
}

const apply = (path: string) =>
  kubectl("apply", "--dry-run=server", "--validate=strict", "-o", "json", "-f", path);

const LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration";

function stored({ metadata, spec }: JsonObject): JsonObject {
  return { ...compared(metadata), spec: spec ?? null };
}

function compared(metadata: Json | undefined): JsonObject {
  const { name = null, labels, annotations } = isObject(metadata) ? metadata : {};
  return { name, labels: textsOf(labels), annotations: textsOf(annotations) };
}

/** An empty text is what the API server makes of null. */
function textsOf(map: Json | undefined): JsonObject {
  const entries = Object.entries(isObject(map) ? map : {}).filter(([key]) => key !== LAST_APPLIED);
  return Object.fromEntries(entries.map(([key, value]) => [key, value ?? ""]));
}

function takenByVerify(text: string): { readonly taken: Taken; readonly problems: readonly string[] } {
  const read = documentsIn("release.yaml", text);
  if (!read.ok) return { taken: null, problems: read.error };
  const release = releaseIn("release.yaml", read.value.documents);
  if (!release.ok) return { taken: null, problems: release.error };
  const { metadata, spec } = release.value;
  return { taken: { ...compared(metadata), spec: spec as unknown as Json }, problems: [] };
}

describe("a manifest is read as kubectl and the API server read it", () => {
  test("in every form that people have met", async () => {
    const wanted = await takenByKubectl(
      CHOSEN_MANIFESTS.map(({ text }) => text),
      "chosen",
    );
    const read = (pick: (text: string, index: number) => Taken) =>
      CHOSEN_MANIFESTS.map(({ what, text }, index) => ({ what, taken: pick(text, index) }));
    const found = read((_, index) => wanted[index] ?? null).map(({ what, taken }) => ({
      what,
      samples: samplesOf(taken),
    }));
    expect(found).toEqual(CHOSEN_MANIFESTS.map(({ what, samples }) => ({ what, samples })));
    expect(read((text) => takenByVerify(text).taken)).toEqual(read((_, index) => wanted[index] ?? null));
  });

  test(`${COUNT} at random, seed ${SEED}`, async () => {
    const manifests = Array.from({ length: COUNT }, (_, index) => randomManifest(SEED + index, index));
    const wanted = await takenByKubectl(
      manifests.map(({ text }) => text),
      "random",
    );
    const differing = manifests.flatMap(({ text }, index) => {
      const { taken, problems } = takenByVerify(text);
      const expected = wanted[index] ?? null;
      return isSame(taken, expected) ? [] : [{ seed: SEED + index, text, problems, taken, expected }];
    });
    expect(differing).toEqual([]);
    // Of manifests that are all taken, or all refused, nothing could be learnt.
    const share = wanted.filter((one) => one !== null).length / COUNT;
    expect(share).toBeGreaterThan(0.2);
    expect(share).toBeLessThan(0.8);
  });
});

function samplesOf(taken: Taken): Json {
  const { verification } = taken === null ? {} : (taken["spec"] as JsonObject);
  const { latency } = isObject(verification) ? verification : {};
  return isObject(latency) ? (latency["samples"] ?? null) : null;
}

function isSame(one: Json, other: Json): boolean {
  return JSON.stringify(sorted(one)) === JSON.stringify(sorted(other));
}

function sorted(value: Json): Json {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isObject(value)) return value;
  const keys = Object.keys(value).sort();
  return Object.fromEntries(
    keys.map((key) => [key, sorted(Object.entries(value).find(([name]) => name === key)?.[1] ?? null)]),
  );
}
