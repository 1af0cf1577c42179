import type { InferenceReport } from "../api/device-contract.ts";
import { canonicalJson } from "../base/digest.ts";
import { isRecord } from "../base/guards.ts";
import { own } from "../base/lookup.ts";
import {
  elapsed,
  type Instant,
  instant,
  type Millis,
  minutes,
  parseTimestamp,
  seconds,
} from "../base/time.ts";
import type { DeviceRow, FleetDevice, FleetSlot, Json, ModuleRow, SlotRow, Twin } from "./hub.ts";
import { createIntern, fleetTagsOf, type Intern, pointerOf, reportOf } from "./reports.ts";

// What the fleet view remembers, and how news of different age come together. Queries read an index that lags behind
// the twins by seconds to minutes, so a row never overwrites what a GET or PATCH returned a short while ago.

/** How long what a call returned outranks older rows of queries; it is longer than the index usually lags. */
const NOTED_FOR = minutes(5);
/** Answers to calls overtake each other by no more than their deadline. */
const OVERTAKEN_BY = seconds(30);

export type FleetMap = {
  readonly get: (device: string) => FleetDevice | undefined;
  readonly list: () => Iterable<FleetDevice>;
  /** Those whose tags or pointers name this deployment. */
  readonly namedBy: (deployment: string) => Iterable<FleetDevice>;
  readonly size: () => number;
  readonly beginSweep: () => void;
  readonly applyDevice: (row: DeviceRow, now: Instant) => void;
  readonly applyModule: (row: ModuleRow, now: Instant) => void;
  /** Forgets what no row has shown since `beginSweep`, unless a call has shown it a short while ago. */
  readonly endSweep: (now: Instant) => void;
  readonly note: (twin: Twin, now: Instant) => void;
  readonly forget: (device: string) => void;
  readonly forgetSlot: (device: string, module: string) => void;
};

type Mark = { version: number | null; notedAt: number; sweep: number };
type Entry = { device: FleetDevice; readonly mark: Mark; readonly slots: Map<string, Mark> };
type News = {
  readonly version: number | null;
  readonly slot: SlotRow;
  readonly noted: boolean;
  /** For so long a younger note of ours outranks this. */
  readonly outranked: Millis;
};

/**
 * `changed` is called once for each change of a device that a controller could care about, with the deployments that the
 * device named before or names now.
 */
export function createFleetMap(changed: (device: string, deployments: readonly string[]) => void): FleetMap {
  const entries = new Map<string, Entry>();
  /** The devices that name a deployment, by its name: what has changed concerns few, and nobody looks at all devices. */
  const named = new Map<string, Set<string>>();
  const intern = createIntern();
  let sweep = 0;

  function put(entry: Entry, next: FleetDevice): void {
    const had = entry.device;
    entry.device = next;
    if (!sameForControllers(had, next)) changed(next.device, reindex(had, next));
  }

  /** @returns the deployments that were named, or are. */
  function reindex(had: FleetDevice | null, next: FleetDevice | null): readonly string[] {
    const before = had === null ? NO_NAMES : namesIn(had);
    const after = next === null ? NO_NAMES : namesIn(next);
    const device = next?.device ?? had?.device ?? "";
    for (const name of before) {
      if (after.includes(name)) continue;
      const devices = named.get(name);
      devices?.delete(device);
      if (devices?.size === 0) named.delete(name);
    }
    for (const name of after) {
      const devices = named.get(name);
      if (devices === undefined) named.set(name, new Set([device]));
      else devices.add(device);
    }
    return before.length === 0 ? after : [...new Set([...before, ...after])];
  }

  function applyTwin(name: string, row: Omit<DeviceRow, "device">, news: News, now: Instant): void {
    const entry = entries.get(name);
    if (entry === undefined) {
      const device = {
        ...row,
        ...tagsOf(row.tags, intern),
        device: name,
        slots: { "": mergedSlot(undefined, null, news, now) },
      };
      const mark = markOf(news, sweep, now);
      const shaped = shapeOf(device);
      entries.set(name, { device: shaped, mark, slots: new Map() });
      changed(name, reindex(null, shaped));
      return;
    }
    const had = entry.device;
    const older = isOlder(entry.mark, had.etag, news, now);
    const same = older || (row.version === had.version && row.etag === had.etag);
    const tags = same ? { tags: had.tags, fleetTags: had.fleetTags } : tagsOf(row.tags, intern);
    const slot = mergedSlot(had.slots[""], entry.mark, news, now);
    const { etag, version } = older ? had : row;
    touch(entry.mark, news, older, sweep, now);
    const { enabled, iotEdge, identityEtag } = row;
    put(
      entry,
      shapeOf({
        ...tags,
        device: name,
        etag,
        version,
        enabled,
        iotEdge,
        identityEtag,
        slots: { ...had.slots, "": slot },
      }),
    );
  }

  function applySlot(name: string, module: string, news: News, now: Instant): void {
    const entry = entries.get(name);
    if (entry === undefined) return; // not one of ours, or its device row is still to come
    const mark = entry.slots.get(module);
    const had = own(entry.device.slots, module);
    const slot = mergedSlot(had, mark ?? null, news, now);
    if (mark === undefined) entry.slots.set(module, markOf(news, sweep, now));
    else touch(mark, news, isOlder(mark, had?.etag, news, now), sweep, now);
    put(entry, { ...entry.device, slots: { ...entry.device.slots, [module]: slot } });
  }

  function dropSlots(entry: Entry, modules: readonly string[]): void {
    if (modules.length === 0) return;
    for (const module of modules) entry.slots.delete(module);
    const kept = Object.entries(entry.device.slots).filter(([module]) => !modules.includes(module));
    put(entry, { ...entry.device, slots: Object.fromEntries(kept) });
  }

  function forget(device: string): void {
    const entry = entries.get(device);
    if (entry === undefined) return;
    entries.delete(device);
    changed(device, reindex(entry.device, null));
  }

  function isLeftOver(mark: Mark, now: Instant): boolean {
    return mark.sweep < sweep && !isNoted(mark, NOTED_FOR, now);
  }

  return {
    get: (device) => entries.get(device)?.device,
    list: function* list() {
      for (const entry of entries.values()) yield entry.device;
    },
    namedBy: function* namedBy(deployment) {
      for (const device of named.get(deployment) ?? []) {
        const entry = entries.get(device);
        if (entry !== undefined) yield entry.device;
      }
    },
    size: () => entries.size,
    beginSweep: () => {
      sweep += 1;
    },
    applyDevice: (row, now) =>
      applyTwin(
        row.device,
        row,
        { version: row.version, slot: row.slot, noted: false, outranked: NOTED_FOR },
        now,
      ),
    applyModule: (row, now) =>
      applySlot(
        row.device,
        intern(row.module),
        { version: row.version ?? null, slot: row.slot, noted: false, outranked: NOTED_FOR },
        now,
      ),
    endSweep: (now) => {
      for (const [device, entry] of entries) {
        if (isLeftOver(entry.mark, now)) forget(device);
        else
          dropSlots(
            entry,
            [...entry.slots].filter(([, mark]) => isLeftOver(mark, now)).map(([module]) => module),
          );
      }
    },
    note: (twin, now) => {
      const pointer = pointerOf(twin.desired["model"], intern);
      const slot = { etag: twin.etag, pointer, report: reportOf(twin.reported["inference"], intern) };
      const news: News = { version: twin.version, slot, noted: true, outranked: OVERTAKEN_BY };
      if (twin.module !== null) return applySlot(twin.device, intern(twin.module), news, now);
      const had = entries.get(twin.device)?.device;
      // A twin does not say these; our tags say the one, and the next sweep all.
      const iotEdge = had?.iotEdge ?? fleetTagsOf(twin.tags)?.iotEdge ?? true;
      const row = {
        etag: twin.etag,
        version: twin.version,
        enabled: had?.enabled ?? true,
        iotEdge,
        identityEtag: had?.identityEtag ?? null,
        tags: twin.tags,
        slot,
      };
      return applyTwin(twin.device, row, news, now);
    },
    forget,
    forgetSlot: (device, module) => {
      const entry = entries.get(device);
      if (entry !== undefined) dropSlots(entry, [module]);
    },
  };
}

const NO_NAMES: readonly string[] = Object.freeze([]);

/** The deployments that its tags and pointers name. */
function namesIn(device: FleetDevice): readonly string[] {
  const names: string[] = [];
  const add = (name: string | undefined) => {
    if (name !== undefined && !names.includes(name)) names.push(name);
  };
  if (device.fleetTags !== null) Object.values(device.fleetTags.deployments).forEach(add);
  for (const slot of Object.values(device.slots)) add(slot.pointer?.deployment);
  return names;
}

/** All devices with their fields in one order: a hundred thousand objects share one hidden class. */
function shapeOf(device: FleetDevice): FleetDevice {
  const { device: name, etag, version, enabled, iotEdge, identityEtag, tags, fleetTags, slots } = device;
  return { device: name, etag, version, enabled, iotEdge, identityEtag, tags, fleetTags, slots };
}

function tagsOf(tags: Json, intern: Intern): Pick<FleetDevice, "tags" | "fleetTags"> {
  return { tags: interned(tags, intern) as Json, fleetTags: fleetTagsOf(tags, intern) };
}

function interned(value: unknown, intern: Intern): unknown {
  if (typeof value === "string") return intern(value);
  if (Array.isArray(value)) return value.map((inner) => interned(inner, intern));
  if (!isRecord(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, interned(inner, intern)]));
}

function markOf(news: News, sweep: number, now: Instant): Mark {
  return { version: news.version, notedAt: news.noted ? now : Number.NEGATIVE_INFINITY, sweep };
}

function touch(mark: Mark, news: News, older: boolean, sweep: number, now: Instant): void {
  mark.sweep = sweep;
  if (news.noted) mark.notedAt = now;
  if (!older) mark.version = news.version;
}

/** Whether a call has returned it less than `within` ago. */
function isNoted(mark: Mark, within: Millis, now: Instant): boolean {
  return Number.isFinite(mark.notedAt) && elapsed(instant(mark.notedAt), now) < within;
}

/** Whether tags and desired properties of the news are older than those that we have from a call. */
function isOlder(mark: Mark, etag: string | undefined, news: News, now: Instant): boolean {
  if (!isNoted(mark, news.outranked, now)) return false;
  if (news.version !== null && mark.version !== null) return news.version < mark.version;
  return etag !== news.slot.etag && isNoted(mark, OVERTAKEN_BY, now);
}

/** Reports have no version in a row; the device's own clock orders them. */
function mergedSlot(had: FleetSlot | undefined, mark: Mark | null, news: News, now: Instant): FleetSlot {
  const { slot } = news;
  if (had === undefined || mark === null) return { ...slot, heardAt: heardAt(undefined, slot.report, now) };
  const { etag, pointer } = isOlder(mark, had.etag, news, now) ? had : slot;
  const stale = isNoted(mark, news.outranked, now) && isOlderReport(slot.report, had.report);
  const report = stale ? had.report : slot.report;
  return { etag, pointer, report, heardAt: heardAt(had, report, now) };
}

/** Device clocks are wrong in both directions; that another heartbeat has come is a fact of ours. */
function heardAt(had: FleetSlot | undefined, report: InferenceReport | null, now: Instant): Instant | null {
  if (report === null) return null;
  if (had === undefined) {
    const said = parseTimestamp(report.heartbeatAt);
    return said === null || said > now ? now : said;
  }
  return had.report?.heartbeatAt === report.heartbeatAt ? had.heardAt : now;
}

function isOlderReport(report: InferenceReport | null, than: InferenceReport | null): boolean {
  if (than === null) return false;
  if (report === null) return true;
  const at = parseTimestamp(report.heartbeatAt);
  const known = parseTimestamp(than.heartbeatAt);
  return at !== null && known !== null && at < known;
}

function sameForControllers(a: FleetDevice, b: FleetDevice): boolean {
  if (a.enabled !== b.enabled || a.iotEdge !== b.iotEdge) return false;
  if (a.identityEtag !== b.identityEtag) return false;
  if (a.tags !== b.tags && canonicalJson(a.tags) !== canonicalJson(b.tags)) return false;
  const modules = Object.keys(a.slots);
  if (modules.length !== Object.keys(b.slots).length) return false;
  return modules.every((module) => sameSlot(own(a.slots, module), own(b.slots, module)));
}

function sameSlot(a: FleetSlot | undefined, b: FleetSlot | undefined): boolean {
  if (a === b) return true;
  if (a === undefined || b === undefined) return false;
  const [had, has] = [a.report, b.report];
  return (
    a.pointer?.deployment === b.pointer?.deployment &&
    a.pointer?.release === b.pointer?.release &&
    a.pointer?.digest === b.pointer?.digest &&
    (had === null) === (has === null) &&
    had?.active?.digest === has?.active?.digest &&
    had?.active?.release === has?.active?.release &&
    had?.update?.state === has?.update?.state &&
    had?.update?.digest === has?.update?.digest &&
    had?.update?.error?.code === has?.update?.error?.code
  );
}
