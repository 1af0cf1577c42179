import type { InferenceReport } from "../api/device-contract.ts";
import { canonicalJson } from "../base/digest.ts";
import { isRecord } from "../base/guards.ts";
import type { Intern } from "../base/intern.ts";
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
import type { DeviceRow, FleetDevice, FleetSlot, Json, SlotState, Twin } from "./hub.ts";
import { fleetTagsOf, pointerOf, reportOf } from "./reports.ts";

// How observations of different age come together. Queries read an index that lags behind the twins by seconds to
// minutes, so a row never overwrites what a GET or PATCH returned a short while ago. Pure, but for `touch`.

/** How long what a call returned outranks older rows of queries; it is longer than the index usually lags. */
const CALL_OUTRANKS_QUERY = minutes(5);
/** Answers to calls overtake each other by no more than their deadline. */
const CALL_OUTRANKS_CALL = seconds(30);

/** What has just been read of one twin. */
export type Observation = {
  readonly source: "call" | "query";
  /** `null`: the row does not say. */
  readonly version: number | null;
  readonly slot: SlotState;
};

/** What is remembered of the observations of one twin. Changed in place: there is one for each twin of the fleet. */
export type Mark = {
  version: number | null;
  /** When a call last returned the twin. */
  calledAt: number;
  /** The sweep in which it was last seen. */
  sweep: number;
};

export function markOf({ version, source }: Observation, sweep: number, now: Instant): Mark {
  return { version, calledAt: source === "call" ? now : Number.NEGATIVE_INFINITY, sweep };
}

export function touch(mark: Mark, seen: Observation, older: boolean, sweep: number, now: Instant): void {
  mark.sweep = sweep;
  if (seen.source === "call") mark.calledAt = now;
  if (!older) mark.version = seen.version;
}

/** Whether no row has shown it during `sweep`, and no call a short while ago. */
export function isLeftOver(mark: Mark, sweep: number, now: Instant): boolean {
  return mark.sweep < sweep && !wasCalled(mark, CALL_OUTRANKS_QUERY, now);
}

function wasCalled(mark: Mark, within: Millis, now: Instant): boolean {
  return Number.isFinite(mark.calledAt) && elapsed(instant(mark.calledAt), now) < within;
}

/** Whether a call has returned the twin so recently that it outranks an older observation. */
function outranks(mark: Mark, seen: Observation, now: Instant): boolean {
  return wasCalled(mark, seen.source === "call" ? CALL_OUTRANKS_CALL : CALL_OUTRANKS_QUERY, now);
}

/** Whether tags and desired properties of the observation are older than those that we have from a call. */
export function isOlder(mark: Mark, etag: string | undefined, seen: Observation, now: Instant): boolean {
  if (!outranks(mark, seen, now)) return false;
  if (seen.version !== null && mark.version !== null) return seen.version < mark.version;
  return etag !== seen.slot.etag && wasCalled(mark, CALL_OUTRANKS_CALL, now);
}

/** Reports have no version in a row; the device's own clock orders them. `mark: null`: seen for the first time. */
export function slotAfter(
  had: FleetSlot | undefined,
  mark: Mark | null,
  seen: Observation,
  now: Instant,
): FleetSlot {
  const { slot } = seen;
  if (had === undefined || mark === null) return { ...slot, heardAt: heardAt(undefined, slot.report, now) };
  const { etag, pointer } = isOlder(mark, had.etag, seen, now) ? had : slot;
  const stale = outranks(mark, seen, now) && isOlderReport(slot.report, had.report);
  const report = stale ? had.report : slot.report;
  return { etag, pointer, report, heardAt: heardAt(had, report, now) };
}

/** The fields of a device's own twin, as it is seen for the first time. */
export function newDevice(
  name: string,
  row: Omit<DeviceRow, "device" | "slot">,
  seen: Observation,
  intern: Intern,
  now: Instant,
): FleetDevice {
  const slots = { "": slotAfter(undefined, null, seen, now) };
  return shapeOf({ ...row, ...tagsOf(row.tags, intern), device: name, slots });
}

/** The device after another observation of its own twin. `older`: as `isOlder` says. */
export function deviceAfter(
  had: FleetDevice,
  mark: Mark,
  row: Omit<DeviceRow, "device" | "slot">,
  seen: Observation,
  older: boolean,
  intern: Intern,
  now: Instant,
): FleetDevice {
  const same = older || (row.version === had.version && row.etag === had.etag);
  const tags = same ? { tags: had.tags, fleetTags: had.fleetTags } : tagsOf(row.tags, intern);
  const { etag, version } = older ? had : row;
  const slots = { ...had.slots, "": slotAfter(had.slots[""], mark, seen, now) };
  return shapeOf({ ...row, ...tags, device: had.device, etag, version, slots });
}

export function observationOfTwin(twin: Twin, intern: Intern): Observation {
  const pointer = pointerOf(twin.desired["model"], intern);
  const report = reportOf(twin.reported["inference"], intern);
  return { source: "call", version: twin.version, slot: { etag: twin.etag, pointer, report } };
}

/** A twin does not say whether its device is enabled and has IoT Edge: our tags say the one, and the next sweep all. */
export function rowOfTwin(twin: Twin, had: FleetDevice | undefined): Omit<DeviceRow, "device" | "slot"> {
  const { etag, version, tags } = twin;
  return {
    ...{ etag, version, tags },
    enabled: had?.enabled ?? true,
    iotEdge: had?.iotEdge ?? fleetTagsOf(tags)?.iotEdge ?? true,
    identityEtag: had?.identityEtag ?? null,
  };
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

/** Device clocks are wrong in both directions; that another heartbeat has come is observed by our own clock. */
function heardAt(had: FleetSlot | undefined, report: InferenceReport | null, now: Instant): Instant | null {
  if (report === null) return null;
  if (had === undefined) {
    const reported = parseTimestamp(report.heartbeatAt);
    return reported === null || reported > now ? now : reported;
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

/** Whether no change concerns a controller: heartbeats and windows alone do not. */
export function sameForControllers(a: FleetDevice, b: FleetDevice): boolean {
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
