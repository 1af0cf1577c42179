import { afterEach, beforeEach, expect, test } from "vitest";
import { createSimulator, type Endpoint, type Simulator } from "../simulator.ts";
import { controlCall } from "../testing/control-client.ts";
import {
  CONNACK,
  connectPacket,
  credentialsOf,
  PINGREQ,
  PINGRESP,
  PUBLISH,
  packet,
  published,
  type RawClient,
  type RawPacket,
  rawClient,
  subscribePacket,
} from "../testing/raw-mqtt.ts";
import { until } from "../testing/until.ts";

// Messages from the cloud, packet by packet, in a time that stands still.

let simulator: Simulator;
let endpoint: Endpoint;
const opened: RawClient[] = [];

beforeEach(async () => {
  simulator = createSimulator({ tier: "S3", clock: "virtual", autoStart: false });
  endpoint = await simulator.start();
  expect(simulator.hub.registry.putDevice("cam-1", {}, null).ok).toBe(true);
});
afterEach(async () => {
  for (const client of opened.splice(0)) client.socket.destroy();
  await simulator.stop();
});

const FILTER = "devices/cam-1/messages/devicebound/#";

async function connected(clean = false): Promise<RawClient> {
  const key = simulator.hub.registry.get("cam-1", null)?.authentication.symmetricKey.primaryKey ?? "";
  const client = await rawClient(endpoint);
  opened.push(client);
  client.send(connectPacket({ ...credentialsOf(endpoint, "cam-1", key), clean }));
  expect((await client.next())?.type).toBe(CONNACK);
  return client;
}

async function subscribed(qos = 1): Promise<RawClient> {
  const client = await connected();
  client.send(subscribePacket(FILTER, qos));
  await client.next();
  return client;
}

async function send(message: object): Promise<number> {
  return (await controlCall(endpoint, "POST", "messages", { device: "cam-1", ...message })).status;
}

async function received(client: RawClient): Promise<RawPacket & ReturnType<typeof published>> {
  const one = await client.next();
  if (one?.type !== PUBLISH) throw new Error(`packet ${one?.type} in place of a message`);
  return { ...one, ...published(one) };
}

function acknowledge(client: RawClient, { body }: RawPacket): void {
  const start = 2 + body.readUInt16BE(0);
  client.send(packet(0x40, body.subarray(start, start + 2)));
}

/** A round trip: whatever was sent to the client before has come. */
async function nothingMore(client: RawClient): Promise<void> {
  client.send(PINGREQ);
  expect((await client.next())?.type).toBe(PINGRESP);
}

async function feedback(): Promise<unknown> {
  return (await controlCall(endpoint, "GET", "messages/feedback")).body["feedback"];
}

test("a message that is acknowledged is done, its sender gets feedback, and the next one comes", async () => {
  const client = await subscribed();
  await send({ body: "one", messageId: "m-1", ack: "full" });
  await send({ body: "two" });
  const first = await received(client);
  expect(first).toMatchObject({
    text: "one",
    topic:
      "devices/cam-1/messages/devicebound/%24.mid=m-1&%24.to=%2Fdevices%2Fcam-1%2Fmessages%2FdeviceBound&iothub-ack=full",
  });
  await nothingMore(client);
  expect(await feedback()).toEqual([]);
  acknowledge(client, first);
  expect((await received(client)).text).toBe("two");
  const generation = simulator.hub.registry.get("cam-1", null)?.generationId;
  expect(await feedback()).toMatchObject([
    { originalMessageId: "m-1", statusCode: "Success", deviceId: "cam-1", deviceGenerationId: generation },
  ]);
});

test("a message that is not acknowledged comes again after a minute, ten times in all", async () => {
  const client = await subscribed();
  await send({ body: "one", messageId: "m-1", ack: "negative", expiresIn: "1h" });
  for (let time = 1; time <= 10; time++) {
    expect((await received(client)).text).toBe("one");
    await simulator.advance(59_999);
    await nothingMore(client);
    await simulator.advance(1);
  }
  await nothingMore(client);
  expect(await feedback()).toMatchObject([{ originalMessageId: "m-1", statusCode: "DeliveryCountExceeded" }]);
  expect(simulator.hub.messages.pending("cam-1")).toBe(0);
});

test("a message that was under way when the connection ended comes again to the next at once", async () => {
  const client = await subscribed();
  await send({ body: "one" });
  await received(client);
  const again = await connected();
  const message = await received(again);
  expect(message.text).toBe("one");
  // The first wait is over with its connection: nothing comes twice.
  await simulator.advance(59_000);
  acknowledge(again, message);
  await nothingMore(again);
  await simulator.advance(2000);
  await nothingMore(again);
  expect(simulator.hub.messages.pending("cam-1")).toBe(0);
});

test("the minute of a message begins when it is sent, not when the one before was", async () => {
  const client = await subscribed();
  await send({ body: "one", expiresIn: "1h" });
  await send({ body: "two", expiresIn: "1h" });
  const first = await received(client);
  await simulator.advance(30_000);
  acknowledge(client, first);
  expect((await received(client)).text).toBe("two");
  await simulator.advance(59_999);
  await nothingMore(client);
  await simulator.advance(1);
  expect((await received(client)).text).toBe("two");
});

test("quality 0 is done when it is sent", async () => {
  const client = await subscribed(0);
  await send({ body: "one", messageId: "m-1", ack: "positive" });
  expect((await received(client)).flags & 0x06).toBe(0);
  expect(await feedback()).toMatchObject([{ statusCode: "Success" }]);
});

test("a message that expires under way is not acknowledged late", async () => {
  const client = await subscribed();
  await send({ body: "one", messageId: "m-1", ack: "full", expiresIn: "5s" });
  const message = await received(client);
  await simulator.advance(5000);
  acknowledge(client, message);
  await send({ body: "two" });
  expect((await received(client)).text).toBe("two");
  expect(await feedback()).toMatchObject([{ statusCode: "Expired" }]);
});

test("a clean session forgets what it subscribed to, and the messages wait", async () => {
  await subscribed();
  const clean = await connected(true);
  await send({ body: "one" });
  await nothingMore(clean);
  expect(simulator.hub.messages.pending("cam-1")).toBe(1);
  // Nor is the session before it remembered.
  await nothingMore(await connected());
});

test("who unsubscribes gets no more, in this session and the next", async () => {
  const client = await subscribed();
  client.send(packet(0xa2, Buffer.from([0, 1]), FILTER));
  await client.next();
  await send({ body: "one" });
  await nothingMore(client);
  await nothingMore(await connected());
});

test("too many, too large and too deep are refused in words", async () => {
  for (let count = 0; count < 50; count++) expect(await send({ body: "x" })).toBe(200);
  expect(await send({ body: "x" })).toBe(403);
  expect(await send({ body: "x".repeat(65_537) })).toBe(413);
  const { body } = await controlCall(endpoint, "POST", "messages", { device: "cam-1", ack: "always" });
  expect(body.problems).toEqual(["ack must be one of none, positive, negative, full"]);
});

test("purged messages do not come, and their senders get feedback", async () => {
  await send({ body: "one", messageId: "m-1", ack: "negative" });
  await send({ body: "two" });
  expect(simulator.hub.messages.purge("cam-1")).toBe(2);
  await nothingMore(await subscribed());
  expect(await feedback()).toMatchObject([{ originalMessageId: "m-1", statusCode: "Purged" }]);
  await until(() => simulator.mqttConnections() === 1);
});
