import { createListeners, type PersistedRecords } from "../hub/persistence.ts";
import type { Remembered } from "./mqtt-sessions.ts";
import type { Subscribed } from "./mqtt-topics.ts";

/**
 * What of a session that is not clean outlives its connection. The hub's documentation speaks of messages from the cloud
 * alone (`cloud-to-device`), and yet its SDKs do not subscribe to twins and methods again when they renew their token
 * (`all`): it is not known which is so.
 */
export const SESSION_SUBSCRIPTIONS = ["all", "cloud-to-device"] as const;
export type SessionSubscriptions = (typeof SESSION_SUBSCRIPTIONS)[number];

export type SessionOptions = {
  /** What of a lasting session the hub remembers. */
  readonly sessionSubscriptions: SessionSubscriptions;
};

export type SessionMemory = {
  readonly note: (clientId: string, what: Subscribed, subscription: Remembered) => void;
  readonly drop: (clientId: string, filter: string) => void;
  readonly forget: (clientId: string) => void;
  readonly recall: (clientId: string) => readonly Remembered[];
  readonly persisted: PersistedRecords;
};

/** Filters of a session with the quality that was granted. */
type Filters = Readonly<Record<string, 0 | 1>>;

export function createSessionMemory(keeps: SessionSubscriptions): SessionMemory {
  const remembered = new Map<string, Map<string, 0 | 1>>();
  const changes = createListeners();
  return {
    note(clientId, what, { topic, qos }) {
      if (keeps === "cloud-to-device" && what !== "cloudMessages") return;
      remembered.set(clientId, (remembered.get(clientId) ?? new Map<string, 0 | 1>()).set(topic, qos));
      changes.notify(clientId);
    },
    drop: (clientId, filter) => {
      if (remembered.get(clientId)?.delete(filter) === true) changes.notify(clientId);
    },
    forget: (clientId) => {
      if (remembered.delete(clientId)) changes.notify(clientId);
    },
    recall: (clientId) => [...(remembered.get(clientId) ?? [])].map(([topic, qos]) => ({ topic, qos })),
    persisted: {
      kind: "session",
      record: (clientId) => {
        const filters = remembered.get(clientId);
        return filters === undefined ? undefined : Object.fromEntries(filters);
      },
      restore: (clientId, record) => remembered.set(clientId, new Map(Object.entries(record as Filters))),
      onChange: changes.add,
    },
  };
}
