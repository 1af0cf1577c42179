import { type Answer, ok, refuse } from "../errors.ts";
import { createListeners, type PersistedRecords } from "../persistence.ts";
import { createFeedbackLog, type Feedback, type Outcome } from "./feedback-log.ts";
import { messageSize, type PropertyBag } from "./message.ts";

// Messages from the cloud to devices, and what the hub reports of their fate. Source: the hub's documentation on
// cloud-to-device messaging.

/** Which outcomes of a message its sender wants reported: it was taken, it was not, or either. */
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

export type CloudMessages = {
  readonly send: (deviceId: string, draft: CloudMessageDraft) => Answer<CloudMessage>;
  /** Hands out the oldest that has not expired; it stays until it is completed, and at the eleventh time it is dropped. */
  readonly deliver: (deviceId: string) => CloudMessage | null;
  readonly complete: (deviceId: string, sequenceNumber: number) => void;
  /** Drops all that wait; answers how many. */
  readonly purge: (deviceId: string) => number;
  readonly pending: (deviceId: string) => number;
  /** Drops what waits for a device that is gone, and its feedback. */
  readonly forget: (deviceId: string) => void;
  /** Called for every message that was queued. */
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
/** The hub's default, an hour. */
export const DEFAULT_LIFETIME = 3_600_000;
/** Milliseconds after which a message that was handed out and not completed is handed out again; no setting of the hub changes it. */
export const LOCK_TIMEOUT = 60_000;

/** In order, at most fifty for a device; operations of a few lines each. `now` is milliseconds since the epoch. */
export function createCloudMessages(
  now: () => number,
  generationOf: (deviceId: string) => string,
): CloudMessages {
  const listeners: ((deviceId: string) => void)[] = [];
  const feedback = createFeedbackLog();
  const queues = createQueues(now, (deviceId, message) =>
    end(deviceId, message, "Expired", message.expiresAt),
  );
  let sent = 0;

  function end(deviceId: string, message: CloudMessage, statusCode: Outcome, at = now()): void {
    const wanted = statusCode === "Success" ? "positive" : "negative";
    if (message.ack !== "full" && message.ack !== wanted) return;
    feedback.add({
      originalMessageId: message.properties["$.mid"] ?? null,
      enqueuedTimeUtc: new Date(at).toISOString(),
      statusCode,
      deviceId,
      deviceGenerationId: generationOf(deviceId),
    });
  }

  return {
    send(deviceId, { body, properties, lifetime, ack = "none" }) {
      if (messageSize({ body, properties, systemProperties: {} }) > LARGEST_MESSAGE)
        return refuse("MessageTooLarge", "A message to a device may have 64 KB");
      const queue = queues.waiting(deviceId);
      if (queue.length >= DEEPEST_QUEUE)
        return refuse(
          "DeviceMaximumQueueDepthExceeded",
          `${DEEPEST_QUEUE} messages wait for ${deviceId} already`,
        );
      sent += 1;
      const expiresAt = now() + lifetime;
      const message = { sequenceNumber: sent, body, properties, ack, deliveries: 0, expiresAt };
      queues.set(deviceId, [...queue, message]);
      for (const listener of listeners) listener(deviceId);
      return ok(message);
    },

    deliver(deviceId) {
      for (;;) {
        const [head, ...others] = queues.waiting(deviceId);
        if (head === undefined) return null;
        if (head.deliveries < MOST_DELIVERIES) {
          const delivered = { ...head, deliveries: head.deliveries + 1 };
          queues.set(deviceId, [delivered, ...others]);
          return delivered;
        }
        queues.set(deviceId, others);
        end(deviceId, head, "DeliveryCountExceeded");
      }
    },

    complete(deviceId, sequenceNumber) {
      const completed = queues.waiting(deviceId).find((message) => message.sequenceNumber === sequenceNumber);
      if (completed === undefined) return;
      queues.set(
        deviceId,
        queues.waiting(deviceId).filter((message) => message !== completed),
      );
      end(deviceId, completed, "Success");
    },

    purge(deviceId) {
      const purged = queues.waiting(deviceId);
      queues.set(deviceId, []);
      for (const message of purged) end(deviceId, message, "Purged");
      return purged.length;
    },

    pending: (deviceId) => queues.waiting(deviceId).length,

    forget: (deviceId) => {
      queues.set(deviceId, []);
      feedback.forget(deviceId);
    },

    onSend: (listener) => {
      listeners.push(listener);
    },

    feedback(from, limit) {
      queues.dropExpired();
      return feedback.read(from, limit);
    },

    persisted: [queues.persisted, feedback.persisted],
    numbers: () => ({ sent, ended: feedback.count() }),
    resume: (numbers) => {
      sent = numbers.sent;
      feedback.resume(numbers.ended);
    },
  };
}

/** Messages that wait, by device; `expired` is called for each that is dropped because it has waited too long. */
function createQueues(now: () => number, expired: (deviceId: string, message: CloudMessage) => void) {
  const queues = new Map<string, readonly CloudMessage[]>();
  const changes = createListeners();

  function waiting(deviceId: string): readonly CloudMessage[] {
    const queue = queues.get(deviceId);
    if (queue === undefined) return [];
    const left = queue.filter((message) => message.expiresAt > now());
    if (left.length === queue.length) return queue;
    set(deviceId, left);
    for (const message of queue) if (message.expiresAt <= now()) expired(deviceId, message);
    return left;
  }

  function set(deviceId: string, queue: readonly CloudMessage[]): void {
    if (queue.length === 0) queues.delete(deviceId);
    else queues.set(deviceId, queue);
    changes.notify(deviceId);
  }

  const persisted: PersistedRecords = {
    kind: "cloudMessages",
    record: (deviceId) => storedOf(queues.get(deviceId)),
    restore: (deviceId, record) => queues.set(deviceId, restoredFrom(record)),
    onChange: changes.add,
  };
  const dropExpired = () => {
    for (const deviceId of [...queues.keys()]) waiting(deviceId);
  };
  return { waiting, set, dropExpired, persisted };
}

function storedOf(queue: readonly CloudMessage[] | undefined): object | undefined {
  if (queue === undefined) return undefined;
  return { queue: queue.map(({ body, ...rest }) => ({ ...rest, body: body.toString("base64") })) };
}

function restoredFrom(record: object): readonly CloudMessage[] {
  const { queue } = record as { readonly queue: readonly StoredMessage[] };
  return queue.map(({ body, ...rest }) => ({ ...rest, body: Buffer.from(body, "base64") }));
}
