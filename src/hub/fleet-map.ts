import { createIntern, type Intern } from "../base/intern.ts";
import { own } from "../base/lookup.ts";
import type { Instant } from "../base/time.ts";
import { createDeploymentIndex, type DeploymentIndex } from "./deployment-index.ts";
import {
  deviceAfter,
  isLeftOver,
  isOlder,
  type Mark,
  markOf,
  newDevice,
  type Observation,
  observationOfTwin,
  rowOfTwin,
  sameForControllers,
  slotAfter,
  touch,
} from "./fleet-merge.ts";
import type { DeviceRow, FleetDevice, FleetView, ModuleRow, Twin } from "./hub.ts";

/** What the fleet view remembers of each device. How observations come together: fleet-merge.ts. */
export type FleetMap = Pick<FleetView, "get" | "list" | "namedBy"> & {
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

type Changed = (device: string, deployments: readonly string[]) => void;
type Entry = { device: FleetDevice; readonly mark: Mark; readonly slots: Map<string, Mark> };
type Memory = {
  readonly entries: Map<string, Entry>;
  readonly names: DeploymentIndex;
  readonly intern: Intern;
  readonly changed: Changed;
  sweep: number;
};

/**
 * `changed` is called once for each change of a device that a controller could care about, with the deployments that the
 * device named before or names now.
 */
export function createFleetMap(changed: Changed): FleetMap {
  const entries = new Map<string, Entry>();
  const names = createDeploymentIndex();
  const intern = createIntern();
  const memory: Memory = { entries, names, intern, changed, sweep: 0 };
  return {
    get: (device) => entries.get(device)?.device,
    list: function* list() {
      for (const entry of entries.values()) yield entry.device;
    },
    namedBy: function* namedBy(deployment) {
      for (const device of names.devicesOf(deployment)) {
        const entry = entries.get(device);
        if (entry !== undefined) yield entry.device;
      }
    },
    size: () => entries.size,
    beginSweep: () => {
      memory.sweep += 1;
    },
    applyDevice: ({ device, slot, ...row }, now) =>
      applyDeviceTwin(memory, device, row, { source: "query", version: row.version, slot }, now),
    applyModule: ({ device, module, slot, version = null }, now) =>
      applyModuleTwin(memory, device, intern(module), { source: "query", version, slot }, now),
    endSweep: (now) => {
      for (const [device, entry] of entries) {
        if (isLeftOver(entry.mark, memory.sweep, now)) forget(memory, device);
        else dropSlots(memory, entry, leftOverSlots(memory, entry, now));
      }
    },
    note: (twin, now) => {
      const seen = observationOfTwin(twin, intern);
      if (twin.module !== null) applyModuleTwin(memory, twin.device, intern(twin.module), seen, now);
      else applyDeviceTwin(memory, twin.device, rowOfTwin(twin, entries.get(twin.device)?.device), seen, now);
    },
    forget: (device) => forget(memory, device),
    forgetSlot: (device, module) => {
      const entry = entries.get(device);
      if (entry !== undefined) dropSlots(memory, entry, [module]);
    },
  };
}

function applyDeviceTwin(
  memory: Memory,
  name: string,
  row: Omit<DeviceRow, "device" | "slot">,
  seen: Observation,
  now: Instant,
): void {
  const { entries, names, intern, changed, sweep } = memory;
  const entry = entries.get(name);
  if (entry === undefined) {
    const device = newDevice(name, row, seen, intern, now);
    entries.set(name, { device, mark: markOf(seen, sweep, now), slots: new Map() });
    changed(name, names.update(null, device));
    return;
  }
  const { device: had, mark } = entry;
  const older = isOlder(mark, had.etag, seen, now);
  const next = deviceAfter(had, mark, row, seen, older, intern, now);
  touch(mark, seen, older, sweep, now);
  put(memory, entry, next);
}

function applyModuleTwin(
  memory: Memory,
  name: string,
  module: string,
  seen: Observation,
  now: Instant,
): void {
  const entry = memory.entries.get(name);
  if (entry === undefined) return; // not one of ours, or its device row is still to come
  const mark = entry.slots.get(module);
  const had = own(entry.device.slots, module);
  const slot = slotAfter(had, mark ?? null, seen, now);
  if (mark === undefined) entry.slots.set(module, markOf(seen, memory.sweep, now));
  else touch(mark, seen, isOlder(mark, had?.etag, seen, now), memory.sweep, now);
  put(memory, entry, { ...entry.device, slots: { ...entry.device.slots, [module]: slot } });
}

function leftOverSlots({ sweep }: Memory, { slots }: Entry, now: Instant): readonly string[] {
  return [...slots].filter(([, mark]) => isLeftOver(mark, sweep, now)).map(([module]) => module);
}

function dropSlots(memory: Memory, entry: Entry, modules: readonly string[]): void {
  if (modules.length === 0) return;
  for (const module of modules) entry.slots.delete(module);
  const kept = Object.entries(entry.device.slots).filter(([module]) => !modules.includes(module));
  put(memory, entry, { ...entry.device, slots: Object.fromEntries(kept) });
}

function put({ names, changed }: Memory, entry: Entry, next: FleetDevice): void {
  const had = entry.device;
  entry.device = next;
  if (!sameForControllers(had, next)) changed(next.device, names.update(had, next));
}

function forget({ entries, names, changed }: Memory, device: string): void {
  const entry = entries.get(device);
  if (entry === undefined) return;
  entries.delete(device);
  changed(device, names.update(entry.device, null));
}
