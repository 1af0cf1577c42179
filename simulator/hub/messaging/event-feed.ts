import { type JsonObject, type JsonValue, parseJson } from "../../base/json.ts";
import { type Identity, NEVER } from "../registry/identity.ts";
import type { Section, Twin, TwinKey } from "../twins/twin.ts";
import type { TwinNotice } from "../twins/twins.ts";
import {
  createEventLog,
  type EventLog,
  type EventSource,
  type FeedEvent,
  type Sender,
  type Unnumbered,
} from "./event-log.ts";
import type { PropertyBag } from "./message.ts";

export type TelemetryMessage = {
  readonly deviceId: string;
  readonly moduleId: string | null;
  readonly generationId: string;
  /** JSON text: scope, type and issuer of what the sender proved itself with. */
  readonly authMethod: string;
  /** The plug and play model that the sender said it has when it connected. */
  readonly modelId: string | null;
  readonly body: Buffer;
  readonly properties: PropertyBag;
  readonly systemProperties: PropertyBag;
};

export type EventFeed = Omit<EventLog, "add"> & {
  readonly telemetry: (message: TelemetryMessage) => void;
  readonly twinChanged: (twin: Twin, change: TwinNotice) => void;
  readonly lifecycle: (what: "create" | "delete", identity: Identity) => void;
  readonly connection: (key: TwinKey, connected: boolean) => void;
};

/** Events as a real hub routes them when every source has a route to the built-in endpoint; the newest of each source. */
export function createEventFeed(hub: { readonly hostName: string; readonly now: () => number }): EventFeed {
  const hubName = hub.hostName.split(".")[0] ?? hub.hostName;
  const log = createEventLog(hub.now);

  /** An event that the hub makes itself, as its documentation shows them. */
  function addOwn(source: EventSource, who: Sender, event: OwnEvent): void {
    log.add(source, who, 0, (at) => ownEvent(hubName, who, event, at));
  }

  return {
    telemetry: (message) =>
      log.add("Telemetry", message, message.body.length, () => ({
        ...readable(message.body, message.systemProperties["content-type"] ?? null),
        properties: message.properties,
        systemProperties: message.systemProperties,
        annotations: {
          "iothub-connection-auth-method": message.authMethod,
          "iothub-connection-auth-generation-id": message.generationId,
          ...(message.modelId === null ? {} : { "dt-dataschema": message.modelId }),
        },
      })),

    twinChanged: (twin, change) =>
      addOwn("twinChangeEvents", twin, {
        schema: "twinChangeNotification",
        operation: change.operation,
        body: () => twinChangeBody(twin, change),
      }),

    lifecycle: (what, identity) =>
      addOwn("deviceLifecycleEvents", identity, {
        schema: "deviceLifecycleNotification",
        operation: `${what}${identity.moduleId === null ? "Device" : "Module"}Identity`,
        body: () => lifecycleBody(identity),
      }),

    connection(key, connected) {
      const [deviceId = "", moduleId = null] = key.split("/");
      addOwn(
        "deviceConnectionStateEvents",
        { deviceId, moduleId },
        {
          schema: "deviceConnectionStateNotification",
          operation: `${moduleId === null ? "device" : "module"}${connected ? "Connected" : "Disconnected"}`,
          body: () => ({}),
        },
      );
    },

    read: log.read,
    newest: log.newest,
    resume: log.resume,
    tail: log.tail,
  };
}

type OwnEvent = { readonly schema: string; readonly operation: string; readonly body: () => JsonValue };
function ownEvent(hubName: string, who: Sender, event: OwnEvent, at: string): Unnumbered {
  return {
    body: event.body(),
    bodyEncoding: "json",
    properties: {
      hubName,
      deviceId: who.deviceId,
      ...(who.moduleId === null ? {} : { moduleId: who.moduleId }),
      operationTimestamp: at,
      "iothub-message-schema": event.schema,
      opType: event.operation,
    },
    systemProperties: { "content-type": "application/json", "content-encoding": "utf-8" },
    annotations: {},
  };
}

function twinChangeBody(twin: Twin, change: TwinNotice): JsonValue {
  return {
    version: twin.version,
    ...(change.tags === null ? {} : { tags: change.tags }),
    properties: {
      ...(change.desired === null ? {} : { desired: changed(change.desired, twin.desired) }),
      ...(change.reported === null ? {} : { reported: changed(change.reported, twin.reported) }),
    },
  };
}

function lifecycleBody(identity: Identity): JsonValue {
  return {
    deviceId: identity.deviceId,
    ...(identity.moduleId === null ? {} : { moduleId: identity.moduleId }),
    etag: identity.etag,
    status: identity.enabled ? "enabled" : "disabled",
    statusUpdateTime: identity.statusUpdatedTime,
    connectionState: "Disconnected",
    lastActivityTime: NEVER,
  };
}

function changed(patch: JsonObject, section: Section): JsonObject {
  const written = section.metadata["$lastUpdated"] ?? null;
  return { ...patch, $metadata: { $lastUpdated: written }, $version: section.version };
}

function readable(body: Buffer, contentType: string | null): Pick<FeedEvent, "body" | "bodyEncoding"> {
  const text = body.toString("utf8");
  if (!Buffer.from(text, "utf8").equals(body))
    return { body: body.toString("base64"), bodyEncoding: "base64" };
  if (contentType?.toLowerCase().startsWith("application/json") === true) {
    const parsed = parseJson(text);
    // Otherwise the device was mistaken: it is shown as it came.
    if (parsed.ok) return { body: parsed.value, bodyEncoding: "json" };
  }
  return { body: text, bodyEncoding: "utf-8" };
}
