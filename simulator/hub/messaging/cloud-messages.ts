import { type Answer, ok, refuse } from "../errors.ts";
import { createListeners, type PersistedRecords } from "../persistence.ts";
import { messageSize, type PropertyBag } from "./message.ts";

// Messages from the cloud to devices, and what the hub tells of their fate. Source: the hub's documentation on
// cloud-to-device messaging.

/** Which ends of a message its sender wants to be told of: it was taken, it was not, or either. */
export const ACKS = ["none", "positive", "negative", "full"] as const;
export type Ack = (typeof ACKS)[number];

/** A message from the cloud that waits for its device. */
export type CloudMessage = {
  readonly sequenceNumber: number;
  readonly body: Buffer;
  /** Application properties and system ones (`$.mid`). */
  readonly properties: PropertyBag;
  readonly ack: Ack;
  /** How often it was handed out. */
  readonly deliveries: number;
  /** Milliseconds since the Unix epoch. */
  readonly expiresAt: number;
};

export type CloudMessageDraft = Pick<CloudMessage, "body" | "properties"> & {
  /** Milliseconds that the message waits at most. */
  readonly lifetime: number;
  /** Default `none`. */
  readonly ack?: Ack;
};

export const OUTCOMES = {
  Success: "Success",
  Expired: "Message expired",
  DeliveryCountExceeded: "Message delivery count exceeded",
  Purged: "Message purged",
} as const;
export type Outcome = keyof typeof OUTCOMES;

/** What became of a message, in the hub's own form. */
export type Feedback = {
  readonly sequenceNumber: number;
  /** `null`: it was sent without an id. */
  readonly originalMessageId: string | null;
  readonly enqueuedTimeUtc: string;
  readonly statusCode: Outcome;
  readonly description: string;
  readonly deviceId: string;
  readonly deviceGenerationId: string;
};

export type CloudMessages = {
  readonly send: (deviceId: string, draft: CloudMessageDraft) => Answer<CloudMessage>;
  /** Hands out the oldest that has not expired; it stays until it is completed, and at the eleventh time it is dropped. */
  readonly deliver: (deviceId: string) => CloudMessage | null;
  readonly complete: (deviceId: string, sequenceNumber: number) => void;
  /** Drops all that wait; answers how many. */
  readonly purge: (deviceId: string) => number;
  readonly pending: (deviceId: string) => number;
  /** Of a device that is gone nothing is told any more. */
  readonly forget: (deviceId: string) => void;
  /** Told of every message that was queued. */
  readonly onSend: (listener: (deviceId: string) => void) => void;
  /** From a sequence number on, at most `limit`; the newest thousand are held. */
  readonly feedback: (from: number, limit: number) => readonly Feedback[];
  /** Messages that wait, and feedback. */
  readonly persisted: readonly PersistedRecords[];
  readonly numbers: () => CloudMessageNumbers;
  readonly resume: (numbers: CloudMessageNumbers) => void;
};

/** Messages that were ever sent, and feedback that was ever given. */
export type CloudMessageNumbers = { readonly sent: number; readonly ended: number };

type StoredMessage = Omit<CloudMessage, "body"> & { readonly body: string };

const DEEPEST_QUEUE = 50;
const LARGEST_MESSAGE = 64 * 1024;
const MOST_DELIVERIES = 10;
const MOST_FEEDBACK = 1000;
/** The hub's default, an hour. */
export const DEFAULT_LIFETIME = 3_600_000;
/** Milliseconds after which a message that was handed out and not completed is handed out again; no setting of the hub changes it. */
export const LOCK_TIMEOUT = 60_000;

/** In order, at most fifty for a device. `now` is milliseconds since the epoch. */
export function createCloudMessages(
  now: () => number,
  generationOf: (deviceId: string) => string,
): CloudMessages {
  const queues = new Map<string, readonly CloudMessage[]>();
  const listeners: ((deviceId: string) => void)[] = [];
  const changes = createListeners();
  const feedbackChanges = createListeners();
  let told: readonly Feedback[] = [];
  let sent = 0;
  let ended = 0;

  function waiting(deviceId: string): readonly CloudMessage[] {
    const queue = queues.get(deviceId);
    if (queue === undefined) return [];
    const left = queue.filter((message) => message.expiresAt > now());
    if (left.length === queue.length) return queue;
    keep(deviceId, left);
    for (const message of queue)
      if (message.expiresAt <= now()) end(deviceId, message, "Expired", message.expiresAt);
    return left;
  }

  function keep(deviceId: string, queue: readonly CloudMessage[]): void {
    if (queue.length === 0) queues.delete(deviceId);
    else queues.set(deviceId, queue);
    changes.notify(deviceId);
  }

  function end(deviceId: string, message: CloudMessage, statusCode: Outcome, at = now()): void {
    const wanted = statusCode === "Success" ? "positive" : "negative";
    if (message.ack !== "full" && message.ack !== wanted) return;
    ended += 1;
    const feedback: Feedback = {
      sequenceNumber: ended,
      originalMessageId: message.properties["$.mid"] ?? null,
      enqueuedTimeUtc: new Date(at).toISOString(),
      statusCode,
      description: OUTCOMES[statusCode],
      deviceId,
      deviceGenerationId: generationOf(deviceId),
    };
    const [oldest] = told.length < MOST_FEEDBACK ? [] : told;
    told = [...told.slice(1 - MOST_FEEDBACK), feedback];
    for (const one of [oldest, feedback])
      if (one !== undefined) feedbackChanges.notify(String(one.sequenceNumber));
  }

  function without(deviceId: string, gone: CloudMessage): void {
    keep(
      deviceId,
      waiting(deviceId).filter(({ sequenceNumber }) => sequenceNumber !== gone.sequenceNumber),
    );
  }

  return {
    send(deviceId, { body, properties, lifetime, ack = "none" }) {
      if (messageSize({ body, properties, systemProperties: {} }) > LARGEST_MESSAGE)
        return refuse("MessageTooLarge", "A message to a device may have 64 KB");
      const queue = waiting(deviceId);
      if (queue.length >= DEEPEST_QUEUE)
        return refuse(
          "DeviceMaximumQueueDepthExceeded",
          `${DEEPEST_QUEUE} messages wait for ${deviceId} already`,
        );
      sent += 1;
      const expiresAt = now() + lifetime;
      const message = { sequenceNumber: sent, body, properties, ack, deliveries: 0, expiresAt };
      keep(deviceId, [...queue, message]);
      for (const listener of listeners) listener(deviceId);
      return ok(message);
    },

    deliver(deviceId) {
      for (;;) {
        const [head, ...others] = waiting(deviceId);
        if (head === undefined) return null;
        if (head.deliveries < MOST_DELIVERIES) {
          const delivered = { ...head, deliveries: head.deliveries + 1 };
          keep(deviceId, [delivered, ...others]);
          return delivered;
        }
        keep(deviceId, others);
        end(deviceId, head, "DeliveryCountExceeded");
      }
    },

    complete(deviceId, sequenceNumber) {
      const completed = waiting(deviceId).find((message) => message.sequenceNumber === sequenceNumber);
      if (completed === undefined) return;
      without(deviceId, completed);
      end(deviceId, completed, "Success");
    },

    purge(deviceId) {
      const purged = waiting(deviceId);
      keep(deviceId, []);
      for (const message of purged) end(deviceId, message, "Purged");
      return purged.length;
    },

    pending: (deviceId) => (queues.size === 0 ? 0 : waiting(deviceId).length),

    forget: (deviceId) => {
      keep(deviceId, []);
      if (told.length === 0) return;
      const [left, gone] = [
        told.filter((one) => one.deviceId !== deviceId),
        told.filter((one) => one.deviceId === deviceId),
      ];
      told = left;
      for (const { sequenceNumber } of gone) feedbackChanges.notify(String(sequenceNumber));
    },

    onSend: (listener) => {
      listeners.push(listener);
    },

    feedback(from, limit) {
      for (const deviceId of [...queues.keys()]) waiting(deviceId);
      return told.filter(({ sequenceNumber }) => sequenceNumber >= from).slice(0, limit);
    },

    persisted: [
      {
        kind: "cloudMessages",
        record: (deviceId) => {
          const queue = queues.get(deviceId);
          if (queue === undefined) return undefined;
          return { queue: queue.map(({ body, ...rest }) => ({ ...rest, body: body.toString("base64") })) };
        },
        restore: (deviceId, record) => {
          const { queue } = record as unknown as { readonly queue: readonly StoredMessage[] };
          queues.set(
            deviceId,
            queue.map(({ body, ...rest }) => ({ ...rest, body: Buffer.from(body, "base64") })),
          );
        },
        onChange: changes.add,
      },
      {
        kind: "feedback",
        record: (name) => told.find(({ sequenceNumber }) => sequenceNumber === Number(name)),
        restore: (_name, record) => {
          told = [...told, record as Feedback];
        },
        onChange: feedbackChanges.add,
      },
    ],
    numbers: () => ({ sent, ended }),
    resume: (numbers) => {
      ({ sent, ended } = numbers);
    },
  };
}
