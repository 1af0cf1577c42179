import { expect, test } from "vitest";
import { inferenceReport } from "../../../test/builders/fleet.ts";
import { instant, later, minutes, seconds } from "../../base/time.ts";
import { heartbeatOf, presenceOf } from "./presence.ts";

const NOW = instant(Date.UTC(2026, 0, 1, 12));
const facts = {
  enabled: true,
  hasReported: true,
  heartbeatAt: NOW,
  timeout: minutes(5),
  hubReachable: true,
  now: NOW,
};
const ago = (length: number) => instant(NOW - length);

test.each([
  ["a device that reported a moment ago is online", {}, "True", "Heartbeat"],
  ["one just inside the timeout is online", { heartbeatAt: ago(minutes(5) - 1) }, "True", "Heartbeat"],
  [
    "one that is silent for the timeout is offline",
    { heartbeatAt: ago(minutes(5)) },
    "False",
    "HeartbeatMissing",
  ],
  ["one that never reported is unknown, not offline", { heartbeatAt: null }, "Unknown", "NeverSeen"],
  [
    "silence says nothing while the hub cannot be read",
    { heartbeatAt: ago(minutes(9)), hubReachable: false },
    "Unknown",
    "HubUnavailable",
  ],
  [
    "nor does never having been seen",
    { heartbeatAt: null, hubReachable: false },
    "Unknown",
    "HubUnavailable",
  ],
  ["a fresh heartbeat counts all the same", { hubReachable: false }, "True", "Heartbeat"],
  ["a clock a little ahead is forgiven", { heartbeatAt: later(NOW, seconds(30)) }, "True", "Heartbeat"],
  ["a clock far ahead proves nothing", { heartbeatAt: later(NOW, minutes(6)) }, "Unknown", "ClockAhead"],
  ["a disabled device is offline whatever it says", { enabled: false }, "False", "Disabled"],
])("%s", (_, change, status, reason) => {
  expect(presenceOf({ ...facts, ...change })).toMatchObject({ status, reason });
});

test("a device whose heartbeat cannot be read is told from one that has not reported, and what to write is said", () => {
  expect(presenceOf({ ...facts, heartbeatAt: null }).message).toContain(
    "it must be a time with its zone, such as 2026-12-01T10:00:00Z",
  );
  expect(presenceOf({ ...facts, hasReported: false, heartbeatAt: null }).message).toBe(
    "the device has not reported yet",
  );
});

test("the words for a device that is online are the same at every heartbeat", () => {
  const one = presenceOf(facts);
  const two = presenceOf({ ...facts, heartbeatAt: later(NOW, seconds(60)), now: later(NOW, seconds(90)) });
  expect(two).toEqual(one);
});

test("the newest heartbeat of all modules counts, and one that is no time is none", () => {
  const slot = (at: number) => ({ pointer: null, report: inferenceReport(instant(at)) });
  const wrong = { pointer: null, report: { contract: 1, heartbeatAt: "soon" } };
  expect(heartbeatOf({ a: slot(1000), b: slot(3000), c: { pointer: null, report: null }, d: wrong })).toBe(
    3000,
  );
  expect(heartbeatOf({ d: wrong })).toBeNull();
  expect(heartbeatOf({})).toBeNull();
});
