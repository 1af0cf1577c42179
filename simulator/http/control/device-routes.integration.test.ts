import { afterEach, expect, test } from "vitest";
import { createSimulator, type Simulator, type SimulatorSetup } from "../../simulator.ts";
import { controlCall } from "../../testing/control-client.ts";

const running: Simulator[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((simulator) => simulator.stop()));
});

async function startHub(setup: SimulatorSetup = {}) {
  const simulator = createSimulator({ tier: "S3", download: "skip", autoStart: false, ...setup });
  running.push(simulator);
  const endpoint = await simulator.start();
  const { hub, links } = simulator;
  const connect = (deviceId: string) => {
    const session = links.connect({ deviceId, moduleId: null }, { desired() {}, closed() {} }, null);
    if (!session.ok) throw new Error(session.refusal.message);
    return session.value;
  };
  return {
    hub,
    links,
    connect,
    get: async (path: string) => (await controlCall(endpoint, "GET", path)).body as Record<string, unknown>,
    status: async (path: string) => (await controlCall(endpoint, "GET", path)).status,
  };
}

test("devices come by id, a page at a time, those that have every word and the state that is asked for", async () => {
  const { hub, get, connect, links } = await startHub();
  for (const id of ["b", "c", "a", "d"]) hub.registry.putDevice(id, {}, null);
  hub.twins.patch("c", { tags: { edgefleet: { site: "Harbour", class: "jetson" } }, desired: null }, null);
  const ids = async (query: string) => {
    const { total, devices } = await get(`devices${query}`);
    return [
      total,
      (devices as readonly { readonly deviceId: string }[]).map(({ deviceId }) => deviceId).join(),
    ];
  };
  expect(await ids("")).toEqual([4, "a,b,c,d"]);
  expect(await ids("?offset=1&limit=2")).toEqual([4, "b,c"]);
  expect(await ids("?search=harb%20JET")).toEqual([1, "c"]);
  expect(await ids("?search=harb%20none")).toEqual([0, ""]);
  links.report(connect("d"), { inference: { active: { release: "plant.r-1" } } });
  expect(await ids("?state=running&search=r-1")).toEqual([1, "d"]);
  expect(await ids("?state=offline")).toEqual([3, "a,b,c"]);
  // What happens after the first look is seen too.
  hub.registry.removeDevice("a", null);
  hub.registry.putDevice("e", {}, null);
  hub.registry.putDevice("b", { status: "disabled" }, { any: true, etag: "*" });
  expect(await ids("?state=offline")).toEqual([2, "c,e"]);
  expect(await ids("?state=disabled")).toEqual([1, "b"]);
});

test("a device is in the state that its identity, its link and the worst of its reports say", async () => {
  const { hub, links, connect, get } = await startHub();
  hub.registry.putDevice("cam", { capabilities: { iotEdge: true } }, null);
  const state = async () => (await get("devices/cam"))["state"];
  expect(await state()).toBe("offline");
  const session = connect("cam");
  expect(await state()).toBe("idle");
  links.report(session, { inference: { active: { release: "r-1" }, update: { state: "Running" } } });
  expect(await state()).toBe("running");
  hub.registry.putModule("cam", "second", {}, null);
  const module = links.connect({ deviceId: "cam", moduleId: "second" }, { desired() {}, closed() {} }, null);
  if (!module.ok) throw new Error(module.refusal.message);
  links.report(module.value, { inference: { update: { state: "Loading" } } });
  expect(await state()).toBe("updating");
  links.report(module.value, { inference: { update: { state: "Failed", error: { code: "OutOfMemory" } } } });
  expect(await get("devices/cam")).toMatchObject({ state: "failed", error: "OutOfMemory" });
  links.close(session);
  expect(await state()).toBe("failed");
  links.close(module.value);
  expect(await state()).toBe("offline");
});

test("one device is shown with its modules and newest events, without its secrets", async () => {
  const { hub, get, status } = await startHub();
  hub.registry.putDevice("cam", { capabilities: { iotEdge: true } }, null);
  hub.registry.putDevice("other", {}, null);
  const model = { release: "r-1", url: "https://store/a.onnx?sig=c2VjcmV0" };
  hub.twins.patch("cam", { tags: { line: "7" }, desired: { model } }, null);
  hub.twins.patch("other", { tags: { line: "8" }, desired: null }, null);
  const device = await get("devices/cam");
  expect(device).toMatchObject({
    tags: { line: "7" },
    desired: { version: 2, value: { model: { release: "r-1", url: "https://store/a.onnx?sig=(hidden)" } } },
    modules: [{ moduleId: "$edgeAgent" }, { moduleId: "$edgeHub" }],
  });
  const events = device["events"] as readonly { readonly device: string; readonly text: string }[];
  expect(events[0]).toMatchObject({ device: "cam", text: "updateTwin · tags line · desired model" });
  expect(new Set(events.map((event) => event.device))).toEqual(new Set(["cam"]));
  const { symmetricKey } = hub.registry.get("cam", null)?.authentication ?? {};
  expect(JSON.stringify(device)).not.toContain(symmetricKey?.primaryKey);
  expect(await status("devices/none")).toBe(404);
  expect(await status("devices/cam%2F%24edgeHub")).toBe(404);
});

test("the overview counts devices, outcomes and budgets, and ends with the newest events", async () => {
  const { hub, get } = await startHub({ tier: "S1" });
  for (let index = 0; index < 15; index++) {
    const id = `cam-${index}`;
    hub.registry.putDevice(id, {}, null);
    hub.twins.patch(id, { tags: { site: index < 3 ? "big" : `site-${index}` }, desired: null }, null);
  }
  hub.configurations.put(
    "c",
    { content: { deviceContent: { "properties.desired.a": 1 } }, targetCondition: "*", priority: 3 },
    null,
  );
  for (const result of [200, 404, 412, 429, 503, "reset"] as const)
    hub.counters.request("twinRead", "twin.get", result, 1);
  hub.throttle.take("twinWrite", 50);
  const overview = await get("overview");
  expect(overview).toMatchObject({
    virtualClock: false,
    hub: { hostName: "simhub.azure-devices.net", tier: "S1", units: 1 },
    devices: { total: 15, states: { offline: 15, running: 0 }, sites: { distinct: 13 } },
    operations: { classes: { twinRead: { total: 6, throttled: 1, refused: 2, failed: 2 } } },
    configurations: [
      {
        id: "c",
        kind: "device",
        priority: 3,
        condition: "*",
        metrics: { targetedCount: 15, appliedCount: 15 },
      },
    ],
    jobs: { total: 0, newest: [] },
  });
  const { sites } = overview["devices"] as { sites: { largest: readonly unknown[] } };
  expect([sites.largest.length, sites.largest[0]]).toEqual([12, { name: "big", count: 3 }]);
  const budgets = overview["budgets"] as readonly { name: string; left: number; capacity: number }[];
  const twinWrite = budgets.find(({ name }) => name === "twinWrite");
  expect(twinWrite?.capacity).toBe(250);
  expect(twinWrite?.left).toBeLessThan(250);
  const events = overview["events"] as readonly { readonly sequenceNumber: number }[];
  expect(events.length).toBe(25);
  expect(events[0]?.sequenceNumber).toBe(hub.events.newest());
  const only = (await get("overview?source=deviceLifecycleEvents"))["events"] as readonly { text: string }[];
  expect(new Set(only.map(({ text }) => text))).toEqual(new Set(["createDeviceIdentity"]));
});
