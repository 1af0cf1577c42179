import iotDevice from "azure-iot-device";
import iothub from "azure-iothub";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createSimulator, type Endpoint, type Simulator } from "../simulator.ts";
import { controlCall } from "../testing/control-client.ts";
import {
  type DeviceClient,
  deviceClient,
  type ModuleClient,
  moduleClient,
  nextDesired,
  report,
  tokenClient,
  webSocketClient,
} from "../testing/device-client.ts";
import { connectRegistry, problemOf, type Registry, redirect } from "../testing/service-client.ts";
import { turn, until } from "../testing/until.ts";

// The vendor's device SDK, as it is, against the simulator.

let simulator: Simulator;
let endpoint: Endpoint;
let registry: Registry;
let service: ReturnType<typeof iothub.Client.fromConnectionString>;
const clients: (DeviceClient | ModuleClient)[] = [];

beforeEach(async () => {
  simulator = createSimulator({ tier: "S3", download: "skip", reportInterval: 3_600_000 });
  endpoint = await simulator.start();
  registry = connectRegistry(endpoint);
  service = redirect(iothub.Client.fromConnectionString(endpoint.connectionString), endpoint, 8000);
});
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close().catch(() => {})));
  await simulator.stop();
});

/** The client keeps on trying to connect otherwise, which is its business and not ours. */
const noRetries = { shouldRetry: () => false, nextRetryTimeout: () => 0 };

function kept<T extends DeviceClient | ModuleClient>(client: T): T {
  // Without a listener the errors of a client would end the process.
  client.on("error", () => {});
  client.setRetryPolicy(noRetries);
  clients.push(client);
  return client;
}

async function clientOf(deviceId: string, key = keyOf(deviceId)): Promise<DeviceClient> {
  return kept(await deviceClient(endpoint, { deviceId }, key));
}

async function newDevice(deviceId = "cam-1"): Promise<DeviceClient> {
  await registry.create({ deviceId });
  return clientOf(deviceId);
}

function keyOf(deviceId: string, moduleId: string | null = null): string {
  return simulator.hub.registry.get(deviceId, moduleId)?.authentication.symmetricKey.primaryKey ?? "";
}

function ended(client: DeviceClient): Promise<void> {
  return new Promise((resolve) => client.once("disconnect", () => resolve()));
}

async function patchDesired(deviceId: string, desired: object): Promise<void> {
  await registry.updateTwin(deviceId, { properties: { desired } }, "*");
}

test("a device connects, reads its twin, hears of patches and reports", async () => {
  const client = await newDevice();
  await registry.updateTwin("cam-1", { tags: { site: "a" }, properties: { desired: { rate: 3 } } }, "*");
  await client.open();
  const twin = await client.getTwin();
  expect({ ...twin.properties.desired }).toEqual({ rate: 3, $version: 2 });
  const heard = nextDesired(twin);
  await report(twin, { listens: true });
  await patchDesired("cam-1", { model: { release: "r1" }, rate: null });
  expect(await heard).toEqual({ model: { release: "r1" }, rate: null, $version: 3 });
  await report(twin, { state: "ok" });
  const { responseBody } = await registry.getTwin("cam-1");
  expect(responseBody.properties.reported).toMatchObject({ state: "ok", $version: 3 });
});

test("desired properties that are replaced come whole", async () => {
  const client = await newDevice();
  await patchDesired("cam-1", { a: 1, b: 2 });
  await client.open();
  const twin = await client.getTwin();
  const heard = nextDesired(twin);
  await report(twin, { listens: true });
  const replaced = simulator.hub.twins.replace("cam-1", { tags: null, desired: { b: 3 } }, null);
  expect(replaced.ok).toBe(true);
  expect(await heard).toEqual({ b: 3, $version: 3 });
});

test("a report that breaks a limit is refused with the reason, and the connection stays", async () => {
  const client = await newDevice();
  await client.open();
  const twin = await client.getTwin();
  await expect(report(twin, { long: "x".repeat(5000) })).rejects.toThrow("longer than 4096 bytes");
  await report(twin, { short: "x" });
  expect(simulator.hub.twins.get("cam-1")?.reported.value).toEqual({ short: "x" });
});

test("what devices do may be charged: then a report is refused because there were too many", async () => {
  await simulator.stop();
  simulator = createSimulator({ tier: "S1", chargeDevices: true, clock: "virtual", autoStart: false });
  endpoint = await simulator.start();
  expect(simulator.hub.registry.putDevice("cam-1", {}, null).ok).toBe(true);
  const client = await clientOf("cam-1");
  await client.open();
  const twin = await client.getTwin();
  while (simulator.hub.throttle.take("twinWrite", 1));
  await expect(report(twin, { a: 1 })).rejects.toThrow("Too many operations");
});

test("a module has its own twin, and is edge's agent if it has the agent's name", async () => {
  await registry.create({ deviceId: "edge-1", capabilities: { iotEdge: true } });
  const who = { deviceId: "edge-1", moduleId: "$edgeAgent" };
  const agent = kept(await moduleClient(endpoint, who, keyOf("edge-1", "$edgeAgent")));
  await agent.open();
  const twin = await agent.getTwin();
  await report(twin, { lastDesiredStatus: { code: 412 } });
  expect(simulator.hub.twins.get("edge-1/$edgeAgent")?.reported.value).toMatchObject({
    lastDesiredStatus: { code: 412 },
  });
});

test("a method goes to the device and its answer to the service", async () => {
  const client = await newDevice();
  await client.open();
  client.onDeviceMethod("restart", (request, response) => {
    response?.send(202, { was: request.payload }, () => {});
  });
  const { result } = await eventually(() =>
    service.invokeDeviceMethod("cam-1", { methodName: "restart", payload: { why: "test" } }),
  );
  expect(result).toEqual({ status: 202, payload: { was: { why: "test" } } });
});

test("a module answers methods of its own", async () => {
  await registry.create({ deviceId: "edge-1", capabilities: { iotEdge: true } });
  const who = { deviceId: "edge-1", moduleId: "$edgeAgent" };
  const agent = kept(await moduleClient(endpoint, who, keyOf("edge-1", "$edgeAgent")));
  agent.onMethod("ping", (_request, response) => {
    response?.send(200, null, () => {});
  });
  await agent.open();
  const ping = { methodName: "ping", connectTimeoutInSeconds: 5 };
  const { result } = await service.invokeDeviceMethod("edge-1", "$edgeAgent", ping);
  expect(result).toEqual({ status: 200, payload: null });
});

test("a method waits for its device to come, and finds it offline otherwise", async () => {
  const client = await newDevice();
  client.onDeviceMethod("ping", (_request, response) => {
    response?.send(200, "here", () => {});
  });
  const offline = await problemOf(service.invokeDeviceMethod("cam-1", { methodName: "ping" }));
  expect(detailOf(offline.responseBody)).toMatchObject({ errorCode: 404103 });
  const answer = service.invokeDeviceMethod("cam-1", { methodName: "ping", connectTimeoutInSeconds: 20 });
  await client.open();
  expect((await answer).result).toEqual({ status: 200, payload: "here" });
});

test("a method without an answer times out, and one for a disabled device finds no device", async () => {
  await simulator.stop();
  simulator = createSimulator({ clock: "virtual", tier: "S3", autoStart: false });
  endpoint = await simulator.start();
  service = redirect(iothub.Client.fromConnectionString(endpoint.connectionString), endpoint);
  expect(simulator.hub.registry.putDevice("cam-1", {}, null).ok).toBe(true);
  const client = await clientOf("cam-1");
  const asked = new Promise<void>((resolve) => client.onDeviceMethod("mute", () => resolve()));
  await client.open();
  const answer = problemOf(
    service.invokeDeviceMethod("cam-1", {
      methodName: "mute",
      connectTimeoutInSeconds: 10,
      responseTimeoutInSeconds: 5,
    }),
  );
  await asked;
  await simulator.advance(5000);
  const problem = await answer;
  expect(problem).toMatchObject({ name: "GatewayTimeoutError", response: { statusCode: 504 } });
  expect(detailOf(problem.responseBody)).toMatchObject({ errorCode: 504101 });
  simulator.hub.registry.putDevice("cam-1", { status: "disabled" }, { any: true, etag: "*" });
  const gone = await problemOf(service.invokeDeviceMethod("cam-1", { methodName: "mute" }));
  expect(detailOf(gone.responseBody)).toMatchObject({ errorCode: 404001 });
});

test("telemetry is in the feed with its properties and what the hub stamps on it", async () => {
  const client = await newDevice();
  await client.open();
  const message = new iotDevice.Message(JSON.stringify({ temperature: 21 }));
  message.contentType = "application/json";
  message.contentEncoding = "utf-8";
  message.messageId = "m 1/ä";
  message.properties.add("alarm & level", "50 % + ö=1");
  await client.sendEvent(message);
  await client.sendEvent(new iotDevice.Message(Buffer.from([0xff, 0x00])));
  const { body } = await controlCall(endpoint, "GET", "events?source=Telemetry&device=cam-1");
  expect(body).toMatchObject({
    events: [
      {
        body: { temperature: 21 },
        bodyEncoding: "json",
        properties: { "alarm & level": "50 % + ö=1" },
        systemProperties: { "message-id": "m 1/ä", "content-type": "application/json" },
        annotations: {
          "iothub-connection-device-id": "cam-1",
          "iothub-connection-auth-method":
            '{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}',
          "iothub-connection-auth-generation-id": simulator.hub.registry.get("cam-1", null)?.generationId,
          "iothub-message-source": "Telemetry",
        },
      },
      { body: Buffer.from([0xff, 0x00]).toString("base64"), bodyEncoding: "base64" },
    ],
  });
});

test("the feed has identities, connections and twins too, page by page", async () => {
  const client = await newDevice();
  await client.open();
  const twin = await client.getTwin();
  await report(twin, { state: "ok" });
  await patchDesired("cam-1", { rate: 3 });
  const listed: unknown[] = [];
  let next = 1;
  for (let page = 0; page < 20; page++) {
    const { body } = await controlCall(endpoint, "GET", `events?from=${next}&limit=1`);
    const { events, next: after } = body as unknown as {
      events: { properties: { opType: string }; body: unknown }[];
      next: number;
    };
    if (events.length === 0) break;
    for (const event of events) listed.push([event.properties.opType, event.body]);
    next = after;
  }
  const metadata = { $lastUpdated: expect.any(String) };
  expect(listed).toEqual(
    expect.arrayContaining([
      ["createDeviceIdentity", expect.objectContaining({ deviceId: "cam-1", status: "enabled" })],
      ["deviceConnected", {}],
      [
        "updateTwin",
        expect.objectContaining({
          properties: { reported: { state: "ok", $metadata: metadata, $version: 2 } },
        }),
      ],
      [
        "updateTwin",
        expect.objectContaining({ properties: { desired: { rate: 3, $metadata: metadata, $version: 2 } } }),
      ],
    ]),
  );
});

test("messages from the cloud wait for their device, come in order, and are gone once they were taken", async () => {
  const client = await newDevice();
  const send = (body: unknown) =>
    controlCall(endpoint, "POST", "messages", { device: "cam-1", ...(body as object) });
  expect(
    (await send({ body: "one", messageId: "m-1", properties: { a: "1 & 2", none: null, empty: "" } })).body,
  ).toEqual({
    sequenceNumber: 1,
    pending: 1,
  });
  await send({ body: { two: 2 } });
  expect((await registry.get("cam-1")).responseBody.cloudToDeviceMessageCount).toBe(2);
  const got: { readonly body: string; readonly id: string; readonly properties: unknown }[] = [];
  client.on("message", (message) => {
    const { messageId, data, properties } = message;
    got.push({ id: messageId, body: String(data), properties: properties.propertyList });
    client.complete(message, () => {});
  });
  await client.open();
  await until(() => got.length === 2 && simulator.hub.messages.pending("cam-1") === 0);
  await send({ body: "three" });
  await until(() => got.length === 3);
  expect(got.map(({ body }) => body)).toEqual(["one", '{"two":2}', "three"]);
  expect(got[0]).toMatchObject({
    id: "m-1",
    properties: expect.arrayContaining([
      { key: "a", value: "1 & 2" },
      { key: "empty", value: "" },
    ]),
  });
});

test("at most fifty messages wait, and a message may be too old", async () => {
  await newDevice();
  const send = (body: object) => controlCall(endpoint, "POST", "messages", { device: "cam-1", ...body });
  expect((await send({ body: "old", expiresIn: "1ms" })).status).toBe(200);
  await until(() => simulator.hub.messages.pending("cam-1") === 0);
  for (let count = 0; count < 50; count++) expect((await send({ body: "x" })).status).toBe(200);
  expect((await send({ body: "x" })).status).toBe(403);
  expect((await send({ body: "x", device: "cam-2" })).status).toBe(404);
  expect((await send({ bodi: "x" })).body.problems).toEqual(["bodi is not known"]);
});

test("the second connection of an identity ends the first", async () => {
  const first = await newDevice();
  await first.open();
  const lost = ended(first);
  const second = await clientOf("cam-1");
  await second.open();
  await lost;
  await report(await second.getTwin(), { from: "second" });
  expect(simulator.hub.twins.get("cam-1")?.reported.value).toMatchObject({ from: "second" });
  await until(() => simulator.mqttConnections() === 1);
  // The end of the first took nothing from the second: the hub still knows whom it serves.
  const cut = ended(second);
  const { responseBody } = await registry.get("cam-1");
  const symmetricKey = { primaryKey: "", secondaryKey: "" };
  await registry.update({ ...responseBody, authentication: { type: "sas", symmetricKey } });
  await cut;
});

test.each([
  [
    "disabled",
    async () => {
      const { responseBody } = await registry.get("cam-1");
      await registry.update({ ...responseBody, status: "disabled" });
    },
  ],
  [
    "deleted",
    async () => {
      await registry.delete("cam-1");
    },
  ],
  [
    "given other keys",
    async () => {
      const { responseBody } = await registry.get("cam-1");
      await registry.update({
        ...responseBody,
        authentication: { type: "sas", symmetricKey: { primaryKey: "", secondaryKey: "" } },
      });
    },
  ],
])("a device that is %s is cut off, and does not come back with what it had", async (_what, change) => {
  const client = await newDevice();
  const key = keyOf("cam-1");
  await client.open();
  const lost = ended(client);
  await change();
  await lost;
  const again = await clientOf("cam-1", key);
  expect((await problemOf(again.open())).name).toBe("UnauthorizedError");
  await until(() => simulator.mqttConnections() === 0);
});

test("a new key beside the old one cuts no client off", async () => {
  const client = await newDevice();
  await client.open();
  const { responseBody } = await registry.get("cam-1");
  const { primaryKey } = responseBody.authentication?.symmetricKey ?? {};
  const symmetricKey = { primaryKey: primaryKey ?? "", secondaryKey: "" };
  await registry.update({ ...responseBody, authentication: { type: "sas", symmetricKey } });
  await report(await client.getTwin(), { still: "here" });
});

test("a wrong key and an unknown device are refused alike", async () => {
  await registry.create({ deviceId: "cam-1" });
  const wrong = Buffer.alloc(32).toString("base64");
  for (const deviceId of ["cam-1", "cam-2"]) {
    const client = await clientOf(deviceId, wrong);
    expect((await problemOf(client.open())).name).toBe("UnauthorizedError");
  }
  await until(() => simulator.mqttConnections() === 0);
});

test("a device connects over WebSockets as well", async () => {
  await registry.create({ deviceId: "cam-1" });
  const client = kept(await webSocketClient(endpoint, { deviceId: "cam-1" }, keyOf("cam-1")));
  await client.open();
  const twin = await client.getTwin();
  // Frames of all three sizes.
  for (const length of [1, 1000]) await report(twin, { text: "x".repeat(length) });
  await client.sendEvent(new iotDevice.Message("y".repeat(100_000)));
  const source = "Telemetry";
  const page = simulator.hub.events.read({ from: 1, limit: 10, source, deviceId: "cam-1" });
  expect(page.events.map(({ body }) => String(body).length)).toEqual([100_000]);
  expect(simulator.hub.twins.get("cam-1")?.reported.value).toEqual({ text: "x".repeat(1000) });
  expect(simulator.mqttConnections()).toBe(1);
  await client.close();
  await until(() => simulator.mqttConnections() === 0);
});

test("a token that expires ends the connection", async () => {
  await registry.create({ deviceId: "cam-1" });
  const client = kept(
    await tokenClient(endpoint, { deviceId: "cam-1" }, { key: keyOf("cam-1"), seconds: 2 }),
  );
  await client.open();
  await ended(client);
  await until(() => simulator.mqttConnections() === 0);
  const late = kept(await tokenClient(endpoint, { deviceId: "cam-1" }, { key: keyOf("cam-1"), seconds: -1 }));
  expect((await problemOf(late.open())).name).toBe("UnauthorizedError");
});

test("a client that renews its token goes on hearing without subscribing again", async () => {
  const client = await newDevice();
  await client.setOptions({
    ca: endpoint.ca,
    tokenRenewal: { tokenValidTimeInSeconds: 3, tokenRenewalMarginInSeconds: 2 },
  } as never);
  await client.open();
  const twin = await client.getTwin();
  const heard = nextDesired(twin);
  await report(twin, { listens: true });
  const connected = () =>
    connectionsOf("cam-1").filter((operation) => operation === "deviceConnected").length;
  const before = connected();
  await until(() => connected() > before);
  await report(twin, { renewed: true });
  await patchDesired("cam-1", { after: "the renewal" });
  expect(await heard).toMatchObject({ after: "the renewal" });
});

test("a policy may stand for any device, if it has the right to", async () => {
  await registry.create({ deviceId: "cam-1" });
  const tokenWith = async (policy: string) => {
    const key = simulator.hub.policies.find(({ name }) => name === policy)?.key ?? "";
    return kept(await tokenClient(endpoint, { deviceId: "cam-1" }, { key, policy, seconds: 600 }));
  };
  const allowed = await tokenWith("device");
  await allowed.open();
  await report(await allowed.getTwin(), { by: "policy" });
  expect((await problemOf((await tokenWith("registryRead")).open())).name).toBe("UnauthorizedError");
});

test("a client that lost its connection reconnects automatically, and methods, twins and messages continue", async () => {
  await registry.create({ deviceId: "cam-1" });
  const client = await deviceClient(endpoint, { deviceId: "cam-1" }, keyOf("cam-1"));
  clients.push(client);
  client.on("error", () => {});
  client.setRetryPolicy({ shouldRetry: () => true, nextRetryTimeout: () => 20 });
  client.onDeviceMethod("ping", (_request, response) => {
    response?.send(200, "pong", () => {});
  });
  const messages: string[] = [];
  client.on("message", (message) => messages.push(String(message.data)));
  await client.open();
  const twin = await client.getTwin();
  const patches: unknown[] = [];
  twin.on("properties.desired", (patch: unknown) => patches.push(patch));
  const ping = () => service.invokeDeviceMethod("cam-1", { methodName: "ping", connectTimeoutInSeconds: 20 });
  expect((await ping()).result.payload).toBe("pong");
  await controlCall(endpoint, "POST", "faults", { id: "cut", kind: "outage", devices: "cam-1" });
  await until(() => connectionsOf("cam-1").at(-1) === "deviceDisconnected");
  await controlCall(endpoint, "DELETE", "faults/cut");
  expect((await ping()).result.payload).toBe("pong");
  await report(twin, { back: true });
  await patchDesired("cam-1", { after: "the drop" });
  await until(() => JSON.stringify(patches.at(-1))?.includes("the drop") === true);
  await controlCall(endpoint, "POST", "messages", { device: "cam-1", body: "hello again" });
  await until(() => messages.includes("hello again"));
});

test("the device that this process simulates gives way to the real one, and comes back after it", async () => {
  const client = await newDevice();
  const simulated = () => simulator.fleet.list().find(({ deviceId }) => deviceId === "cam-1")?.connected;
  expect(simulated()).toBe(true);
  await client.open();
  expect(simulated()).toBe(false);
  await client.close();
  await until(() => simulated() === true);
});

function connectionsOf(deviceId: string): readonly unknown[] {
  const source = "deviceConnectionStateEvents";
  const { events } = simulator.hub.events.read({ from: 1, limit: 1000, source, deviceId });
  return events.map(({ properties }) => properties["opType"]);
}

function detailOf(body: string | undefined): unknown {
  return JSON.parse((JSON.parse(body ?? "{}") as { readonly Message: string }).Message);
}

/** The client subscribes behind its caller's back: until that is done the hub says that the device is not there. */
async function eventually<T>(ask: () => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries++)
    try {
      return await ask();
    } catch (problem) {
      if (tries === 100) throw problem;
      await turn();
    }
}
