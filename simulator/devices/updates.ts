import type { ModelPointer } from "../../src/api/device-contract.ts";
import { createInstallation, type UpdateWorld } from "./installation.ts";
import { activeOf, type Slot, taskOf } from "./slot.ts";

export type Updates = {
  /** Does what a new pointer asks; `null`: run no model. */
  readonly follow: (slot: Slot, next: ModelPointer | null) => void;
  /** What is under way dies with the program; a failure stays one. */
  readonly abandon: (slot: Slot) => void;
};

/** What a slot does about a pointer: nothing, another name for what runs, no model, or a new one. */
export function createUpdates(world: UpdateWorld): Updates {
  const installation = createInstallation(world);

  function follow(slot: Slot, next: ModelPointer | null): void {
    if (next !== null) slot.reporting = true;
    const task = taskOf(slot, next, slot.pointer);
    slot.pointer = next;
    switch (task) {
      case "nothing":
        if (slot.update !== null && next !== null) slot.update = { ...slot.update, pointer: next };
        return;
      case "remove":
        slot.attempt += 1;
        slot.active = null;
        slot.activeSince = null;
        slot.update = null;
        world.log(slot, 6, "the model was removed");
        world.report(slot);
        return;
      case "adopt":
        adopt(slot, next);
        return;
      case "start":
        if (next !== null) installation.begin(slot, next);
        return;
    }
  }

  function adopt(slot: Slot, pointer: ModelPointer | null): void {
    const { active, update } = slot;
    if (pointer === null || active === null) return;
    const renamed = active.release !== pointer.release || active.variant !== pointer.variant;
    const settled = update?.state === "Running" && update.pointer.digest === pointer.digest;
    // It is not an update: the state of one that failed stays until there is another.
    const failed = update?.state === "Failed";
    if (!renamed && (failed || (settled && update.pointer.release === pointer.release))) return;
    slot.attempt += 1;
    slot.active = { ...activeOf(pointer, active.since) };
    const at = world.deviceTime(world.effectsOf(slot, null));
    if (!failed) slot.update = { pointer, state: "Running", error: null, at };
    world.report(slot);
  }

  function abandon(slot: Slot): void {
    const { update } = slot;
    if (update === null || update.state === "Running" || update.state === "Failed") return;
    slot.attempt += 1;
    slot.update = null;
  }

  return { follow, abandon };
}
