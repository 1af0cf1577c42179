import type { UpdateState } from "../../src/api/device-contract.ts";
import { ownValue, setKey } from "../base/json.ts";
import type { Slot, UpdateError } from "./slot.ts";

export type DeviceSummary = {
  readonly deviceId: string;
  readonly module: string | null;
  readonly connected: boolean;
  readonly reachable: boolean;
  readonly release: string | null;
  readonly digest: string | null;
  readonly update: {
    readonly release: string;
    readonly state: UpdateState;
    readonly error: UpdateError | null;
  } | null;
};

export type FleetSummary = {
  /** Devices that are simulated here. */
  readonly devices: number;
  /** Places for models that report. */
  readonly slots: number;
  readonly reachable: number;
  readonly releases: Readonly<Record<string, number>>;
  readonly updates: Readonly<Record<string, number>>;
};

export function deviceSummary(
  { deviceId, moduleId, session, active, update }: Slot,
  reachable: boolean,
): DeviceSummary {
  return {
    deviceId,
    module: moduleId,
    connected: session !== null,
    reachable: session !== null && reachable,
    release: active?.release ?? null,
    digest: active?.digest ?? null,
    update:
      update === null ? null : { release: update.pointer.release, state: update.state, error: update.error },
  };
}

export function fleetSummary(devices: number, list: readonly DeviceSummary[]): FleetSummary {
  const releases: Record<string, number> = {};
  const updates: Record<string, number> = {};
  for (const { release, update } of list) {
    if (release !== null) setKey(releases, release, (ownValue(releases, release) ?? 0) + 1);
    if (update !== null) updates[update.state] = (updates[update.state] ?? 0) + 1;
  }
  const reachable = list.filter((one) => one.reachable).length;
  return { devices, slots: list.length, reachable, releases, updates };
}
