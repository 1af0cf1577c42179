import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { createSimulator, type Simulator, type SimulatorSetup } from "../simulator.ts";
import { controlCall } from "../testing/control-client.ts";
import { type DeviceClient, deviceClient, nextDesired, report } from "../testing/device-client.ts";
import { turn, until } from "../testing/until.ts";

// The vendor's device SDK with its own retries, while the hub goes away under it.

const running: Simulator[] = [];
const clients: DeviceClient[] = [];
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close().catch(() => {})));
  await Promise.all(running.splice(0).map((simulator) => simulator.stop()));
});

async function started(setup: SimulatorSetup = {}) {
  const simulator = createSimulator({ autoStart: false, ...setup });
  running.push(simulator);
  return { simulator, endpoint: await simulator.start() };
}

/** A client that listens and has reported. */
async function listening({ simulator, endpoint }: Awaited<ReturnType<typeof started>>) {
  const made = simulator.hub.registry.putDevice("cam-1", {}, null);
  simulator.hub.persistence.commit();
  const key = made.ok ? (made.value.authentication.symmetricKey.primaryKey ?? "") : "";
  const client = await deviceClient(endpoint, { deviceId: "cam-1" }, key);
  client.on("error", () => {});
  clients.push(client);
  await client.open();
  const twin = await client.getTwin();
  const heard = nextDesired(twin);
  await report(twin, { life: 1 });
  return { client, twin, heard };
}

/** Patches until the client hears of it: one that has only just come back may not listen yet. */
async function patchUntil(heard: Promise<unknown>, { hub }: Simulator): Promise<unknown> {
  let isHeard = false;
  void heard.then(() => {
    isHeard = true;
  });
  for (let rate = 1; !isHeard; rate++) {
    hub.twins.patch("cam-1", { tags: null, desired: { rate } }, null);
    await turn();
  }
  return await heard;
}

test("after a restart that is a fault it connects again, hears patches and reports", async () => {
  const hub = await started();
  const { client, twin, heard } = await listening(hub);
  // By itself it gives up when a connection is reset: its own policy knows no error of that name.
  client.setRetryPolicy({ shouldRetry: () => true, nextRetryTimeout: () => 20 });
  const restart = { kind: "restart", milliseconds: 200, reconnectWithin: 0 };
  await controlCall(hub.endpoint, "POST", "faults", restart);
  await until(() => hub.simulator.mqttConnections() === 0);
  await until(() => hub.simulator.hub.isConnected("cam-1"));
  expect(await patchUntil(heard, hub.simulator)).toHaveProperty("rate");
  await report(twin, { life: 2 });
  expect(hub.simulator.hub.twins.get("cam-1")?.reported.value).toEqual({ life: 2 });
});

test("after the end of the program and a new start with its state it continues automatically", async () => {
  const directory = await mkdtemp(join(tmpdir(), "restart-"));
  const state = join(directory, "hub.state");
  const first = await started({ state });
  const { twin, heard } = await listening(first);
  await running.pop()?.stop();
  const second = await started({ state, port: first.endpoint.port, mqttPort: first.endpoint.mqttPort });
  expect(second.endpoint.ca).toBe(first.endpoint.ca);
  expect(second.simulator.hub.twins.get("cam-1")?.reported.value).toEqual({ life: 1 });
  await until(() => second.simulator.hub.isConnected("cam-1"));
  expect(await patchUntil(heard, second.simulator)).toHaveProperty("rate");
  await report(twin, { life: 2 });
  expect(second.simulator.hub.twins.get("cam-1")?.reported.value).toEqual({ life: 2 });
  await rm(directory, { recursive: true });
});
