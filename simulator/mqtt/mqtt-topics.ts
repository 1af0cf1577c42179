import type { CloudMessage } from "../hub/messaging/cloud-messages.ts";
import type { PropertyBag } from "../hub/messaging/message.ts";
import type { InputMessage } from "../hub/messaging/module-inputs.ts";

// The topics of IoT Hub over MQTT, read and written; nothing here knows a connection. Source: Microsoft's page on
// communicating with IoT Hub over MQTT, and captures of the Node SDK.

/** Whose connection it is; `null`: a device's own. */
export type Who = { readonly deviceId: string; readonly moduleId: string | null };

/** What a device may publish. */
export type DeviceTopic =
  | { readonly kind: "getTwin"; readonly requestId: string }
  | { readonly kind: "report"; readonly requestId: string }
  | { readonly kind: "methodResponse"; readonly requestId: string; readonly status: number }
  | { readonly kind: "telemetry"; readonly properties: PropertyBag };

/** What a device may subscribe to. */
export type Subscribed = "twinReplies" | "desired" | "methods" | "cloudMessages" | "inputs";

/** `null` for a topic that does not exist, or that is another identity's. */
export function parseTopic(topic: string, who: Who): DeviceTopic | null {
  const events = eventsPrefixes(who).find((prefix) => topic === prefix || topic.startsWith(`${prefix}/`));
  if (events !== undefined)
    return { kind: "telemetry", properties: parseBag(topic.slice(events.length + 1)) };
  const [path = "", query = ""] = splitOnce(topic, "?");
  const requestId = rawParameter(query, "$rid");
  if (requestId === null) return null;
  if (path === "$iothub/twin/GET/") return { kind: "getTwin", requestId };
  if (path === "$iothub/twin/PATCH/properties/reported/") return { kind: "report", requestId };
  const [, status] = /^\$iothub\/methods\/res\/(-?[0-9]{1,9})\/$/.exec(path) ?? [];
  return status === undefined ? null : { kind: "methodResponse", requestId, status: Number(status) };
}

/** `null` for a filter that does not exist, or that would hear another identity. */
export function parseFilter(filter: string, who: Who): Subscribed | null {
  switch (filter) {
    case "$iothub/twin/res/#":
      return "twinReplies";
    case "$iothub/twin/PATCH/properties/desired/#":
      return "desired";
    case "$iothub/methods/POST/#":
      return "methods";
    default:
  }
  for (const own of ownPrefixes(who)) {
    // Messages from the cloud are for devices, and inputs are for modules.
    if (who.moduleId === null && filter === `${own}/messages/devicebound/#`) return "cloudMessages";
    if (who.moduleId !== null && filter === `${own}/inputs/#`) return "inputs";
  }
  return null;
}

/** `version` is that of the reported properties after a report, `null` in other replies. */
export function twinReplyTopic(status: number, requestId: string, version: number | null): string {
  return `$iothub/twin/res/${status}/?$rid=${requestId}${version === null ? "" : `&$version=${version}`}`;
}

export function desiredTopic(version: number): string {
  return `$iothub/twin/PATCH/properties/desired/?$version=${version}`;
}

export function methodTopic(name: string, requestId: string): string {
  return `$iothub/methods/POST/${name}/?$rid=${requestId}`;
}

export function cloudMessageTopic(
  deviceId: string,
  { properties, ack }: Pick<CloudMessage, "properties" | "ack">,
): string {
  const { "$.mid": id, ...others } = properties;
  const bag = {
    ...(id === undefined ? {} : { "$.mid": id }),
    "$.to": `/devices/${deviceId}/messages/deviceBound`,
    ...others,
    ...(ack === "none" ? {} : { "iothub-ack": ack }),
  };
  return `devices/${deviceId}/messages/devicebound/${printBag(bag)}`;
}

export function inputTopic(
  { deviceId, moduleId }: Who,
  { input, properties }: Pick<InputMessage, "input" | "properties">,
): string {
  return `devices/${deviceId}/modules/${moduleId}/inputs/${input}/${printBag(properties)}`;
}

/** `key=value` joined by `&`, both encoded; a key alone has no value, `key=` has an empty one. */
export function parseBag(written: string): PropertyBag {
  const bag = written.replace(/^\?/, "").replace(/\/$/, "");
  if (bag === "") return {};
  return Object.fromEntries(
    bag.split("&").flatMap((pair): [string, string | null][] => {
      const [key = "", value] = splitOnce(pair, "=");
      return key === "" ? [] : [[decoded(key), value === undefined ? null : decoded(value)]];
    }),
  );
}

export function printBag(bag: PropertyBag): string {
  return Object.entries(bag)
    .map(([key, value]) =>
      value === null ? encodeURIComponent(key) : `${encodeURIComponent(key)}=${encodeURIComponent(value)}`,
    )
    .join("&");
}

const SYSTEM_NAMES: ReadonlyMap<string, string> = new Map([
  ["$.mid", "message-id"],
  ["$.cid", "correlation-id"],
  ["$.uid", "user-id"],
  ["$.to", "to"],
  ["$.ct", "content-type"],
  ["$.ce", "content-encoding"],
  ["$.ctime", "iothub-creation-time-utc"],
  ["$.exp", "absolute-expiry-time"],
  ["$.on", "iothub-output-name"],
  ["$.ifid", "iothub-interface-id"],
  ["$.sub", "dt-subject"],
]);

/** What the hub makes of a bag: `$.`-keys are system properties with names of their own. */
export function sortBag(bag: PropertyBag): {
  readonly system: PropertyBag;
  readonly application: PropertyBag;
} {
  const entries = Object.entries(bag);
  return {
    system: Object.fromEntries(
      entries
        .filter(([key]) => key.startsWith("$."))
        .map(([key, value]) => [SYSTEM_NAMES.get(key) ?? key, value]),
    ),
    application: Object.fromEntries(entries.filter(([key]) => !key.startsWith("$."))),
  };
}

/** Ids come raw from the SDKs; clients that encode them mean the same. */
function ownPrefixes({ deviceId, moduleId }: Who): readonly string[] {
  const path = (encode: (id: string) => string) =>
    `devices/${encode(deviceId)}${moduleId === null ? "" : `/modules/${encode(moduleId)}`}`;
  return [path((id) => id), path(encodeURIComponent)];
}

function eventsPrefixes(who: Who): readonly string[] {
  return ownPrefixes(who).map((own) => `${own}/messages/events`);
}

function rawParameter(query: string, name: string): string | null {
  for (const pair of query.split("&")) {
    const [key, value] = splitOnce(pair, "=");
    if (key === name && value !== undefined && value !== "") return value;
  }
  return null;
}

function splitOnce(text: string, separator: string): readonly string[] {
  const at = text.indexOf(separator);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + separator.length)];
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
