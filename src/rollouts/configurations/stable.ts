import { qualifiedName } from "../../api/membership.ts";
import { variantFor } from "../../api/model-release.ts";
import type { Problem } from "../../api/reasons.ts";
import { REASONS } from "../../api/reasons.ts";
import type { Configuration } from "../../hub/hub.ts";
import { runs } from "../evidence/standing.ts";
import type { RolloutSeen } from "../seen.ts";
import type { ReleaseRef, RolloutState } from "../state/state.ts";
import { isSame, verificationOf } from "../verification.ts";
import type { Retarget } from "./action.ts";
import { LABEL, pointerIn } from "./content.ts";
import { expiryOf, ownOn } from "./own.ts";
import { type Changes, idleOn, isWaitedFor, NO_CHANGES, retargetOf, slotChanges } from "./slot-changes.ts";
import { type ConfigurationSlot, kindOf, slotsOf } from "./slots.ts";
import { keptCondition, stableCondition } from "./target.ts";

// The configurations of the stable track: what devices fall back to.

export function stableActions(
  state: RolloutState,
  seen: RolloutSeen,
): Changes & { readonly missing: boolean } {
  const { stable } = state;
  const own = ownOn(seen, "stable");
  if (stable === null) {
    return {
      ...NO_CHANGES,
      remove: own.map(({ id }) => ({ kind: "remove", id, lane: "normal" })),
      missing: false,
    };
  }
  const release = seen.releases[stable.release];
  const outdated = own.filter(({ labels }) => labels[LABEL.release] !== stable.release);
  // Without the object, or with another one under its name, what is on the hub is all there is: it stays.
  if (release === undefined || !isSame(stable, release))
    return { ...NO_CHANGES, missing: own.length === outdated.length };
  // A device that runs the candidate when another deployment claims it falls back like the others.
  const slots = slotsOf(seen, release, [stable.release, ...outWith(state)]);
  const changes = slotChanges(seen, "stable", slots, (slot) => stableCondition(slot.target), {
    creatable: (slot) => isGivable(seen, stable, slot),
    verified: verificationOf(release).kind === "verified",
    waiting: (slot) => isWaitedFor(seen, state, slot, stable),
    stampedBy: state,
  });
  const missing = changes.missing > 0;
  const idle = idleOn(seen, "stable", stable, slots);
  const kept = keptOn(seen, state, outdated);
  return {
    ...changes,
    retarget: [...changes.retarget, ...(missing ? [] : kept.retarget)],
    remove: missing ? [] : changes.remove.filter(({ id }) => !idle.has(id) && !kept.ids.has(id)),
    missing,
  };
}

/** The release that is or was going out beside stable: devices on it fall back to stable. */
function outWith(state: RolloutState): readonly string[] {
  if (state.phase === "RolledBack") return [state.because.release];
  return "candidate" in state && state.candidate !== null ? [state.candidate.release] : [];
}

/**
 * Whether the stable release may be given (again) to the devices of a slot. It must be verified, or have been given
 * before: that a release does not pass a later verification takes it from no device that has it (ADR 15).
 */
function isGivable(
  seen: RolloutSeen,
  stable: ReleaseRef,
  { release, variant, kind }: ConfigurationSlot,
): boolean {
  if (verificationOf(release).kind === "verified") return true;
  // A release becomes stable only after it was given: where no configuration of it is left, it was lost.
  if (!seen.own.some(({ labels }) => labels[LABEL.release] === stable.release)) return true;
  return seen.members.some(
    (member) =>
      kindOf(member) === kind &&
      variantFor(release.spec.variants, member.deviceClass)?.name === variant.name &&
      (member.pointer?.digest === variant.digest || runs(member, stable, release)),
  );
}

/** Former stable configurations that contested devices still depend on, each narrowed down to those. */
function keptOn(
  seen: RolloutSeen,
  state: RolloutState,
  outdated: readonly Configuration[],
): { readonly retarget: readonly Retarget[]; readonly ids: ReadonlySet<string> } {
  const deployment = qualifiedName(seen.deployment);
  const module = seen.deployment.spec.module.name;
  const retarget: Retarget[] = [];
  const ids = new Set<string>();
  const served = new Set<string>();
  for (const configuration of outdated.toSorted(
    (a, b) => expiryOf(b) - expiryOf(a) || (a.id < b.id ? -1 : 1),
  )) {
    const pointer = pointerIn(configuration, module);
    if (pointer === null) continue;
    const devices = seen.contested
      .filter(({ tagged, device }) => tagged && !served.has(device))
      .filter((one) => kindOf(one) === configuration.kind)
      .filter((one) => one.pointer?.release === pointer.release && one.pointer.digest === pointer.digest)
      .map(({ device }) => device)
      .sort();
    if (devices.length === 0) continue;
    for (const device of devices) served.add(device);
    ids.add(configuration.id);
    const condition = keptCondition({ deployment, module, kind: configuration.kind }, devices);
    if (configuration.targetCondition !== condition) {
      retarget.push(retargetOf(configuration, condition, state, "normal"));
    }
  }
  return { retarget, ids };
}

/** That devices which run stable, or join, get nothing, because its configuration is gone and cannot be made again. */
export function fallbackProblem(state: RolloutState, seen: RolloutSeen): Problem | null {
  const { stable } = state;
  if (stable === null || seen.members.length === 0) return null;
  const release = seen.releases[stable.release];
  const own = ownOn(seen, "stable").filter(({ labels }) => labels[LABEL.release] === stable.release);
  const lost = (why: string): Problem => ({
    reason: REASONS.StableUnavailable,
    message: `the hub has no configuration that assigns ${stable.release}, and it cannot be created: ${why}. Devices that lose their model will not receive it again; roll out another release`,
  });
  if (release === undefined || !isSame(stable, release)) {
    // A release that has just completed is given by its candidate until its stable configuration stands.
    const isGiven =
      own.length > 0 ||
      ownOn(seen, "candidate").some(({ labels }) => labels[LABEL.release] === stable.release);
    if (isGiven) return null;
    return lost(
      release === undefined
        ? `ModelRelease ${stable.release} does not exist`
        : `ModelRelease ${stable.release} was replaced by one with different digests`,
    );
  }
  const verification = verificationOf(release);
  if (verification.kind !== "failed") return null;
  const missing = slotsOf(seen, release).filter(
    (slot) =>
      !isGivable(seen, stable, slot) &&
      !own.some(({ labels, kind }) => labels[LABEL.contentHash] === slot.hash && kind === slot.kind),
  );
  const names = missing.map(({ variant }) => variant.name);
  return names.length === 0
    ? null
    : lost(`${verification.message}, and no device of variant ${[...new Set(names)].join(", ")} runs it`);
}
