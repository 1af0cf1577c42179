import { afterEach, expect, test } from "vitest";
import { createSimulator, type Endpoint, type Simulator } from "../simulator.ts";
import { type DeviceClient, deviceClient, report } from "../testing/device-client.ts";
import { until } from "../testing/until.ts";
import type { SessionSubscriptions } from "./session-memory.ts";

// What the vendor's device SDK hears after it has renewed its token, by what the hub remembers of its session.

let simulator: Simulator;
let endpoint: Endpoint;
let client: DeviceClient;
afterEach(async () => {
  await client.close().catch(() => {});
  await simulator.stop();
});

async function start(sessionSubscriptions: SessionSubscriptions) {
  simulator = createSimulator({ tier: "S3", autoStart: false, sessionSubscriptions });
  endpoint = await simulator.start();
  const created = simulator.hub.registry.putDevice("cam-1", {}, null);
  const key = created.ok ? (created.value.authentication.symmetricKey.primaryKey ?? "") : "";
  client = await deviceClient(endpoint, { deviceId: "cam-1" }, key);
  client.on("error", () => {});
  const heard = { desired: [] as unknown[], messages: [] as string[], methods: [] as string[] };
  // Renewed every two seconds, long before it ends: the hub cuts off a client that comes too late, whatever kept it.
  await client.setOptions({
    ca: endpoint.ca,
    tokenRenewal: { tokenValidTimeInSeconds: 60, tokenRenewalMarginInSeconds: 58 },
  } as never);
  client.on("message", ({ data }) => heard.messages.push(String(data)));
  client.onDeviceMethod("ping", (_request, response) => {
    heard.methods.push("ping");
    response?.send(200, null, () => {});
  });
  await client.open();
  const twin = await client.getTwin();
  twin.on("properties.desired", (change: unknown) => heard.desired.push(change));
  await report(twin, { before: "the renewal" });
  return { twin, heard };
}

function connections(): number {
  const query = { from: 1, limit: 1000, source: "deviceConnectionStateEvents", deviceId: "cam-1" } as const;
  return simulator.hub.events
    .read(query)
    .events.filter(({ properties }) => properties["opType"] === "deviceConnected").length;
}

function send(body: string): void {
  simulator.hub.messages.send("cam-1", { body: Buffer.from(body), properties: {}, lifetime: 60_000 });
}

function patch(): void {
  const desired = { after: "the renewal" };
  expect(simulator.hub.twins.patch("cam-1", { tags: null, desired }, null).ok).toBe(true);
}

const ping = () =>
  simulator.hub.invoke("cam-1", { name: "ping", payload: null, connectTimeout: 0, responseTimeout: 5000 });

test("with all of them kept, everything continues", async () => {
  const { twin, heard } = await start("all");
  await until(() => connections() > 1);
  await report(twin, { after: "the renewal" });
  patch();
  send("hello");
  expect((await ping()).ok).toBe(true);
  await until(
    () => heard.messages.includes("hello") && JSON.stringify(heard.desired.at(-1)).includes("after"),
  );
});

test("with those of messages from the cloud kept, only these continue", async () => {
  const { heard } = await start("cloud-to-device");
  await until(() => connections() > 1);
  patch();
  const answer = await ping();
  expect(!answer.ok && answer.refusal.code).toBe("DeviceNotOnline");
  send("hello");
  await until(() => heard.messages.includes("hello"));
  expect(JSON.stringify(heard.desired)).not.toContain("after");
});
