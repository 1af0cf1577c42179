import { isObject, type JsonValue, valueAt } from "../../base/json.ts";
import type { Hub } from "../../hub/hub.ts";
import type { Identity } from "../../hub/registry/identity.ts";
import { twinKey } from "../../hub/twins/twin.ts";

/**
 * - `disabled`: its identity is · `offline`: neither the device nor a module of it is connected
 * - `failed`, `updating`, `running`: what its reports say of a model; the worst of several · `idle`: no model
 */
export const DEVICE_STATES = ["running", "updating", "failed", "idle", "offline", "disabled"] as const;
export type DeviceState = (typeof DEVICE_STATES)[number];

/** A device in one line, out of its identity, its tags and what it and its modules have reported. */
export type DeviceRow = {
  readonly deviceId: string;
  readonly state: DeviceState;
  readonly connected: boolean;
  readonly iotEdge: boolean;
  readonly deviceClass: string | null;
  readonly site: string | null;
  readonly release: string | null;
  /** Of the update under way or the last one; `null`: there was none. */
  readonly update: string | null;
  readonly error: string | null;
  readonly heartbeatAt: string | null;
};

type Report = Pick<DeviceRow, "release" | "update" | "error" | "heartbeatAt">;
const NO_REPORT: Report = { release: null, update: null, error: null, heartbeatAt: null };
const WORST_FIRST: readonly DeviceState[] = ["failed", "updating", "running", "idle"];

export function deviceRow(hub: Hub, { deviceId, enabled, iotEdge }: Identity): DeviceRow {
  const modules = hub.registry.modulesOf(deviceId);
  const keys = [deviceId, ...modules.map(({ moduleId }) => twinKey(deviceId, moduleId))];
  const connected = keys.some(hub.isConnected);
  const tags = hub.twins.get(deviceId)?.tags;
  let worst = NO_REPORT;
  for (const key of keys) {
    const written = hub.twins.get(key)?.reported.value["inference"];
    const report = isObject(written) ? reportOf(written) : NO_REPORT;
    if (WORST_FIRST.indexOf(stateOf(report)) < WORST_FIRST.indexOf(stateOf(worst)) || worst === NO_REPORT)
      worst = report;
  }
  return {
    deviceId,
    state: stateOfDevice(enabled, connected, worst),
    connected,
    iotEdge,
    deviceClass: textAt(tags, ["edgefleet", "class"]) ?? textAt(tags, ["class"]),
    site: textAt(tags, ["edgefleet", "site"]) ?? textAt(tags, ["site"]),
    ...worst,
  };
}

function reportOf(written: JsonValue): Report {
  return {
    release: textAt(written, ["active", "release"]),
    update: textAt(written, ["update", "state"]),
    error: textAt(written, ["update", "error", "code"]),
    heartbeatAt: textAt(written, ["heartbeatAt"]),
  };
}

function stateOfDevice(enabled: boolean, connected: boolean, report: Report): DeviceState {
  if (!enabled) return "disabled";
  return connected ? stateOf(report) : "offline";
}

function stateOf({ update, release }: Report): DeviceState {
  if (update === "Failed") return "failed";
  if (update !== null && update !== "Running") return "updating";
  return release === null ? "idle" : "running";
}

function textAt(root: JsonValue | undefined, path: readonly string[]): string | null {
  const value = valueAt(root, path);
  return typeof value === "string" ? value : null;
}
