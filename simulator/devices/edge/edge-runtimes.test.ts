import { afterEach, expect, test } from "vitest";
import type { JsonObject } from "../../base/json.ts";
import type { TwinNotice } from "../../hub/twins/twins.ts";
import type { SimulatorSetup } from "../../simulator.ts";
import { EDGE, edgeWorld, manifestOf, START } from "../../testing/edge-world.ts";

const SECOND = 1000;
const MINUTE = 60_000;

const stopping: (() => Promise<void>)[] = [];
afterEach(async () => {
  await Promise.all(stopping.splice(0).map((stop) => stop()));
});

function startEdge(setup: SimulatorSetup = {}) {
  const world = edgeWorld(setup);
  stopping.push(world.stop);
  const starts: string[] = [];
  /** Every value of a module's runtimeStatus, in the order of the reports. */
  const statuses: Record<string, string[]> = Object.create(null);
  const patches: TwinNotice[] = [];
  world.hub.twins.onWrite(({ key, change }) => {
    if (key !== `${EDGE}/$edgeAgent` || change === null || change.reported === null) return;
    patches.push(change);
    const modules = (change.reported["modules"] ?? {}) as Record<string, JsonObject | null>;
    for (const [name, module] of Object.entries(modules)) {
      const status = module?.["runtimeStatus"];
      statuses[name] ??= [];
      if (typeof status === "string" && statuses[name].at(-1) !== status) statuses[name].push(status);
      if (module?.["lastStartTimeUtc"] !== undefined) starts.push(name);
    }
  });
  return { ...world, starts, statuses, patches };
}

function at(milliseconds: number): string {
  return new Date(START + milliseconds).toISOString();
}

test("an agent without a manifest says 417, and its hub is not there yet", async () => {
  const { advance, verdict, reported } = startEdge();
  await advance(5 * SECOND);
  expect(verdict()).toMatchObject({ version: 1, code: 417 });
  expect(reported("$edgeHub")).toEqual({});
});

test("a manifest is carried out: images are pulled, modules run, and version and 200 are reported", async () => {
  const { deploy, advance, verdict, moduleReport, statuses } = startEdge();
  await advance(5 * SECOND);
  const version = deploy(manifestOf({ vision: { version: "2.1", env: { LEVEL: { value: "info" } } } }));
  await advance(5 * SECOND);
  expect(verdict()).toEqual({ version, code: 200, description: "" });
  expect(moduleReport("vision")).toMatchObject({
    type: "docker",
    status: "running",
    runtimeStatus: "running",
    restartPolicy: "always",
    imagePullPolicy: "on-create",
    version: "2.1",
    env: { LEVEL: { value: "info" } },
    exitCode: 0,
    restartCount: 0,
    settings: {
      image: "vision:1",
      createOptions: "{}",
      imageHash: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
    },
  });
  expect(statuses["vision"]).toEqual(["unknown", "running"]);
  expect(moduleReport("edgeHub")).toMatchObject({ runtimeStatus: "running", settings: { image: "hub:1.5" } });
  expect(moduleReport("edgeAgent")).toMatchObject({ runtimeStatus: "running" });
});

test.each([
  ["another major schema", { schemaVersion: "2.0" }, 412, "2.0"],
  ["a newer minor schema", { schemaVersion: "1.2" }, 412, "1.2"],
  ["no schema", { schemaVersion: null }, 400, "schemaVersion"],
  ["another runtime", { runtime: { type: "podman" } }, 400, "runtime.type"],
  [
    "no edgeHub",
    { systemModules: { edgeAgent: { type: "docker", settings: { image: "a:1" } } } },
    400,
    "edgeHub",
  ],
] as const)(
  "what an agent does not take it refuses, and what runs goes on: %s",
  async (_, change, code, word) => {
    const { deploy, advance, verdict, moduleReport } = startEdge();
    deploy(manifestOf({ vision: {} }));
    await advance(5 * SECOND);
    const { schemaVersion, ...wrong } = { ...manifestOf({}), ...change } as JsonObject;
    const version = deploy(
      schemaVersion === null ? wrong : { schemaVersion: schemaVersion ?? "1.1", ...wrong },
    );
    await advance(5 * SECOND);
    expect(verdict()).toMatchObject({ version, code, description: expect.stringContaining(word) });
    expect(moduleReport("vision")).toMatchObject({ runtimeStatus: "running" });
  },
);

test("an invalid manifest is reported with all of its mistakes", async () => {
  const { deploy, advance, verdict } = startEdge();
  deploy(
    manifestOf({
      a: { status: "paused" },
      b: { restartPolicy: "sometimes", startupOrder: -1 },
      c: { settings: { image: "" } },
      d: { settings: { createOptions: "{" } },
      e: { imagePullPolicy: "always" },
      f: { settings: { image: `r.example:5000/f:1.2@sha256:${"0".repeat(64)}` } },
      pinned: { settings: { image: `r.example:5000/f@sha256:${"0".repeat(64)}` } },
    }),
  );
  await advance(5 * SECOND);
  const { code, description } = verdict();
  expect(code).toBe(400);
  for (const path of [
    "a.status",
    "b.restartPolicy",
    "b.startupOrder",
    "c.settings.image",
    "f.settings.image",
    "d.settings.createOptions",
    "e.imagePullPolicy",
  ])
    expect(description).toContain(`modules.${path}`);
  expect(description).not.toContain("modules.pinned");
});

test("createOptions are put together from their pieces, and a gap is a mistake", async () => {
  const { deploy, advance, verdict, moduleReport } = startEdge();
  const [first, second, third] = ['{"Env":', '["A=1"', "]}"];
  deploy(
    manifestOf({
      vision: { settings: { createOptions: first, createOptions01: second, createOptions02: third } },
    }),
  );
  await advance(5 * SECOND);
  expect(verdict().code).toBe(200);
  expect(moduleReport("vision")["settings"]).toMatchObject({ createOptions: first, createOptions02: third });
  deploy(manifestOf({ vision: { settings: { createOptions: "{}", createOptions02: third } } }));
  await advance(5 * SECOND);
  expect(verdict()).toMatchObject({
    code: 400,
    description: expect.stringContaining("createOptions02 follows a gap"),
  });
});

test("modules start in the order of startupOrder, those without one last", async () => {
  const { deploy, advance, starts } = startEdge({ behaviours: [{ effects: { pullTime: "5s" } }] });
  deploy(manifestOf({ late: {}, second: { startupOrder: 2 }, first: { startupOrder: 0 } }));
  await advance(MINUTE);
  expect(starts).toEqual(["first", "second", "late"]);
});

test("a slow pull is reported as cancelled until it is done, and a module runs only then", async () => {
  const { deploy, advance, verdict, moduleReport, inference } = startEdge({
    behaviours: [{ effects: { pullTime: "3m" } }],
  });
  await advance(5 * SECOND);
  const version = deploy(manifestOf({ inference: {} }));
  await advance(2 * MINUTE);
  expect(verdict()).toMatchObject({ version, code: 500, description: expect.stringContaining("cancelled") });
  expect(moduleReport("inference")).toMatchObject({ runtimeStatus: "unknown" });
  // It belongs to those that report from their first day, but its container is not there yet.
  expect(inference("inference")).toBeUndefined();
  await advance(6 * MINUTE);
  expect(verdict()).toMatchObject({ version, code: 200 });
  expect(inference("inference")).toMatchObject({ contract: 1 });
});

test("a module that a manifest names is silent before the agent has even heard of it", async () => {
  const { deploy, advance, inference } = startEdge({ stateDelay: 20 * SECOND });
  deploy(manifestOf({ inference: {} }));
  await advance(15 * SECOND);
  expect(inference("inference")).toBeUndefined();
  await advance(3 * MINUTE);
  expect(inference("inference")).toMatchObject({ contract: 1 });
});

test("an image that cannot be pulled fails alone, is tried again, and runs once the registry is back", async () => {
  const { deploy, advance, verdict, moduleReport, fleet } = startEdge({
    behaviours: [{ effects: { pullFails: { image: "bad:*", message: "no such image" } } }],
  });
  deploy(manifestOf({ bad: {}, good: {} }));
  await advance(10 * SECOND);
  expect(verdict()).toMatchObject({ code: 500, description: "Module bad: pulling bad:1: no such image" });
  expect(moduleReport("good")).toMatchObject({ runtimeStatus: "running" });
  expect(moduleReport("bad")).toMatchObject({ runtimeStatus: "unknown" });
  fleet.setBehaviours([]);
  await advance(MINUTE);
  expect(verdict().code).toBe(200);
  expect(moduleReport("bad")).toMatchObject({ runtimeStatus: "running" });
});

test("imagePullPolicy never takes what is on the device, and nothing else", async () => {
  const { deploy, advance, verdict } = startEdge();
  deploy(manifestOf({ vision: { imagePullPolicy: "never" } }));
  await advance(5 * SECOND);
  expect(verdict()).toMatchObject({ code: 500, description: expect.stringContaining("imagePullPolicy") });
  deploy(manifestOf({ vision: {} }));
  await advance(5 * SECOND);
  deploy(manifestOf({ vision: { imagePullPolicy: "never" } }));
  await advance(5 * SECOND);
  expect(verdict().code).toBe(200);
});

test("a module that crashes again and again backs off longer each time, and fails after twenty restarts", async () => {
  const { deploy, advance, moduleReport, statuses, verdict } = startEdge({
    behaviours: [{ effects: { crashLoop: { every: "1s", exitCode: 137 } } }],
  });
  deploy(manifestOf({ inference: {} }));
  await advance(3 * SECOND);
  expect(moduleReport("inference")).toMatchObject({
    runtimeStatus: "backoff",
    exitCode: 137,
    statusDescription: "Exited (137)",
    restartCount: 0,
  });
  // 10 s and 20 s later, each time a second of running.
  await advance(9 * SECOND);
  expect(moduleReport("inference")).toMatchObject({ runtimeStatus: "running", restartCount: 1 });
  await advance(5 * SECOND);
  expect(moduleReport("inference")).toMatchObject({ runtimeStatus: "backoff", restartCount: 1 });
  await advance(15 * SECOND);
  expect(moduleReport("inference")["restartCount"]).toBe(1);
  await advance(5 * SECOND);
  expect(moduleReport("inference")["restartCount"]).toBe(2);
  // 10 + 20 + 40 + 80 + 160 s, then fifteen times five minutes, and a second of running in each.
  await advance(81 * MINUTE);
  expect(moduleReport("inference")).toMatchObject({ runtimeStatus: "failed", restartCount: 20 });
  expect(new Set(statuses["inference"])).toEqual(new Set(["unknown", "running", "backoff", "failed"]));
  // The manifest was carried out all the same.
  expect(verdict().code).toBe(200);
});

test("a module may be named like something that every object has", async () => {
  const { deploy, advance, reported, verdict } = startEdge();
  const named = JSON.parse('{"__proto__": {}, "constructor": {}}') as Record<string, JsonObject>;
  deploy(manifestOf(named));
  await advance(5 * SECOND);
  expect(verdict().code).toBe(200);
  expect(Object.keys(reported("$edgeAgent")["modules"] as JsonObject).sort()).toEqual([
    "__proto__",
    "constructor",
  ]);
});

test("restarts are forgotten after ten minutes of running well", async () => {
  const { deploy, advance, moduleReport, fleet } = startEdge({
    behaviours: [{ effects: { crashLoop: { every: "30s" } } }],
  });
  deploy(manifestOf({ inference: {} }));
  await advance(MINUTE);
  expect(moduleReport("inference")["restartCount"]).toBe(1);
  fleet.setBehaviours([]);
  await advance(9 * MINUTE);
  expect(moduleReport("inference")["restartCount"]).toBe(1);
  await advance(2 * MINUTE);
  expect(moduleReport("inference")).toMatchObject({ restartCount: 0, runtimeStatus: "running" });
});

test.each([
  ["never", 0, "stopped"],
  ["never", 1, "failed"],
  ["on-failure", 0, "stopped"],
  ["on-failure", 1, "running"],
  ["always", 0, "running"],
  ["on-unhealthy", 0, "running"],
] as const)("restartPolicy %s, exit code %i: %s", async (restartPolicy, exitCode, runtimeStatus) => {
  const { deploy, advance, moduleReport } = startEdge({
    behaviours: [{ effects: { crashLoop: { every: "30s", exitCode } } }],
  });
  deploy(manifestOf({ inference: { restartPolicy } }));
  await advance(50 * SECOND);
  expect(moduleReport("inference")).toMatchObject({ runtimeStatus, exitCode });
});

test("a change of what a container is made of makes it again; a change of its twin does not", async () => {
  const { deploy, advance, moduleReport, hub } = startEdge();
  const started = () => moduleReport("vision")["lastStartTimeUtc"];
  const spec = { startupOrder: 1, settings: { image: "vision:1" } };
  deploy(manifestOf({ vision: spec }));
  await advance(5 * SECOND);
  const seen = [started()];
  const changes = [
    { ...spec, settings: { image: "vision:2" } },
    { ...spec, env: { A: { value: "1" } } },
    { ...spec, settings: { createOptions: '{"A":1}' } },
    { ...spec, restartPolicy: "never" },
    { ...spec, imagePullPolicy: "never" },
    { ...spec, version: "2" },
    { ...spec, startupOrder: 2 },
  ];
  for (const change of changes) {
    deploy(manifestOf({ vision: change }));
    await advance(5 * SECOND);
    expect(seen, JSON.stringify(change)).not.toContain(started());
    seen.push(started());
  }
  const before = started();
  hub.twins.patch(`${EDGE}/vision`, { tags: null, desired: { level: 3 } }, null);
  deploy(manifestOf({ vision: changes.at(-1) ?? {} }));
  await advance(5 * SECOND);
  expect(started()).toBe(before);
});

test("status stopped stops a module, and running starts the same container again", async () => {
  const { deploy, advance, moduleReport, inference } = startEdge();
  deploy(manifestOf({ inference: {} }));
  await advance(2 * MINUTE);
  deploy(manifestOf({ inference: { status: "stopped" } }));
  await advance(5 * SECOND);
  expect(moduleReport("inference")).toMatchObject({
    runtimeStatus: "stopped",
    status: "stopped",
    exitCode: 0,
  });
  expect(moduleReport("inference")["lastExitTimeUtc"]).toBeDefined();
  const silent = inference("inference")?.heartbeatAt;
  await advance(5 * MINUTE);
  expect(inference("inference")?.heartbeatAt).toBe(silent);
  deploy(manifestOf({ inference: {} }));
  await advance(2 * MINUTE);
  expect(moduleReport("inference")).toMatchObject({ runtimeStatus: "running" });
  expect(inference("inference")?.heartbeatAt).not.toBe(silent);
});

test("a module that leaves the manifest is removed and falls silent; its identity stays", async () => {
  const { deploy, advance, reported, inference, hub } = startEdge();
  deploy(manifestOf({ inference: {} }));
  await advance(2 * MINUTE);
  deploy(manifestOf({}));
  await advance(5 * SECOND);
  expect(reported("$edgeAgent")["modules"]).toEqual({});
  const silent = inference("inference")?.heartbeatAt;
  await advance(5 * MINUTE);
  expect(inference("inference")?.heartbeatAt).toBe(silent);
  expect(hub.registry.get(EDGE, "inference")).toBeDefined();
});

test("only what has changed is reported: pushing the same again moves the version alone", async () => {
  const { deploy, advance, patches } = startEdge();
  deploy(manifestOf({ vision: {} }));
  await advance(10 * SECOND);
  patches.length = 0;
  const version = deploy(manifestOf({ vision: {} }));
  await advance(10 * MINUTE);
  expect(patches.map(({ reported }) => reported)).toEqual([{ lastDesiredVersion: version }]);
});

test("an agent that is shut down says 406, and what it does not know of its modules; its modules go on", async () => {
  const { deploy, advance, verdict, moduleReport, inference, fleet, call } = startEdge();
  deploy(manifestOf({ inference: {} }));
  await advance(2 * MINUTE);
  const rules = startEdge({ behaviours: [{ effects: { agentStopped: true } }] }).fleet.behaviours();
  fleet.setBehaviours(rules);
  await advance(SECOND);
  expect(verdict()).toMatchObject({ code: 406, description: "Agent is not running" });
  expect(moduleReport("inference")).toMatchObject({ runtimeStatus: "unknown" });
  expect(await call("ping")).toMatchObject({ refused: 404 });
  const before = inference("inference")?.heartbeatAt ?? "";
  const version = deploy(manifestOf({ inference: {}, vision: {} }));
  await advance(3 * MINUTE);
  expect(Date.parse(inference("inference")?.heartbeatAt ?? "")).toBeGreaterThan(Date.parse(before));
  expect(verdict().code).toBe(406);
  fleet.setBehaviours([]);
  await advance(5 * SECOND);
  expect(verdict()).toMatchObject({ version, code: 200 });
  expect(moduleReport("vision")).toMatchObject({ runtimeStatus: "running" });
});

test("an agent that was offline reads its twin when it is back", async () => {
  const { deploy, advance, verdict, call } = startEdge({
    behaviours: [{ effects: { offline: { from: "1m", for: "3d" } } }],
  });
  await advance(3 * MINUTE);
  const version = deploy(manifestOf({ vision: {} }));
  await advance(24 * 60 * MINUTE);
  expect(verdict()).toMatchObject({ code: 417 });
  expect(await call("ping")).toMatchObject({ refused: 404 });
  await advance(2 * 24 * 60 * MINUTE + 5 * MINUTE);
  expect(verdict()).toMatchObject({ version, code: 200 });
  expect(await call("ping")).toMatchObject({ status: 200 });
});

test("edgeHub says who is connected and since when", async () => {
  const { deploy, advance, reported, hub } = startEdge();
  deploy(manifestOf({ vision: {} }));
  hub.twins.patch(`${EDGE}/$edgeHub`, { tags: null, desired: { schemaVersion: "1.1" } }, null);
  await advance(5 * SECOND);
  expect(reported("$edgeHub")).toMatchObject({
    schemaVersion: "1.0",
    version: { version: expect.any(String) },
    lastDesiredVersion: 2,
    lastDesiredStatus: { code: 200 },
    clients: {
      [`${EDGE}/%24edgeAgent`]: { status: "Connected", lastConnectedTimeUtc: at(0) },
      [`${EDGE}/vision`]: { status: "Connected" },
    },
  });
  deploy(manifestOf({ vision: { status: "stopped" } }));
  hub.twins.patch(`${EDGE}/$edgeHub`, { tags: null, desired: { schemaVersion: "3.0" } }, null);
  await advance(5 * SECOND);
  expect(reported("$edgeHub")).toMatchObject({
    lastDesiredVersion: 3,
    lastDesiredStatus: { code: 412 },
    clients: { [`${EDGE}/vision`]: { status: "Disconnected", lastDisconnectedTimeUtc: expect.any(String) } },
  });
});

test("a program that takes the agent's identity has the modules to itself, until it leaves", async () => {
  const { deploy, advance, reported, links, inference, verdict, call } = startEdge({
    behaviours: [{ effects: { pullTime: "10m" } }],
  });
  await advance(5 * SECOND);
  const taken = links.connect(
    { deviceId: EDGE, moduleId: "$edgeAgent" },
    { desired: () => {}, closed: () => {} },
    null,
  );
  expect(taken.ok).toBe(true);
  const before = reported("$edgeAgent");
  deploy(manifestOf({ inference: {} }));
  await advance(5 * MINUTE);
  expect(reported("$edgeAgent")).toBe(before);
  expect(inference("inference")).toMatchObject({ contract: 1 });
  expect(await call("ping")).toMatchObject({ refused: 404 });
  if (taken.ok) links.close(taken.value);
  await advance(SECOND);
  expect(await call("ping")).toMatchObject({ status: 200 });
  await advance(25 * MINUTE);
  expect(verdict()).toMatchObject({ code: 200 });
});
