import type { JsonObject } from "../base/json.ts";
import { type Answer, ok } from "./errors.ts";

/** Records of one kind that outlive the process where a state is kept. They are plain JSON and never changed in place. */
export type PersistedRecords = {
  readonly kind: string;
  /** `undefined`: there is none of that name, or no longer. */
  readonly record: (name: string) => object | undefined;
  /** Takes back what `record` gave, without notifying listeners. Records come in the order in which they were first made. */
  readonly restore: (name: string, record: JsonObject) => void;
  /** Called with the name of a record that was made, changed or removed, before any client hears of it. */
  readonly onChange: (listener: (name: string) => void) => void;
};

/** How a hub outlives its process. Without a state it does not, and `commit` costs nothing. */
export type Persistence = {
  /** In the order in which they are restored. */
  readonly parts: readonly PersistedRecords[];
  /** Whatever counts up, and times that the hub goes by. */
  readonly numbers: () => JsonObject;
  /** After all parts were restored. */
  readonly resume: (numbers: JsonObject) => void;
  /** Makes all that was done so far durable. To be called before a client hears of it; refused where it failed. */
  readonly commit: () => Answer<void>;
  readonly commitWith: (commit: () => Answer<void>) => void;
};

export type Listeners = {
  readonly notify: (name: string) => void;
  readonly add: (listener: (name: string) => void) => void;
};

export function createListeners(): Listeners {
  const listeners: ((name: string) => void)[] = [];
  return {
    notify: (name) => {
      for (const listener of listeners) listener(name);
    },
    add: (listener) => {
      listeners.push(listener);
    },
  };
}

export function createPersistence(parts: Omit<Persistence, "commit" | "commitWith">): Persistence {
  let commit = (): Answer<void> => ok(undefined);
  return {
    ...parts,
    commit: () => commit(),
    commitWith: (next) => {
      commit = next;
    },
  };
}
