import { canonicalJson } from "../base/digest.ts";
import type { Attempt, Fault } from "../base/fault.ts";
import { ok } from "../base/result.ts";
import { type Clock, type Millis, millis, seconds } from "../base/time.ts";
import { exponential } from "../runtime/backoff.ts";
import { jittered } from "../runtime/clock.ts";
import type { Log, Meter } from "../telemetry/telemetry.ts";
import type { Configuration, ConfigurationView, DeviceHub, Lane } from "./hub.ts";

// The hub has room for a hundred configurations and allows twenty operations on them a minute, lists included. So they
// are listed slowly, and every write of ours is remembered at once.

export type ConfigurationViewOptions = {
  readonly hub: DeviceHub;
  readonly clock: Clock;
  readonly log: Log;
  readonly meter: Meter;
  /** 0 ≤ x < 1; for jitter. */
  readonly random: () => number;
  /** Pause between two listings. */
  readonly interval?: Millis;
  /** Whether a configuration is the operator's own, by its labels: for the gauge. */
  readonly isOurs: (configuration: Configuration) => boolean;
};

export type RunningConfigurationView = {
  readonly view: ConfigurationView;
  /** Lists until `signal` aborts. */
  readonly run: (signal: AbortSignal) => Promise<void>;
  /** Resolves after the first attempt to list; `list()` stays null where that failed. */
  readonly synced: (signal: AbortSignal) => Promise<void>;
};

export function createConfigurationView(options: ConfigurationViewOptions): RunningConfigurationView {
  const { hub, clock, log, meter, random, isOurs, interval = seconds(60) } = options;
  const listeners: ((changed: readonly Configuration[] | null) => void)[] = [];
  const tried = Promise.withResolvers<void>();
  let known: ReadonlyMap<string, Configuration> | null = null;
  // Writes that ended while a listing was under way: the listing may or may not have them.
  const written = new Map<string, { readonly configuration: Configuration | null; readonly after: number }>();
  let listings = 0;
  let applied = 0;

  function replace(next: ReadonlyMap<string, Configuration>): void {
    const had = known;
    known = next;
    const ours = [...next.values()].filter(isOurs).length;
    meter.gauge("edgefleet_hub_configurations", ours, { owner: "ours" });
    meter.gauge("edgefleet_hub_configurations", next.size - ours, { owner: "others" });
    const changed = had === null ? null : changesBetween(had, next);
    if (changed === null || changed.length > 0) for (const listener of listeners) listener(changed);
  }

  function remember(id: string, configuration: Configuration | null): void {
    written.set(id, { configuration, after: listings });
    if (known === null) return;
    replace(withWrite(known, id, configuration));
  }

  async function relist(lane: Lane, signal: AbortSignal): Attempt<void> {
    listings += 1;
    const number = listings;
    const listed = await hub.listConfigurations(lane, signal);
    if (!listed.ok) return listed;
    // A later listing has ended first: it knows better.
    if (number < applied) return ok(undefined);
    applied = number;
    let next: ReadonlyMap<string, Configuration> = new Map(listed.value.map((one) => [one.id, one]));
    for (const [id, write] of written) {
      if (write.after >= number) next = withWrite(next, id, write.configuration);
      else written.delete(id);
    }
    replace(next);
    return ok(undefined);
  }

  /** After such a refusal our list is wrong: the next pass must not make the same mistake, nor wait behind others. */
  async function relistAfter<T>(
    attempt: Attempt<T>,
    kinds: readonly Fault["kind"][],
    lane: Lane,
    signal: AbortSignal,
  ): Attempt<T> {
    const result = await attempt;
    if (!result.ok && kinds.includes(result.error.kind)) await relist(lane, signal);
    return result;
  }

  async function run(signal: AbortSignal): Promise<void> {
    const backoff = exponential(seconds(2), seconds(60), random);
    let failures = 0;
    while (!signal.aborted) {
      const listed = await relist("normal", signal);
      tried.resolve();
      if (signal.aborted) return;
      if (listed.ok) {
        failures = 0;
        await clock.sleep(jittered(interval, random), signal);
        continue;
      }
      failures += 1;
      log.warn("the configurations of the hub could not be listed", {
        kind: listed.error.kind,
        fault: listed.error.message,
      });
      const atLeast = listed.error.kind === "throttled" ? listed.error.retryAfter : 0;
      await clock.sleep(millis(Math.max(atLeast, backoff(failures))), signal);
    }
  }

  const view: ConfigurationView = {
    list: () => (known === null ? null : [...known.values()]),
    onChange: (listener) => {
      listeners.push(listener);
    },
    create: async (configuration, lane, signal) => {
      // Refused: somebody else may have filled the hub meanwhile.
      const refusals = ["conflict", "rejected"] as const;
      const created = await relistAfter(
        hub.createConfiguration(configuration, lane, signal),
        refusals,
        lane,
        signal,
      );
      if (created.ok) remember(created.value.id, created.value);
      return created;
    },
    update: async (had, change, lane, signal) => {
      const updated = await relistAfter(
        hub.updateConfiguration(had, change, lane, signal),
        ["conflict"],
        lane,
        signal,
      );
      if (updated.ok) remember(had.id, updated.value);
      return updated;
    },
    remove: async (had, lane, signal) => {
      const removed = await relistAfter(
        hub.removeConfiguration(had, lane, signal),
        ["conflict"],
        lane,
        signal,
      );
      if (removed.ok) remember(had.id, null);
      return removed;
    },
  };

  return {
    view,
    run,
    synced: async (signal) => {
      const stopped = Promise.withResolvers<void>();
      signal.addEventListener("abort", () => stopped.resolve(), { once: true });
      if (!signal.aborted) await Promise.race([tried.promise, stopped.promise]);
    },
  };
}

function withWrite(
  had: ReadonlyMap<string, Configuration>,
  id: string,
  configuration: Configuration | null,
): ReadonlyMap<string, Configuration> {
  const next = new Map(had);
  if (configuration === null) next.delete(id);
  else next.set(id, configuration);
  return next;
}

function changesBetween(
  had: ReadonlyMap<string, Configuration>,
  next: ReadonlyMap<string, Configuration>,
): readonly Configuration[] {
  const removed = [...had.values()].filter(({ id }) => !next.has(id));
  const others = [...next.values()].filter((one) => {
    const before = had.get(one.id);
    return before === undefined || !sameConfiguration(before, one);
  });
  return [...removed, ...others];
}

/** Content cannot change under one id; a new etag alone is nothing that anybody acts on. */
function sameConfiguration(a: Configuration, b: Configuration): boolean {
  return (
    a.targetCondition === b.targetCondition &&
    a.priority === b.priority &&
    a.kind === b.kind &&
    canonicalJson(a.labels) === canonicalJson(b.labels)
  );
}
