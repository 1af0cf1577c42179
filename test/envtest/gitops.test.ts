import { execFile } from "node:child_process";
import { mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { parseAllDocuments, stringify } from "yaml";
import { type KubeObject, kstatusOf } from "../gitops/kstatus.ts";
import { type ApiClient, createApiClient } from "./api-client.ts";

// What GitOps tools do to our kinds, with the real Kustomize and the real API server: the examples are built and applied,
// and applying them again changes nothing.

const ROOT = join(import.meta.dirname, "../..");
const FLEET = join(ROOT, "examples/gitops/fleet");
const SITES = ["laboratory", "plant-a", "plant-b"];
/** The flags with which Argo CD applies, by its setting ServerSideApply. */
const WAYS = [
  ["client-side", []],
  ["server-side", ["--server-side", "--field-manager=argocd-controller"]],
] as const;

let api: ApiClient;
let namespace: string;
let directory: string;

beforeAll(async () => {
  api = await createApiClient(inject("kubeconfig"));
  const made = await api.post("/api/v1/namespaces", { metadata: { generateName: "gitops-" } });
  namespace = made.body.metadata.name;
  directory = await realpath(await mkdtemp(join(tmpdir(), "edgefleet-gitops-")));
});
afterAll(async () => {
  await api.delete(`/api/v1/namespaces/${namespace}`);
  await rm(directory, { recursive: true, force: true });
});

type Ended = { readonly code: number; readonly out: string; readonly err: string };

function kubectl(...args: readonly string[]): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(inject("kubectl"), ["--kubeconfig", inject("kubeconfig"), ...args], (error, out, err) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? 1), out, err });
    });
  });
}

/** Builds a kustomization with `base` among its resources. */
async function built(base: string, fields: object): Promise<readonly KubeObject[]> {
  const folder = await mkdtemp(join(directory, "overlay-"));
  const kustomization = { resources: [relative(folder, base)], ...fields };
  await writeFile(join(folder, "kustomization.yaml"), stringify(kustomization));
  const { code, out, err } = await kubectl("kustomize", folder);
  expect(err).toBe("");
  expect(code).toBe(0);
  return parseAllDocuments(out).map((document) => document.toJS() as KubeObject);
}

async function written(objects: readonly KubeObject[]): Promise<string> {
  const path = join(await mkdtemp(join(directory, "objects-")), "objects.yaml");
  await writeFile(path, objects.map((object) => stringify(object)).join("---\n"));
  return path;
}

function deploymentIn(objects: readonly KubeObject[]) {
  // biome-ignore lint/suspicious/noExplicitAny: tests look into specs of every form
  return objects.find(({ kind }) => kind === "InferenceDeployment")?.spec as any;
}

const patch = (spec: object) => ({
  patches: [
    {
      patch: stringify({
        apiVersion: "edgefleet.dev/v1alpha1",
        kind: "InferenceDeployment",
        metadata: { name: "digits" },
        spec,
      }),
    },
  ],
});

describe("kustomize", () => {
  test("a namePrefix keeps references between releases and deployments", async () => {
    const objects = await built(FLEET, { namePrefix: "plant-a-" });
    expect(deploymentIn(objects).release.name).toBe("plant-a-digits-1.0.0");
    const releases = objects.filter(({ kind }) => kind === "ModelRelease");
    expect(releases.map(({ metadata }) => metadata["name"])).toEqual([
      "plant-a-digits-1.0.0",
      "plant-a-digits-2.0.0",
    ]);
    expect(releases[1]?.spec).toMatchObject({ verification: { parity: { with: "plant-a-digits-1.0.0" } } });
  });

  test("a strategic merge patch of one objective keeps the others", async () => {
    const before = deploymentIn(await built(FLEET, {}));
    const after = deploymentIn(
      await built(FLEET, patch({ objectives: [{ metric: "errorRate", critical: "0.03" }] })),
    );
    const byMetric = (spec: typeof before) =>
      Object.fromEntries(spec.objectives.map((one: { readonly metric: string }) => [one.metric, one]));
    const errorRate = { metric: "errorRate", critical: "0.03", minimumInferences: 1000 };
    expect(byMetric(after)).toEqual({ ...byMetric(before), errorRate });
  });

  test("a patch of the steps replaces them all, so that they stay in order", async () => {
    const steps = [{ percent: 10 }, { percent: 100 }];
    expect(deploymentIn(await built(FLEET, patch({ strategy: { steps } }))).strategy).toEqual({
      steps,
      bake: "24h",
    });
  });

  test("images: changes the image of the module", async () => {
    const digest = (digit: string) => `sha256:${digit.repeat(64)}`;
    const base = await mkdtemp(join(directory, "base-"));
    const image = `registry.example.com/vision/reader@${digest("1")}`;
    const kustomization = {
      resources: [relative(base, FLEET)],
      ...patch({ module: { name: "inference", image } }),
    };
    await writeFile(join(base, "kustomization.yaml"), stringify(kustomization));
    const images = [
      {
        name: "registry.example.com/vision/reader",
        newName: "mirror.example.com/reader",
        digest: digest("2"),
      },
    ];
    expect(deploymentIn(await built(base, { images })).module.image).toBe(
      `mirror.example.com/reader@${digest("2")}`,
    );
  });
});

describe.each(WAYS)("applied %s", (way, flags) => {
  const apply = async (file: string, ...more: readonly string[]) => {
    const ended = await kubectl("apply", "-n", namespace, "-f", file, ...flags, ...more);
    expect(ended.err).toBe("");
    return ended.out;
  };

  async function live(file: string): Promise<readonly KubeObject[]> {
    const { out } = await kubectl("get", "-n", namespace, "-f", file, "-o", "json");
    return JSON.parse(out).items;
  }

  test.each(SITES)("%s is accepted", async (site) => {
    const objects = await built(join(ROOT, "examples/gitops/sites", site), { namespace });
    expect(objects.map(({ kind }) => kind)).toContain("EdgeDevice");
    await apply(await written(objects), "--dry-run=server");
  });

  test("a new object is not current before the operator has seen it; from then on applying it again changes nothing", async () => {
    const options = { namespace, nameSuffix: `-${way}` };
    const objects = await built(join(ROOT, "examples/gitops/sites/plant-a"), options);
    const file = await written(objects);
    await apply(file);
    const created = await live(file);
    expect(created).toHaveLength(objects.length);
    expect(created.map(({ status }) => status)).toEqual(objects.map(() => ({ observedGeneration: -1 })));
    expect(new Set(created.map(kstatusOf))).toEqual(new Set(["InProgress"]));
    for (const { kind, metadata } of created) {
      const path = `/apis/edgefleet.dev/v1alpha1/namespaces/${namespace}/${kind.toLowerCase()}s/${metadata["name"]}`;
      const { status } = await api.mergePatch(`${path}/status`, { status: { observedGeneration: 1 } });
      expect(status).toBe(200);
    }
    const seen = await live(file);
    expect(new Set(seen.map(kstatusOf))).toEqual(new Set(["Current"]));
    await apply(file);
    const versions = (all: readonly KubeObject[]) => all.map(({ metadata }) => metadata["resourceVersion"]);
    expect(versions(await live(file))).toEqual(versions(seen));
    const diff = await kubectl("diff", "-n", namespace, "-f", file, ...flags);
    expect(diff).toEqual({ code: 0, out: "", err: "" });
  });

  test("applying again takes neither a request away nor a pause, unless git sets spec.paused", async () => {
    const name = `digits-requests-${way}`;
    const [object] = (await built(FLEET, { namespace })).filter(({ kind }) => kind === "InferenceDeployment");
    const named = { ...object!, metadata: { ...object!.metadata, name } };
    const file = await written([named]);
    await apply(file);
    const path = `/apis/edgefleet.dev/v1alpha1/namespaces/${namespace}/inferencedeployments/${name}`;
    const action = {
      metadata: { annotations: { "edgefleet.dev/abort": "1" } },
      spec: { paused: true },
    };
    expect((await api.mergePatch(path, action)).status).toBe(200);
    await apply(file);
    const { body } = await api.get(path);
    expect(body.metadata.annotations).toMatchObject(action.metadata.annotations);
    expect(body.spec.paused).toBe(true);
    const saysSo = await written([{ ...named, spec: { ...(named.spec as object), paused: false } }]);
    await apply(saysSo, ...(way === "server-side" ? ["--force-conflicts"] : []));
    expect((await api.get(path)).body.spec.paused).toBe(false);
  });
});
