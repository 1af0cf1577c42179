import { afterEach, expect, test } from "vitest";
import { createSimulator, type Endpoint, type Simulator, type SimulatorSetup } from "../simulator.ts";
import {
  CONNACK,
  connectPacket,
  credentialsOf,
  PUBACK,
  publishPacket,
  type RawClient,
  rawClient,
} from "../testing/raw-mqtt.ts";

// What devices see when the hub has had enough of them.

let simulator: Simulator;
let endpoint: Endpoint;
afterEach(() => simulator.stop());

async function start(setup: SimulatorSetup): Promise<void> {
  simulator = createSimulator({ clock: "virtual", autoStart: false, chargeDevices: true, ...setup });
  endpoint = await simulator.start();
  expect(simulator.hub.registry.putDevice("cam-1", {}, null).ok).toBe(true);
}

async function dialled(
  key?: string,
): Promise<{ readonly client: RawClient; readonly code: number | undefined }> {
  const known = simulator.hub.registry.get("cam-1", null)?.authentication.symmetricKey.primaryKey ?? "";
  const client = await rawClient(endpoint);
  client.send(connectPacket(credentialsOf(endpoint, "cam-1", key ?? known)));
  const answer = await client.next();
  return { client, code: answer?.type === CONNACK ? answer.body[1] : undefined };
}

const telemetry = publishPacket("devices/cam-1/messages/events/", "x", { qos: 1 });

test("new connections beyond the budget get CONNACK 3, and are let in when it has come back", async () => {
  await start({ tier: "S1" });
  while (simulator.hub.throttle.take("connection", 1));
  expect((await dialled()).code).toBe(3);
  // A client that may not connect is refused first, and costs nothing.
  expect((await dialled(Buffer.alloc(32).toString("base64"))).code).toBe(5);
  await simulator.advance(10);
  expect((await dialled()).code).toBe(0);
  expect((await dialled()).code).toBe(3);
});

test("a message beyond the budget is not acknowledged, and its connection ends", async () => {
  await start({ tier: "S1" });
  const { client } = await dialled();
  client.send(telemetry);
  expect((await client.next())?.type).toBe(PUBACK);
  while (simulator.hub.throttle.take("telemetry", 1));
  client.send(telemetry);
  expect(await client.next()).toBeNull();
});

test("a message beyond the day's quota is not acknowledged either", async () => {
  await start({ dailyQuota: 1 });
  const { client } = await dialled();
  client.send(telemetry);
  expect((await client.next())?.type).toBe(PUBACK);
  client.send(telemetry);
  expect(await client.next()).toBeNull();
});

test.each([{ chargeDevices: false }, { throttling: false }])(
  "with %o devices connect and send as they like",
  async (setup) => {
    await start({ tier: "S1", ...setup });
    while (simulator.hub.throttle.take("connection", 1));
    while (simulator.hub.throttle.take("telemetry", 1));
    const { client, code } = await dialled();
    expect(code).toBe(0);
    client.send(telemetry);
    expect((await client.next())?.type).toBe(PUBACK);
  },
);
