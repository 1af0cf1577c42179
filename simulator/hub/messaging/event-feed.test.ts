import { expect, test } from "vitest";
import { createEventFeed, type TelemetryMessage } from "./event-feed.ts";

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

const all = { from: 1, limit: 10_000, source: null, deviceId: null };

function newFeed() {
  return createEventFeed({ hostName: "simhub.azure-devices.net", now: () => 0 });
}

test("the newest of every source are held, and the chatter of one drives out nothing of another", () => {
  const feed = newFeed();
  feed.telemetry(message);
  for (let count = 0; count < 5000; count++) feed.connection("cam-2", count % 2 === 0);
  const page = feed.read(all);
  expect(page.events).toHaveLength(2001);
  expect(page.events[0]).toMatchObject({ sequenceNumber: 1, body: "x" });
  expect(page).toMatchObject({ next: 5002, oldest: 3002 });
  expect(feed.read({ ...all, source: "Telemetry" }).oldest).toBe(1);
});

test("large messages are held by their size", () => {
  const feed = newFeed();
  for (let count = 0; count < 100; count++)
    feed.telemetry({ ...message, body: Buffer.alloc(256 * 1024, "x") });
  expect(feed.read(all)).toMatchObject({ next: 101, oldest: 37 });
  expect(feed.read(all).events).toHaveLength(64);
});

test("pages follow each other without a gap, also where nothing was wanted", () => {
  const feed = newFeed();
  for (let count = 0; count < 10; count++) feed.telemetry({ ...message, deviceId: `cam-${count % 3}` });
  const seen: number[] = [];
  let from = 1;
  for (let page = feed.read({ ...all, deviceId: "cam-0", limit: 2 }); page.events.length > 0; ) {
    seen.push(...page.events.map(({ sequenceNumber }) => sequenceNumber));
    from = page.next;
    page = feed.read({ ...all, deviceId: "cam-0", limit: 2, from });
  }
  expect(seen).toEqual([1, 4, 7, 10]);
  expect(from).toBe(11);
});

test("a body is shown as JSON only where the device says so and is right", () => {
  const feed = newFeed();
  const json = { "content-type": "application/json; charset=utf-8" };
  feed.telemetry({ ...message, body: Buffer.from('{"a":1}'), systemProperties: json });
  feed.telemetry({ ...message, body: Buffer.from('{"a":1}') });
  feed.telemetry({ ...message, body: Buffer.from("{a"), systemProperties: json });
  expect(feed.read(all).events).toMatchObject([
    { body: { a: 1 }, bodyEncoding: "json" },
    { body: '{"a":1}', bodyEncoding: "utf-8" },
    { body: "{a", bodyEncoding: "utf-8" },
  ]);
});
