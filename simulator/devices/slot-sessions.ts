import type { Hub } from "../hub/hub.ts";
import type { DeviceLinks } from "../mqtt/device-link.ts";
import type { Listener } from "../mqtt/device-sessions.ts";
import type { Conditions } from "./conditions.ts";
import { parsePointer, type Slot } from "./slot.ts";
import type { Updates } from "./updates.ts";

/** The sessions of slots: they connect, read what they are to run, and come back after what cut them off. */
export type SlotSessions = {
  readonly connect: (slot: Slot) => void;
  /** The line went dead: what the hub sends meanwhile is not received. */
  readonly disconnect: (slot: Slot) => void;
  /** Reads the desired properties, if a patch of them was not read yet, and does what they ask. */
  readonly read: (slot: Slot) => void;
};

export function createSlotSessions(
  { clock, faults }: Pick<Hub, "clock" | "faults">,
  parts: {
    readonly links: DeviceLinks;
    readonly conditions: Conditions;
    readonly updates: Updates;
    /** Milliseconds within which a slot reads a change. */
    readonly delay: number;
    readonly isGone: (slot: Slot) => boolean;
  },
): SlotSessions {
  const { links, conditions, updates, delay, isGone } = parts;

  const listener: Listener<Slot> = {
    desired: scheduleRead,
    closed: (slot, because) => {
      slot.session = null;
      slot.displaced = because === "displaced";
      slot.unread = true;
      // What was under way dies with the connection of a device that is switched off; it starts again afterwards.
      if (because === "disabled" || because === "removed") updates.abandon(slot);
      // All come back at about the same time, as after a real outage.
      if (because === "cut") clock.schedule(faults.returnsIn(slot.random()), reconnect, slot);
    },
    vacant: (slot) => {
      clock.schedule(delay, reconnect, slot);
    },
  };

  function scheduleRead(slot: Slot): void {
    slot.unread = true;
    clock.schedule(slot.random() * delay, read, slot);
  }

  function connect(slot: Slot): void {
    if (!slot.running || !conditions.isReachable(slot.deviceId, conditions.effectsOn(slot))) return;
    const session = links.connect(slot, listener, slot);
    if (!session.ok) return;
    slot.session = session.value;
    scheduleRead(slot);
  }

  /** After the client that had taken the identity; one that is back in the meantime keeps it. */
  function reconnect(slot: Slot): void {
    if (isGone(slot) || slot.session !== null || links.isTaken(slot)) return;
    slot.displaced = false;
    connect(slot);
  }

  function read(slot: Slot): void {
    if (!slot.unread || slot.session === null || isGone(slot)) return;
    if (!conditions.isReachable(slot.deviceId, conditions.effectsOn(slot))) return;
    const twin = links.getTwin(slot.session);
    if (!twin.ok) return;
    slot.unread = false;
    updates.follow(slot, parsePointer(twin.value.desired["model"]));
  }

  return {
    connect,
    read,
    disconnect: (slot) => {
      if (slot.session !== null) links.close(slot.session);
      slot.session = null;
      slot.unread = true;
    },
  };
}
