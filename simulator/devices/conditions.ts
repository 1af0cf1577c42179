import { valueAt } from "../base/json.ts";
import { shareOf } from "../base/random.ts";
import type { Hub } from "../hub/hub.ts";
import { type Behaviour, effectsFor, inForce } from "./behaviour.ts";
import { type Effects, isOffline } from "./effects.ts";
import type { Slot } from "./slot.ts";

/** What behaviours make of devices at this moment. */
export type Conditions = {
  readonly behaviours: () => readonly Behaviour[];
  readonly setBehaviours: (behaviours: readonly Behaviour[]) => void;
  readonly effectsOf: (deviceId: string, model: Model | null) => Effects;
  /** Of the model that the slot runs. */
  readonly effectsOn: (slot: Slot) => Effects;
  readonly isReachable: (deviceId: string, effects: Effects) => boolean;
  /** The time by the device's clock, ISO 8601. */
  readonly deviceTime: (effects: Effects) => string;
};

type Model = { readonly release: string; readonly digest: string };

export function createConditions(
  { clock, twins }: Pick<Hub, "clock" | "twins">,
  options: { readonly seed: number; readonly isPowered: (deviceId: string) => boolean },
): Conditions {
  let behaviours: readonly Behaviour[] = [];

  function effectsOf(deviceId: string, model: Model | null): Effects {
    const tags = twins.get(deviceId)?.tags;
    const text = (name: string) => {
      const value = valueAt(tags, ["edgefleet", name]);
      return typeof value === "string" ? value : null;
    };
    return effectsFor(behaviours, {
      deviceId,
      deviceClass: text("class"),
      site: text("site"),
      release: model?.release ?? null,
      digest: model?.digest ?? null,
    });
  }

  function isReachable(deviceId: string, effects: Effects): boolean {
    if (!options.isPowered(deviceId) || isOffline(effects, clock.now())) return false;
    const { flapping } = effects;
    if (flapping === null) return true;
    const period = flapping.up + flapping.down;
    if (period <= 0) return true;
    const phase = shareOf(`${options.seed}/flapping/${deviceId}`) * period;
    return (clock.now() + phase) % period < flapping.up;
  }

  return {
    behaviours: () => behaviours,
    setBehaviours: (next) => {
      behaviours = next.map((one) => inForce(one, clock.now()));
    },
    effectsOf,
    effectsOn: (slot) => effectsOf(slot.deviceId, slot.active),
    isReachable,
    deviceTime: (effects) => new Date(clock.now() + (effects.wrongClock ?? 0)).toISOString(),
  };
}
