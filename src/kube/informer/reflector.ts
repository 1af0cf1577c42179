import { err, ok, type Result } from "../../base/result.ts";
import { elapsed, type Instant, millis, minutes, seconds } from "../../base/time.ts";
import { exponential, pauseAfter } from "../../runtime/backoff.ts";
import type { RuntimeDeps } from "../../runtime/deps.ts";
import { createLatch, type Latch } from "../../runtime/latch.ts";
import type { Log } from "../../telemetry/telemetry.ts";
import type { ListWatch } from "./list-watch.ts";
import { createObjectStore, type ObjectListener, type ObjectStore } from "./object-store.ts";
import { broken, type Cached, type WatchFault } from "./watch-event.ts";
import { afterFault, isNewer, type WatchState } from "./watch-state.ts";

/** A copy of what the API server has, kept up to date by one list and one watch after another. */
export type Reflector<T> = {
  readonly get: (key: string) => T | undefined;
  /** All of a namespace, or of all that are cached. The same array until something changes. */
  readonly list: (namespace?: string) => readonly T[];
  /** Called after the store has changed: added (before undefined), changed, or deleted (after undefined). */
  readonly onChange: (listener: ObjectListener<T>) => void;
  /** Puts what a write has returned into the store, unless it is there, is older, or the object is gone. */
  readonly remember: (object: T) => void;
  /** Resolves after the first whole list, or when `signal` aborts. */
  readonly synced: (signal: AbortSignal) => Promise<void>;
  readonly isSynced: () => boolean;
  /** Why the last list or watch broke, until the API server answers again; `null`: it has answered. */
  readonly problem: () => string | null;
  /** Whether it is synced, and a list, an event or a bookmark has come within the last minutes. */
  readonly isCurrent: () => boolean;
  /** Until `signal` aborts; it never rejects. */
  readonly run: (signal: AbortSignal) => Promise<void>;
};

/** The first problem of several; `null`: none has one. */
export function firstProblem(reflectors: readonly Pick<Reflector<unknown>, "problem">[]): string | null {
  return reflectors.map(({ problem }) => problem()).find((problem) => problem !== null) ?? null;
}

/** A watch that the server ends sooner than this, without an event, counts as a fault: otherwise it could spin. */
const SHORT_WATCH = seconds(1);
/** Longer than a silent watch is trusted, and than it takes to list again after watches that broke off one after the other. */
const CURRENT_FOR = minutes(5);

type Watching<T> = {
  readonly source: ListWatch<T>;
  readonly resource: string;
  readonly deps: RuntimeDeps;
  readonly log: Log;
  readonly objects: ObjectStore<T>;
  readonly filled: Latch;
  /** When the API server last sent a page, an event or a bookmark. */
  answeredAt: Instant | null;
  problem: string | null;
  /** Versions that `remember` brought while a list was under way: its pages may be older. */
  writtenWhileListing: Map<string, string> | null;
};
type Step = { readonly state: WatchState; readonly fault: WatchFault | null };

export function createReflector<T extends Cached>(
  source: ListWatch<T>,
  resource: string,
  deps: RuntimeDeps,
): Reflector<T> {
  const log = deps.log.with({ resource });
  const objects = createObjectStore<T>(log);
  const filled = createLatch();
  const watching: Watching<T> = {
    ...{ source, resource, deps, log, objects, filled },
    answeredAt: null,
    problem: null,
    writtenWhileListing: null,
  };
  return {
    get: objects.get,
    list: objects.list,
    onChange: objects.onChange,
    remember: (object) => {
      const had = objects.get(object.key);
      // Not there: it has been deleted since. It must not come back, the watch would never take it away again.
      if (had === undefined || had.uid !== object.uid) return;
      if (!isNewer(object.resourceVersion, had.resourceVersion)) return;
      watching.writtenWhileListing?.set(object.key, object.resourceVersion);
      objects.apply(object);
    },
    isSynced: filled.isOpen,
    problem: () => watching.problem,
    isCurrent: () => {
      const { answeredAt } = watching;
      return filled.isOpen() && answeredAt !== null && elapsed(answeredAt, deps.clock.now()) <= CURRENT_FOR;
    },
    synced: filled.opened,
    run: (signal) => run(watching, signal),
  };
}

async function run<T extends Cached>(watching: Watching<T>, signal: AbortSignal): Promise<void> {
  const { resource, deps, log } = watching;
  const backoff = exponential(millis(200), seconds(30), deps.random);
  let state: WatchState = { kind: "list", failures: 0 };
  while (!signal.aborted) {
    const step: Step =
      state.kind === "list" ? await listAll(watching, state, signal) : await watchOn(watching, state, signal);
    state = step.state;
    const { fault } = step;
    if (fault === null || signal.aborted) continue;
    state = afterFault(state, fault);
    watching.problem = fault.message;
    deps.meter.count("edgefleet_watch_faults_total", { resource, kind: fault.kind });
    if (fault.kind === "expired")
      log.info("the watched version expired; listing again", { cause: fault.message });
    else log.warn("list or watch broke; retrying", { cause: fault.message, failures: state.failures });
    await deps.clock.sleep(pauseAfter(fault, backoff(state.failures)), signal);
  }
}

async function listAll<T extends Cached>(
  watching: Watching<T>,
  state: WatchState,
  signal: AbortSignal,
): Promise<Step> {
  const { objects, log } = watching;
  const written = new Map<string, string>();
  watching.writtenWhileListing = written;
  const listed = await readPages(watching, written, signal).finally(() => {
    watching.writtenWhileListing = null;
  });
  if (!listed.ok) return { state, fault: listed.error };
  const { at, seen } = listed.value;
  if (at === null || signal.aborted) return { state, fault: broken("the list ended without a page") };
  for (const key of objects.keys()) if (!seen.has(key)) objects.remove(key); // deleted while nothing watched
  watching.filled.open();
  measure(watching);
  log.debug("listed", { objects: objects.size() });
  return { state: { kind: "watch", from: at, failures: state.failures }, fault: null };
}

/** @param written what `remember` has brought since the list began. */
async function readPages<T extends Cached>(
  watching: Watching<T>,
  written: ReadonlyMap<string, string>,
  signal: AbortSignal,
): Promise<Result<{ readonly at: string | null; readonly seen: ReadonlySet<string> }, WatchFault>> {
  const seen = new Set<string>();
  let at: string | null = null;
  for await (const page of watching.source.list(signal)) {
    if (!page.ok) return err(page.error);
    watching.answeredAt = watching.deps.clock.now();
    watching.problem = null;
    at = page.value.at;
    for (const object of page.value.items) {
      seen.add(object.key);
      const ours = written.get(object.key);
      // Otherwise the list is right even where its versions are lower: a restored etcd counts from an earlier version.
      if (ours === undefined || isNewer(object.resourceVersion, ours)) watching.objects.apply(object);
    }
  }
  return ok({ at, seen });
}

async function watchOn<T extends Cached>(
  watching: Watching<T>,
  state: Extract<WatchState, { readonly kind: "watch" }>,
  signal: AbortSignal,
): Promise<Step> {
  const { source, objects, deps } = watching;
  const started = deps.clock.now();
  let { from, failures } = state;
  for await (const event of source.watch(from, signal)) {
    if (!event.ok) return { state: { kind: "watch", from, failures }, fault: event.error };
    watching.answeredAt = deps.clock.now();
    watching.problem = null;
    if (event.value.kind === "deleted") objects.remove(event.value.object.key);
    if (event.value.kind === "applied") {
      const had = objects.get(event.value.object.key);
      // A write of ours may be in the store before the watch has sent the events that came before it.
      if (had === undefined || isNewer(event.value.object.resourceVersion, had.resourceVersion))
        objects.apply(event.value.object);
    }
    if (event.value.kind !== "bookmark") measure(watching);
    from = event.value.at;
    failures = 0;
  }
  const short = from === state.from && elapsed(started, deps.clock.now()) < SHORT_WATCH;
  if (short) return { state: { kind: "watch", from, failures }, fault: broken("the watch ended at once") };
  return { state: { kind: "watch", from, failures: 0 }, fault: null };
}

function measure<T>({ deps, resource, objects }: Watching<T>): void {
  deps.meter.gauge("edgefleet_cached_objects", objects.size(), { resource });
}
