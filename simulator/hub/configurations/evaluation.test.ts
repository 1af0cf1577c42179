import fc from "fast-check";
import { expect, test } from "vitest";
import { createManualClock } from "../../base/clock.ts";
import type { JsonObject } from "../../base/json.ts";
import { createSimulator, type SimulatorSetup } from "../../simulator.ts";

const START = Date.parse("2026-03-01T12:00:00Z");
const FORCE = { any: true, etag: "*" };

function startHub(setup: SimulatorSetup = {}) {
  const simulator = createSimulator({ clock: createManualClock(START), autoStart: false, ...setup });
  const { hub } = simulator;
  const add = (device: string, site: string, iotEdge = true, bucket = 0) => {
    hub.registry.putDevice(device, { capabilities: { iotEdge } }, null);
    hub.twins.patch(device, { tags: { site, bucket }, desired: null }, null);
  };
  const put = (
    id: string,
    priority: number,
    targetCondition: string,
    content: JsonObject,
    update = false,
  ) => {
    const written = hub.configurations.put(id, { priority, targetCondition, content }, update ? FORCE : null);
    if (!written.ok) throw new Error(written.refusal.message);
  };
  const desired = (key: string) => hub.twins.get(key)?.desired.value ?? {};
  const status = (key: string) =>
    Object.fromEntries(
      Object.entries(hub.twins.get(key)?.configurations ?? {}).map(([id, one]) => [id, one.status]),
    );
  const results = (id: string) => {
    const configuration = hub.configurations.get(id)!;
    return (hub.configurations.document(configuration)["systemMetrics"] as JsonObject)["results"];
  };
  return { ...simulator, add, put, desired, status, results };
}

function container(image: string): JsonObject {
  return { type: "docker", settings: { image } };
}

function base(modules: readonly string[] = ["inference"]): JsonObject {
  return {
    modulesContent: {
      $edgeAgent: {
        "properties.desired": {
          schemaVersion: "1.1",
          runtime: { type: "docker" },
          systemModules: { edgeAgent: container("agent:1"), edgeHub: container("hub:1") },
          modules: Object.fromEntries(modules.map((name) => [name, container(`${name}:1`)])),
        },
      },
      $edgeHub: { "properties.desired": { schemaVersion: "1.1", routes: {} } },
    },
  };
}

function layer(digest: string, agent: JsonObject = {}): JsonObject {
  return { modulesContent: { $edgeAgent: agent, inference: { "properties.desired.model": { digest } } } };
}

test("a base makes its modules, and a layer above it sets the model at once", () => {
  const { add, put, desired, status, results, hub } = startHub();
  add("edge-1", "a");
  add("edge-2", "b");
  put("layer", 100, "tags.site = 'a'", layer("x"));
  expect(desired("edge-1/inference")).toEqual({});
  put("base", 10, "*", base());
  expect(hub.registry.modulesOf("edge-2").map((one) => one.moduleId)).toContain("inference");
  expect(desired("edge-1/inference")).toEqual({ model: { digest: "x" } });
  expect(desired("edge-2/inference")).toEqual({});
  expect(status("edge-1/inference")).toEqual({ layer: "Applied" });
  // A layer that says nothing about the agent is never counted as applied.
  expect(status("edge-1/$edgeAgent")).toEqual({ base: "Applied", layer: "Targeted" });
  expect(results("base")).toMatchObject({ targetedCount: 2, appliedCount: 2 });
  expect(results("layer")).toMatchObject({ targetedCount: 1, appliedCount: 0 });
});

test("a layer at or below the base's priority does nothing", () => {
  const { add, put, desired } = startHub();
  add("edge-1", "a");
  put("base", 10, "*", base());
  put("layer", 10, "*", layer("x"));
  expect(desired("edge-1/inference")).toEqual({});
});

test("widening and shrinking a candidate moves devices between it and stable, both ways", () => {
  const { add, put, desired, hub } = startHub();
  for (let bucket = 0; bucket < 10; bucket++) add(`edge-${bucket}`, "a", true, bucket);
  put("base", 10, "*", base());
  put("stable", 100, "tags.site = 'a'", layer("old"));
  put("candidate", 101, "tags.site = 'a' AND tags.bucket < 3", layer("new"));
  const onNew = () =>
    Array.from({ length: 10 }, (_, index) => index).filter(
      (index) => (desired(`edge-${index}/inference`)["model"] as JsonObject)["digest"] === "new",
    );
  expect(onNew()).toEqual([0, 1, 2]);
  put("candidate", 101, "tags.site = 'a' AND tags.bucket < 7", layer("new"), true);
  expect(onNew()).toEqual([0, 1, 2, 3, 4, 5, 6]);
  put("candidate", 101, "tags.site = 'a' AND tags.bucket < 1", layer("new"), true);
  expect(onNew()).toEqual([0]);
  hub.configurations.remove("candidate", null);
  expect(onNew()).toEqual([]);
});

test.each([
  ["remove", {}],
  ["keep", { model: { digest: "x" } }],
] as const)("an untargeted layer: %s", (untargetedLayer, left) => {
  const { add, put, desired, hub } = startHub({ untargetedLayer });
  add("edge-1", "a");
  put("base", 10, "*", base());
  put("layer", 100, "tags.site = 'a'", layer("x"));
  hub.twins.patch("edge-1", { tags: { site: "b" }, desired: null }, null);
  expect(desired("edge-1/inference")).toEqual({ model: { digest: "x" } });
  hub.evaluate();
  expect(desired("edge-1/inference")).toEqual(left);
  hub.configurations.remove("layer", null);
  expect(desired("edge-1/inference")).toEqual({});
});

test("when nothing matches any more the modules run on as they are", () => {
  const { add, put, desired, status, hub } = startHub();
  add("edge-1", "a");
  put("base", 10, "tags.site = 'a'", base());
  put("layer", 100, "tags.site = 'a'", layer("x"));
  hub.twins.patch("edge-1", { tags: { site: "b" }, desired: null }, null);
  hub.evaluate();
  expect(desired("edge-1/inference")).toEqual({ model: { digest: "x" } });
  expect(status("edge-1/inference")).toEqual({});
});

test("an edit by hand is taken back at the next evaluation, five minutes later at most", async () => {
  const { add, put, desired, hub, advance } = startHub();
  add("edge-1", "a");
  put("base", 10, "*", base());
  put("layer", 100, "*", layer("x"));
  hub.twins.patch("edge-1/inference", { tags: null, desired: { model: { digest: "y" }, mine: 1 } }, null);
  await advance(300_000);
  expect(desired("edge-1/inference")).toEqual({ model: { digest: "x" }, mine: 1 });
});

test("an unchanged world is not written to", async () => {
  const { add, put, hub, advance } = startHub();
  for (let index = 0; index < 20; index++) add(`edge-${index}`, "a");
  put("base", 10, "*", base());
  put("layer", 100, "*", layer("x"));
  hub.counters.reset();
  await advance(3_600_000);
  expect(hub.counters.report().evaluation).toEqual({ runs: 12, twinWrites: 0 });
});

test.each([
  ["newestOnly", { b: 2 }],
  ["perPath", { a: 1, b: 2 }],
] as const)("layers of one priority: %s", (equalPriorityLayers, wanted) => {
  const { add, put, desired } = startHub({ equalPriorityLayers });
  add("edge-1", "a");
  put("base", 10, "*", base());
  const set = (path: string, value: number) => ({
    modulesContent: { $edgeAgent: {}, inference: { [`properties.desired.${path}`]: value } },
  });
  put("first", 100, "*", set("a", 1));
  put("second", 100, "*", set("b", 2));
  expect(desired("edge-1/inference")).toEqual(wanted);
});

test("of two bases the higher priority wins whole, of equal ones the younger", () => {
  const { add, put, desired, status } = startHub();
  add("edge-1", "a");
  put("low", 5, "*", base(["one"]));
  put("high", 9, "*", base(["two"]));
  put("younger", 9, "*", base(["three"]));
  expect(Object.keys(desired("edge-1/$edgeAgent")["modules"] as JsonObject)).toEqual(["three"]);
  expect(status("edge-1/$edgeAgent")).toEqual({ low: "Targeted", high: "Targeted", younger: "Applied" });
});

test("a layer adds its container to the manifest, and takes it with it", () => {
  const { add, put, desired, status, hub } = startHub();
  add("edge-1", "a");
  put("base", 10, "*", base([]));
  put(
    "layer",
    100,
    "*",
    layer("x", { "properties.desired.modules.inference": { settings: { image: "i:1" } } }),
  );
  expect(desired("edge-1/$edgeAgent")["modules"]).toEqual({ inference: { settings: { image: "i:1" } } });
  expect(desired("edge-1/inference")).toEqual({ model: { digest: "x" } });
  expect(status("edge-1/$edgeAgent")).toMatchObject({ layer: "Applied" });
  hub.configurations.remove("layer", null);
  expect(desired("edge-1/$edgeAgent")["modules"]).toEqual({});
});

test("device configurations settle conflicts path by path and take back what they set", () => {
  const { add, put, desired, status, hub } = startHub();
  add("cam-1", "a", false);
  hub.twins.patch("cam-1", { tags: null, desired: { own: true } }, null);
  put("low", 1, "*", {
    deviceContent: { "properties.desired.model": { digest: "old" }, "properties.desired.rate": 5 },
  });
  put("high", 2, "tags.site = 'a'", { deviceContent: { "properties.desired.model": { digest: "new" } } });
  put("beaten", 0, "*", { deviceContent: { "properties.desired.rate": 1 } });
  expect(desired("cam-1")).toEqual({ own: true, model: { digest: "new" }, rate: 5 });
  expect(status("cam-1")).toEqual({ low: "Applied", high: "Applied", beaten: "Targeted" });
  hub.configurations.remove("high", null);
  expect(desired("cam-1")).toEqual({ own: true, model: { digest: "old" }, rate: 5 });
  hub.configurations.remove("low", null);
  hub.configurations.remove("beaten", null);
  expect(desired("cam-1")).toEqual({ own: true });
});

test("a module configuration finds its twins by a query of modules", () => {
  const { add, put, desired, hub } = startHub();
  add("edge-1", "a");
  hub.registry.ensureModule("edge-1", "vision");
  put("mod", 1, "from devices.modules where moduleId = 'vision'", {
    moduleContent: { "properties.desired.level": 3 },
  });
  expect(desired("edge-1/vision")).toEqual({ level: 3 });
});

test("with a delay, changes of configurations are evaluated together and later", async () => {
  const { add, put, desired, hub, advance } = startHub({ evaluationDelay: 1000 });
  add("edge-1", "a");
  put("base", 10, "*", base());
  put("layer", 100, "*", layer("x"));
  expect(desired("edge-1/inference")).toEqual({});
  await advance(1000);
  expect(desired("edge-1/inference")).toEqual({ model: { digest: "x" } });
  expect(hub.counters.report().evaluation.runs).toBe(1);
});

test("agents that carried the manifest out are counted as successful", async () => {
  const { add, put, results, hub, advance } = startHub({ autoStart: true });
  add("edge-1", "a");
  put("base", 10, "*", base());
  expect(results("base")).toMatchObject({ appliedCount: 1, reportedSuccessfulCount: 0 });
  await advance(5000);
  hub.evaluate();
  expect(results("base")).toMatchObject({ reportedSuccessfulCount: 1, reportedFailedCount: 0 });
});

test("content set by hand on one device makes its modules, and yields to a deployment", () => {
  const { add, put, desired, hub } = startHub();
  add("edge-1", "a");
  hub.evaluation.applyOnce("edge-1", {
    $edgeAgent: [{ path: [], value: { modules: { inference: {} } } }],
    inference: [{ path: ["model"], value: { digest: "hand" } }],
  });
  expect(desired("edge-1/inference")).toEqual({ model: { digest: "hand" } });
  put("base", 10, "*", base());
  put("layer", 100, "*", layer("x"));
  expect(desired("edge-1/inference")).toEqual({ model: { digest: "x" } });
});

type Change =
  | { readonly kind: "put"; readonly id: number; readonly priority: number; readonly below: number }
  | { readonly kind: "delete"; readonly id: number }
  | { readonly kind: "edit"; readonly device: number };

test("whatever the history, a device has the model of the highest layer that matches it now", () => {
  const change: fc.Arbitrary<Change> = fc.oneof(
    fc.record({
      kind: fc.constant("put" as const),
      id: fc.integer({ min: 0, max: 4 }),
      priority: fc.integer({ min: 0, max: 1 }),
      below: fc.integer({ min: 0, max: 6 }),
    }),
    fc.record({ kind: fc.constant("delete" as const), id: fc.integer({ min: 0, max: 4 }) }),
    fc.record({ kind: fc.constant("edit" as const), device: fc.integer({ min: 0, max: 5 }) }),
  );
  fc.assert(
    fc.property(fc.array(change, { maxLength: 25 }), (changes) => {
      const { add, put, desired, hub } = startHub();
      for (let device = 0; device < 6; device++) add(`edge-${device}`, "a", true, device);
      put("base", 10, "*", base());
      const live = new Map<number, { readonly priority: number; readonly below: number }>();
      for (const one of changes) {
        if (one.kind === "put") {
          // Unique priorities, as the documentation advises; an update may move a layer above another.
          const priority = 100 + one.id * 2 + one.priority * 11;
          put(`l-${one.id}`, priority, `tags.bucket < ${one.below}`, layer(`d-${one.id}`), live.has(one.id));
          live.set(one.id, { priority, below: one.below });
        } else if (one.kind === "delete") {
          hub.configurations.remove(`l-${one.id}`, null);
          live.delete(one.id);
        } else {
          hub.twins.patch(
            `edge-${one.device}/inference`,
            { tags: null, desired: { model: { digest: "hand" } } },
            null,
          );
          hub.evaluate();
        }
        for (let device = 0; device < 6; device++) {
          const winner = [...live]
            .filter(([, l]) => device < l.below)
            .sort(([, a], [, b]) => b.priority - a.priority)[0];
          const model = desired(`edge-${device}/inference`)["model"] as JsonObject | undefined;
          if (winner !== undefined) expect(model?.["digest"]).toBe(`d-${winner[0]}`);
          else expect(model === undefined || model["digest"] === "hand").toBe(true);
        }
      }
    }),
    { numRuns: 60 },
  );
});
