import { err, ok, type Result, unreachable } from "../base/result.ts";
import { elapsed, type Instant, type Millis, millis, minutes, seconds } from "../base/time.ts";
import { exponential } from "../runtime/backoff.ts";
import type { RuntimeDeps } from "../runtime/deps.ts";
import type { KubeFault } from "./call.ts";
import type { Transport } from "./transport.ts";

/** What a cache needs to know of each object that it keeps. */
export type Cached = {
  readonly key: string;
  readonly namespace: string;
  readonly uid: string;
  readonly resourceVersion: string;
};

/** expired: the API server forgot the version (410), so all must be listed again. */
export type WatchFault =
  | { readonly kind: "expired"; readonly message: string }
  | { readonly kind: "broken"; readonly message: string; readonly retryAfter: Millis | null };

export type WatchEvent<T> =
  | { readonly kind: "applied" | "deleted"; readonly object: T; readonly at: string }
  | { readonly kind: "bookmark"; readonly at: string };

export type ListPage<T> = { readonly items: readonly T[]; readonly at: string };

/** All objects page by page, then what changes from a version on. Both end after their first fault. */
export type ListWatch<T> = {
  readonly list: (signal: AbortSignal) => AsyncIterable<Result<ListPage<T>, WatchFault>>;
  readonly watch: (from: string, signal: AbortSignal) => AsyncIterable<Result<WatchEvent<T>, WatchFault>>;
};

export type ListWatchOptions = {
  /** Objects on one page; 500 when left out. */
  readonly limit?: number;
  /** A watch without a byte for this long is taken for dead; bookmarks come each minute. 150 s when left out. */
  readonly idle?: Millis;
  /** Only objects with these fields, such as `metadata.name=plant-a`. */
  readonly fieldSelector?: string;
};

type RawList = {
  readonly metadata: { readonly resourceVersion: string; readonly continue?: string };
  readonly items?: readonly unknown[] | null;
};

/** Lists and watches `path` on the API server; `project` makes of each object what is kept of it. */
export function createListWatch<T>(
  transport: Transport,
  path: string,
  project: (raw: unknown) => T,
  random: () => number,
  options: ListWatchOptions = {},
): ListWatch<T> {
  const limit = options.limit ?? 500;
  const idle = options.idle ?? seconds(150);
  const selector = options.fieldSelector === undefined ? {} : { fieldSelector: options.fieldSelector };

  return {
    list: async function* (signal) {
      let next = "";
      do {
        const query = new URLSearchParams({ limit: String(limit), ...selector });
        if (next !== "") query.set("continue", next);
        const answer = await transport.call({ method: "GET", path: `${path}?${query}` }, signal);
        if (!answer.ok) {
          yield err(watchFaultOf(answer.error));
          return;
        }
        const page = attempt(() => {
          const raw = answer.value as RawList;
          next = raw.metadata.continue ?? "";
          return { items: (raw.items ?? []).map(project), at: raw.metadata.resourceVersion };
        });
        yield page;
        if (!page.ok) return;
      } while (next !== "");
    },
    watch: async function* (from, signal) {
      // Spread, so that the watches of a fleet of operators do not end together.
      const timeoutSeconds = Math.floor(240 + 60 * random());
      const query = new URLSearchParams({
        watch: "true",
        allowWatchBookmarks: "true",
        resourceVersion: from,
        timeoutSeconds: String(timeoutSeconds),
        ...selector,
      });
      const opened = await transport.lines(`${path}?${query}`, idle, signal);
      if (!opened.ok) {
        yield err(watchFaultOf(opened.error));
        return;
      }
      try {
        for await (const line of opened.value) {
          const event = eventOf(line, project);
          yield event;
          if (!event.ok) return;
        }
      } catch (cause) {
        yield err(broken(`the watch broke off: ${cause instanceof Error ? cause.message : String(cause)}`));
      }
    },
  };
}

function eventOf<T>(line: string, project: (raw: unknown) => T): Result<WatchEvent<T>, WatchFault> {
  const parsed = attempt(() => JSON.parse(line) as { readonly type: string; readonly object: RawObject });
  if (!parsed.ok) return parsed;
  const { type, object } = parsed.value;
  switch (type) {
    case "ADDED":
    case "MODIFIED":
    case "DELETED":
      return attempt(() => ({
        kind: type === "DELETED" ? "deleted" : "applied",
        object: project(object),
        at: object.metadata.resourceVersion,
      }));
    case "BOOKMARK":
      return attempt(() => ({ kind: "bookmark", at: object.metadata.resourceVersion }));
    case "ERROR": {
      const message = `the API server ended the watch: ${object.code} ${object.message ?? object.reason ?? ""}`;
      if (object.code === 410) return err({ kind: "expired", message });
      const after = object.details?.retryAfterSeconds;
      return err(broken(message, after === undefined ? null : seconds(after)));
    }
    default:
      return err(broken(`a watch event of an unknown type: ${JSON.stringify(type)}`));
  }
}

type RawObject = {
  readonly metadata: { readonly resourceVersion: string };
  readonly code?: number;
  readonly message?: string;
  readonly reason?: string;
  readonly details?: { readonly retryAfterSeconds?: number };
};

/** An answer that does not read as it should is a broken watch, never an empty one. */
function attempt<T>(read: () => T): Result<T, WatchFault> {
  try {
    return ok(read());
  } catch (cause) {
    return err(broken(`unreadable: ${cause instanceof Error ? cause.message : String(cause)}`));
  }
}

function broken(message: string, retryAfter: Millis | null = null): WatchFault {
  return { kind: "broken", message, retryAfter };
}

function watchFaultOf(fault: KubeFault): WatchFault {
  switch (fault.kind) {
    case "expired":
      return { kind: "expired", message: fault.message };
    case "throttled":
      return broken(fault.message, fault.retryAfter);
    case "unavailable":
    case "conflict":
    case "denied":
    case "rejected":
    case "missing":
      return broken(fault.message);
    default:
      return unreachable(fault);
  }
}

/** Where a reflector stands. `failures` counts faults since something last went well. */
export type WatchState =
  | { readonly kind: "list"; readonly failures: number }
  | { readonly kind: "watch"; readonly from: string; readonly failures: number };

/** After so many faults in a row without one event between them, what is watched from is not trusted any more. */
const RELIST_AFTER = 5;

/** Pure: a forgotten version is listed again; anything else is tried again from where it was. */
export function afterFault(state: WatchState, fault: WatchFault): WatchState {
  const failures = state.failures + 1;
  if (fault.kind === "expired" || state.kind === "list" || failures % RELIST_AFTER === 0)
    return { kind: "list", failures };
  return { ...state, failures };
}

type Listener<T> = (before: T | undefined, after: T | undefined) => void;

/** A copy of what the API server has, kept up to date by one list and one watch after another. */
export type Reflector<T> = {
  readonly get: (key: string) => T | undefined;
  /** All of a namespace, or of all that are cached. The same array until something changes. */
  readonly list: (namespace?: string) => readonly T[];
  /** Called after the store has changed: added (before undefined), changed, or deleted (after undefined). */
  readonly onChange: (listener: Listener<T>) => void;
  /** Puts what a write has returned into the store, unless it is there, is older, or the object is gone. */
  readonly remember: (object: T) => void;
  /** Resolves after the first whole list, or when `signal` aborts. */
  readonly synced: (signal: AbortSignal) => Promise<void>;
  readonly isSynced: () => boolean;
  /** Whether it is synced, and a list, an event or a bookmark has come within the last minutes. */
  readonly isCurrent: () => boolean;
  /** Until `signal` aborts; it never rejects. */
  readonly run: (signal: AbortSignal) => Promise<void>;
};

/** A watch that ends by itself sooner than this, without an event, counts as a fault: else it could spin. */
const SHORT_WATCH = seconds(1);
/** Longer than a silent watch is trusted, and than it takes to list again after watches that broke off one after the other. */
const CURRENT_FOR = minutes(5);

export function createReflector<T extends Cached>(
  source: ListWatch<T>,
  resource: string,
  deps: RuntimeDeps,
): Reflector<T> {
  const log = deps.log.with({ resource });
  const backoff = exponential(millis(200), seconds(30), deps.random);
  const store = createStore<T>();
  const listeners: Listener<T>[] = [];
  const waiters = new Set<() => void>();
  let filled = false;
  let heardAt: Instant | null = null;
  /** Versions that `remember` brought while a list was under way: its pages may be older. */
  let writtenWhileListing: Map<string, string> | null = null;

  function changed(before: T | undefined, after: T | undefined): void {
    for (const listener of listeners) {
      try {
        listener(before, after);
      } catch (cause) {
        log.error("a listener threw: a bug", cause, { key: after?.key ?? before?.key });
      }
    }
  }

  function apply(object: T): void {
    const before = store.get(object.key);
    if (before?.resourceVersion === object.resourceVersion && before.uid === object.uid) return;
    store.set(object);
    changed(before, object);
  }

  function remove(key: string): void {
    const before = store.get(key);
    if (before === undefined) return;
    store.delete(before);
    changed(before, undefined);
  }

  function measure(): void {
    deps.meter.gauge("edgefleet_cached_objects", store.size(), { resource });
  }

  async function listAll(failures: number, signal: AbortSignal): Promise<Result<WatchState, WatchFault>> {
    const seen = new Set<string>();
    const written = new Map<string, string>();
    let at: string | null = null;
    writtenWhileListing = written;
    try {
      for await (const page of source.list(signal)) {
        if (!page.ok) return page;
        heardAt = deps.clock.now();
        at = page.value.at;
        for (const object of page.value.items) {
          seen.add(object.key);
          const ours = written.get(object.key);
          // Otherwise the list is right even where its versions are lower: an etcd that was restored counts anew.
          if (ours === undefined || isNewer(object.resourceVersion, ours)) apply(object);
        }
      }
    } finally {
      writtenWhileListing = null;
    }
    if (at === null || signal.aborted) return err(broken("the list ended without a page"));
    for (const key of store.keys()) if (!seen.has(key)) remove(key); // deleted while nobody watched
    filled = true;
    for (const done of waiters) done();
    measure();
    log.debug("listed", { objects: store.size() });
    return ok({ kind: "watch", from: at, failures });
  }

  async function watchOn(
    state: Extract<WatchState, { readonly kind: "watch" }>,
    signal: AbortSignal,
  ): Promise<{ readonly state: WatchState; readonly fault: WatchFault | null }> {
    const started = deps.clock.now();
    let { from, failures } = state;
    for await (const event of source.watch(from, signal)) {
      if (!event.ok) return { state: { kind: "watch", from, failures }, fault: event.error };
      heardAt = deps.clock.now();
      if (event.value.kind === "deleted") remove(event.value.object.key);
      if (event.value.kind === "applied") {
        const had = store.get(event.value.object.key);
        // What we wrote ourselves may be here before the watch has told what went before it.
        if (had === undefined || isNewer(event.value.object.resourceVersion, had.resourceVersion))
          apply(event.value.object);
      }
      if (event.value.kind !== "bookmark") measure();
      from = event.value.at;
      failures = 0;
    }
    const short = from === state.from && elapsed(started, deps.clock.now()) < SHORT_WATCH;
    if (short) return { state: { kind: "watch", from, failures }, fault: broken("the watch ended at once") };
    return { state: { kind: "watch", from, failures: 0 }, fault: null };
  }

  async function run(signal: AbortSignal): Promise<void> {
    let state: WatchState = { kind: "list", failures: 0 };
    while (!signal.aborted) {
      let fault: WatchFault | null = null;
      if (state.kind === "list") {
        const listed = await listAll(state.failures, signal);
        if (listed.ok) state = listed.value;
        else fault = listed.error;
      } else {
        const watched: { readonly state: WatchState; readonly fault: WatchFault | null } = await watchOn(
          state,
          signal,
        );
        state = watched.state;
        fault = watched.fault;
      }
      if (fault === null || signal.aborted) continue;
      state = afterFault(state, fault);
      deps.meter.count("edgefleet_watch_faults_total", { resource, kind: fault.kind });
      if (fault.kind === "expired")
        log.info("the watched version expired; listing again", { cause: fault.message });
      else log.warn("list or watch broke; trying again", { cause: fault.message, failures: state.failures });
      const asked = fault.kind === "broken" ? (fault.retryAfter ?? 0) : 0;
      await deps.clock.sleep(millis(Math.max(backoff(state.failures), asked)), signal);
    }
  }

  return {
    get: store.get,
    list: store.list,
    onChange: (listener) => {
      listeners.push(listener);
    },
    remember: (object) => {
      const had = store.get(object.key);
      // Not there: it has been deleted since. It must not come back, the watch would never take it away again.
      if (had === undefined || had.uid !== object.uid) return;
      if (!isNewer(object.resourceVersion, had.resourceVersion)) return;
      writtenWhileListing?.set(object.key, object.resourceVersion);
      apply(object);
    },
    isSynced: () => filled,
    isCurrent: () => filled && heardAt !== null && elapsed(heardAt, deps.clock.now()) <= CURRENT_FOR,
    synced: (signal) =>
      new Promise((resolve) => {
        if (filled || signal.aborted) {
          resolve();
          return;
        }
        const done = () => {
          waiters.delete(done);
          signal.removeEventListener("abort", done);
          resolve();
        };
        waiters.add(done);
        signal.addEventListener("abort", done);
      }),
    run,
  };
}

/**
 * Versions of one resource are decimal numbers that grow with each write (Kubernetes says so since 1.35, and etcd has
 * always made them so). Anything else than a number counts as newer when it is different.
 */
export function isNewer(version: string, than: string): boolean {
  const number = /^[0-9]+$/;
  if (!number.test(version) || !number.test(than)) return version !== than;
  return version.length === than.length ? version > than : version.length > than.length;
}

function createStore<T extends Cached>() {
  const objects = new Map<string, T>();
  const byNamespace = new Map<string, Map<string, T>>();
  // Arrays are made when they are asked for and kept until something changes: reconciles list far more often.
  let all: readonly T[] | null = null;
  const lists = new Map<string, readonly T[]>();

  function forgetLists(namespace: string): void {
    all = null;
    lists.delete(namespace);
  }

  return {
    get: (key: string) => objects.get(key),
    keys: () => [...objects.keys()],
    size: () => objects.size,
    list: (namespace?: string): readonly T[] => {
      if (namespace === undefined) {
        all ??= [...objects.values()];
        return all;
      }
      const made = lists.get(namespace) ?? [...(byNamespace.get(namespace)?.values() ?? [])];
      lists.set(namespace, made);
      return made;
    },
    set: (object: T) => {
      objects.set(object.key, object);
      const siblings = byNamespace.get(object.namespace) ?? new Map<string, T>();
      siblings.set(object.key, object);
      byNamespace.set(object.namespace, siblings);
      forgetLists(object.namespace);
    },
    delete: (object: T) => {
      objects.delete(object.key);
      const siblings = byNamespace.get(object.namespace);
      siblings?.delete(object.key);
      if (siblings?.size === 0) byNamespace.delete(object.namespace);
      forgetLists(object.namespace);
    },
  };
}
