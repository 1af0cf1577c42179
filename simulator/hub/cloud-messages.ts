import { type Answer, ok, refuse } from "./errors.ts";

/** A message from the cloud that waits for its device. */
export type CloudMessage = {
  readonly sequenceNumber: number;
  readonly body: Buffer;
  /** Application properties and system ones (`$.mid`); `null` is a key without a value. */
  readonly properties: Readonly<Record<string, string | null>>;
  /** Milliseconds since the Unix epoch. */
  readonly expiresAt: number;
};

export type CloudMessageDraft = Pick<CloudMessage, "body" | "properties"> & {
  /** Milliseconds that the message waits at most. */
  readonly lifetime: number;
};

export type CloudMessages = {
  readonly send: (deviceId: string, draft: CloudMessageDraft) => Answer<CloudMessage>;
  /** The oldest that has not expired; it stays until it is completed. */
  readonly head: (deviceId: string) => CloudMessage | null;
  readonly complete: (deviceId: string, sequenceNumber: number) => void;
  readonly pending: (deviceId: string) => number;
  readonly forget: (deviceId: string) => void;
  /** Told of every message that was queued. */
  readonly onSend: (listener: (deviceId: string) => void) => void;
};

const DEEPEST_QUEUE = 50;
const LARGEST_MESSAGE = 64 * 1024;
/** The hub's default, an hour. */
export const DEFAULT_LIFETIME = 3_600_000;

/** Messages from the cloud to devices, in order, at most fifty for a device. `now` is milliseconds since the epoch. */
export function createCloudMessages(now: () => number): CloudMessages {
  const queues = new Map<string, CloudMessage[]>();
  const listeners: ((deviceId: string) => void)[] = [];
  let sent = 0;

  function waiting(deviceId: string): CloudMessage[] {
    const queue = queues.get(deviceId);
    if (queue === undefined) return [];
    const left = queue.filter((message) => message.expiresAt > now());
    keep(deviceId, left);
    return left;
  }

  function keep(deviceId: string, queue: CloudMessage[]): void {
    if (queue.length === 0) queues.delete(deviceId);
    else queues.set(deviceId, queue);
  }

  return {
    send(deviceId, { body, properties, lifetime }) {
      if (body.length > LARGEST_MESSAGE)
        return refuse("MessageTooLarge", "A message to a device may have 64 KB");
      const queue = waiting(deviceId);
      if (queue.length >= DEEPEST_QUEUE)
        return refuse(
          "DeviceMaximumQueueDepthExceeded",
          `${DEEPEST_QUEUE} messages wait for ${deviceId} already`,
        );
      sent += 1;
      const message = { sequenceNumber: sent, body, properties, expiresAt: now() + lifetime };
      queues.set(deviceId, [...queue, message]);
      for (const listener of listeners) listener(deviceId);
      return ok(message);
    },
    head: (deviceId) => waiting(deviceId)[0] ?? null,
    complete: (deviceId, sequenceNumber) =>
      keep(
        deviceId,
        waiting(deviceId).filter((message) => message.sequenceNumber !== sequenceNumber),
      ),
    pending: (deviceId) => (queues.size === 0 ? 0 : waiting(deviceId).length),
    forget: (deviceId) => {
      queues.delete(deviceId);
    },
    onSend: (listener) => {
      listeners.push(listener);
    },
  };
}
