import type { SimClock } from "../base/clock.ts";
import type { JsonObject } from "../base/json.ts";
import type { DeviceLinks } from "../mqtt/device-link.ts";
import type { Conditions } from "./conditions.ts";
import { type Effects, wearOf } from "./effects.ts";
import { resourcesOf, type Slot, stateReport, windowOf } from "./slot.ts";

/** What slots report to the hub, as the device contract has it. */
export type SlotReports = {
  /** Update and active model, if the device can be reached. */
  readonly reportState: (slot: Slot) => void;
  /** With the window that ends now, and the use of resources. */
  readonly reportAll: (slot: Slot, effects: Effects) => void;
};

export function createSlotReports(clock: SimClock, links: DeviceLinks, conditions: Conditions): SlotReports {
  return {
    reportState(slot) {
      const effects = conditions.effectsOn(slot);
      if (slot.session === null || !conditions.isReachable(slot.deviceId, effects)) return;
      const state = stateReport(slot, effects, conditions.deviceTime(effects));
      links.report(slot.session, { inference: slot.active === null ? { ...state, window: null } : state });
    },

    reportAll(slot, effects) {
      if (slot.session === null) return;
      const endedAt = conditions.deviceTime(effects);
      const seconds = (clock.now() - slot.windowSince) / 1000;
      const wear = wearOf(effects, slot.activeSince, clock.now());
      const measured =
        slot.active === null || seconds <= 0
          ? null
          : windowOf(slot.active, { effects, wear }, { seconds, endedAt }, slot.random);
      // A window with nothing in it is left out.
      const window = measured?.inferences === 0 ? null : measured;
      const inference: JsonObject = {
        ...stateReport(slot, effects, endedAt),
        window,
        resources: resourcesOf(slot.active, wear, slot.random) as JsonObject,
        restarts: slot.restarts,
      };
      // A window that was not delivered continues: nothing that happened is lost.
      if (links.report(slot.session, { inference }).ok) slot.windowSince = clock.now();
    },
  };
}
