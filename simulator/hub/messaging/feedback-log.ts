import { createListeners, type PersistedRecords } from "../persistence.ts";

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

/** The newest thousand outcomes of messages, as senders asked for them. */
export type FeedbackLog = {
  readonly add: (what: Omit<Feedback, "sequenceNumber" | "description">) => void;
  readonly forget: (deviceId: string) => void;
  /** From a sequence number on, at most `limit`. */
  readonly read: (from: number, limit: number) => readonly Feedback[];
  readonly persisted: PersistedRecords;
  /** Feedback that was ever given. */
  readonly count: () => number;
  readonly resume: (count: number) => void;
};

const MOST_FEEDBACK = 1000;

export function createFeedbackLog(): FeedbackLog {
  const changes = createListeners();
  let entries: readonly Feedback[] = [];
  let ended = 0;
  const notify = ({ sequenceNumber }: Feedback) => changes.notify(String(sequenceNumber));

  return {
    add: (what) => {
      ended += 1;
      const { originalMessageId, enqueuedTimeUtc, statusCode, ...device } = what;
      const description = OUTCOMES[statusCode];
      const message = { originalMessageId, enqueuedTimeUtc, statusCode, description };
      const feedback: Feedback = { sequenceNumber: ended, ...message, ...device };
      const [oldest] = entries.length < MOST_FEEDBACK ? [] : entries;
      entries = [...entries.slice(1 - MOST_FEEDBACK), feedback];
      for (const one of [oldest, feedback]) if (one !== undefined) notify(one);
    },
    forget: (deviceId) => {
      const gone = entries.filter((one) => one.deviceId === deviceId);
      if (gone.length === 0) return;
      entries = entries.filter((one) => one.deviceId !== deviceId);
      for (const one of gone) notify(one);
    },
    read: (from, limit) => entries.filter(({ sequenceNumber }) => sequenceNumber >= from).slice(0, limit),
    persisted: {
      kind: "feedback",
      record: (name) => entries.find(({ sequenceNumber }) => sequenceNumber === Number(name)),
      restore: (_name, record) => {
        entries = [...entries, record as Feedback];
      },
      onChange: changes.add,
    },
    count: () => ended,
    resume: (count) => {
      ended = count;
    },
  };
}
