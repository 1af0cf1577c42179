import { beforeEach, expect, test } from "vitest";
import { ACKS, type Ack, type CloudMessages, createCloudMessages } from "./cloud-messages.ts";
import type { Outcome } from "./feedback-log.ts";

let now: number;
let messages: CloudMessages;

beforeEach(() => {
  now = Date.parse("2026-03-01T12:00:00Z");
  messages = createCloudMessages(
    () => now,
    (deviceId) => `generation of ${deviceId}`,
  );
});

function send(id: string, ack: Ack = "none", lifetime = 60_000) {
  return messages.send("cam-1", { body: Buffer.from(id), properties: { "$.mid": id }, lifetime, ack });
}

function feedback(): readonly [string | null, Outcome][] {
  return messages
    .feedback(1, 1000)
    .map(({ originalMessageId, statusCode }) => [originalMessageId, statusCode] as [string, Outcome]);
}

function deliveredIds(): string[] {
  const ids: string[] = [];
  for (let next = messages.deliver("cam-1"); next !== null; next = messages.deliver("cam-1")) {
    ids.push(String(next.body));
    messages.complete("cam-1", next.sequenceNumber);
  }
  return ids;
}

/** Brings a message to each of its ends. */
const ENDS: Readonly<Record<Outcome, () => void>> = {
  Success: () => deliveredIds(),
  Expired: () => {
    now += 60_000;
  },
  DeliveryCountExceeded: () => {
    for (let time = 0; time < 11; time++) messages.deliver("cam-1");
  },
  Purged: () => {
    messages.purge("cam-1");
  },
};

test.each(Object.keys(ENDS) as Outcome[])(
  "senders that asked for it get feedback of the end %s",
  (outcome) => {
    for (const ack of ACKS) {
      send(ack, ack);
      ENDS[outcome]();
      expect(messages.pending("cam-1")).toBe(0);
    }
    const wanted: readonly Ack[] = outcome === "Success" ? ["positive", "full"] : ["negative", "full"];
    expect(feedback()).toEqual(wanted.map((ack) => [ack, outcome]));
  },
);

test("feedback has the hub's own form, and says when the end came and not when it was read", () => {
  send("m-1", "full", 1000);
  now += 90_000;
  expect(messages.feedback(1, 10)).toEqual([
    {
      sequenceNumber: 1,
      originalMessageId: "m-1",
      enqueuedTimeUtc: "2026-03-01T12:00:01.000Z",
      statusCode: "Expired",
      description: "Message expired",
      deviceId: "cam-1",
      deviceGenerationId: "generation of cam-1",
    },
  ]);
  messages.send("cam-1", { body: Buffer.alloc(0), properties: {}, lifetime: 1, ack: "full" });
  messages.purge("cam-1");
  expect(messages.feedback(2, 10)).toMatchObject([{ sequenceNumber: 2, originalMessageId: null }]);
  expect(messages.feedback(1, 1)).toMatchObject([{ sequenceNumber: 1 }]);
});

test("the newest thousand ends are held, and those of a device that is gone are dropped", () => {
  for (let count = 0; count < 1005; count++) {
    send(`m-${count}`, "full");
    messages.purge("cam-1");
  }
  const held = messages.feedback(1, 5000);
  expect([held.length, held[0]?.sequenceNumber, held.at(-1)?.sequenceNumber]).toEqual([1000, 6, 1005]);
  send("last", "full");
  messages.forget("cam-1");
  expect(messages.feedback(1, 5000)).toEqual([]);
  expect(messages.pending("cam-1")).toBe(0);
});

test("a message that is handed out stays first until it is completed, ten times at most", () => {
  send("m-1");
  send("m-2");
  for (let time = 1; time <= 10; time++)
    expect(messages.deliver("cam-1")).toMatchObject({ sequenceNumber: 1, deliveries: time });
  expect(deliveredIds()).toEqual(["m-2"]);
});

test("one that was completed, has expired or was never there changes nothing when it is completed", () => {
  send("m-1", "full", 1000);
  now += 1000;
  messages.complete("cam-1", 1);
  messages.complete("cam-1", 7);
  expect(feedback()).toEqual([["m-1", "Expired"]]);
});

test("fifty may wait, and those that have expired take no room", () => {
  for (let count = 0; count < 50; count++) send(`m-${count}`, "none", count === 0 ? 1000 : 60_000);
  const refused = send("one more");
  expect(!refused.ok && refused.refusal).toMatchObject({
    status: 403,
    code: "DeviceMaximumQueueDepthExceeded",
  });
  now += 1000;
  expect(send("one more").ok).toBe(true);
  expect(messages.purge("cam-1")).toBe(50);
  expect(messages.purge("cam-1")).toBe(0);
});

test("a message may have 64 KB with its properties", () => {
  const sized = (bytes: number) =>
    messages.send("cam-1", { body: Buffer.alloc(bytes), properties: { ab: "cde", f: null }, lifetime: 1000 });
  expect(sized(65_536 - 6).ok).toBe(true);
  const refused = sized(65_536 - 5);
  expect(!refused.ok && refused.refusal).toMatchObject({ status: 413, code: "MessageTooLarge" });
});
