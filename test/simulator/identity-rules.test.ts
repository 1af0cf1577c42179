import { afterEach, expect, test } from "vitest";
import { createSimulator, type Simulator, type SimulatorOptions } from "../../simulator/simulator.ts";
import { deviceClient } from "../../simulator/testing/device-client.ts";
import { connectRegistry, problemOf, rawCall, statusOf } from "../../simulator/testing/service-client.ts";

// What the registry lets be written, and how it says no, by the real client and by requests that it cannot make.

const running: Simulator[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((simulator) => simulator.stop()));
});

async function startHub(options: Partial<SimulatorOptions> = {}) {
  const simulator = createSimulator({ tier: "S3", autoStart: false, ...options });
  running.push(simulator);
  const endpoint = await simulator.start();
  const registry = connectRegistry(endpoint);
  const call = (method: string, path: string, body: unknown = null, headers: Record<string, string> = {}) =>
    rawCall(registry, method, path, body, headers);
  return { simulator, hub: simulator.hub, endpoint, registry, call };
}

type Scoped = {
  readonly deviceScope: string;
  readonly parentScopes?: readonly string[];
  readonly etag: string;
};
const EDGE = { capabilities: { iotEdge: true } };

async function codeOf(work: Promise<unknown>): Promise<string | undefined> {
  return (await problemOf(work)).response?.headers["iothub-errorcode"];
}

test("a leaf takes its parent's scope, an edge child names its parent, and the children can be asked for", async () => {
  const { registry } = await startHub();
  const create = async (device: object) =>
    (await registry.create(device as never)).responseBody as unknown as Scoped;
  const top = await create({ deviceId: "top", ...EDGE });
  const child = await create({ deviceId: "child", ...EDGE, parentScopes: [top.deviceScope] });
  const leaf = await create({ deviceId: "leaf", deviceScope: top.deviceScope });
  expect(child.deviceScope).not.toBe(top.deviceScope);
  expect(child.parentScopes).toEqual([top.deviceScope]);
  expect(leaf).toMatchObject({ deviceScope: top.deviceScope, parentScopes: [top.deviceScope] });
  const text = `SELECT deviceId FROM devices WHERE array_contains(parentScopes, '${top.deviceScope}')`;
  const page = await registry.createQuery(text).next("");
  expect(page.result).toEqual([{ deviceId: "child" }, { deviceId: "leaf" }]);
});

test("a scope that is unknown, one's own or a second one is refused, and the own one never changes", async () => {
  const { registry } = await startHub();
  const top = (await registry.create({ deviceId: "top", ...EDGE } as never))
    .responseBody as unknown as Scoped;
  const other = (await registry.create({ deviceId: "other", ...EDGE } as never))
    .responseBody as unknown as Scoped;
  const unknownScope = top.deviceScope.replace("top", "other");
  for (const bad of [
    { deviceId: "leaf", deviceScope: unknownScope },
    { deviceId: "leaf", deviceScope: "top" },
    { deviceId: "edge", ...EDGE, parentScopes: [unknownScope] },
    { deviceId: "edge", ...EDGE, parentScopes: [top.deviceScope, other.deviceScope] },
  ])
    expect(await codeOf(registry.create(bad as never)), JSON.stringify(bad)).toBe("InvalidDeviceScope");
  const update = (change: object) =>
    registry.update({ ...JSON.parse(JSON.stringify(top)), ...change } as never);
  expect(await codeOf(update({ deviceScope: other.deviceScope }))).toBe("InvalidDeviceScope");
  expect(await codeOf(update({ parentScopes: [top.deviceScope] }))).toBe("InvalidDeviceScope");
  const left = (await update({ deviceScope: undefined })).responseBody as unknown as Scoped;
  expect(left.deviceScope).toBe(top.deviceScope);
  await registry.delete("other");
  expect(await codeOf(registry.create({ deviceId: "leaf", deviceScope: other.deviceScope } as never))).toBe(
    "InvalidDeviceScope",
  );
});

test("an update replaces: a reason, a parent and keys that are left out are gone", async () => {
  const { registry } = await startHub();
  const top = (await registry.create({ deviceId: "top", ...EDGE } as never))
    .responseBody as unknown as Scoped;
  const written = {
    deviceId: "leaf",
    status: "disabled",
    statusReason: "broken",
    deviceScope: top.deviceScope,
  };
  const before = (await registry.create(written as never)).responseBody;
  const after = (await registry.update({ deviceId: "leaf" })).responseBody as unknown as Record<
    string,
    unknown
  >;
  expect(after).toMatchObject({ status: "enabled", statusReason: null });
  expect(after["deviceScope"] ?? null).toBeNull();
  expect(after["authentication"]).not.toEqual(before.authentication);
});

test("fifty modules fit on a device, and those of the edge runtime do not count", async () => {
  const { registry, hub } = await startHub();
  await registry.create({ deviceId: "edge", ...EDGE } as never);
  for (let index = 0; index < 50; index++)
    await registry.addModule({ deviceId: "edge", moduleId: `m-${index}` } as never);
  const problem = await problemOf(registry.addModule({ deviceId: "edge", moduleId: "m-50" } as never));
  expect(problem.response?.statusCode).toBe(413);
  expect(problem.response?.headers["iothub-errorcode"]).toBe("TooManyModulesOnDevice");
  expect(hub.registry.modulesOf("edge").length).toBe(52);
});

test("a reason has at most 128 characters, and an id none that the hub does not take", async () => {
  const { registry, call } = await startHub();
  await registry.create({ deviceId: "a", statusReason: "x".repeat(128) } as never);
  expect(await statusOf(registry.create({ deviceId: "b", statusReason: "x".repeat(129) } as never))).toBe(
    400,
  );
  for (const id of ["a b", "a+b", "a#b", "ä", "x".repeat(129)])
    expect(await statusOf(registry.create({ deviceId: id })), id).toBe(400);
  expect(await codeOf(call("PUT", "/devices/b", { deviceId: "c" }))).toBe("ArgumentInvalid");
  expect(await codeOf(call("PUT", "/devices/b", { deviceId: "b", status: "sleeping" }))).toBe(
    "ArgumentInvalid",
  );
});

test("If-Match decides whether a write creates, overwrites or compares", async () => {
  const { call } = await startHub();
  const body = { deviceId: "a" };
  const put = (ifMatch: string | null) =>
    call("PUT", "/devices/a", body, ifMatch === null ? {} : { "If-Match": ifMatch });
  expect(await codeOf(put('"*"'))).toBe("DeviceNotFound");
  const first = (await put(null)) as Scoped;
  expect(await codeOf(put(null))).toBe("DeviceAlreadyExists");
  const second = (await put(`"${first.etag}"`)) as Scoped;
  expect(second.etag).not.toBe(first.etag);
  expect(await statusOf(put(`"${first.etag}"`))).toBe(412);
  await put('"*"');
  expect(await statusOf(call("DELETE", "/devices/a", null, { "If-Match": `"${first.etag}"` }))).toBe(412);
  await call("DELETE", "/devices/a", null, { "If-Match": '"*"' });
});

test("a bulk request writes the twins that it brings; where it cannot, the identity stands and a warning says so", async () => {
  const { registry, call } = await startHub();
  const first = { id: "a", importMode: "create", tags: { site: "x" }, properties: { desired: { n: 1 } } };
  const bad = { id: "b", importMode: "create", tags: { "no.dots": 1 } };
  expect(await call("POST", "/devices", [first, bad])).toEqual({
    isSuccessful: true,
    errors: [],
    warnings: [
      {
        deviceId: "b",
        warningCode: "DeviceRegisteredWithoutTwin",
        warningStatus: expect.stringContaining("tags.no.dots"),
      },
    ],
  });
  const twin = (await registry.getTwin("a")).responseBody;
  expect(twin.tags).toEqual({ site: "x" });
  expect(twin.properties.desired["n"]).toBe(1);
  await registry.get("b");

  const etag = (await registry.getTwin("b")).responseBody.etag;
  const guarded = { id: "b", importMode: "updateTwinIfMatchETag", twinETag: etag, tags: { site: "y" } };
  expect(await call("POST", "/devices", [guarded])).toMatchObject({ isSuccessful: true });
  const again = await problemOf(
    call("POST", "/devices", [guarded, { id: "a", importMode: "updateTwin", tags: { z: 1 } }]),
  );
  expect(JSON.parse(again.responseBody ?? "")).toMatchObject({
    isSuccessful: false,
    errors: [{ deviceId: "b", errorCode: "PreconditionFailed", operation: "updateTwinIfMatchETag" }],
  });
  expect((await registry.getTwin("a")).responseBody.tags).toEqual({ site: "x", z: 1 });
});

test("a device may be in a bulk request once, beside its modules", async () => {
  const { call, registry } = await startHub();
  const twice = [
    { id: "a", importMode: "create" },
    { id: "a", importMode: "delete" },
  ];
  expect(await codeOf(call("POST", "/devices", twice))).toBe("DeviceDefinedMultipleTimes");
  expect(await statusOf(registry.get("a"))).toBe(404);
  const both = [
    { id: "a", importMode: "create" },
    { id: "a", moduleId: "m", importMode: "create" },
  ];
  expect(await call("POST", "/devices", both)).toMatchObject({ isSuccessful: true });
  expect(await statusOf(call("POST", "/devices", Array(101).fill({ id: "x" })))).toBe(400);
  expect(await statusOf(call("POST", "/devices", []))).toBe(400);
});

test("top cuts a list; what is not 1 to 1000 means 1000", async () => {
  const { hub, call } = await startHub();
  for (let index = 0; index < 1001; index++) hub.registry.putDevice(`d-${index}`, {}, null);
  const listed = async (query: string) => ((await call("GET", `/devices${query}`)) as unknown[]).length;
  expect(await listed("?top=3")).toBe(3);
  for (const query of ["", "?top=0", "?top=-1", "?top=1001", "?top=x", "?top=1.5"])
    expect(await listed(query), query).toBe(1000);
});

test("statistics count devices by status, and those that are connected", async () => {
  const { registry, call, endpoint } = await startHub({ connectionLag: 0 });
  const created = (await registry.create({ deviceId: "a" })).responseBody;
  await registry.create({ deviceId: "b", status: "disabled" });
  expect((await registry.getRegistryStatistics()).responseBody).toEqual({
    totalDeviceCount: 2,
    enabledDeviceCount: 1,
    disabledDeviceCount: 1,
  });
  expect(await call("GET", "/statistics/service")).toEqual({ connectedDeviceCount: 0 });
  const client = await deviceClient(
    endpoint,
    { deviceId: "a" },
    created.authentication?.symmetricKey?.primaryKey ?? "",
  );
  await client.open();
  expect(await call("GET", "/statistics/service")).toEqual({ connectedDeviceCount: 1 });
  await client.close();
});

test("new keys end the connection that was opened with the old ones", async () => {
  const { registry, endpoint, simulator } = await startHub();
  const created = (await registry.create({ deviceId: "a" })).responseBody;
  const key = created.authentication?.symmetricKey?.primaryKey ?? "";
  const client = await deviceClient(endpoint, { deviceId: "a" }, key);
  client.setRetryPolicy({ shouldRetry: () => false, nextRetryTimeout: () => 0 } as never);
  await client.open();
  expect(simulator.mqttConnections()).toBe(1);
  const dropped = new Promise((resolve) => client.on("disconnect", resolve));
  await registry.update({ deviceId: "a" });
  await dropped;
  await expect.poll(() => simulator.mqttConnections()).toBe(0);
  await client.close().catch(() => undefined);
});

test("the messages that wait for a device can be purged", async () => {
  const { registry, hub, call } = await startHub();
  await registry.create({ deviceId: "a" });
  const draft = { body: Buffer.from("x"), properties: {}, lifetime: 60_000 };
  for (let index = 0; index < 3; index++) hub.messages.send("a", draft);
  expect(await call("DELETE", "/devices/a/commands")).toEqual({
    totalMessagesPurged: 3,
    deviceId: "a",
    moduleId: null,
  });
  expect(hub.messages.pending("a")).toBe(0);
  expect(await call("DELETE", "/devices/a/commands")).toMatchObject({ totalMessagesPurged: 0 });
  expect(await codeOf(call("DELETE", "/devices/b/commands"))).toBe("DeviceNotFound");
});

test("refusals have the form of their part of the API", async () => {
  const { registry, call } = await startHub();
  const plain = JSON.parse((await problemOf(registry.get("a"))).responseBody ?? "");
  expect(plain).toEqual({
    Message: "ErrorCode:DeviceNotFound;Device a not registered",
    ExceptionMessage: expect.stringMatching(
      /^Tracking ID:[0-9A-F]{32}-G:\d+-TimeStamp:\d\d\/\d\d\/\d{4} \d\d:\d\d:\d\d$/,
    ),
  });
  const called = await problemOf(call("POST", "/twins/a/methods", { methodName: "ping" }));
  const second = JSON.parse(called.responseBody ?? "");
  expect(second.ExceptionMessage).toBe("");
  expect(JSON.parse(second.Message)).toMatchObject({ errorCode: 404001, trackingId: expect.any(String) });
});
