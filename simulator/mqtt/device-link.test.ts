import { beforeEach, expect, test } from "vitest";
import { createSimulator, type Simulator } from "../simulator.ts";
import type { ClosedBecause, Listener, Session } from "./device-sessions.ts";

// Who has an identity, and who gets it back.

let simulator: Simulator;
const who = { deviceId: "cam-1", moduleId: null };
const client: Listener<string> = { desired: () => {}, closed: () => {} };

beforeEach(() => {
  simulator = createSimulator({ clock: "virtual", stateDelay: 1000 });
  expect(simulator.hub.registry.putDevice("cam-1", {}, null).ok).toBe(true);
});

function isSimulated(): boolean | undefined {
  return simulator.fleet.list().find(({ deviceId }) => deviceId === "cam-1")?.connected;
}

function connected(): Session {
  const session = simulator.links.connect(who, client, "client");
  if (!session.ok) throw new Error(session.refusal.message);
  return session.value;
}

test("a simulated device that gave way comes back a moment after the last client has gone", async () => {
  expect(isSimulated()).toBe(true);
  connected();
  const last = connected();
  await simulator.advance(120_000);
  expect(isSimulated()).toBe(false);
  simulator.links.close(last);
  await simulator.advance(999);
  expect(isSimulated()).toBe(false);
  await simulator.advance(1);
  expect(isSimulated()).toBe(true);
});

test("a client that is back within the moment keeps the identity, and gives it back later", async () => {
  simulator.links.close(connected());
  await simulator.advance(500);
  const again = connected();
  await simulator.advance(10_000);
  expect(isSimulated()).toBe(false);
  simulator.links.close(again);
  await simulator.advance(1000);
  expect(isSimulated()).toBe(true);
});

test("a client that has come back and leaves of its own accord is not called again", () => {
  const calls: string[] = [];
  const polite: Listener<string> = { ...client, vacant: (subject) => calls.push(subject) };
  const polites = () => simulator.links.connect(who, polite, "polite");
  polites();
  simulator.links.close(connected());
  expect(calls).toEqual(["polite"]);
  const back = polites();
  if (back.ok) simulator.links.close(back.value);
  expect(calls).toEqual(["polite"]);
});

test("a device that is disabled under a client is simulated again once it is enabled", async () => {
  connected();
  const any = { any: true, etag: "*" } as const;
  simulator.hub.registry.putDevice("cam-1", { status: "disabled" }, any);
  await simulator.advance(2000);
  expect(isSimulated()).toBe(false);
  simulator.hub.registry.putDevice("cam-1", {}, any);
  expect(isSimulated()).toBe(true);
});

test("a device that is removed under a client does not come back", async () => {
  const session = connected();
  const closed: ClosedBecause[] = [];
  simulator.links.connect(who, { ...client, closed: (_, because) => closed.push(because) }, "other");
  simulator.hub.registry.removeDevice("cam-1", null);
  simulator.links.close(session);
  await simulator.advance(5000);
  expect(closed).toEqual(["removed"]);
  expect(isSimulated()).toBeUndefined();
});
