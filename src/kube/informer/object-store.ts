import type { Log } from "../../telemetry/telemetry.ts";
import type { Cached } from "./watch-event.ts";

export type ObjectListener<T> = (before: T | undefined, after: T | undefined) => void;

/** Objects by key and by namespace, and those that listen to what changes among them. */
export type ObjectStore<T> = {
  readonly get: (key: string) => T | undefined;
  readonly keys: () => readonly string[];
  readonly size: () => number;
  /** All of a namespace, or all. The same array until something changes. */
  readonly list: (namespace?: string) => readonly T[];
  /** Called after the store has changed: added (before undefined), changed, or deleted (after undefined). */
  readonly onChange: (listener: ObjectListener<T>) => void;
  /** Nothing changes where that version of the object is there already. */
  readonly apply: (object: T) => void;
  readonly remove: (key: string) => void;
};

export function createObjectStore<T extends Cached>(log: Log): ObjectStore<T> {
  const objects = new Map<string, T>();
  const byNamespace = new Map<string, Map<string, T>>();
  const listeners: ObjectListener<T>[] = [];
  // Arrays are made when they are asked for and kept until something changes: reconciles list far more often.
  let all: readonly T[] | null = null;
  const lists = new Map<string, readonly T[]>();

  function changed(namespace: string, before: T | undefined, after: T | undefined): void {
    all = null;
    lists.delete(namespace);
    for (const listener of listeners) {
      try {
        listener(before, after);
      } catch (cause) {
        log.error("a listener threw: a bug", cause, { key: after?.key ?? before?.key });
      }
    }
  }

  return {
    get: (key) => objects.get(key),
    keys: () => [...objects.keys()],
    size: () => objects.size,
    list: (namespace) => {
      if (namespace === undefined) {
        all ??= [...objects.values()];
        return all;
      }
      const made = lists.get(namespace) ?? [...(byNamespace.get(namespace)?.values() ?? [])];
      lists.set(namespace, made);
      return made;
    },
    onChange: (listener) => {
      listeners.push(listener);
    },
    apply: (object) => {
      const before = objects.get(object.key);
      if (before?.resourceVersion === object.resourceVersion && before.uid === object.uid) return;
      objects.set(object.key, object);
      const siblings = byNamespace.get(object.namespace) ?? new Map<string, T>();
      siblings.set(object.key, object);
      byNamespace.set(object.namespace, siblings);
      changed(object.namespace, before, object);
    },
    remove: (key) => {
      const before = objects.get(key);
      if (before === undefined) return;
      objects.delete(key);
      const siblings = byNamespace.get(before.namespace);
      siblings?.delete(key);
      if (siblings?.size === 0) byNamespace.delete(before.namespace);
      changed(before.namespace, before, undefined);
    },
  };
}
