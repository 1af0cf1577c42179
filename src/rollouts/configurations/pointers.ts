import type { ModelPointer } from "../../api/device-contract.ts";
import { qualifiedName } from "../../api/membership.ts";
import { variantFor } from "../../api/model-release.ts";
import type { Lane } from "../../hub/hub.ts";
import type { Facts } from "../facts.ts";
import type { Member, RolloutSeen, StaleDevice } from "../seen.ts";
import { exposureIndex } from "../state/exposure.ts";
import { exposureOf, isUnderWay, type ReleaseRef, type RolloutState } from "../state/state.ts";
import type { Restore } from "./action.ts";
import { LABEL, pointerIn } from "./content.ts";
import { expiryOf, ownOn } from "./own.ts";
import { kindOf } from "./slots.ts";

// Pointers in the twins that target conditions alone do not bring back.

type Restores = { readonly urgent: readonly Restore[]; readonly ordinary: readonly Restore[] };

/** Pointers that target conditions alone do not bring back. */
export function restoreActions(state: RolloutState, facts: Facts): Restores {
  const { seen } = facts;
  const deployment = qualifiedName(seen.deployment);
  const limit = seen.settings.fastPathLimit;
  const named = (name: string): string => qualifiedName({ namespace: seen.deployment.namespace, name });
  // What runs on a device that another deployment selects now stays until that one has given it its own.
  const ordinary = seen.staleDevices
    .filter(
      ({ tagged, pointer, heirs }) => !tagged && heirs.length === 0 && pointer?.deployment === deployment,
    )
    .map((staleDevice) => restore(staleDevice, null, null, "normal"));
  if (state.phase === "RollingBack") {
    const from = named(state.candidate.release);
    const urgent = facts.rollback.devices
      .slice(0, limit)
      .map(({ twin, member }) =>
        restore(twin, from, member === null ? null : stablePointer(state.stable, seen, member), "rollback"),
      );
    return { urgent, ordinary: ordinary.slice(0, limit) };
  }
  const covers = exposureIndex(exposureOf(state));
  const candidate = isUnderWay(state) ? named(state.candidate.release) : null;
  const rolledBack = state.phase === "RolledBack" ? named(state.because.release) : null;
  const stable = state.stable === null ? null : named(state.stable.release);
  // Contested devices keep what they run, but for a release that was rolled back.
  const contested = seen.contested.flatMap((one) =>
    one.pointer?.deployment === deployment && rolledBack !== null && one.pointer.release === rolledBack
      ? [restore(one, rolledBack, stablePointer(state.stable, seen, one), "rollback")]
      : [],
  );
  const mispointed = seen.members.flatMap((member) => {
    const { pointer } = member;
    if (pointer === null || pointer.deployment !== deployment) return [];
    if (pointer.release === stable) return [];
    if (pointer.release === rolledBack) {
      return [restore(member, rolledBack, stablePointer(state.stable, seen, member), "rollback")];
    }
    // With a stable release its configuration takes the device back; without one nothing does.
    if (stable !== null || (pointer.release === candidate && covers(member))) return [];
    return [restore(member, pointer.release, null, "normal")];
  });
  return { urgent: [], ordinary: [...contested, ...mispointed, ...ordinary].slice(0, limit) };
}

export function restore(
  device: Pick<StaleDevice, "device" | "iotEdge">,
  from: string | null,
  to: ModelPointer | null,
  lane: Lane,
): Restore {
  return { kind: "restore", device: device.device, iotEdge: device.iotEdge, from, to, lane };
}

/** Exactly what the stable configuration of the device's variant sets; `null`: nothing is stable for it. */
export function stablePointer(
  stable: Pick<ReleaseRef, "release"> | null,
  seen: RolloutSeen,
  member: Pick<Member, "deviceClass" | "iotEdge">,
): ModelPointer | null {
  if (stable === null) return null;
  const release = seen.releases[stable.release];
  const module = seen.deployment.spec.module.name;
  const variant = release === undefined ? null : variantFor(release.spec.variants, member.deviceClass);
  const fitting = ownOn(seen, "stable").filter(
    ({ labels, kind }) =>
      labels[LABEL.release] === stable.release &&
      kind === kindOf(member) &&
      (variant === null || labels[LABEL.variant] === variant.name),
  );
  // Without the object it is not known which variant a class has, unless there is only one.
  if (variant === null && fitting.length !== 1) return null;
  const best = fitting.toSorted((a, b) => expiryOf(b) - expiryOf(a))[0];
  return best === undefined ? null : pointerIn(best, module);
}
