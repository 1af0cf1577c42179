import { randomBytes } from "node:crypto";
import { connect as tcpConnect } from "node:net";
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { createSimulator, type Endpoint, type Simulator } from "../simulator.ts";
import {
  CONNACK,
  connectPacket,
  credentialsOf,
  rawClient as dial,
  PINGREQ,
  PINGRESP,
  PUBACK,
  PUBLISH,
  packet,
  published,
  publishPacket,
  type RawClient,
  SUBACK,
  subscribePacket,
} from "../testing/raw-mqtt.ts";
import { until } from "../testing/until.ts";

// What no proper client sends, byte by byte.

let simulator: Simulator;
let endpoint: Endpoint;
let made = 0;

beforeAll(async () => {
  simulator = createSimulator({ tier: "S3", download: "skip", autoStart: false });
  endpoint = await simulator.start();
});
afterAll(() => simulator.stop());

const opened: RawClient[] = [];
afterEach(async () => {
  for (const client of opened.splice(0)) client.socket.destroy();
  // Whatever a test did: nothing of it may stay.
  await until(() => simulator.mqttConnections() === 0);
});

async function rawClient(): Promise<RawClient> {
  const client = await dial(endpoint);
  opened.push(client);
  return client;
}

/** A device of its own for every test. */
function newDevice(): { readonly deviceId: string; readonly connecting: ReturnType<typeof credentialsOf> } {
  made += 1;
  const deviceId = `cam-${made}`;
  const created = simulator.hub.registry.putDevice(deviceId, {}, null);
  if (!created.ok) throw new Error(created.refusal.message);
  const key = created.value.authentication.symmetricKey.primaryKey ?? "";
  return { deviceId, connecting: credentialsOf(endpoint, deviceId, key) };
}

async function connected(given: object = {}) {
  const { deviceId, connecting } = newDevice();
  const client = await rawClient();
  client.send(connectPacket({ ...connecting, ...given }));
  expect(await client.next()).toMatchObject({ type: CONNACK, body: Buffer.from([0, 0]) });
  return { deviceId, connecting, client };
}

async function returnCode(bytes: Buffer): Promise<number | undefined> {
  const client = await rawClient();
  client.send(bytes);
  const answer = await client.next();
  expect(await client.next()).toBeNull();
  return answer?.type === CONNACK ? answer.body[1] : undefined;
}

async function isClosed(client: RawClient): Promise<boolean> {
  for (let next = await client.next(); next !== null; next = await client.next())
    if (next.type !== PUBACK) return false;
  return true;
}

test("a CONNECT is answered with the code for what is wrong with it", async () => {
  const { connecting, deviceId } = newDevice();
  const hub = endpoint.hostName;
  const withUser = (username: string) => returnCode(connectPacket({ ...connecting, username }));
  expect(await withUser(deviceId)).toBe(4);
  expect(await withUser(`${hub}/${deviceId}/?DeviceClientType=x`)).toBe(4);
  expect(await withUser(`${hub}/cam-other/?api-version=2021-04-12`)).toBe(4);
  expect(await withUser(`other.azure-devices.net/${deviceId}/?api-version=2021-04-12`)).toBe(5);
  expect(await returnCode(connectPacket({ ...connecting, password: "" }))).toBe(5);
  expect(
    await returnCode(
      connectPacket({ ...connecting, password: connecting.password.replace("sig=", "sig=A") }),
    ),
  ).toBe(5);
  expect(await returnCode(connectPacket({ ...connecting, level: 3 }))).toBe(1);
  expect(await returnCode(connectPacket({ ...connecting, level: 5 }))).toBe(1);
  for (const clientId of ["", "/", `${deviceId}/`, `${deviceId}/a/b`])
    expect(await returnCode(connectPacket({ ...connecting, clientId }))).toBe(2);
  expect(await withUser(`${hub}/${deviceId}/?api-version=soon`)).toBe(4);
  for (const rest of [
    "",
    "&DeviceClientType=azure-iot-device%2F1.18.4%20(x)",
    "&model-id=dtmi%3Aplant%3Acamera%3B1",
  ]) {
    const client = await rawClient();
    const username = `${hub}/${deviceId}/?api-version=2021-04-12${rest}`;
    client.send(connectPacket({ ...connecting, username }));
    expect(await client.next()).toMatchObject({ type: CONNACK, body: Buffer.from([0, 0]) });
  }
});

test("the model that a client says it has is stamped on what it sends", async () => {
  const { deviceId, connecting } = newDevice();
  const client = await rawClient();
  const username = `${connecting.username}&model-id=dtmi%3Aplant%3Acamera%3B1`;
  client.send(connectPacket({ ...connecting, username }));
  await client.next();
  client.send(publishPacket(`devices/${deviceId}/messages/events/`, "x", { qos: 1 }));
  await client.next();
  expect(telemetryOf(deviceId)).toMatchObject([{ annotations: { "dt-dataschema": "dtmi:plant:camera;1" } }]);
});

test("system properties and bare and empty ones come through as they were written", async () => {
  const { client, deviceId } = await connected();
  const bag = [
    "%24.mid=m%201",
    "$.cid=c-1",
    "%24.uid=u",
    "%24.to=%2Fx",
    "%24.ct=application%2Fjson",
    "%24.ce=utf-8",
    "%24.ctime=2026-03-01T12%3A00%3A00Z",
    "bare",
    "empty=",
    "a%20b=c%3Dd=e",
  ].join("&");
  client.send(publishPacket(`devices/${deviceId}/messages/events/${bag}`, '{"a":1}', { qos: 1 }));
  await client.next();
  expect(telemetryOf(deviceId)).toMatchObject([
    {
      body: { a: 1 },
      properties: { bare: null, empty: "", "a b": "c=d=e" },
      systemProperties: {
        "message-id": "m 1",
        "correlation-id": "c-1",
        "user-id": "u",
        to: "/x",
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "iothub-creation-time-utc": "2026-03-01T12:00:00Z",
      },
      annotations: { "iothub-connection-device-id": deviceId, "iothub-message-source": "Telemetry" },
    },
  ]);
});

test("a SUBSCRIBE with one filter that there is not ends the connection, whatever else is in it", async () => {
  const { client } = await connected();
  const filters = ["$iothub/twin/res/#", "$iothub/other/#"].flatMap((filter) => [filter, Buffer.from([0])]);
  client.send(packet(0x82, Buffer.from([0, 9]), ...filters));
  expect(await client.next()).toBeNull();
});

test("another device's signature is good for nothing", async () => {
  const [mine, other] = [newDevice().connecting, newDevice().connecting];
  expect(await returnCode(connectPacket({ ...mine, password: other.password }))).toBe(5);
  // Nor is one's own, where it was made for something else.
  const key = simulator.hub.registry.get(mine.clientId, null)?.authentication.symmetricKey.primaryKey ?? "";
  const elsewhere = credentialsOf(endpoint, other.clientId, key).password;
  expect(await returnCode(connectPacket({ ...mine, password: elsewhere }))).toBe(5);
});

test.each<[string, (deviceId: string) => Buffer]>([
  ["publishes with quality 2", (id) => publishPacket(`devices/${id}/messages/events/`, "x", { qos: 2 })],
  ["publishes what is another's", () => publishPacket("devices/other/messages/events/", "x", { qos: 1 })],
  ["publishes what there is not", () => publishPacket("$iothub/nothing", "x")],
  ["publishes to wildcards", (id) => publishPacket(`devices/${id}/messages/events/#`, "x")],
  [
    "publishes more than 256 KB",
    (id) => publishPacket(`devices/${id}/messages/events/`, Buffer.alloc(262_145)),
  ],
  [
    "announces a packet that never ends",
    () => Buffer.concat([Buffer.from([0x30, 0xff, 0xff, 0xff, 0x7f]), Buffer.alloc(600_000)]),
  ],
  ["subscribes to everything", () => subscribePacket("#")],
  ["subscribes to another's messages", () => subscribePacket("devices/other/messages/devicebound/#")],
  ["connects twice", (id) => connectPacket(credentialsOf(endpoint, id, "AAAA"))],
  ["is no client at all", () => Buffer.from("GET / HTTP/1.1\r\n\r\n")],
])("a client that %s is disconnected", async (_what, bytes) => {
  const { client, deviceId } = await connected();
  client.send(bytes(deviceId));
  expect(await isClosed(client)).toBe(true);
  expect(telemetryOf(deviceId)).toEqual([]);
});

test("a client that sends anything before CONNECT is disconnected", async () => {
  const client = await rawClient();
  client.send(PINGREQ);
  expect(await isClosed(client)).toBe(true);
});

test("quality 2 is granted as 1", async () => {
  const { client, deviceId } = await connected();
  client.send(subscribePacket(`devices/${deviceId}/messages/devicebound/#`, 2));
  expect(await client.next()).toMatchObject({ type: SUBACK, body: Buffer.from([0, 9, 1]) });
});

test("nothing is retained, and the wish for it is noted on the message", async () => {
  const { client, deviceId } = await connected();
  client.send(publishPacket(`devices/${deviceId}/messages/events/a=b`, "x", { qos: 1, retain: true }));
  expect(await client.next()).toMatchObject({ type: PUBACK, body: Buffer.from([0, 7]) });
  expect(telemetryOf(deviceId)).toMatchObject([{ properties: { a: "b", "mqtt-retain": "true" }, body: "x" }]);
});

test("a will is a message of the device that went without a word, not of one that took its leave", async () => {
  const { connecting, deviceId } = newDevice();
  const topic = `devices/${deviceId}/messages/events/`;
  const will = { topic, body: "gone" };
  for (const last of [packet(0xe0), null]) {
    const client = await rawClient();
    client.send(connectPacket({ ...connecting, will }));
    await client.next();
    if (last === null) client.socket.destroy();
    else client.send(last);
    await until(() => client.socket.destroyed && simulator.mqttConnections() === 0);
    expect(telemetryOf(deviceId)).toHaveLength(last === null ? 1 : 0);
  }
  expect(telemetryOf(deviceId)).toMatchObject([
    { body: "gone", properties: { "iothub-MessageType": "Will" } },
  ]);
});

test("a client that is silent for one and a half times its keep-alive is disconnected", async () => {
  const { client } = await connected({ keepAlive: 1 });
  const since = performance.now();
  client.send(PINGREQ);
  expect(await client.next()).toMatchObject({ type: PINGRESP });
  expect(await client.next()).toBeNull();
  const silent = performance.now() - since;
  expect(silent).toBeGreaterThan(1400);
  expect(silent).toBeLessThan(4000);
});

test("a lasting session is still subscribed when it comes back; a clean one forgets", async () => {
  const { connecting } = newDevice();
  const session = async (clean: boolean, present: number): Promise<RawClient> => {
    const client = await rawClient();
    client.send(connectPacket({ ...connecting, clean }));
    expect(await client.next()).toMatchObject({ type: CONNACK, body: Buffer.from([present, 0]) });
    return client;
  };
  const get = publishPacket("$iothub/twin/GET/?$rid=1", " ");
  const first = await session(false, 0);
  first.send(subscribePacket("$iothub/twin/res/#"));
  await first.next();
  const second = await session(false, 1);
  second.send(get);
  const answer = await second.next();
  expect(answer?.type).toBe(PUBLISH);
  const third = await session(true, 0);
  third.send(get, PINGREQ);
  expect(await third.next()).toMatchObject({ type: PINGRESP });
  await session(false, 0);
});

test("a report that is not JSON is answered with 400 and a code", async () => {
  const { client } = await connected();
  client.send(subscribePacket("$iothub/twin/res/#"));
  await client.next();
  client.send(publishPacket("$iothub/twin/PATCH/properties/reported/?$rid=5", "{bad"));
  const answer = await client.next();
  const { topic, text } = published(answer!);
  expect(topic).toBe("$iothub/twin/res/400/?$rid=5");
  expect(JSON.parse(text)).toMatchObject({ errorCode: 400004, message: expect.stringContaining("JSON") });
});

test("a message from the cloud that was not acknowledged comes again to the next connection", async () => {
  const { client, deviceId, connecting } = await connected({ clean: false });
  client.send(subscribePacket(`devices/${deviceId}/messages/devicebound/#`, 1));
  await client.next();
  const sent = simulator.hub.messages.send(deviceId, {
    body: Buffer.from("hi"),
    properties: {},
    lifetime: 60_000,
  });
  expect(sent.ok).toBe(true);
  expect(published((await client.next())!).text).toBe("hi");
  const again = await rawClient();
  again.send(connectPacket({ ...connecting, clean: false }));
  expect((await again.next())?.type).toBe(CONNACK);
  const message = await again.next();
  expect(published(message!).text).toBe("hi");
  const start = 2 + message!.body.readUInt16BE(0);
  again.send(packet(0x40, message!.body.subarray(start, start + 2)));
  await until(() => simulator.hub.messages.pending(deviceId) === 0);
});

test("a method answered by another device, or with garbage, is not answered", async () => {
  const { client, deviceId } = await connected();
  const other = await connected();
  client.send(subscribePacket("$iothub/methods/POST/#"));
  await client.next();
  const call = { name: "ping", payload: null, connectTimeout: 0, responseTimeout: 60_000 };
  const answer = simulator.hub.methods.invoke(deviceId, call);
  const asked = published((await client.next())!);
  expect(asked).toMatchObject({
    topic: expect.stringMatching(/^\$iothub\/methods\/POST\/ping\/\?\$rid=/),
    text: "null",
  });
  const requestId = asked.topic.split("$rid=")[1];
  other.client.send(publishPacket(`$iothub/methods/res/200/?$rid=${requestId}`, '"stolen"'), PINGREQ);
  expect((await other.client.next())?.type).toBe(PINGRESP);
  client.send(publishPacket(`$iothub/methods/res/200/?$rid=${requestId}`, "{not json"));
  expect(await answer).toMatchObject({ ok: false, refusal: { status: 502 } });
});

test("thousands of broken packets and half handshakes crash nothing and leave nothing behind", async () => {
  const { connecting, deviceId } = newDevice();
  const proper = [
    connectPacket(connecting),
    subscribePacket("$iothub/twin/res/#"),
    publishPacket("$iothub/twin/GET/?$rid=1", " "),
    publishPacket("$iothub/twin/PATCH/properties/reported/?$rid=1", '{"a":{"b":[1,null]}}'),
    publishPacket(`devices/${deviceId}/messages/events/%zz=%`, "x", { qos: 1 }),
    publishPacket("$iothub/methods/res/200/?$rid=1", "{"),
    packet(0xa2, Buffer.from([0, 1]), "$iothub/twin/res/#"),
    packet(0x40, Buffer.from([0, 1])),
    packet(0x50, Buffer.from([0, 1])),
    packet(0x62, Buffer.from([0, 1])),
    PINGREQ,
  ];
  // Proper packets with bytes changed, cut off, doubled; and bytes that never were one.
  const mutated = fc
    .tuple(fc.constantFrom(...proper), fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 3 }), fc.nat(8))
    .map(([bytes, changes, cut]) => {
      const copy = Buffer.from(bytes);
      for (const [at, value] of changes) copy[at % copy.length] = value;
      return cut === 0 ? copy.subarray(0, copy.length >> 1) : copy;
    });
  const noise = fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes));
  const some = fc.array(fc.oneof({ weight: 4, arbitrary: mutated }, noise), { minLength: 5, maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(some, fc.boolean(), async (packets, first) => {
      const client = await rawClient();
      client.send(...(first ? [connectPacket(connecting)] : []), ...packets);
      client.socket.end();
      for (let next = await client.next(); next !== null; ) next = await client.next();
      client.socket.destroy();
    }),
    { numRuns: 150 },
  );
  const half = Array.from({ length: 100 }, (_, index) => {
    const socket = tcpConnect(endpoint.mqttPort, "127.0.0.1");
    socket.on("error", () => {});
    // The beginning of a handshake, or what only looks like one.
    socket.write(Buffer.concat([Buffer.from([0x16, 3, 1, 2, 0]), randomBytes(index * 5)]));
    return socket;
  });
  await until(() => simulator.mqttConnections() > 50);
  for (const socket of half) socket.destroy();
  await until(() => simulator.mqttConnections() === 0);
  const { client } = await connected();
  client.send(PINGREQ);
  expect((await client.next())?.type).toBe(PINGRESP);
});

function telemetryOf(deviceId: string) {
  return simulator.hub.events.read({ from: 1, limit: 1000, source: "Telemetry", deviceId }).events;
}
