import fc from "fast-check";
import { expect, test } from "vitest";
import {
  cloudMessageTopic,
  type DeviceTopic,
  desiredTopic,
  methodTopic,
  parseBag,
  parseFilter,
  parseTopic,
  printBag,
  sortBag,
  twinReplyTopic,
  type Who,
} from "./mqtt-topics.ts";

const device: Who = { deviceId: "cam-1", moduleId: null };
const module: Who = { deviceId: "cam-1", moduleId: "$edgeAgent" };

test.each<[string, DeviceTopic]>([
  ["$iothub/twin/GET/?$rid=8f-1", { kind: "getTwin", requestId: "8f-1" }],
  ["$iothub/twin/PATCH/properties/reported/?$rid=2&x=1", { kind: "report", requestId: "2" }],
  ["$iothub/methods/res/200/?$rid=a", { kind: "methodResponse", requestId: "a", status: 200 }],
  ["$iothub/methods/res/-1/?$rid=a", { kind: "methodResponse", requestId: "a", status: -1 }],
  ["devices/cam-1/messages/events/", { kind: "telemetry", properties: {} }],
  ["devices/cam-1/messages/events", { kind: "telemetry", properties: {} }],
  [
    "devices/cam-1/messages/events/%24.mid=1&a%20b=c%26d&none&empty=",
    { kind: "telemetry", properties: { "$.mid": "1", "a b": "c&d", none: null, empty: "" } },
  ],
])("a device may publish %s", (topic, meaning) => {
  expect(parseTopic(topic, device)).toEqual(meaning);
});

test.each([
  "",
  "$iothub/twin/GET/",
  "$iothub/twin/GET/?$rid=",
  "$iothub/twin/GET?$rid=1",
  "$iothub/twin/res/200/?$rid=1",
  "$iothub/twin/PATCH/properties/desired/?$rid=1",
  "$iothub/methods/res/ok/?$rid=1",
  "$iothub/methods/POST/x/?$rid=1",
  "devices/cam-2/messages/events/",
  "devices/cam-1/messages/eventsx",
  "devices/cam-1/messages/devicebound/",
  "devices/cam-1/modules/$edgeAgent/messages/events/",
])("a device may not publish %j", (topic) => {
  expect(parseTopic(topic, device)).toBeNull();
});

test("a module publishes beside its device, encoded or not", () => {
  const telemetry = { kind: "telemetry", properties: { "$.on": "alerts" } };
  expect(parseTopic("devices/cam-1/modules/$edgeAgent/messages/events/%24.on=alerts/", module)).toEqual(
    telemetry,
  );
  expect(parseTopic("devices/cam-1/modules/%24edgeAgent/messages/events/?$.on=alerts", module)).toEqual(
    telemetry,
  );
  expect(parseTopic("devices/cam-1/messages/events/", module)).toBeNull();
});

test.each<[string, Who, string | null]>([
  ["$iothub/twin/res/#", device, "twinReplies"],
  ["$iothub/twin/PATCH/properties/desired/#", module, "desired"],
  ["$iothub/methods/POST/#", device, "methods"],
  ["devices/cam-1/messages/devicebound/#", device, "cloudMessages"],
  ["devices/cam-1/messages/devicebound/#", module, null],
  ["devices/cam-1/modules/$edgeAgent/inputs/#", module, "inputs"],
  ["devices/cam-1/modules/$edgeAgent/inputs/#", device, null],
  ["devices/cam-2/messages/devicebound/#", device, null],
  ["#", device, null],
  ["$iothub/#", device, null],
  ["devices/+/messages/devicebound/#", device, null],
])("a subscription to %s", (filter, who, meaning) => {
  expect(parseFilter(filter, who)).toBe(meaning);
});

test("what the hub publishes is named as the SDKs read it", () => {
  expect(twinReplyTopic(204, "r", 7)).toBe("$iothub/twin/res/204/?$rid=r&$version=7");
  expect(twinReplyTopic(200, "r", null)).toBe("$iothub/twin/res/200/?$rid=r");
  expect(desiredTopic(3)).toBe("$iothub/twin/PATCH/properties/desired/?$version=3");
  expect(methodTopic("ping", "1f")).toBe("$iothub/methods/POST/ping/?$rid=1f");
  expect(cloudMessageTopic("cam-1", { properties: { a: null, b: "", "$.mid": "x y" }, ack: "none" })).toBe(
    "devices/cam-1/messages/devicebound/%24.mid=x%20y&%24.to=%2Fdevices%2Fcam-1%2Fmessages%2FdeviceBound&a&b=",
  );
});

test("a bag reads back as what it was written from", () => {
  const key = fc.string({ unit: "grapheme", minLength: 1 });
  const value = fc.option(fc.string({ unit: "grapheme" }));
  fc.assert(
    fc.property(fc.dictionary(key, value), (bag) => {
      expect({ ...parseBag(printBag(bag)) }).toEqual({ ...bag });
    }),
  );
});

test("whatever a topic is, reading it does not throw", () => {
  const word = fc.constantFrom(
    "$iothub",
    "twin",
    "GET",
    "?$rid=",
    "/",
    "%",
    "%24",
    "devices",
    "cam-1",
    "&",
    "=",
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(word, fc.string({ maxLength: 5 })), { maxLength: 12 }), (words) => {
      const topic = words.join("");
      expect(() => parseTopic(topic, device)).not.toThrow();
      expect(typeof parseBag(topic)).toBe("object");
      expect(parseFilter(topic, device)).toBeNull();
    }),
  );
});

test("system properties get the hub's names, the others stay", () => {
  expect(sortBag({ "$.ct": "application/json", "$.new": "?", a: "b" })).toEqual({
    system: { "content-type": "application/json", "$.new": "?" },
    application: { a: "b" },
  });
});
