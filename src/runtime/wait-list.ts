import type { Instant } from "../base/time.ts";

/** Keys that wait for a moment each, the earliest first: a binary heap that knows where each key is. */
export type WaitList<Key> = {
  /** Waits until `at`, or until what was asked before if that is earlier. */
  readonly put: (key: Key, at: Instant) => void;
  readonly drop: (key: Key) => void;
  readonly earliest: () => { readonly key: Key; readonly at: Instant } | undefined;
  readonly size: () => number;
};

type Entry<Key> = { readonly key: Key; at: Instant; place: number };

export function createWaitList<Key>(): WaitList<Key> {
  const heap: Entry<Key>[] = [];
  const entries = new Map<Key, Entry<Key>>();

  function set(place: number, entry: Entry<Key>): void {
    heap[place] = entry;
    entry.place = place;
  }

  function up(entry: Entry<Key>): void {
    while (entry.place > 0) {
      const above = heap[(entry.place - 1) >> 1];
      if (above === undefined || above.at <= entry.at) return;
      swap(above, entry);
    }
  }

  function down(entry: Entry<Key>): void {
    for (;;) {
      const left = heap[2 * entry.place + 1];
      const right = heap[2 * entry.place + 2];
      const below = right !== undefined && left !== undefined && right.at < left.at ? right : left;
      if (below === undefined || below.at >= entry.at) return;
      swap(below, entry);
    }
  }

  function swap(one: Entry<Key>, other: Entry<Key>): void {
    const place = one.place;
    set(other.place, one);
    set(place, other);
  }

  return {
    put: (key, at) => {
      const had = entries.get(key);
      if (had !== undefined) {
        if (had.at <= at) return;
        had.at = at;
        up(had);
        return;
      }
      const entry: Entry<Key> = { key, at, place: heap.length };
      entries.set(key, entry);
      heap.push(entry);
      up(entry);
    },
    drop: (key) => {
      const entry = entries.get(key);
      if (entry === undefined) return;
      entries.delete(key);
      const last = heap.pop();
      if (last === undefined || last === entry) return;
      set(entry.place, last);
      up(last);
      down(last);
    },
    earliest: () => heap[0],
    size: () => heap.length,
  };
}
