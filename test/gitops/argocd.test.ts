import { existsSync, globSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { requestAnnotation } from "../../src/api/inference-deployment.ts";
import { isRecord } from "../../src/base/guards.ts";
import { REVERIFY_ANNOTATION } from "../../src/releases/due.ts";
import type { KubeObject } from "./kstatus.ts";
import { runLua, SECONDS } from "./lua.ts";
import { type Recorded, recordedObjects } from "./recorded.ts";

// The scripts for Argo CD on every recorded object. The files that Argo CD's own tests read (testdata, health_test.yaml,
// action_test.yaml) are written by `vitest --update`: read the diff.

const SCRIPTS = join(import.meta.dirname, "../../gitops/argocd/resource_customizations/edgefleet.dev");
const recorded = await recordedObjects();
const kinds = ["EdgeDevice", "ModelRelease", "InferenceDeployment"] as const;

const folderOf = (kind: Recorded["kind"]) => join(SCRIPTS, kind);
const scriptOf = (kind: Recorded["kind"], path: string) => readFileSync(join(folderOf(kind), path), "utf8");
const yamlOf = (value: unknown) => stringify(value, { lineWidth: 0, aliasDuplicateObjects: false });
const ofKind = (kind: Recorded["kind"]) => recorded.filter((one) => one.kind === kind);

type Discovered = readonly { readonly name: string; readonly disabled: boolean }[];

async function healthOf({ kind, object }: Pick<Recorded, "kind" | "object">) {
  return (await runLua(scriptOf(kind, "health.lua"), object)) as {
    readonly status: string;
    readonly message: string;
  };
}

async function actionsOf(kind: Recorded["kind"], object: KubeObject): Promise<Discovered> {
  const found = await runLua(scriptOf(kind, "actions/discovery.lua"), object);
  if (!isRecord(found)) return [];
  return Object.entries(found)
    .map(([name, value]) => ({ name, disabled: isRecord(value) && value["disabled"] === true }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

async function enabledFor(name: string, change: Partial<KubeObject> = {}): Promise<readonly string[]> {
  const one = ofKind("InferenceDeployment").find((candidate) => candidate.name === name);
  if (one === undefined) throw new Error(`${name} is not recorded`);
  const found = await actionsOf(one.kind, { ...one.object, ...change });
  return found.filter(({ disabled }) => !disabled).map(({ name: action }) => action);
}

describe("health", () => {
  test.each(recorded)("$kind $name is $health", async (one) => {
    const health = await healthOf(one);
    expect(health.status).toBe(one.health);
    expect(health.message).not.toBe("");
  });

  test.each(kinds)("of an %s without a status, or with an empty one, is Progressing", async (kind) => {
    const { object } = ofKind(kind)[0]!;
    const { status: _none, ...bare } = object;
    for (const given of [bare, { ...bare, status: {} }, { ...bare, status: { observedGeneration: 1 } }])
      expect(await healthOf({ kind, object: given })).toMatchObject({ status: "Progressing" });
  });

  test("of a device that is off says so, and does not make the application Degraded", async () => {
    const off = recorded.find(({ name }) => name === "heartbeat-missing")!;
    expect(await healthOf(off)).toMatchObject({
      status: "Healthy",
      message: expect.stringMatching(/^HeartbeatMissing: no report since /),
    });
  });

  test.each(kinds)("%s: what Argo CD's own tests read is what was recorded", async (kind) => {
    const tests = [];
    for (const one of ofKind(kind)) {
      const inputPath = `testdata/${one.name}.yaml`;
      await expect(yamlOf(one.object)).toMatchFileSnapshot(join(folderOf(kind), inputPath));
      tests.push({ healthStatus: await healthOf(one), inputPath });
    }
    await expect(yamlOf({ tests })).toMatchFileSnapshot(join(folderOf(kind), "health_test.yaml"));
    const files = readdirSync(join(folderOf(kind), "testdata"));
    const paused = kind === "InferenceDeployment" ? ["action-paused.yaml", "action-resumed.yaml"] : [];
    expect(files.sort()).toEqual([...tests.map(({ inputPath }) => basename(inputPath)), ...paused].sort());
  });
});

describe("actions", () => {
  test.each([
    ["just-created", ["pause"]],
    ["pending", ["abort", "pause"]],
    ["pending-paused", ["abort", "resume"]],
    ["progressing", ["abort", "pause", "promote"]],
    ["holding-inconclusive", ["abort", "pause", "promote"]],
    ["holding-paused", ["abort", "promote", "resume"]],
    ["frozen", ["abort", "pause"]],
    ["baking", ["abort", "pause", "promote"]],
    ["completed", ["pause"]],
    ["rolling-back", ["pause"]],
    ["rolled-back", ["pause", "retry"]],
    ["stalled-state-contradicted", ["abort", "pause", "promote", "retry"]],
    ["being-deleted", []],
  ])("a deployment that is %s offers %j", async (name, offered) => {
    expect(await enabledFor(name)).toEqual(offered);
  });

  test("a release offers another verification once it has a verdict", async () => {
    const offers = async (name: string) =>
      await actionsOf("ModelRelease", ofKind("ModelRelease").find((one) => one.name === name)!.object);
    expect(await offers("passed")).toEqual([{ name: "reverify", disabled: false }]);
    expect(await offers("failed")).toEqual([{ name: "reverify", disabled: false }]);
    expect(await offers("verifying")).toEqual([{ name: "reverify", disabled: true }]);
    expect(await offers("just-created")).toEqual([{ name: "reverify", disabled: true }]);
    expect(await offers("being-deleted")).toEqual([]);
  });

  test.each([
    ...(["abort", "promote", "retry"] as const).map(
      (action) => ["InferenceDeployment", action, requestAnnotation(action)] as const,
    ),
    ["ModelRelease", "reverify", REVERIFY_ANNOTATION] as const,
  ])(
    "%s: %s writes the annotation %s with a new token, and nothing else",
    async (kind, action, annotation) => {
      const script = scriptOf(kind, `actions/${action}/action.lua`);
      const { object } = ofKind(kind).find(({ name }) => name === "completed" || name === "passed")!;
      const wanted = { [annotation]: String(SECONDS) };
      expect(await runLua(script, object)).toEqual({
        ...object,
        metadata: { ...object.metadata, annotations: wanted },
      });
      const annotated = {
        ...object,
        metadata: { ...object.metadata, annotations: { a: "b", [annotation]: "1" } },
      };
      expect(await runLua(script, annotated)).toEqual({
        ...object,
        metadata: { ...object.metadata, annotations: { a: "b", ...wanted } },
      });
    },
  );

  test.each([
    ["pause", true],
    ["resume", false],
  ])("%s sets spec.paused to %s", async (action, paused) => {
    const { object } = ofKind("InferenceDeployment").find(({ name }) => name === "progressing")!;
    const changed = await runLua(scriptOf("InferenceDeployment", `actions/${action}/action.lua`), object);
    expect(changed).toEqual({ ...object, spec: { ...(object.spec as object), paused } });
  });

  test.each(kinds)(
    "%s: every action that is discovered has a script, and every script is discovered",
    async (kind) => {
      const scripts = globSync("actions/*/action.lua", { cwd: folderOf(kind) }).map(
        (path) => path.split("/")[1],
      );
      const isThere = existsSync(join(folderOf(kind), "actions/discovery.lua"));
      const found = isThere ? await actionsOf(kind, ofKind(kind)[0]!.object) : [];
      expect(found.map(({ name }) => name)).toEqual(scripts.sort());
    },
  );

  test.each(["ModelRelease", "InferenceDeployment"] as const)(
    "%s: what Argo CD's own tests of actions read is what was recorded",
    async (kind) => {
      const discoveryTests = [];
      for (const one of ofKind(kind))
        discoveryTests.push({
          inputPath: `../testdata/${one.name}.yaml`,
          result: await actionsOf(kind, one.object),
        });
      const actionTests = [];
      if (kind === "InferenceDeployment") {
        for (const [action, given, name] of [
          ["pause", "progressing", "action-paused"],
          ["resume", "holding-paused", "action-resumed"],
        ] as const) {
          const { object } = ofKind(kind).find((one) => one.name === given)!;
          const changed = await runLua(scriptOf(kind, `actions/${action}/action.lua`), object);
          await expect(yamlOf({ ...object, spec: (changed as KubeObject).spec })).toMatchFileSnapshot(
            join(folderOf(kind), `testdata/${name}.yaml`),
          );
          const expectedOutputPath = `../testdata/${name}.yaml`;
          actionTests.push({ action, inputPath: `../testdata/${given}.yaml`, expectedOutputPath });
        }
      }
      const tests = actionTests.length === 0 ? { discoveryTests } : { discoveryTests, actionTests };
      await expect(yamlOf(tests)).toMatchFileSnapshot(join(folderOf(kind), "actions/action_test.yaml"));
    },
  );
});

test("the values for Argo CD's chart hold every script as it is", () => {
  const values = parse(readFileSync(join(SCRIPTS, "../../values.yaml"), "utf8"));
  const settings: Readonly<Record<string, string>> = values.configs.cm;
  for (const kind of kinds) {
    const health = settings[`resource.customizations.health.edgefleet.dev_${kind}`];
    expect(health).toBe(scriptOf(kind, "health.lua"));
    const text = settings[`resource.customizations.actions.edgefleet.dev_${kind}`];
    if (text === undefined) {
      expect(globSync("actions/**/*.lua", { cwd: folderOf(kind) })).toEqual([]);
      continue;
    }
    const actions = parse(text);
    expect(actions["discovery.lua"]).toBe(scriptOf(kind, "actions/discovery.lua"));
    for (const definition of actions.definitions)
      expect(definition["action.lua"]).toBe(scriptOf(kind, `actions/${definition.name}/action.lua`));
    expect(actions.definitions).toHaveLength(
      globSync("actions/*/action.lua", { cwd: folderOf(kind) }).length,
    );
  }
});
