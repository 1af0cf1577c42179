import { readFile } from "node:fs/promises";
import { join } from "node:path";
import Schema from "typebox/schema";
import { beforeAll, describe, expect, test } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import type { JsonValue } from "../simulator/base/json.ts";
import { effectsFor, parseBehaviours } from "../simulator/devices/behaviour.ts";
import { crds } from "../src/api/crd.ts";
import type { InferenceDeploymentSpec } from "../src/api/inference-deployment.ts";
import { matches } from "../src/api/membership.ts";
import { type ModelReleaseSpec, variantFor } from "../src/api/model-release.ts";
import { numberOf } from "../src/base/decimal.ts";
import { digestOf } from "../src/base/digest.ts";
import { manifestsBelow } from "./models/manifests.ts";
import { EXAMPLE_SITES, exampleDevices } from "./plant/devices.ts";

type Manifest = {
  readonly file: string;
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
  };
  readonly spec: unknown;
};

const FILES = join(import.meta.dirname, "models/files");
/** The one whose digest is not that of its blob. */
const LYING = "digits-3.0.1-lying";

/** Objects of ours and their namespaces; what else the examples for GitOps have is for other tools. */
const isTried = ({ apiVersion = "" }: Partial<Manifest>) =>
  apiVersion === "v1" || apiVersion.startsWith("edgefleet.dev/");

let all: readonly Manifest[];
/** Those of the stories; those for GitOps get their namespace and their release from Kustomize. */
let manifests: readonly Manifest[];
beforeAll(async () => {
  const paths = (await manifestsBelow(import.meta.dirname)).filter(
    (path) => path !== "plant/behaviours.yaml",
  );
  const texts = await Promise.all(paths.map((path) => readFile(join(import.meta.dirname, path), "utf8")));
  all = paths.flatMap((file, index) =>
    parseAllDocuments(texts[index] ?? "")
      .map((document) => ({ file, ...(document.toJS() as Omit<Manifest, "file">) }))
      .filter(isTried),
  );
  manifests = all.filter(({ file }) => !file.startsWith("gitops/"));
});

describe("every manifest", () => {
  const validators = new Map(crds().map((crd) => [kindOf(crd), validatorOf(crd)]));

  test("has the fields that its kind asks for, and no others", () => {
    const ours = all.filter(({ kind }) => kind !== "Namespace");
    expect(ours.length).toBeGreaterThan(10);
    for (const { file, ...object } of ours)
      expect({ file, mistakes: mistakesIn(object) }).toEqual({ file, mistakes: [] });
  });

  test("is refused with a misspelt field, and without a field that is asked for", () => {
    const release = manifests.find(({ kind }) => kind === "ModelRelease")!;
    const { file: _, ...object } = release;
    const spec = object.spec as ModelReleaseSpec;
    expect(mistakesIn({ ...object, spec: { ...spec, modle: "digits" } })).not.toEqual([]);
    const { version: __, ...rest } = spec;
    expect(mistakesIn({ ...object, spec: rest })).not.toEqual([]);
  });

  test("is in a namespace that its folder brings", () => {
    const brought = manifests.filter(({ kind }) => kind === "Namespace").map(({ metadata }) => metadata.name);
    expect(brought.sort()).toEqual(["plant-a", "plants-production"]);
    for (const { kind, metadata } of manifests)
      if (kind !== "Namespace") expect(brought).toContain(metadata.namespace);
  });

  function mistakesIn(object: Omit<Manifest, "file">): readonly unknown[] {
    const [right, mistakes] = validators.get(object.kind)!.Errors(object);
    return right ? [] : mistakes;
  }
});

describe("releases", () => {
  test("name the digests of the files, except for the one that lies", async () => {
    for (const { name, spec } of releases()) {
      for (const variant of spec.variants) {
        const digest = digestOf(await readFile(join(FILES, variant.blob.path)));
        expect({ name, honest: variant.digest === digest }).toEqual({ name, honest: name !== LYING });
      }
      const golden = spec.verification?.golden;
      expect(golden?.digest).toBe(digestOf(await readFile(join(FILES, golden?.blob.path ?? ""))));
    }
  });

  test("have a variant for every class of device in the examples", () => {
    const classes = new Set(exampleDevices(200, "plant-a").map(({ spec }) => spec.deviceClass));
    expect(classes.size).toBe(3);
    for (const { spec } of releases())
      for (const deviceClass of classes) expect(variantFor(spec.variants, deviceClass)).not.toBeNull();
  });

  test("no two promise the same bytes: a device could not tell an update from none", () => {
    const digests = releases("plant-a").flatMap(({ spec }) => spec.variants.map(({ digest }) => digest));
    expect(new Set(digests).size).toBe(digests.length);
  });

  test("versions 2 and later are held to the same bounds", () => {
    const later = releases("plant-a").filter(({ name }) => name !== "digits-1.0.0");
    expect(later).toHaveLength(5);
    for (const { spec } of later) expect(spec.verification).toEqual(later[0]?.spec.verification);
  });
});

describe("deployments", () => {
  test("of the story differ in nothing but the release", () => {
    const deployments = manifests.filter(
      ({ kind, file }) => kind === "InferenceDeployment" && file.startsWith("plant/"),
    );
    expect(deployments.map(({ spec }) => (spec as InferenceDeploymentSpec).release.name)).toEqual([
      "digits-1.0.0",
      "digits-2.0.0",
      "digits-2.1.0-slow",
    ]);
    const rest = deployments.map(({ file: _, ...object }) => ({
      ...object,
      spec: { ...(object.spec as InferenceDeploymentSpec), release: null },
    }));
    expect(rest).toEqual(rest.map(() => rest[0]));
  });

  test("name releases that are there", () => {
    for (const { kind, spec, metadata } of manifests)
      if (kind === "InferenceDeployment")
        expect(releases(metadata.namespace).map(({ name }) => name)).toContain(
          (spec as InferenceDeploymentSpec).release.name,
        );
  });

  test("of the story select every camera on a line, and not the spare", () => {
    const { spec } = manifests.find(({ kind }) => kind === "InferenceDeployment")!;
    const { selector } = spec as InferenceDeploymentSpec;
    const selected = manifests
      .filter(({ kind, metadata }) => kind === "EdgeDevice" && matches(selector, metadata.labels ?? {}))
      .map(({ metadata }) => metadata.name);
    expect(selected).toEqual(["gate-1", "gate-2"]);
    expect(exampleDevices(200, "plant-a").every(({ metadata }) => matches(selector, metadata.labels))).toBe(
      true,
    );
  });
});

describe("the simulator's behaviours", () => {
  test.each([
    { release: "digits-1.0.0", verdict: "passes" },
    { release: "digits-2.0.0", verdict: "passes" },
    { release: "digits-2.1.0-slow", verdict: "is past critical" },
  ])("$release $verdict on simulated devices", async ({ release, verdict }) => {
    const written = await readFile(join(import.meta.dirname, "plant/behaviours.yaml"), "utf8");
    const parsed = parseBehaviours(parse(written) as JsonValue, 1);
    if (!parsed.ok) throw new Error(parsed.problems.join("; "));
    const anyDevice = { deviceId: "cam-0001", deviceClass: "jetson-nano", site: "hall-1", digest: null };
    const effects = effectsFor(parsed.behaviours, { ...anyDevice, release: `plant-a.${release}` });
    const { spec } = manifests.find(({ kind }) => kind === "InferenceDeployment")!;
    const bounds = new Map(
      (spec as InferenceDeploymentSpec).objectives?.map((bound) => [bound.metric, bound]),
    );
    const latency = bounds.get("latencyP95Milliseconds")!;
    const p95 = effects.latency!.p95;
    // Windows are some percent off: a fifth of room on either side.
    if (verdict === "passes") {
      expect(p95 * 1.2).toBeLessThan(numberOf(latency.warning!));
      expect(effects.framesPerSecond! / 1.2).toBeGreaterThan(
        numberOf(bounds.get("framesPerSecond")!.warning!),
      );
      expect(effects.errorRate!).toBeLessThan(numberOf(bounds.get("errorRate")!.critical!) / 10);
    } else expect(p95 / 1.2).toBeGreaterThan(numberOf(latency.critical!));
  });
});

describe("example devices", () => {
  test.each([1, 20, 200, 1000])(
    "%i of them have names of their own, and say in labels what they are",
    (count) => {
      const devices = exampleDevices(count, "plant-a");
      expect(new Set(devices.map(({ metadata }) => metadata.name)).size).toBe(count);
      for (const { metadata, spec } of devices) {
        expect(metadata.labels["site"]).toBe(spec.site);
        expect(metadata.labels["class"]).toBe(spec.deviceClass);
        expect(metadata.namespace).toBe("plant-a");
      }
    },
  );

  test("every hall has every class", () => {
    const strata = new Set(
      exampleDevices(200, "plant-a").map(({ spec }) => `${spec.site} ${spec.deviceClass}`),
    );
    expect(strata.size).toBe(EXAMPLE_SITES.length * 3);
  });

  test("fit their kind", () => {
    const validator = validatorOf(crds().find((crd) => kindOf(crd) === "EdgeDevice")!);
    for (const device of exampleDevices(20, "plant-a")) expect(validator.Check(device)).toBe(true);
  });
});

function releases(namespace?: string): readonly { readonly name: string; readonly spec: ModelReleaseSpec }[] {
  return manifests
    .filter(
      ({ kind, metadata }) =>
        kind === "ModelRelease" && (namespace ?? metadata.namespace) === metadata.namespace,
    )
    .map(({ metadata, spec }) => ({ name: metadata.name, spec: spec as ModelReleaseSpec }));
}

type Crd = ReturnType<typeof crds>[number];

function kindOf(crd: Crd): string {
  return (crd as { readonly spec: { readonly names: { readonly kind: string } } }).spec.names.kind;
}

/** The CRD's schema, except that unknown fields are mistakes: the API server drops them with a warning. */
function validatorOf(crd: Crd) {
  const { versions } = crd["spec"] as {
    readonly versions: readonly { readonly schema: { readonly openAPIV3Schema: Crd } }[];
  };
  return Schema.Compile(strict(versions[0]!.schema.openAPIV3Schema) as Crd);
}

function strict(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(strict);
  if (node === null || typeof node !== "object") return node;
  const inner = Object.fromEntries(Object.entries(node).map(([key, value]) => [key, strict(value)]));
  return "properties" in inner && inner["type"] === "object"
    ? { ...inner, additionalProperties: false }
    : inner;
}
