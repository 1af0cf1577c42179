import iothub from "azure-iothub";
import { afterEach, expect, test } from "vitest";
import { createSimulator, type Simulator, type SimulatorOptions } from "../../simulator.ts";
import { connectRegistry, problemOf, rawOf, redirect, statusOf } from "../../testing/service-client.ts";

// The real client of the hub, against the simulator: what it accepts and what it rejects is the contract.

const running: Simulator[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((simulator) => simulator.stop()));
});

async function startHub(options: Partial<SimulatorOptions> = {}) {
  const simulator = createSimulator({ tier: "S3", ...options });
  running.push(simulator);
  const endpoint = await simulator.start();
  return { simulator, endpoint, registry: connectRegistry(endpoint) };
}

function call(
  registry: unknown,
  method: string,
  path: string,
  headers: unknown,
  body: unknown,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    rawOf(registry).executeApiCall(method, path, headers, body, (problem, answer) =>
      problem ? reject(problem) : resolve(answer),
    );
  });
}

test("an identity is created with keys of its own, read, updated and deleted", async () => {
  const { registry } = await startHub();
  const created = (await registry.create({ deviceId: "cam-1" })).responseBody;
  expect(created.authentication?.symmetricKey?.primaryKey).toMatch(/^[A-Za-z0-9+/]{43}=$/);
  expect(await statusOf(registry.create({ deviceId: "cam-1" }))).toBe(409);

  const read = (await registry.get("cam-1")).responseBody;
  const updated = (await registry.update({ ...JSON.parse(JSON.stringify(read)), status: "disabled" }))
    .responseBody;
  expect(updated.status).toBe("disabled");
  expect(updated.authentication?.symmetricKey?.primaryKey).toBe(
    created.authentication?.symmetricKey?.primaryKey,
  );

  expect((await registry.delete("cam-1")).httpResponse?.statusCode).toBe(204);
  expect((await problemOf(registry.get("cam-1"))).name).toBe("DeviceNotFoundError");
  expect(await statusOf(registry.update({ deviceId: "cam-1" }))).toBe(404);
});

test("a wrong key, another hub's token and a policy without the right are unauthorised", async () => {
  const { endpoint, simulator } = await startHub();
  const wrong = endpoint.connectionString.replace(/SharedAccessKey=.*/, `SharedAccessKey=${"A".repeat(43)}=`);
  expect((await problemOf(connectRegistry(endpoint, wrong).get("cam-1"))).name).toBe("UnauthorizedError");

  const reader = simulator.hub.policies.find((policy) => policy.name === "registryRead")!;
  const asReader = connectRegistry(
    endpoint,
    `HostName=${endpoint.hostName};SharedAccessKeyName=registryRead;SharedAccessKey=${reader.key}`,
  );
  expect(await statusOf(asReader.get("cam-1"))).toBe(404);
  expect(await statusOf(asReader.create({ deviceId: "cam-1" }))).toBe(401);
  expect(await statusOf(asReader.getTwin("cam-1"))).toBe(401);
});

test("a bearer token is accepted until it says that it has expired", async () => {
  const { endpoint } = await startHub();
  const withExpiry = (seconds: number) => {
    const claims = Buffer.from(JSON.stringify({ exp: Math.floor(Date.now() / 1000) + seconds })).toString(
      "base64url",
    );
    const registry = iothub.Registry.fromTokenCredential(endpoint.hostName, {
      getToken: async () => ({ token: `x.${claims}.y`, expiresOnTimestamp: Date.now() + 3_600_000 }),
    });
    return redirect(registry, endpoint);
  };
  expect((await withExpiry(60).create({ deviceId: "cam-1" })).responseBody.deviceId).toBe("cam-1");
  expect(await statusOf(withExpiry(-60).get("cam-1"))).toBe(401);
});

test("an update without keys makes new ones: the trap that locks a device out", async () => {
  const { registry } = await startHub();
  const before = (await registry.create({ deviceId: "cam-1" })).responseBody;
  const after = (await registry.update({ deviceId: "cam-1", status: "enabled" })).responseBody;
  expect(after.authentication?.symmetricKey?.primaryKey).not.toBe(
    before.authentication?.symmetricKey?.primaryKey,
  );
});

test("bulk updates compare etags entry by entry and answer partial failure with 400", async () => {
  const { registry } = await startHub();
  await registry.addDevices([{ deviceId: "a" }, { deviceId: "b" }]);
  const a = JSON.parse(JSON.stringify((await registry.get("a")).responseBody));
  await registry.updateDevices([{ ...a, status: "disabled" }], false);
  const problem = await problemOf(registry.updateDevices([{ ...a, status: "enabled" }], false));
  expect(problem.response?.statusCode).toBe(400);
  expect(JSON.parse(problem.responseBody ?? "{}")).toMatchObject({
    isSuccessful: false,
    errors: [{ deviceId: "a", errorCode: "PreconditionFailed" }],
  });
  expect((await registry.get("a")).responseBody.status).toBe("disabled");
  await registry.removeDevices([{ deviceId: "b" }] as never, true);
  expect(await statusOf(registry.get("b"))).toBe(404);
});

test("a status may be written with a capital letter, as the SDK of Java does", async () => {
  const { registry } = await startHub();
  const json = { "Content-Type": "application/json; charset=utf-8" };
  const body = (status: string) => ({ deviceId: "cam-1", status });
  await call(registry, "PUT", "/devices/cam-1?api-version=2021-04-12", json, body("Disabled"));
  expect((await registry.get("cam-1")).responseBody.status).toBe("disabled");
  const wrong = call(registry, "PUT", "/devices/cam-2?api-version=2021-04-12", json, body("off"));
  expect(await statusOf(wrong)).toBe(400);
});

test("an edge device comes with its system modules and a scope", async () => {
  const { registry } = await startHub();
  const created = (await registry.create({ deviceId: "edge-1", capabilities: { iotEdge: true } } as never))
    .responseBody as unknown as { readonly deviceScope: string };
  expect(created.deviceScope).toMatch(/^ms-azure-iot-edge:\/\/edge-1-[0-9]{18}$/);
  const modules = (await registry.getModulesOnDevice("edge-1")).responseBody as { moduleId: string }[];
  expect(modules.map((module) => module.moduleId)).toEqual(["$edgeAgent", "$edgeHub"]);
  await registry.addModule({ deviceId: "edge-1", moduleId: "inference" } as never);
  expect(await statusOf(registry.addModule({ deviceId: "edge-1", moduleId: "inference" } as never))).toBe(
    409,
  );
  const twin = (await registry.getModuleTwin("edge-1", "inference")).responseBody;
  expect(twin.etag).toBe("AAAAAAAAAAE=");
  await registry.removeModule("edge-1", "inference");
  expect(await statusOf(registry.getModuleTwin("edge-1", "inference"))).toBe(404);
});

test("twins merge, count versions, and refuse an old etag with 412", async () => {
  const { registry } = await startHub();
  await registry.create({ deviceId: "cam-1" });
  const first = (await registry.getTwin("cam-1")).responseBody;
  const patch = {
    tags: { site: "a", line: "7" },
    properties: { desired: { model: { digest: "x", url: "u" } } },
  };
  const second = (await registry.updateTwin("cam-1", patch, first.etag)).responseBody;
  expect(second.properties.desired["$version"]).toBe(2);
  const problem = await problemOf(registry.updateTwin("cam-1", { tags: { site: "b" } }, first.etag));
  expect(problem).toMatchObject({ name: "InvalidEtagError", response: { statusCode: 412 } });
  expect(problem.response?.headers["iothub-errorcode"]).toBe("PreconditionFailed");

  const same = { properties: { desired: { model: { digest: "x" } } } };
  const third = (await registry.updateTwin("cam-1", same, second.etag)).responseBody;
  expect(third.properties.desired["$version"]).toBe(3);
  const gone = { tags: { site: null, line: null }, properties: { desired: { model: { url: null } } } };
  const fourth = (await registry.updateTwin("cam-1", gone, "*")).responseBody;
  expect(fourth.tags ?? {}).toEqual({});
  expect(fourth.properties.desired["model"]).toEqual({ digest: "x" });
  const bad = await problemOf(registry.updateTwin("cam-1", { tags: { "a.b": 1 } } as never, "*"));
  expect(bad.response?.statusCode).toBe(400);
  expect(bad.responseBody).toContain("tags.a.b");
});

test("queries are paged to the end, project what is there, and count", async () => {
  const { registry } = await startHub();
  const devices = Array.from({ length: 25 }, (_, index) => ({
    deviceId: `cam-${String(index).padStart(2, "0")}`,
    capabilities: { iotEdge: index % 2 === 0 },
  }));
  await registry.addDevices(devices as never);
  await registry.updateTwin(
    "cam-03",
    { tags: { edgefleet: { managed: true, class: "nano" } } } as never,
    "*",
  );
  const text =
    "SELECT deviceId AS device, etag AS etag, capabilities.iotEdge AS iotEdge, tags AS tags FROM devices WHERE capabilities.iotEdge = false";
  const query = registry.createQuery(text, 5);
  const rows: { device: string; tags?: unknown }[] = [];
  let pages = 0;
  do {
    const page = await query.next((query as unknown as { continuationToken: string }).continuationToken);
    rows.push(...(page.result as typeof rows));
    pages += 1;
  } while (query.hasMoreResults);
  expect(pages).toBe(3);
  expect(rows.map((row) => row.device)).toEqual(
    devices.filter((_, index) => index % 2 === 1).map((device) => device.deviceId),
  );
  expect(rows.find((row) => row.device === "cam-03")?.tags).toEqual({
    edgefleet: { managed: true, class: "nano" },
  });
  expect(Object.hasOwn(rows[0]!, "tags")).toBe(false);

  const counted = await registry
    .createQuery(
      "SELECT capabilities.iotEdge AS edge, COUNT() AS n FROM devices GROUP BY capabilities.iotEdge",
    )
    .next("");
  expect(counted.result).toEqual(
    expect.arrayContaining([
      { edge: true, n: 13 },
      { edge: false, n: 12 },
    ]),
  );
  const twins = await registry
    .createQuery("SELECT * FROM devices WHERE tags.edgefleet.class = 'nano'")
    .nextAsTwin();
  expect((twins.result as { deviceId: string }[]).map((twin) => twin.deviceId)).toEqual(["cam-03"]);
  const problem = await problemOf(registry.createQuery("SELECT * FROM devices ORDER BY deviceId").next(""));
  expect(problem.response?.statusCode).toBe(400);
  expect(problem.responseBody).toContain("SQL query parse failed");
});

const LAYER = {
  modulesContent: { $edgeAgent: {}, inference: { "properties.desired.model": { digest: "x" } } },
};

test("an etag without quotes counts for nothing, as on the real hub", async () => {
  const { registry } = await startHub();
  await registry.create({ deviceId: "cam-1" });
  const patch = (etag: string, site: string) =>
    call(registry, "PATCH", path, { ...json, "If-Match": etag }, { tags: { site } });
  const path = "/twins/cam-1?api-version=2021-04-12";
  const json = { "Content-Type": "application/json; charset=utf-8" };
  expect(await statusOf(patch('"stale"', "a"))).toBe(412);
  await patch("stale", "b");
  expect((await registry.getTwin("cam-1")).responseBody.tags).toEqual({ site: "b" });
  await patch("*", "c");
  const again = call(
    registry,
    "PUT",
    "/devices/cam-1?api-version=2021-04-12",
    { ...json, "If-Match": "stale" },
    {},
  );
  expect(await statusOf(again)).toBe(409);
});

test("configurations are created once, changed under their etag, and never change their content", async () => {
  const { registry } = await startHub();
  const written = {
    id: "ef-a-1",
    content: LAYER,
    targetCondition: "tags.edgefleet.class = 'nano' AND tags.edgefleet.bucket < 51234",
    priority: 100,
    labels: { owner: "x" },
  };
  await registry.addConfiguration(written as never);
  expect(await statusOf(registry.addConfiguration(written as never))).toBe(409);
  const read = (await registry.getConfiguration("ef-a-1")).responseBody as unknown as { etag: string };
  await registry.updateConfiguration({ ...read, priority: 101 } as never);
  expect(await statusOf(registry.updateConfiguration({ ...read, priority: 102 } as never))).toBe(412);
  const content = { modulesContent: { $edgeAgent: {} } };
  const problem = await problemOf(registry.updateConfiguration({ ...read, content } as never, true));
  expect(problem.responseBody).toContain("CannotModifyImmutableConfigurationContent");
  const all = (await registry.getConfigurations()).responseBody as unknown as { priority: number }[];
  expect(all.map((one) => one.priority)).toEqual([101]);
  const bad = { ...written, id: "ef-a-2", targetCondition: "tags.site IN ['a']" };
  expect((await problemOf(registry.addConfiguration(bad as never))).responseBody).toContain(
    "InvalidConfigurationTargetCondition",
  );
  expect(await statusOf(registry.addConfiguration({ ...written, id: "Upper" } as never))).toBe(400);
  expect((await registry.removeConfiguration("ef-a-1")).httpResponse?.statusCode).toBe(204);
  expect(await statusOf(registry.getConfiguration("ef-a-1"))).toBe(404);
});

test("the hundred-and-first configuration is refused with 413", async () => {
  const { registry } = await startHub({ throttling: false });
  for (let index = 0; index < 100; index++)
    await registry.addConfiguration({
      id: `c-${index}`,
      content: LAYER,
      targetCondition: "",
      priority: index,
    } as never);
  const problem = await problemOf(registry.addConfiguration({ id: "c-100", content: LAYER } as never));
  expect(problem.response?.statusCode).toBe(413);
  expect(problem.responseBody).toContain("ConfigurationCountLimitExceeded");
});

test("testQueries says what is wrong with a condition, or nothing", async () => {
  const { registry } = await startHub();
  const test_ = (targetCondition: string) =>
    call(
      registry,
      "POST",
      "/configurations/testQueries?api-version=2021-04-12",
      { "Content-Type": "application/json; charset=utf-8" },
      { targetCondition, customMetricQueries: {} },
    );
  expect(await test_("tags.edgefleet.bucket < 5")).toEqual({
    targetConditionError: null,
    customMetricQueryErrors: {},
  });
  expect(await test_("properties.desired.x = 1")).toMatchObject({
    targetConditionError: expect.stringContaining("'properties.desired.x' cannot be used"),
  });
});

test("past the tier's budget requests get 429", async () => {
  const { registry } = await startHub({ tier: "S1" });
  for (let index = 0; index < 20; index++) await registry.getConfigurations();
  const problem = await problemOf(registry.getConfigurations());
  expect(problem).toMatchObject({ name: "ThrottlingError", response: { statusCode: 429 } });
  expect(problem.response?.headers["iothub-errorcode"]).toBe("ThrottlingException");
});

test("a method finds its device offline, in the second form of error bodies", async () => {
  const { registry, endpoint } = await startHub();
  await registry.create({ deviceId: "cam-1" });
  const client = redirect(iothub.Client.fromConnectionString(endpoint.connectionString), endpoint);
  const problem = await problemOf(client.invokeDeviceMethod("cam-1", { methodName: "ping" }));
  expect(problem.response?.statusCode).toBe(404);
  expect(JSON.parse(JSON.parse(problem.responseBody ?? "{}").Message)).toMatchObject({ errorCode: 404103 });
});
