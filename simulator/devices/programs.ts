import type { SimClock } from "../base/clock.ts";
import type { Conditions } from "./conditions.ts";
import type { EdgeRuntimes } from "./edge/edge-runtimes.ts";
import type { Slot } from "./slot.ts";
import type { SlotSessions } from "./slot-sessions.ts";
import type { Updates } from "./updates.ts";

/** A device that lives in this process. */
export type Device = {
  readonly deviceId: string;
  readonly iotEdge: boolean;
  readonly slots: Map<string, Slot>;
  powered: boolean;
};

/** The programs of devices: they start, end, crash, and lose power. */
export type Programs = {
  /** The program comes up, with the model that is on its disk; idempotent. */
  readonly start: (slot: Slot) => void;
  /** The program ends, whatever the reason: what it counted and what was under way is lost. Idempotent. */
  readonly stop: (slot: Slot) => void;
  /** Schedules the next crash, where a behaviour has the model crash. */
  readonly planCrash: (slot: Slot) => void;
  /** The device has no power for so many milliseconds. */
  readonly losePower: (deviceId: string, length: number) => void;
};

/** A crash to come; it is dropped when the program has been restarted by then. */
type Crash = { readonly slot: Slot; readonly at: number };

/** What a system needs to start a program again that has ended, where no edge agent does it. */
const RESTART = 10_000;

export function createPrograms(parts: {
  readonly clock: SimClock;
  readonly devices: ReadonlyMap<string, Device>;
  readonly conditions: Conditions;
  readonly sessions: SlotSessions;
  readonly updates: Updates;
  readonly runtimes: EdgeRuntimes;
  readonly isGone: (slot: Slot) => boolean;
}): Programs {
  const { clock, devices, conditions, sessions, updates, runtimes, isGone } = parts;

  function start(slot: Slot): void {
    if (slot.running) return;
    slot.running = true;
    slot.startedAt = clock.now();
    slot.windowSince = clock.now();
    if (slot.moduleId !== null) runtimes.client(slot.deviceId, slot.moduleId, true);
    if (!slot.displaced) sessions.connect(slot);
    planCrash(slot);
  }

  function stop(slot: Slot): void {
    if (!slot.running) return;
    slot.running = false;
    slot.crashAt = null;
    updates.abandon(slot);
    sessions.disconnect(slot);
    if (slot.moduleId !== null) runtimes.client(slot.deviceId, slot.moduleId, false);
  }

  function planCrash(slot: Slot): void {
    const { crashLoop } = conditions.effectsOn(slot);
    if (crashLoop === null || !slot.running) return;
    const at = Math.max(slot.startedAt, slot.activeSince ?? 0) + crashLoop.every;
    if (slot.crashAt === at) return;
    slot.crashAt = at;
    clock.schedule(at - clock.now(), crash, { slot, at });
  }

  function crash({ slot, at }: Crash): void {
    if (slot.crashAt !== at || isGone(slot) || !slot.running) return;
    slot.crashAt = null;
    const { crashLoop } = conditions.effectsOn(slot);
    if (crashLoop === null) return;
    stop(slot);
    slot.restarts += 1;
    const { deviceId, moduleId } = slot;
    if (moduleId !== null && runtimes.governs(deviceId, moduleId))
      runtimes.exited(deviceId, moduleId, crashLoop.exitCode);
    else clock.schedule(RESTART, restart, slot);
  }

  function restart(slot: Slot): void {
    if (!isGone(slot) && devices.get(slot.deviceId)?.powered === true) start(slot);
  }

  function losePower(deviceId: string, length: number): void {
    const device = devices.get(deviceId);
    if (device === undefined || !device.powered) return;
    device.powered = false;
    for (const slot of device.slots.values()) {
      if (slot.running) slot.restarts += 1;
      stop(slot);
    }
    runtimes.powerOff(deviceId);
    clock.schedule(length, returnPower, device);
  }

  function returnPower(device: Device): void {
    device.powered = true;
    if (devices.get(device.deviceId) !== device) return;
    for (const slot of device.slots.values())
      if (slot.moduleId === null || !runtimes.governs(device.deviceId, slot.moduleId)) start(slot);
    runtimes.powerOn(device.deviceId);
  }

  return { start, stop, planCrash, losePower };
}
