import iothub from "azure-iothub";
import { afterEach, expect, test } from "vitest";
import { createManualClock } from "../../simulator/base/clock.ts";
import { createSimulator, type Simulator, type SimulatorSetup } from "../../simulator/simulator.ts";
import { controlCall } from "../../simulator/testing/control-client.ts";
import {
  type ClientError,
  connectRegistry,
  problemOf,
  redirect,
  statusOf,
} from "../../simulator/testing/service-client.ts";

// Budgets, the daily quota and tiers, as the vendor's client meets them.

const NOON = Date.parse("2026-03-01T12:00:00Z");
const running: Simulator[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((simulator) => simulator.stop()));
});

async function startHub(setup: SimulatorSetup = {}) {
  const simulator = createSimulator({
    autoStart: false,
    clock: createManualClock(NOON),
    ...setup,
  });
  running.push(simulator);
  const endpoint = await simulator.start();
  return {
    simulator,
    registry: connectRegistry(endpoint),
    client: redirect(iothub.Client.fromConnectionString(endpoint.connectionString), endpoint),
    counters: async () => (await controlCall(endpoint, "GET", "counters")).body as Record<string, unknown>,
    sim: (method: string, path: string, body?: unknown) => controlCall(endpoint, method, path, body),
  };
}

const ALL = "SELECT * FROM devices";
const statusOfProblem = (problem: ClientError) => problem.response?.statusCode;

test("a budget that is spent gives 429 at once, and no Retry-After unless it is asked for", async () => {
  const plain = await startHub();
  const asked = await startHub({ retryAfter: 12 });
  for (const { registry } of [plain, asked])
    for (let index = 0; index < 20; index++) await registry.createQuery(ALL).next("");
  const refused = await problemOf(plain.registry.createQuery(ALL).next(""));
  expect(refused).toMatchObject({ name: "ThrottlingError", response: { statusCode: 429 } });
  expect(refused.responseBody).toContain("ThrottlingException");
  expect(refused.response?.headers["retry-after"]).toBeUndefined();
  const throttled = await problemOf(asked.registry.createQuery(ALL).next(""));
  expect(throttled.response?.headers["retry-after"]).toBe("12");
});

test("where traffic is shaped, requests beyond a burst are late, and 429 comes when the queue is full", async () => {
  const { simulator, registry } = await startHub({ shaping: "queue" });
  for (let index = 0; index < 20; index++) await registry.createQuery(ALL).next("");
  const answers: string[] = [];
  const asked = [1, 2, 3, 4].map(async () => {
    const status = await registry
      .createQuery(ALL)
      .next("")
      .then(() => 200, statusOfProblem);
    answers.push(`${status} at ${(simulator.clock.now() - NOON) / 1000}s`);
  });
  // The queue has room for three of them, and time stands still.
  await Promise.race(asked);
  expect(answers).toEqual(["429 at 0s"]);
  await simulator.advance(10_000);
  await Promise.all(asked);
  expect(answers).toEqual(["429 at 0s", ...Array(3).fill("200 at 10s")]);
});

test("the quota of the day: metered operations get 403 until midnight, identities and configurations go on", async () => {
  const { simulator, registry, client, counters } = await startHub({ dailyQuota: 5 });
  await registry.create({ deviceId: "cam-1" });
  await registry.getTwin("cam-1");
  await registry.updateTwin("cam-1", { tags: { n: 1 } }, "*");
  await registry.createQuery(ALL).next("");
  const call = { methodName: "ping", payload: "x".repeat(5000) };
  expect(await statusOf(client.invokeDeviceMethod("cam-1", call))).toBe(404);
  expect(await counters()).toMatchObject({
    quota: {
      day: "2026-03-01",
      limit: 5,
      messages: 5,
      left: 0,
      classes: { twinRead: 1, twinWrite: 1, query: 1, methodRequest: 2, methodResponse: 0 },
    },
  });
  for (const metered of [
    () => registry.getTwin("cam-1"),
    () => registry.updateTwin("cam-1", { tags: { n: 2 } }, "*"),
    () => registry.createQuery(ALL).next(""),
    () => client.invokeDeviceMethod("cam-1", call),
    () => registry.applyConfigurationContentOnDevice("cam-1", { modulesContent: {} }),
  ]) {
    const refused = await problemOf(metered());
    expect(refused.response?.statusCode).toBe(403);
    expect(refused.response?.headers["iothub-errorcode"]).toBe("IotHubQuotaExceeded");
  }
  await registry.create({ deviceId: "cam-2" });
  await registry.getConfigurations();
  expect(await counters()).toMatchObject({ quota: { messages: 5 } });
  await simulator.advance(12 * 3_600_000);
  expect((await registry.getTwin("cam-1")).responseBody.deviceId).toBe("cam-1");
  expect(await counters()).toMatchObject({ quota: { day: "2026-03-02", messages: 1, left: 4 } });
});

test("a result of many pages costs what it weighs, and what is refused costs nothing", async () => {
  const { registry, counters } = await startHub({ tier: "S3" });
  await registry.create({ deviceId: "cam-1" });
  await registry.updateTwin("cam-1", { tags: { text: "x".repeat(4000) } }, "*");
  await registry.getTwin("cam-1");
  expect(await statusOf(registry.getTwin("none"))).toBe(404);
  expect(await statusOf(registry.updateTwin("cam-1", { tags: {} }, "stale"))).toBe(412);
  expect(await counters()).toMatchObject({ quota: { messages: 3, classes: { twinRead: 2, twinWrite: 1 } } });
});

test("there is no quota without throttling, nor with --no-quota, but for one that is given", async () => {
  const limitOf = async (setup: SimulatorSetup) => (await (await startHub(setup)).counters())["quota"];
  expect(await limitOf({})).toMatchObject({ limit: 400_000 });
  expect(await limitOf({ throttling: false })).toMatchObject({ limit: null });
  expect(await limitOf({ throttling: false, dailyQuota: 7 })).toMatchObject({ limit: 7 });
  expect(await limitOf({ quota: false })).toMatchObject({ limit: null });
});

test("messages to devices and what devices do count, the latter only where devices are charged", async () => {
  const free = await startHub({ autoStart: true });
  const charged = await startHub({ autoStart: true, chargeDevices: true });
  for (const { simulator, registry, sim } of [free, charged]) {
    await registry.create({ deviceId: "cam-1" });
    await sim("POST", "messages", { device: "cam-1", body: "x".repeat(4097) });
    await registry.updateTwin("cam-1", { properties: { desired: { a: 1 } } }, "*");
    await simulator.advance(60_000);
  }
  expect(await free.counters()).toMatchObject({
    quota: { messages: 3, classes: { cloudMessage: 2, twinWrite: 1, twinRead: 0, desiredNotification: 0 } },
  });
  const { quota } = (await charged.counters()) as { quota: { classes: Record<string, number> } };
  expect(quota.classes["desiredNotification"]).toBe(1);
  expect(quota.classes["twinRead"]).toBeGreaterThan(0);
  expect(quota.classes["twinWrite"]).toBeGreaterThan(1);
});

test("a basic tier has identities, and no twins, queries, methods, modules, configurations or edge", async () => {
  const { registry, client, sim } = await startHub({ tier: "B1" });
  await registry.create({ deviceId: "cam-1" });
  expect((await registry.list()).responseBody).toHaveLength(1);
  expect(await registry.listJobs()).toMatchObject({ responseBody: [] });
  for (const missing of [
    () => registry.getTwin("cam-1"),
    () => registry.updateTwin("cam-1", { tags: { n: 1 } }, "*"),
    () => registry.createQuery(ALL).next(""),
    () => registry.getConfigurations(),
    () => registry.addModule({ deviceId: "cam-1", moduleId: "m" }),
    () => registry.create({ deviceId: "edge-1", capabilities: { iotEdge: true } }),
    () => registry.addDevices([{ deviceId: "edge-2", capabilities: { iotEdge: true } }]),
    () => client.invokeDeviceMethod("cam-1", { methodName: "ping" }),
  ]) {
    const refused = await problemOf(missing());
    expect(refused.response?.headers["iothub-errorcode"]).toBe("OperationNotAvailableInCurrentTier");
    expect(refused.response?.statusCode).toBe(403);
  }
  expect((await sim("POST", "messages", { device: "cam-1" })).status).toBe(403);
  expect((await registry.list()).responseBody).toHaveLength(1);
});
