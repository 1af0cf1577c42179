import type { Millis } from "../base/time.ts";

/** Where a controller's keys come from. */
export type Trigger<Key> = {
  /** Resolves when everything that exists has been seen once, or `signal` has aborted. */
  readonly synced: (signal: AbortSignal) => Promise<void>;
  /** Called once, before `synced` is waited for: enqueue what is there already, and from then on what changes. */
  readonly attach: (enqueue: (key: Key, delay?: Millis) => void) => void;
};

/** What a trigger needs of a cache: a reflector has it. */
export type Observed<T> = {
  readonly synced: (signal: AbortSignal) => Promise<void>;
  readonly list: () => readonly T[];
  readonly onChange: (listener: (before: T | undefined, after: T | undefined) => void) => void;
};

/** Enqueues the keys of every object that is there, and of every object that changes: as it was, and as it is. */
export function triggerOf<T, Key>(
  cache: Observed<T>,
  keysFor: (object: T) => Iterable<Key>,
  matters: (before: T | undefined, after: T | undefined) => boolean = () => true,
): Trigger<Key> {
  return {
    synced: cache.synced,
    attach: (enqueue) => {
      cache.onChange((before, after) => {
        if (!matters(before, after)) return;
        if (before !== undefined) for (const key of keysFor(before)) enqueue(key);
        if (after !== undefined) for (const key of keysFor(after)) enqueue(key);
      });
      for (const object of cache.list()) for (const key of keysFor(object)) enqueue(key);
    },
  };
}
