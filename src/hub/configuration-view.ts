import type { Attempt, Fault } from "../base/fault.ts";
import { ok } from "../base/result.ts";
import { type Millis, seconds } from "../base/time.ts";
import { exponential, pauseAfter } from "../runtime/backoff.ts";
import { jittered } from "../runtime/clock.ts";
import type { RuntimeDeps } from "../runtime/deps.ts";
import { createLatch } from "../runtime/latch.ts";
import {
  afterListing,
  afterWrite,
  beginListing,
  type ConfigurationList,
  changesBetween,
  NOTHING_LISTED,
} from "./configuration-list.ts";
import type { Configuration, ConfigurationView, DeviceHub, Lane } from "./hub.ts";

// The hub has room for a hundred configurations and allows twenty operations on them a minute, lists included. So they
// are listed slowly, and every write of ours is remembered at once.

export type ConfigurationViewOptions = RuntimeDeps & {
  readonly hub: DeviceHub;
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

type Relist = (lane: Lane, signal: AbortSignal) => Attempt<void>;

export function createConfigurationView(options: ConfigurationViewOptions): RunningConfigurationView {
  const { hub, meter, isOurs } = options;
  const listeners: ((changed: readonly Configuration[] | null) => void)[] = [];
  const tried = createLatch();
  let list = NOTHING_LISTED;

  function update(next: ConfigurationList): void {
    const had = list.known;
    list = next;
    if (next.known === null) return;
    const ours = [...next.known.values()].filter(isOurs).length;
    meter.gauge("edgefleet_hub_configurations", ours, { owner: "ours" });
    meter.gauge("edgefleet_hub_configurations", next.known.size - ours, { owner: "others" });
    const changed = had === null ? null : changesBetween(had, next.known);
    if (changed === null || changed.length > 0) for (const listener of listeners) listener(changed);
  }

  const relist: Relist = async (lane, signal) => {
    list = beginListing(list);
    const number = list.begun;
    const listed = await hub.listConfigurations(lane, signal);
    if (!listed.ok) return listed;
    const next = afterListing(list, number, listed.value);
    if (next !== list) update(next);
    return ok(undefined);
  };

  const remember = (id: string, configuration: Configuration | null) =>
    update(afterWrite(list, id, configuration));

  const view: ConfigurationView = {
    list: () => (list.known === null ? null : [...list.known.values()]),
    onChange: (listener) => {
      listeners.push(listener);
    },
    create: async (configuration, lane, signal) => {
      const created = await hub.createConfiguration(configuration, lane, signal);
      // Rejected: others may have filled the hub meanwhile.
      await relistAfter(relist, created, ["conflict", "rejected"], lane, signal);
      if (created.ok) remember(created.value.id, created.value);
      return created;
    },
    update: async (had, change, lane, signal) => {
      const updated = await hub.updateConfiguration(had, change, lane, signal);
      await relistAfter(relist, updated, ["conflict"], lane, signal);
      if (updated.ok) remember(had.id, updated.value);
      return updated;
    },
    remove: async (had, lane, signal) => {
      const removed = await hub.removeConfiguration(had, lane, signal);
      await relistAfter(relist, removed, ["conflict"], lane, signal);
      if (removed.ok) remember(had.id, null);
      return removed;
    },
  };

  return { view, run: (signal) => listForever(relist, tried.open, options, signal), synced: tried.opened };
}

/** After such a refusal our list is wrong: the next pass must not make the same mistake, nor wait behind others. */
async function relistAfter(
  relist: Relist,
  result: Awaited<Attempt<unknown>>,
  kinds: readonly Fault["kind"][],
  lane: Lane,
  signal: AbortSignal,
): Promise<void> {
  if (!result.ok && kinds.includes(result.error.kind)) await relist(lane, signal);
}

async function listForever(
  relist: Relist,
  tried: () => void,
  { clock, log, random, interval = seconds(60) }: ConfigurationViewOptions,
  signal: AbortSignal,
): Promise<void> {
  const backoff = exponential(seconds(2), seconds(60), random);
  let failures = 0;
  while (!signal.aborted) {
    const listed = await relist("normal", signal);
    tried();
    if (signal.aborted) return;
    if (listed.ok) {
      failures = 0;
      await clock.sleep(jittered(interval, random), signal);
      continue;
    }
    failures += 1;
    const { kind, message } = listed.error;
    log.warn("the configurations of the hub could not be listed", { kind, fault: message });
    await clock.sleep(pauseAfter(listed.error, backoff(failures)), signal);
  }
}
