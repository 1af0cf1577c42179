import { createRandom, hash32, shareOf } from "../base/random.ts";
import type { Hub } from "../hub/hub.ts";
import type { Identity } from "../hub/registry/identity.ts";
import { twinKey } from "../hub/twins/twin.ts";
import type { DeviceLinks } from "../mqtt/device-link.ts";
import type { Behaviour } from "./behaviour.ts";
import { type Conditions, createConditions } from "./conditions.ts";
import type { Downloads } from "./downloads.ts";
import { createEdgeRuntimes, type EdgeRuntimes } from "./edge/edge-runtimes.ts";
import { type DeviceSummary, deviceSummary, type FleetSummary, fleetSummary } from "./fleet-summary.ts";
import { createPrograms, type Device, type Programs } from "./programs.ts";
import { newSlot, recallOf, type Slot } from "./slot.ts";
import { createSlotReports, type SlotReports } from "./slot-reports.ts";
import { createSlotSessions, type SlotSessions } from "./slot-sessions.ts";
import { createUpdates } from "./updates.ts";

export type FleetOptions = {
  readonly seed: number;
  /** Milliseconds between two reports of a device. */
  readonly reportInterval: number;
  /** Milliseconds that each state of an update takes. */
  readonly stateDelay: number;
  /** Modules that report from the start; others only once they were given a model. */
  readonly agentModules: readonly string[];
};

export type Fleet = {
  /** From now on every identity, present or future, is a live device. */
  readonly start: () => void;
  readonly behaviours: () => readonly Behaviour[];
  readonly setBehaviours: (behaviours: readonly Behaviour[]) => void;
  readonly summary: () => FleetSummary;
  readonly list: () => readonly DeviceSummary[];
};

type FleetParts = {
  readonly hub: Hub;
  readonly links: DeviceLinks;
  readonly downloads: Downloads;
  /** Ends what devices send elsewhere. */
  readonly stopped: AbortSignal;
};

/** Devices that live in this process and keep the device contract. One queue of the clock moves all of them. */
export function createFleet(parts: FleetParts, options: FleetOptions): Fleet {
  const { hub } = parts;
  const devices = new Map<string, Device>();
  const machinery = createMachinery(parts, options, devices);
  const { conditions, runtimes } = machinery;
  const addSlot = createSlots(parts, options, machinery);

  function identityAdded(identity: Identity): void {
    const { deviceId, moduleId } = identity;
    if (moduleId !== null) {
      moduleAdded(deviceId, moduleId);
      return;
    }
    const device = devices.get(deviceId) ?? {
      deviceId,
      iotEdge: identity.iotEdge,
      slots: new Map(),
      powered: true,
    };
    devices.set(deviceId, device);
    if (!identity.enabled) return;
    if (!device.iotEdge) addSlot(device, null);
    else for (const module of hub.registry.modulesOf(deviceId)) identityAdded(module);
  }

  function moduleAdded(deviceId: string, moduleId: string): void {
    const device = devices.get(deviceId);
    if (device === undefined || !device.iotEdge) return;
    if (moduleId.startsWith("$")) runtimes.moduleAdded(deviceId, moduleId);
    else addSlot(device, moduleId);
  }

  function identityRemoved({ deviceId, moduleId }: Identity): void {
    if (moduleId === null) devices.delete(deviceId);
    else if (moduleId.startsWith("$")) runtimes.moduleRemoved(deviceId, moduleId);
    else {
      devices.get(deviceId)?.slots.delete(moduleId);
      runtimes.client(deviceId, moduleId, null);
    }
  }

  function list(): readonly DeviceSummary[] {
    return [...devices.values()].flatMap((device) =>
      [...device.slots.values()].map((slot) =>
        deviceSummary(slot, conditions.isReachable(slot.deviceId, conditions.effectsOn(slot))),
      ),
    );
  }

  return {
    start: () => {
      hub.registry.onWrite(({ before, after }) => {
        if (after !== null) identityAdded(after);
        else if (before !== null) identityRemoved(before);
      });
      for (const identity of hub.registry.devices()) {
        identityAdded(identity);
        for (const module of hub.registry.modulesOf(identity.deviceId)) identityAdded(module);
      }
    },
    behaviours: conditions.behaviours,
    setBehaviours: (next) => {
      conditions.setBehaviours(next);
      runtimes.look();
    },
    summary: () => fleetSummary(devices.size, list()),
    list,
  };
}

/** What moves devices: they know each other, and the fleet hands each what it needs of the others. */
type Machinery = {
  readonly conditions: Conditions;
  readonly runtimes: EdgeRuntimes;
  readonly sessions: SlotSessions;
  readonly reports: SlotReports;
  readonly programs: Programs;
  readonly isGone: (slot: Slot) => boolean;
};

function createMachinery(
  { hub, links, downloads, stopped }: FleetParts,
  { seed, stateDelay, reportInterval }: FleetOptions,
  devices: ReadonlyMap<string, Device>,
): Machinery {
  const { clock } = hub;
  const isGone = (slot: Slot) => devices.get(slot.deviceId)?.slots.get(slot.moduleId ?? "") !== slot;
  const isPowered = (deviceId: string) => devices.get(deviceId)?.powered !== false;
  const conditions = createConditions(hub, { seed, isPowered });
  const reports = createSlotReports(clock, links, conditions);
  const withSlot = (deviceId: string, moduleId: string, act: (slot: Slot) => void): void => {
    const slot = devices.get(deviceId)?.slots.get(moduleId);
    if (slot !== undefined) act(slot);
  };
  const runtimes = createEdgeRuntimes(hub, links, {
    delay: stateDelay,
    lookInterval: reportInterval,
    isReachable: (deviceId) => conditions.isReachable(deviceId, conditions.effectsOf(deviceId, null)),
    effectsOf: (deviceId) => conditions.effectsOf(deviceId, null),
    phaseOf: (deviceId) => shareOf(`${seed}/edge/${deviceId}`),
    start: (deviceId, moduleId) => withSlot(deviceId, moduleId, programs.start),
    stop: (deviceId, moduleId) => withSlot(deviceId, moduleId, programs.stop),
    stopped,
  });
  const updates = createUpdates({
    clock,
    downloads,
    stateDelay,
    effectsOf: (slot, pointer) => conditions.effectsOf(slot.deviceId, pointer ?? slot.active),
    deviceTime: conditions.deviceTime,
    isGone,
    report: reports.reportState,
    log: ({ deviceId, moduleId }, level, text) => {
      if (moduleId !== null) runtimes.log(deviceId, moduleId, level, text);
    },
    losePower: (slot, length) => programs.losePower(slot.deviceId, length),
  });
  const sessions = createSlotSessions(hub, { links, conditions, updates, delay: stateDelay, isGone });
  const programs = createPrograms({ clock, devices, conditions, sessions, updates, runtimes, isGone });
  return { conditions, runtimes, sessions, reports, programs, isGone };
}

/** Makes the slot of a module, or of a device without modules (`null`), and keeps it going; idempotent. */
function createSlots(
  { hub, links }: FleetParts,
  options: FleetOptions,
  { conditions, runtimes, sessions, reports, programs, isGone }: Machinery,
): (device: Device, moduleId: string | null) => void {
  const { clock } = hub;

  function addSlot(device: Device, moduleId: string | null): void {
    const name = moduleId ?? "";
    const known = device.slots.get(name);
    if (known !== undefined) {
      if (known.session === null && !known.displaced) sessions.connect(known);
      return;
    }
    const random = createRandom(hash32(`${options.seed}/${device.deviceId}/${name}`));
    const slot = newSlot(device.deviceId, moduleId, random);
    slot.reporting = moduleId === null || options.agentModules.includes(moduleId);
    // Where a manifest names the module it waits for its container.
    slot.running = moduleId === null || !runtimes.governs(device.deviceId, moduleId);
    slot.startedAt = clock.now();
    slot.windowSince = clock.now();
    const twin = hub.twins.get(twinKey(device.deviceId, moduleId));
    if (twin !== undefined) Object.assign(slot, recallOf(twin));
    slot.activeSince = slot.active === null ? null : Date.parse(slot.active.since);
    device.slots.set(name, slot);
    if (moduleId !== null && slot.running) runtimes.client(device.deviceId, moduleId, true);
    sessions.connect(slot);
    clock.schedule(slot.random() * firstReport(), tick, slot);
  }

  /** A device reports soon after it started; then each keeps its own interval. */
  function firstReport(): number {
    return Math.min(options.reportInterval, 2000);
  }

  /** What a slot does at its regular interval. */
  function tick(slot: Slot): void {
    if (isGone(slot)) return;
    const jitter = 0.95 + slot.random() * 0.1;
    clock.schedule(options.reportInterval * jitter, tick, slot);
    const effects = conditions.effectsOn(slot);
    if (!slot.running) return;
    programs.planCrash(slot);
    if (!conditions.isReachable(slot.deviceId, effects)) {
      sessions.disconnect(slot);
      return;
    }
    if (slot.session === null && !slot.displaced) sessions.connect(slot);
    if (slot.session === null) return;
    if (links.missed(slot.session)) slot.unread = true;
    if (slot.unread) sessions.read(slot);
    if (slot.reporting) reports.reportAll(slot, effects);
  }

  return addSlot;
}
