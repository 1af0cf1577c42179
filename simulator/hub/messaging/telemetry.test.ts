import { expect, test } from "vitest";
import { createManualClock } from "../../base/clock.ts";
import { createSimulator } from "../../simulator.ts";
import type { TelemetryMessage } from "./event-feed.ts";

const message: TelemetryMessage = {
  deviceId: "cam-1",
  moduleId: null,
  generationId: "1",
  authMethod: "{}",
  modelId: null,
  body: Buffer.from("x"),
  properties: {},
  systemProperties: {},
};

function newHub(options: object) {
  const clock = createManualClock(Date.parse("2026-03-01T12:00:00Z"));
  return createSimulator({ clock, autoStart: false, ...options }).hub;
}

/** How many messages are taken at one moment. */
function taken(hub: ReturnType<typeof newHub>, most: number): number {
  for (let count = 0; count < most; count++) if (!hub.telemetry.accept(message).ok) return count;
  return most;
}

test("messages of devices are throttled by tier and unit where devices are charged", () => {
  expect(taken(newHub({ tier: "S1", chargeDevices: true }), 2000)).toBe(500);
  expect(taken(newHub({ tier: "S2", units: 2, chargeDevices: true }), 2000)).toBe(1200);
  expect(taken(newHub({ tier: "S1", chargeDevices: true, throttling: false }), 2000)).toBe(2000);
  expect(taken(newHub({ tier: "S1" }), 2000)).toBe(2000);
});

test("the day's quota ends messages of devices where they are charged", () => {
  const hub = newHub({ dailyQuota: 3, chargeDevices: true });
  expect(taken(hub, 10)).toBe(3);
  const refused = hub.telemetry.accept(message);
  expect(!refused.ok && refused.refusal).toMatchObject({ status: 403, code: "IotHubQuotaExceeded" });
  expect(hub.counters.report().devices).toMatchObject({ messages: 3, refused: 2 });
  const uncharged = newHub({ dailyQuota: 3 });
  uncharged.quota.charge("query", 1_000_000);
  expect(taken(uncharged, 10)).toBe(10);
});

test("a message may have 256 KB, properties and all", () => {
  const hub = newHub({});
  const sized = (bytes: number) =>
    hub.telemetry.accept({
      ...message,
      body: Buffer.alloc(bytes),
      properties: { colour: "blau", ö: null },
      systemProperties: { "message-id": "m-1" },
    });
  expect(sized(262_144 - 15).ok).toBe(true);
  const refused = sized(262_144 - 14);
  expect(!refused.ok && refused.refusal).toMatchObject({ status: 413, code: "MessageTooLarge" });
});

test("what the sender has said of its model is stamped on its messages", () => {
  const hub = newHub({});
  hub.telemetry.accept({ ...message, modelId: "dtmi:plant:camera;1" });
  hub.telemetry.accept(message);
  const query = { from: 1, limit: 10, source: "Telemetry", deviceId: null } as const;
  const models = hub.events.read(query).events.map(({ annotations }) => annotations["dt-dataschema"]);
  expect(models).toEqual(["dtmi:plant:camera;1", undefined]);
});
