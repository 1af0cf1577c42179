import { afterEach, expect, test } from "vitest";
import type { JsonObject, JsonValue } from "../../simulator/base/json.ts";
import type { SimulatorSetup } from "../../simulator/simulator.ts";
import { EDGE, edgeWorld, type ModuleDraft, manifestOf } from "../../simulator/testing/edge-world.ts";

// What the hub does with deployments to edge devices, and what their agents say of it: a test for each rule.

const FORCE = { any: true, etag: "*" };
const SECOND = 1000;

const stopping: (() => Promise<void>)[] = [];
afterEach(async () => {
  await Promise.all(stopping.splice(0).map((stop) => stop()));
});

function startHub(setup: SimulatorSetup = {}) {
  const world = edgeWorld(setup);
  stopping.push(world.stop);
  const { hub } = world;
  const tag = (line: string) => hub.twins.patch(EDGE, { tags: { line }, desired: null }, null);
  tag("a");
  const tryPut = (
    id: string,
    priority: number,
    modulesContent: JsonObject,
    targetCondition = "tags.line = 'a'",
  ) => hub.configurations.put(id, { priority, targetCondition, content: { modulesContent } }, null);
  const put: (...written: Parameters<typeof tryPut>) => void = (...written) => {
    const answer = tryPut(...written);
    if (!answer.ok) throw new Error(answer.refusal.message);
  };
  const desired = (module: string) => hub.twins.get(`${EDGE}/${module}`)?.desired.value ?? {};
  const version = (module: string) => hub.twins.get(`${EDGE}/${module}`)?.desired.version;
  const status = (module: string) =>
    Object.fromEntries(
      Object.entries(hub.twins.get(`${EDGE}/${module}`)?.configurations ?? {}).map(([id, one]) => [
        id,
        one.status,
      ]),
    );
  return { ...world, put, tryPut, tag, desired, version, status };
}

function base(modules: Readonly<Record<string, ModuleDraft>> = {}, more: JsonObject = {}): JsonObject {
  return {
    $edgeAgent: { "properties.desired": manifestOf(modules) },
    $edgeHub: { "properties.desired": { schemaVersion: "1.1", routes: {} } },
    ...more,
  };
}

function container(image: string): JsonObject {
  return { type: "docker", status: "running", restartPolicy: "always", settings: { image } };
}

/** A layer that sets paths below the desired properties of modules. */
function layer(
  ...settings: readonly (readonly [module: string, path: string, value: JsonValue])[]
): JsonObject {
  const content: Record<string, Record<string, JsonValue>> = { $edgeAgent: {} };
  for (const [module, path, value] of settings)
    content[module] = { ...content[module], [`properties.desired${path}`]: value };
  return content;
}

test("a layered deployment adds a module, and the device runs it", async () => {
  const { put, advance, verdict, moduleReport, hub, status } = startHub();
  put("base", 1, base({ camera: {} }));
  put("layer", 10, layer(["$edgeAgent", ".modules.vision", container("vision:7")]));
  await advance(5 * SECOND);
  expect(verdict().code).toBe(200);
  expect(moduleReport("vision")).toMatchObject({ runtimeStatus: "running", settings: { image: "vision:7" } });
  expect(moduleReport("camera")).toMatchObject({ runtimeStatus: "running" });
  expect(hub.registry.get(EDGE, "vision")).toMatchObject({ managedBy: "IotEdge" });
  expect(status("$edgeAgent")).toEqual({ base: "Applied", layer: "Applied" });
});

test("the same module in two layers comes whole from the higher one", () => {
  const { put, desired } = startHub();
  put("base", 1, base());
  put(
    "low",
    10,
    layer(["$edgeAgent", ".modules.vision", { ...container("vision:1"), env: { A: { value: "1" } } }]),
  );
  put("high", 11, layer(["$edgeAgent", ".modules.vision", container("vision:2")]));
  expect(desired("$edgeAgent")["modules"]).toEqual({ vision: container("vision:2") });
});

test("properties.desired of a layer replaces the section of lower layers; a path below it merges", () => {
  const { put, desired } = startHub();
  put("base", 1, base({ vision: {} }, { vision: { "properties.desired": { low: 1, shared: { a: 1 } } } }));
  put("merging", 10, layer(["vision", ".shared.b", 2]));
  expect(desired("vision")).toEqual({ low: 1, shared: { a: 1, b: 2 } });
  put("replacing", 11, layer(["vision", "", { own: true }]));
  expect(desired("vision")).toEqual({ own: true });
  put("above", 12, layer(["vision", ".shared.c", 3]));
  expect(desired("vision")).toEqual({ own: true, shared: { c: 3 } });
});

test("null at a module's path removes the module, and its container with it", async () => {
  const { put, advance, reported, verdict, hub } = startHub();
  put("base", 1, base({ camera: {}, vision: {} }));
  await advance(5 * SECOND);
  expect(Object.keys(reported("$edgeAgent")["modules"] as JsonObject).sort()).toEqual(["camera", "vision"]);
  put("layer", 10, layer(["$edgeAgent", ".modules.vision", null]));
  await advance(5 * SECOND);
  expect(Object.keys(reported("$edgeAgent")["modules"] as JsonObject)).toEqual(["camera"]);
  expect(verdict().code).toBe(200);
  hub.configurations.remove("layer", FORCE);
  await advance(5 * SECOND);
  expect(Object.keys(reported("$edgeAgent")["modules"] as JsonObject).sort()).toEqual(["camera", "vision"]);
});

test("a layer without a base does nothing, and the agent says 417", async () => {
  const { put, advance, verdict, status, desired } = startHub();
  put("layer", 10, layer(["$edgeAgent", ".modules.vision", container("vision:1")]));
  await advance(5 * SECOND);
  expect(desired("$edgeAgent")).toEqual({});
  expect(status("$edgeAgent")).toEqual({ layer: "Targeted" });
  expect(verdict().code).toBe(417);
});

test("a layer whose $edgeAgent is empty is applied on the module, and only Targeted on the agent", () => {
  const { put, status } = startHub();
  put("base", 1, base({ vision: {} }));
  put("layer", 10, layer(["vision", ".level", 3]));
  expect(status("vision")).toEqual({ layer: "Applied" });
  expect(status("$edgeAgent")).toEqual({ base: "Applied", layer: "Targeted" });
});

test("identities that a manifest has named stay when it names them no more", () => {
  const { put, tag, hub, desired } = startHub();
  put("first", 1, base({ vision: {} }));
  put("second", 2, base({ camera: {} }), "tags.line = 'b'");
  tag("b");
  hub.evaluate();
  expect(Object.keys(desired("$edgeAgent")["modules"] as JsonObject)).toEqual(["camera"]);
  const names = hub.registry.modulesOf(EDGE).map(({ moduleId }) => moduleId);
  expect(names).toEqual(expect.arrayContaining(["camera", "vision"]));
});

test("an identity that is deleted while its manifest stands comes back with the next evaluation", () => {
  const { put, hub } = startHub();
  put("base", 1, base({ vision: {} }));
  hub.registry.removeModule(EDGE, "vision", FORCE);
  expect(hub.registry.get(EDGE, "vision")).toBeUndefined();
  hub.evaluate();
  expect(hub.registry.get(EDGE, "vision")).toBeDefined();
});

test("a manifest that was edited by hand is put back, and the device goes along", async () => {
  const { put, hub, advance, moduleReport } = startHub();
  put("base", 1, base({ vision: {} }));
  await advance(5 * SECOND);
  const edit = { modules: { vision: { settings: { image: "mine:1" } } } };
  hub.twins.patch(`${EDGE}/$edgeAgent`, { tags: null, desired: edit }, null);
  await advance(5 * SECOND);
  expect(moduleReport("vision")).toMatchObject({ settings: { image: "mine:1" } });
  await advance(300 * SECOND);
  expect(moduleReport("vision")).toMatchObject({ settings: { image: "vision:1" } });
});

test.each([
  [false, 0],
  [true, 1],
])("deleting a deployment that was not applied, with repushOnDelete %s", async (repushOnDelete, more) => {
  const { put, hub, version, advance, verdict, desired } = startHub({ repushOnDelete });
  put("old", 1, base({ camera: {} }));
  put("current", 2, base({ vision: {} }, { vision: { "properties.desired": { level: 3 } } }));
  await advance(5 * SECOND);
  const before = {
    agent: version("$edgeAgent") ?? 0,
    module: version("vision") ?? 0,
    content: desired("$edgeAgent"),
  };
  hub.configurations.remove("old", FORCE);
  expect(version("$edgeAgent")).toBe(before.agent + more);
  expect(version("vision")).toBe(before.module + more);
  expect(desired("$edgeAgent")).toEqual(before.content);
  hub.evaluate();
  expect(version("$edgeAgent")).toBe(before.agent + more);
  await advance(5 * SECOND);
  expect(verdict()).toMatchObject({ version: before.agent + more, code: 200 });
});

test("a deletion is pushed again only to devices that it targeted", () => {
  const { put, hub, version } = startHub({ repushOnDelete: true });
  put("elsewhere", 5, base(), "tags.line = 'z'");
  put("current", 2, base({ vision: {} }));
  const before = version("$edgeAgent");
  hub.configurations.remove("elsewhere", FORCE);
  expect(version("$edgeAgent")).toBe(before);
});

test.each([
  [false, { owner: "me" }],
  [true, {}],
])("tags of a module's twin when it is deployed again, with clearModuleTags %s", (clearModuleTags, left) => {
  const { put, hub } = startHub({ clearModuleTags });
  put("first", 1, base({ vision: {} }, { vision: { "properties.desired": { level: 1 } } }));
  const tags = () => hub.twins.get(`${EDGE}/vision`)?.tags;
  hub.twins.patch(`${EDGE}/vision`, { tags: { owner: "me" }, desired: null }, null);
  hub.evaluate();
  expect(tags()).toEqual({ owner: "me" });
  put("second", 2, base({ vision: {} }, { vision: { "properties.desired": { level: 2 } } }));
  expect(tags()).toEqual(left);
  expect(hub.twins.get(EDGE)?.tags).toEqual({ line: "a" });
});

test("fifty modules fit into a deployment, and fifty-one do not, whole or in a layer", () => {
  const { put, tryPut, hub } = startHub();
  const modules = (count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, index) => [`m${index}`, {}]));
  put("fifty", 1, base(modules(50)));
  expect(hub.registry.modulesOf(EDGE)).toHaveLength(52);
  expect(tryPut("more", 2, base(modules(51)))).toMatchObject({
    ok: false,
    refusal: { status: 400, code: "InvalidConfigurationContent" },
  });
  const names = Object.keys(modules(51));
  const inLayer = layer(
    ...names.map((name) => ["$edgeAgent", `.modules.${name}`, container("m:1")] as const),
  );
  expect(tryPut("layer", 3, inLayer)).toMatchObject({
    ok: false,
    refusal: { code: "InvalidConfigurationContent" },
  });
});

const manifest = manifestOf({});
const { schemaVersion: _schema, ...withoutSchema } = manifest;
const long = Array.from({ length: 9 }, (_, index) => [`k${index}`, "x".repeat(4000)]);

test.each<[string, JsonObject, string]>([
  [
    "without a schema version",
    base({}, { $edgeAgent: { "properties.desired": withoutSchema } }),
    "schemaVersion",
  ],
  ["without $edgeHub", { $edgeAgent: { "properties.desired": manifest } }, "$edgeHub"],
  ["without $edgeAgent", layer(["vision", ".a", 1], ["$edgeAgent", "", {}]), "needs schemaVersion"],
  ["with a module that no identity can be called", base({ "a b": {} }), "a b"],
  ["with a name that no identity can have", { ...layer(), über: {} }, "moduleId"],
  [
    "with more than 32 KB for a twin",
    base({}, { vision: { "properties.desired": Object.fromEntries(long) } }),
    "32768",
  ],
  ["with systemModules in a layer", layer(["$edgeAgent", ".systemModules.edgeHub", {}]), "systemModules"],
])("a deployment %s is refused", (_, modulesContent, word) => {
  const { tryPut } = startHub();
  const answer = tryPut("one", 1, modulesContent);
  expect(answer).toMatchObject({ ok: false, refusal: { status: 400, code: "InvalidConfigurationContent" } });
  expect(answer.ok ? "" : answer.refusal.message).toContain(word);
});
