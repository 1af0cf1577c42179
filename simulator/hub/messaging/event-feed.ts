import { type JsonObject, type JsonValue, parseJson } from "../../base/json.ts";
import { type Identity, NEVER } from "../registry/identity.ts";
import type { Section, Twin, TwinKey } from "../twins/twin.ts";
import type { TwinNotice } from "../twins/twins.ts";
import type { PropertyBag } from "./message.ts";

/** As the hub names them in `iothub-message-source`. */
export const EVENT_SOURCES = [
  "Telemetry",
  "twinChangeEvents",
  "deviceLifecycleEvents",
  "deviceConnectionStateEvents",
] as const;
export type EventSource = (typeof EVENT_SOURCES)[number];

/** An event as a consumer of the hub's built-in endpoint sees it. */
export type FeedEvent = {
  readonly sequenceNumber: number;
  /** JSON where the event says it is that, text where it is UTF-8, else base64: `bodyEncoding` tells. */
  readonly body: JsonValue;
  readonly bodyEncoding: "json" | "utf-8" | "base64";
  /** What the device, or the hub for events of its own, set on the message. */
  readonly properties: JsonObject;
  readonly systemProperties: JsonObject;
  /** What the hub stamps on it: `iothub-connection-device-id` and so on. */
  readonly annotations: JsonObject;
};

export type FeedPage = {
  readonly events: readonly FeedEvent[];
  /** Where the next page begins. */
  readonly next: number;
  /** The first event that is still held is no older than this: what came before was dropped. */
  readonly oldest: number;
};

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

export type FeedQuery = {
  /** The first sequence number that is wanted. */
  readonly from: number;
  readonly limit: number;
  readonly source: EventSource | null;
  readonly deviceId: string | null;
};

export type EventFeed = {
  readonly telemetry: (message: TelemetryMessage) => void;
  readonly twinChanged: (twin: Twin, change: TwinNotice) => void;
  readonly lifecycle: (what: "create" | "delete", identity: Identity) => void;
  readonly connection: (key: TwinKey, connected: boolean) => void;
  readonly read: (query: FeedQuery) => FeedPage;
  /** Sequence number of the newest event. */
  readonly newest: () => number;
  /** Goes on after that number; what had one up to it is held no longer. */
  readonly resume: (newest: number) => void;
  /** The newest events, oldest of them first. */
  readonly tail: (query: Omit<FeedQuery, "from">) => readonly FeedEvent[];
};

type Held = {
  readonly sequenceNumber: number;
  readonly deviceId: string;
  readonly source: EventSource;
  readonly bytes: number;
  /** Most events are never read: what they look like is worked out when they are. */
  readonly show: () => FeedEvent;
};

/** Of each source: no chatter of ten thousand twins drives out what devices send. */
const MOST_EVENTS = 2000;
const MOST_BYTES = 16 * 1024 * 1024;
const SWEEP = 256;

/** Events as a real hub routes them when every source has a route to the built-in endpoint; the newest of each source. */
export function createEventFeed(hub: { readonly hostName: string; readonly now: () => number }): EventFeed {
  const rings: Readonly<Record<EventSource, Ring>> = {
    Telemetry: createRing(),
    twinChangeEvents: createRing(),
    deviceLifecycleEvents: createRing(),
    deviceConnectionStateEvents: createRing(),
  };
  const hubName = hub.hostName.split(".")[0] ?? hub.hostName;
  let made = 0;

  function add(
    source: EventSource,
    who: { readonly deviceId: string; readonly moduleId: string | null },
    bytes: number,
    show: (at: string) => Omit<FeedEvent, "sequenceNumber">,
  ): void {
    made += 1;
    const sequenceNumber = made;
    const at = hub.now();
    rings[source].push({
      sequenceNumber,
      deviceId: who.deviceId,
      source,
      bytes,
      show: () => {
        const enqueuedTime = new Date(at).toISOString();
        const { annotations, ...event } = show(enqueuedTime);
        return {
          sequenceNumber,
          ...event,
          annotations: {
            "iothub-connection-device-id": who.deviceId,
            ...(who.moduleId === null ? {} : { "iothub-connection-module-id": who.moduleId }),
            ...annotations,
            "iothub-enqueuedtime": enqueuedTime,
            "iothub-message-source": source,
          },
        };
      },
    });
  }

  /** An event that the hub makes itself, as its documentation shows them. */
  function addOwn(
    source: EventSource,
    who: { readonly deviceId: string; readonly moduleId: string | null },
    event: { readonly schema: string; readonly operation: string; readonly body: () => JsonValue },
  ): void {
    add(source, who, 0, (at) => ({
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
    }));
  }

  /** In their order. */
  function heldOf({ from, source, deviceId }: Omit<FeedQuery, "limit">): readonly Held[] {
    return sourcesOf(source)
      .flatMap((name) => rings[name].held())
      .filter((held) => held.sequenceNumber >= from && (deviceId === null || held.deviceId === deviceId))
      .sort((a, b) => a.sequenceNumber - b.sequenceNumber);
  }

  return {
    telemetry: (message) =>
      add("Telemetry", message, message.body.length, () => ({
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
        body: () => ({
          version: twin.version,
          ...(change.tags === null ? {} : { tags: change.tags }),
          properties: {
            ...(change.desired === null ? {} : { desired: changed(change.desired, twin.desired) }),
            ...(change.reported === null ? {} : { reported: changed(change.reported, twin.reported) }),
          },
        }),
      }),

    lifecycle: (what, identity) =>
      addOwn("deviceLifecycleEvents", identity, {
        schema: "deviceLifecycleNotification",
        operation: `${what}${identity.moduleId === null ? "Device" : "Module"}Identity`,
        body: () => ({
          deviceId: identity.deviceId,
          ...(identity.moduleId === null ? {} : { moduleId: identity.moduleId }),
          etag: identity.etag,
          status: identity.enabled ? "enabled" : "disabled",
          statusUpdateTime: identity.statusUpdatedTime,
          connectionState: "Disconnected",
          lastActivityTime: NEVER,
        }),
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

    read(query) {
      const { limit, source } = query;
      const sources = sourcesOf(source);
      const wanted = heldOf(query);
      const page = wanted.slice(0, limit);
      const last = page.at(-1)?.sequenceNumber;
      return {
        events: page.map((held) => held.show()),
        // A page that was not cut off ends with the newest event, whether or not that one was wanted.
        next: wanted.length > limit && last !== undefined ? last + 1 : made + 1,
        oldest: Math.max(...sources.map((name) => rings[name].oldest())),
      };
    },

    newest: () => made,
    resume: (newest) => {
      made = newest;
      for (const ring of Object.values(rings)) ring.resume(newest + 1);
    },
    tail: (query) =>
      query.limit <= 0
        ? []
        : heldOf({ ...query, from: 1 })
            .slice(-query.limit)
            .map((held) => held.show()),
  };
}

function sourcesOf(source: EventSource | null): readonly EventSource[] {
  return source === null ? EVENT_SOURCES : [source];
}

type Ring = {
  readonly push: (held: Held) => void;
  readonly held: () => readonly Held[];
  /** Sequence number from which on nothing was dropped. */
  readonly oldest: () => number;
  readonly resume: (from: number) => void;
};

function createRing(): Ring {
  let held: Held[] = [];
  let start = 0;
  let bytes = 0;
  let oldest = 1;

  return {
    push(next) {
      held.push(next);
      bytes += next.bytes;
      while (held.length - start > MOST_EVENTS || bytes > MOST_BYTES) {
        const dropped = held[start];
        if (dropped === undefined) break;
        bytes -= dropped.bytes;
        oldest = dropped.sequenceNumber + 1;
        start += 1;
      }
      // The space of what was dropped is given back now and then, not at every event.
      if (start >= SWEEP) {
        held = held.slice(start);
        start = 0;
      }
    },
    held: () => held.slice(start),
    oldest: () => oldest,
    resume: (from) => {
      oldest = from;
    },
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
