import fc from "fast-check";
import { expect, test } from "vitest";
import { releaseSpec, variant } from "../../../test/builders/specs.ts";
import type { ModelPointer } from "../../api/device-contract.ts";
import type { Configuration, ConfigurationKind } from "../../hub/hub.ts";
import type { Track } from "../seen.ts";
import {
  BASE_ID,
  configurationId,
  contentHash,
  contentOf,
  exactPatch,
  isOurs,
  LABEL,
  pointerIn,
  recognized,
} from "./content.ts";

const IMAGE = `registry.example/inference@sha256:${"a".repeat(64)}`;
const draft = {
  contract: 1,
  deployment: "plant-a.resnet",
  release: "plant-a.v1",
  name: "resnet50",
  version: "v1",
  variant: "fp32",
  digest: variant("v1").digest,
  executionProvider: "cpu",
  config: releaseSpec("v1").runtimeConfig ?? {},
};
const pointer: ModelPointer = { ...draft, sizeBytes: 10, url: "https://store.invalid/m?sig=1" };

test("a layer carries the pointer, and the container only where an image is given", () => {
  expect(contentOf("edge", { name: "inference" }, pointer)).toEqual({
    $edgeAgent: {},
    inference: { "properties.desired.model": pointer },
  });
  expect(contentOf("edge", { name: "inference", image: IMAGE }, pointer)).toEqual({
    $edgeAgent: {
      "properties.desired.modules.inference": {
        type: "docker",
        status: "running",
        restartPolicy: "always",
        version: "1.0",
        settings: { image: IMAGE, createOptions: "{}" },
      },
    },
    inference: { "properties.desired.model": pointer },
  });
  expect(contentOf("device", { name: "inference", image: IMAGE }, pointer)).toEqual({
    "properties.desired.model": pointer,
  });
});

test("what a configuration sets can be read back, for both kinds", () => {
  for (const kind of ["edge", "device"] as const) {
    const content = contentOf(kind, { name: "inference", image: IMAGE }, pointer);
    expect(pointerIn({ kind, content }, "inference")).toEqual(pointer);
    expect(pointerIn({ kind, content: {} }, "inference")).toBeNull();
  }
});

test("the identity of content changes with the image, the kind and the settings of the release", () => {
  const hashes = [
    contentHash("edge", { name: "inference" }, draft),
    contentHash("device", { name: "inference" }, draft),
    contentHash("edge", { name: "inference", image: IMAGE }, draft),
    contentHash("edge", { name: "inference" }, { ...draft, config: { batchSize: 4 } }),
  ];
  expect(new Set(hashes).size).toBe(hashes.length);
});

test("ids are in the hub's alphabet and length, and different things have different ids", () => {
  const name = fc.stringMatching(/^[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?$/);
  fc.assert(
    fc.property(name, name, fc.string(), (one, other, identity) => {
      const id = configurationId({ namespace: "plant-a", name: one }, "fp32", "candidate", identity);
      expect(id).toMatch(/^[a-z0-9+%_*!'-]{1,128}$/);
      expect(id.startsWith("ef-plant-a-")).toBe(true);
      const twin = configurationId({ namespace: "plant-a", name: other }, "fp32", "candidate", identity);
      expect(twin === id).toBe(one === other);
    }),
  );
});

function ours(kind: ConfigurationKind, track: Track, name = "resnet"): Configuration {
  const given = { ...pointer, deployment: `plant-a.${name}` };
  const { url: _url, sizeBytes: _size, ...bare } = given;
  return {
    id: configurationId({ namespace: "plant-a", name }, "fp32", track, `${kind}/1`),
    kind,
    labels: {
      [LABEL.namespace]: "plant-a",
      [LABEL.name]: name,
      [LABEL.track]: track,
      [LABEL.release]: "v1",
      [LABEL.variant]: "fp32",
      [LABEL.kind]: kind,
      [LABEL.contentHash]: contentHash(kind, { name: "inference", image: IMAGE }, bare),
    },
    priority: track === "stable" ? 100 : 500,
    targetCondition: "tags.edgefleet.bucket < 5",
    content: contentOf(kind, { name: "inference", image: IMAGE }, given),
    etag: "1",
  };
}

test("a configuration is recognized without its labels, by its id and by what it contains", () => {
  for (const name of ["resnet", "res.net", "n".repeat(200)]) {
    for (const kind of ["edge", "device"] as const) {
      for (const track of ["stable", "candidate"] as const) {
        const whole = ours(kind, track, name);
        expect(recognized(whole)).toBe(whole);
        const bare = recognized({ ...whole, labels: {} });
        expect(bare.labels).toEqual(whole.labels);
        expect(isOurs({ ...whole, labels: {} })).toBe(true);
        // What it contains outranks labels that say something else.
        const edited = { ...whole.labels, [LABEL.release]: "v9", [LABEL.name]: "other", mine: "1" };
        expect(recognized({ ...whole, labels: edited }).labels).toEqual({ ...whole.labels, mine: "1" });
      }
    }
  }
  const base = { ...ours("edge", "stable"), id: BASE_ID, labels: {}, content: {} };
  expect(recognized(base).labels).toEqual({ [LABEL.base]: "true" });
});

test("a foreign configuration is not taken for ours, whatever it is called or contains", () => {
  const strangers: readonly Partial<Configuration>[] = [
    { id: "portal-made-1" },
    { content: {} },
    { content: { inference: { "properties.desired.model": { ...pointer, deployment: "no-dot" } } } },
  ];
  for (const stranger of strangers) {
    const theirs = { ...ours("edge", "stable"), labels: {}, ...stranger };
    expect(recognized(theirs)).toBe(theirs);
    expect(isOurs(theirs)).toBe(false);
  }
});

test("an exact patch leaves behind exactly what was wanted", () => {
  const leaf = fc.oneof(fc.integer(), fc.constantFrom("a", "b", true));
  const key = fc.constantFrom("url", "config", "digest", "batchSize");
  const { tree } = fc.letrec<{ tree: Record<string, unknown> }>((tie) => ({
    tree: fc.dictionary(key, fc.oneof({ maxDepth: 2 }, leaf, tie("tree")), { maxKeys: 4 }),
  }));
  fc.assert(
    fc.property(tree, tree, (current, wanted) => {
      const patch = exactPatch(current, wanted);
      expect(merged(current, patch ?? {})).toEqual(wanted);
      expect(patch === undefined).toBe(JSON.stringify(sorted(current)) === JSON.stringify(sorted(wanted)));
    }),
    { numRuns: 1000 },
  );
});

test("a pointer that is to go is deleted, and one that is gone is left alone", () => {
  expect(exactPatch(pointer, null)).toBeNull();
  expect(exactPatch(undefined, null)).toBeUndefined();
});

/** A merge patch as a hub applies it; a value that was no object is replaced. */
function merged(current: unknown, patch: unknown): unknown {
  if (!isRecord(patch)) return patch;
  const result: Record<string, unknown> = isRecord(current) ? { ...current } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = merged(result[key], value);
  }
  return result;
}

function sorted(value: unknown): unknown {
  if (!isRecord(value)) return value;
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((key) => [key, sorted(value[key])]),
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
