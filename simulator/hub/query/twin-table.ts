import type { Identity } from "../registry/identity.ts";
import type { Twin, TwinKey } from "../twins/twin.ts";
import type { Row } from "./expression.ts";

/** A twin as queries see it. */
export type Entry = {
  readonly key: TwinKey;
  readonly identity: Identity;
  readonly twin: Twin;
  readonly row: Row;
};

export type TwinTable = ReturnType<typeof createTwinTable>;

/** Rows by key, and the keys in order: a page continues after the last key of the page before, whatever came or went. */
export function createTwinTable() {
  const entries = new Map<TwinKey, Entry>();
  let sorted: readonly TwinKey[] | null = [];
  return {
    get: (key: TwinKey) => entries.get(key),
    set: (key: TwinKey, entry: Entry | null) => {
      if (entry === null) {
        if (entries.delete(key)) sorted = null;
        return;
      }
      if (!entries.has(key)) sorted = null;
      entries.set(key, entry);
    },
    keys: (): readonly TwinKey[] => {
      sorted ??= [...entries.keys()].sort();
      return sorted;
    },
    *rows(): Iterable<Row> {
      for (const entry of entries.values()) yield entry.row;
    },
  };
}
