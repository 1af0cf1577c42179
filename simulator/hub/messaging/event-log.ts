import type { JsonObject, JsonValue } from "../../base/json.ts";
import { createRing, type Held, type Ring } from "./event-ring.ts";

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
  /** JSON where the event says it is that, text where it is UTF-8, else base64: `bodyEncoding` says which. */
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

export type FeedQuery = {
  /** The first sequence number that is wanted. */
  readonly from: number;
  readonly limit: number;
  readonly source: EventSource | null;
  readonly deviceId: string | null;
};

export type Sender = { readonly deviceId: string; readonly moduleId: string | null };
export type Unnumbered = Omit<FeedEvent, "sequenceNumber">;

/** The newest events of each source, in the order in which they came. */
export type EventLog = {
  /** `show` is what the event looks like, given the time at which it came. */
  readonly add: (source: EventSource, who: Sender, bytes: number, show: (at: string) => Unnumbered) => void;
  readonly read: (query: FeedQuery) => FeedPage;
  /** Sequence number of the newest event. */
  readonly newest: () => number;
  /** Continues after that number; events up to it are no longer held. */
  readonly resume: (newest: number) => void;
  /** The newest events, oldest of them first. */
  readonly tail: (query: Omit<FeedQuery, "from">) => readonly FeedEvent[];
};

export function createEventLog(now: () => number): EventLog {
  const rings: Readonly<Record<EventSource, Ring<EventSource, FeedEvent>>> = {
    Telemetry: createRing(),
    twinChangeEvents: createRing(),
    deviceLifecycleEvents: createRing(),
    deviceConnectionStateEvents: createRing(),
  };
  let made = 0;

  function add(
    source: EventSource,
    who: Sender,
    bytes: number,
    show: (at: string) => Omit<FeedEvent, "sequenceNumber">,
  ): void {
    made += 1;
    const sequenceNumber = made;
    const at = now();
    rings[source].push({
      sequenceNumber,
      deviceId: who.deviceId,
      source,
      bytes,
      show: () => {
        const enqueuedTime = new Date(at).toISOString();
        return { sequenceNumber, ...stamped(show(enqueuedTime), source, who, enqueuedTime) };
      },
    });
  }

  /** In their order. */
  function heldOf({
    from,
    source,
    deviceId,
  }: Omit<FeedQuery, "limit">): readonly Held<EventSource, FeedEvent>[] {
    return sourcesOf(source)
      .flatMap((name) => rings[name].held())
      .filter((held) => held.sequenceNumber >= from && (deviceId === null || held.deviceId === deviceId))
      .sort((a, b) => a.sequenceNumber - b.sequenceNumber);
  }

  return {
    add,
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

/** With what the hub adds to every event. */
function stamped(event: Unnumbered, source: EventSource, who: Sender, enqueuedTime: string): Unnumbered {
  return {
    ...event,
    annotations: {
      "iothub-connection-device-id": who.deviceId,
      ...(who.moduleId === null ? {} : { "iothub-connection-module-id": who.moduleId }),
      ...event.annotations,
      "iothub-enqueuedtime": enqueuedTime,
      "iothub-message-source": source,
    },
  };
}
