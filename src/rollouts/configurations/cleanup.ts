import type { InferenceDeploymentStatus } from "../../api/inference-deployment.ts";
import { DELETION_POLICY_DEFAULT } from "../../api/inference-deployment.ts";
import { qualifiedName } from "../../api/membership.ts";
import { elapsed, type Millis, minutes } from "../../base/time.ts";
import type { Configuration } from "../../hub/hub.ts";
import type { RolloutSeen, StaleDevice } from "../seen.ts";
import type { Action } from "./action.ts";
import { LABEL } from "./content.ts";
import { ownOn } from "./own.ts";
import { restore, stablePointer } from "./pointers.ts";
import { MATCH_NONE } from "./target.ts";

// What becomes of devices and configurations when a deployment goes. Devices that another deployment selects are handed
// over first: nothing is withdrawn before that one's configurations serve them. Then the policy decides about the rest.

export type DeletionPolicy = "Retain" | "Remove";

export function deletionPolicyOf({ deployment }: Pick<RolloutSeen, "deployment">): DeletionPolicy {
  return deployment.spec.deletionPolicy ?? DELETION_POLICY_DEFAULT;
}

/** A first installation that never completed has nothing to retain: taking it away is its rollback. */
function policyNow(seen: RolloutSeen): DeletionPolicy {
  return stableRelease(seen) === null ? "Remove" : deletionPolicyOf(seen);
}

/** The hub evaluates conditions every five minutes at the latest; a sweep of the fleet view has seen it a minute later. */
export const EVALUATED_AFTER: Millis = minutes(6);

export type Remains = {
  /** Devices by the deployments that they are handed over to, as `a` or `a, b`. */
  readonly handovers: ReadonlyMap<string, number>;
  readonly configurations: number;
  /** Pointers that have to be taken away, or brought back because the hub took them. */
  readonly pointers: number;
  readonly tags: number;
};

/** Undoes what the policy says is to be undone, in an order in which any prefix is safe. */
export function cleanupActions(seen: RolloutSeen): readonly Action[] {
  const candidates = removalsOf(ownOn(seen, "candidate"));
  const stables = ownOn(seen, "stable");
  // Without stable the candidate is all that the devices have.
  if (handovers(seen).length > 0) return stables.length === 0 ? [] : candidates;
  const bases = removalsOf(lastBases(seen));
  const limit = seen.settings.fastPathLimit;
  if (policyNow(seen) === "Remove") {
    const pointed = pointedHere(seen)
      .slice(0, limit)
      .map((staleDevice) => restore(staleDevice, null, null, "normal"));
    return [...candidates, ...removalsOf(stables), ...pointed, ...bases];
  }
  // A candidate has not proved itself, and will not be watched any more: its devices return to stable.
  const unproven = unprovenPointers(seen);
  if (unproven.length > 0) return [...candidates, ...unproven.slice(0, limit)];
  if (seen.staleDevices.every(({ heirs }) => heirs.length > 0)) {
    return [...candidates, ...removalsOf(stables), ...bases];
  }
  // Without a base the hub leaves edge devices as they are, so the last base goes before the layers do.
  const emptied = stables
    .filter(({ targetCondition }) => targetCondition !== MATCH_NONE)
    .map(
      ({ id, labels }): Action => ({ kind: "retarget", id, condition: MATCH_NONE, labels, lane: "normal" }),
    );
  if (emptied.length > 0) return [...bases, ...candidates, ...emptied];
  const lost = lostPointers(seen);
  if (lost.length > 0) return [...candidates, ...lost.slice(0, limit)];
  const isEvaluated =
    stables.length === 0 || (seen.emptiedAt !== null && elapsed(seen.emptiedAt, seen.now) >= EVALUATED_AFTER);
  return [...bases, ...candidates, ...(isEvaluated ? removalsOf(stables) : [])];
}

/** What a deletion still waits for; all zero: the finalizer may go. */
export function remainsOf(seen: RolloutSeen): Remains {
  const byHeirs = new Map<string, number>();
  for (const { heirs } of handovers(seen)) {
    const names = heirs.join(", ");
    byHeirs.set(names, (byHeirs.get(names) ?? 0) + 1);
  }
  return {
    handovers: byHeirs,
    configurations: seen.own.length + lastBases(seen).length,
    pointers: policyNow(seen) === "Remove" ? pointedHere(seen).length : lostPointers(seen).length,
    tags: seen.staleDevices.filter(({ tagged, heirs }) => tagged && heirs.length === 0).length,
  };
}

export function isCleanedUp(remains: Remains): boolean {
  const { handovers: waiting, configurations, pointers, tags } = remains;
  return waiting.size === 0 && configurations + pointers + tags === 0;
}

/** Devices that another deployment selects, and that still have our tag or our pointer. */
function handovers(seen: RolloutSeen): readonly StaleDevice[] {
  const deployment = qualifiedName(seen.deployment);
  return seen.staleDevices.filter(
    ({ heirs, tagged, pointer }) => heirs.length > 0 && (tagged || pointer?.deployment === deployment),
  );
}

/** Devices with our pointer that no other deployment wants. */
function pointedHere(seen: RolloutSeen): readonly StaleDevice[] {
  const deployment = qualifiedName(seen.deployment);
  return seen.staleDevices.filter(
    ({ heirs, pointer }) => heirs.length === 0 && pointer?.deployment === deployment,
  );
}

function unprovenPointers(seen: RolloutSeen): readonly Action[] {
  const stable = stableRelease(seen);
  if (stable === null) return [];
  const named = qualifiedName({ namespace: seen.deployment.namespace, name: stable });
  return pointedHere(seen).flatMap((staleDevice) => {
    const { pointer } = staleDevice;
    const to = stableOf(seen, staleDevice);
    return pointer === null || pointer.release === named || to === null
      ? []
      : [restore(staleDevice, pointer.release, to, "normal")];
  });
}

/** Devices whose pointer the hub took away together with the configuration that had set it. */
function lostPointers(seen: RolloutSeen): readonly Action[] {
  return seen.staleDevices.flatMap((staleDevice): readonly Action[] => {
    const { device, iotEdge, pointer, heirs, leaving } = staleDevice;
    const to = pointer === null && heirs.length === 0 && !leaving ? stableOf(seen, staleDevice) : null;
    return to === null ? [] : [{ kind: "retain", device, iotEdge, to, lane: "normal" }];
  });
}

function removalsOf(configurations: readonly Configuration[]): readonly Action[] {
  return configurations.map(({ id }) => ({ kind: "remove", id, lane: "normal" }));
}

function stableOf(seen: RolloutSeen, { deviceClass, iotEdge }: StaleDevice) {
  const release = stableRelease(seen);
  return release === null
    ? null
    : stablePointer({ release }, seen, { deviceClass: deviceClass ?? "", iotEdge });
}

/** By the status, or, where that is lost, by the configurations. */
function stableRelease(seen: RolloutSeen): string | null {
  const status: InferenceDeploymentStatus | null = seen.deployment.status;
  const labelled = ownOn(seen, "stable").toSorted((a, b) => b.priority - a.priority)[0];
  return status?.stable?.release ?? labelled?.labels[LABEL.release] ?? null;
}

/** The base deployments that go with the last deployment: another operator or cluster may still build on them. */
function lastBases(seen: RolloutSeen): readonly Configuration[] {
  if (seen.others > 0 || seen.settings.baseDeployment !== "managed") return [];
  const configurations = seen.configurations ?? [];
  const own = new Set(seen.own);
  const isShared = configurations.some((one) => one.labels[LABEL.name] !== undefined && !own.has(one));
  return isShared ? [] : configurations.filter(({ labels }) => labels[LABEL.base] !== undefined);
}
