import { Readable } from "node:stream";
import type { Client } from "aedes";

// What the broker would keep in a store, as the hub keeps it: sessions that last keep what they are subscribed to, there
// are no retained messages, and the queue of messages from the cloud is the hub's own.

export type Remembered = { readonly topic: string; readonly qos: 0 | 1 };

export type SessionsOptions = {
  /** What a session that comes back is subscribed to without asking; empty: there is no such session. */
  readonly recall: (clientId: string) => readonly Remembered[];
  /** The broker has given a message of quality 1 its number on the wire. */
  readonly numbered: (client: Client, messageId: number) => void;
  readonly acknowledged: (client: Client, messageId: number) => void;
};

type Numbered = { readonly messageId?: number };

/** A store for the broker, in the form that it asks for. Wills stay with the connection. */
export function createSessions({ recall, numbered, acknowledged }: SessionsOptions) {
  const nothing = async (): Promise<void> => {};
  const none = (): Readable => Readable.from([]);
  const unknown = (): Promise<never> => Promise.reject(new Error("no such packet"));
  return {
    setup: nothing,
    addSubscriptions: nothing,
    removeSubscriptions: nothing,
    cleanSubscriptions: nothing,
    subscriptionsByTopic: async (): Promise<readonly Remembered[]> => [],
    subscriptionsByClient: async ({ id }: { readonly id: string }): Promise<readonly Remembered[]> =>
      recall(id),
    storeRetained: nothing,
    createRetainedStreamCombi: none,
    outgoingEnqueue: nothing,
    outgoingEnqueueCombi: nothing,
    outgoingStream: none,
    outgoingUpdate: async (client: Client, { messageId }: Numbered): Promise<void> => {
      if (messageId !== undefined) numbered(client, messageId);
    },
    outgoingClearMessageId: async (client: Client, { messageId }: Numbered): Promise<void> => {
      if (messageId !== undefined) acknowledged(client, messageId);
    },
    incomingGetPacket: unknown,
    incomingStorePacket: unknown,
    incomingDelPacket: unknown,
    putWill: nothing,
    delWill: nothing,
    streamWill: none,
  };
}
