import { afterEach, expect, test } from "vitest";
import { createManualClock } from "../base/clock.ts";
import { createSimulator, type Simulator, type SimulatorSetup } from "../simulator.ts";
import { controlCall } from "../testing/control-client.ts";
import { connectRegistry, problemOf, statusOf } from "../testing/service-client.ts";

const START = Date.parse("2026-03-01T12:00:00Z");
const running: Simulator[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((simulator) => simulator.stop()));
});

async function startHub(setup: SimulatorSetup = {}) {
  const simulator = createSimulator({ tier: "S3", download: "skip", ...setup });
  running.push(simulator);
  const endpoint = await simulator.start();
  const registry = connectRegistry(endpoint, endpoint.connectionString, 400);
  return {
    simulator,
    endpoint,
    registry,
    sim: (method: string, path: string, body?: unknown) => controlCall(endpoint, method, path, body),
  };
}

test("faults answer with a status for as many requests as they were given", async () => {
  const { registry, sim } = await startHub();
  const fault = { kind: "status", status: 503, retryAfter: 7, operations: ["twinRead"], until: 2 };
  await registry.create({ deviceId: "cam-1" });
  expect((await sim("POST", "faults", fault)).status).toBe(200);
  const problem = await problemOf(registry.getTwin("cam-1"));
  expect(problem).toMatchObject({ name: "ServiceUnavailableError", response: { statusCode: 503 } });
  expect(problem.response?.headers["retry-after"]).toBe("7");
  expect((await registry.get("cam-1")).responseBody.deviceId).toBe("cam-1");
  expect(await statusOf(registry.getTwin("cam-1"))).toBe(503);
  expect((await registry.getTwin("cam-1")).responseBody.deviceId).toBe("cam-1");
});

test("a hanging hub runs into the client's deadline, and a reset breaks the connection", async () => {
  const { registry, sim } = await startHub();
  await sim("POST", "faults", { id: "mute", kind: "hang", operations: ["identity.get"] });
  expect((await problemOf(registry.get("cam-1"))).code).toBe("ETIMEDOUT");
  expect((await sim("DELETE", "faults/mute")).status).toBe(204);
  await sim("POST", "faults", { kind: "reset", operations: ["*"], devices: "cam-*" });
  expect((await problemOf(registry.get("cam-1"))).code).toBe("ECONNRESET");
  expect(await statusOf(registry.get("other"))).toBe(404);
  const { body } = await sim("GET", "counters");
  expect(body).toMatchObject({
    operations: { "identity.get": { total: 3, results: { hang: 1, reset: 1, 404: 1 } } },
  });
});

test("an answer can be lost after the deed", async () => {
  const { registry, sim } = await startHub();
  await sim("POST", "faults", { kind: "reset", operations: ["identity.create"], when: "after", until: 1 });
  expect((await problemOf(registry.create({ deviceId: "cam-1" }))).code).toBe("ECONNRESET");
  expect(await statusOf(registry.create({ deviceId: "cam-1" }))).toBe(409);
});

test("stale queries see what was, while twins are current", async () => {
  const { registry, sim } = await startHub();
  await registry.create({ deviceId: "cam-1" });
  await registry.updateTwin("cam-1", { tags: { n: 1 } } as never, "*");
  const query = async () => (await registry.createQuery("SELECT tags.n AS n FROM devices").next("")).result;
  expect(await query()).toEqual([{ n: 1 }]);
  await sim("POST", "faults", { id: "old", kind: "stale", milliseconds: "1h" });
  await registry.updateTwin("cam-1", { tags: { n: 2 } } as never, "*");
  expect(await query()).toEqual([{ n: 1 }]);
  await sim("DELETE", "faults");
  expect(await query()).toEqual([{ n: 2 }]);
});

test("half of the requests fail at fifty percent, the same ones for the same seed", async () => {
  const run = async () => {
    const { registry, sim } = await startHub({ seed: 5 });
    await sim("POST", "faults", { kind: "status", status: 500, percent: 50 });
    const failed: boolean[] = [];
    for (let index = 0; index < 40; index++) failed.push((await statusOf(registry.get("none"))) === 500);
    return failed;
  };
  const first = await run();
  expect(first.filter(Boolean).length).toBeGreaterThan(10);
  expect(first.filter(Boolean).length).toBeLessThan(30);
  expect(await run()).toEqual(first);
});

test("counters have operations, results and writes, and can be reset", async () => {
  const { registry, sim } = await startHub({ autoStart: false });
  await registry.create({ deviceId: "cam-1" });
  await registry.updateTwin("cam-1", { tags: { n: 1 } } as never, "*");
  await statusOf(registry.updateTwin("cam-1", { tags: { n: 1 } } as never, "wrong"));
  await registry.addConfiguration({
    id: "c",
    content: { deviceContent: { "properties.desired.a": 1 } },
    targetCondition: "*",
  } as never);
  const { body } = await sim("GET", "counters");
  expect(body).toMatchObject({
    writes: { identity: 1, twin: 1, configuration: 1 },
    classes: { twinWrite: { total: 2, results: { 200: 1, 412: 1 } } },
    operations: { "configuration.create": { total: 1 } },
    evaluation: { runs: 1, twinWrites: 1 },
  });
  expect((await sim("DELETE", "counters")).status).toBe(204);
  expect((await sim("GET", "counters")).body).toMatchObject({ writes: { twin: 0 } });
});

test("behaviours are put, added to and listed, and the fleet can be looked at", async () => {
  const { registry, sim } = await startHub();
  await registry.create({ deviceId: "cam-1" });
  const offline = { match: { deviceId: "cam-*" }, effects: { offline: true } };
  expect((await sim("GET", "fleet?devices=5")).body).toMatchObject({
    devices: 1,
    reachable: 1,
    list: [{ deviceId: "cam-1", connected: true }],
  });
  await sim("PUT", "fleet", { behaviours: [offline] });
  await sim("POST", "fleet/behaviours", [{ effects: { errorRate: 0.1 } }]);
  expect((await sim("GET", "fleet")).body).toMatchObject({
    reachable: 0,
    behaviours: [offline, { effects: { errorRate: 0.1 } }],
  });
});

test("the fleet names its configurations, and its identities with their tags and pointers, but no url", async () => {
  const { registry, sim } = await startHub();
  await registry.create({ deviceId: "cam-1" });
  await registry.updateTwin("cam-1", { tags: { line: "7" }, properties: { desired: { other: 1 } } }, "*");
  const model = { release: "plant.digits-1", url: "https://store/model?sig=secret" };
  await registry.create({ deviceId: "cam-2", capabilities: { iotEdge: true } });
  await registry.addModule({ deviceId: "cam-2", moduleId: "inference" });
  await registry.updateModuleTwin("cam-2", "inference", { properties: { desired: { model } } }, "*");
  const content = { deviceContent: { "properties.desired.other": 2 } };
  await registry.addConfiguration({ id: "one", content, targetCondition: "*", schemaVersion: "1.0" });
  const { body } = await sim("GET", "fleet?devices=10");
  expect(body).toMatchObject({
    configurations: ["one"],
    identities: [
      { deviceId: "cam-1", enabled: true, tags: { line: "7" }, pointers: [] },
      { deviceId: "cam-2", pointers: [{ module: "inference", release: "plant.digits-1" }] },
    ],
  });
  expect(JSON.stringify(body)).not.toContain("secret");
});

test("a virtual clock can be advanced, and a real one cannot", async () => {
  const virtual = await startHub({ clock: createManualClock(START) });
  expect((await virtual.sim("POST", "clock", { advanceMilliseconds: 90_000 })).body).toEqual({
    now: "2026-03-01T12:01:30.000Z",
    virtual: true,
  });
  expect(await statusOf(virtual.registry.get("none"))).toBe(404);
  expect((await (await startHub()).sim("POST", "clock", { advanceMilliseconds: 1 })).status).toBe(409);
});

test("mistakes are reported all at once, with their places", async () => {
  const { sim } = await startHub();
  const fault = await sim("POST", "faults", { kind: "explode", percent: 200, until: "soon", colour: "red" });
  expect(fault.status).toBe(400);
  expect(fault.body.problems).toEqual([
    expect.stringContaining("kind must be one of"),
    expect.stringContaining("percent must be a number"),
    expect.stringContaining("until must be"),
    "colour is not known",
  ]);
  const rules = await sim("PUT", "fleet", [
    { match: { colour: "red" }, effects: { latency: { p50: 9, p95: 1 }, failAt: { state: "Never" } } },
    { match: {} },
  ]);
  expect(rules.body.problems).toEqual([
    expect.stringContaining("behaviours[0].effects.latency.p95"),
    expect.stringContaining("behaviours[0].effects.failAt.state must be one of"),
    "behaviours[0].match.colour is not known",
    "behaviours[1].effects is needed",
  ]);
  expect((await sim("PUT", "fleet", "{")).body.problems).toEqual(["a list of behaviours is expected"]);
  expect((await sim("GET", "nothing")).status).toBe(404);
  expect((await sim("PATCH", "faults")).status).toBe(405);
});
