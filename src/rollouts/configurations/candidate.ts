import { unreachable } from "../../base/result.ts";
import type { RolloutSeen } from "../seen.ts";
import { isUnderWay, type RolloutState } from "../state/state.ts";
import { isSame, verificationOf } from "../verification.ts";
import type { Remove, Retarget } from "./action.ts";
import { isWithin, narrowedTo } from "./condition.ts";
import { LABEL } from "./content.ts";
import { ownOn } from "./own.ts";
import { type Changes, idleOn, isWaitedFor, NO_CHANGES, retargetOf, slotChanges } from "./slot-changes.ts";
import { slotsOf } from "./slots.ts";
import { CONDITION_LIMIT, candidateCondition, MATCH_NONE } from "./target.ts";

// The configurations of the candidate track: they target the devices that are exposed, and no others.

export function candidateActions(state: RolloutState, seen: RolloutSeen): Changes {
  const own = ownOn(seen, "candidate");
  switch (state.phase) {
    case "Pending":
    case "RolledBack":
      return NO_CHANGES;
    case "Completed":
      return {
        ...NO_CHANGES,
        remove: own
          .filter(({ labels }) => labels[LABEL.release] === state.stable.release)
          .map(({ id }) => ({ kind: "remove", id, lane: "normal" })),
      };
    case "RollingBack":
      return {
        ...NO_CHANGES,
        retarget: own
          .filter(({ targetCondition }) => targetCondition !== MATCH_NONE)
          .map((had) => retargetOf(had, MATCH_NONE, state, "rollback")),
      };
    case "Progressing":
    case "Holding":
    case "Frozen":
    case "Baking": {
      const { candidate, exposure } = state;
      const release = seen.releases[candidate.release];
      // What devices run stays as it is while its object is away; it is only narrowed.
      if (release === undefined || !isSame(candidate, release)) return NO_CHANGES;
      const slots = slotsOf(seen, release);
      const verified = verificationOf(release).kind === "verified";
      const changes = slotChanges(
        seen,
        "candidate",
        slots,
        (slot) => candidateCondition(slot.target, exposure),
        {
          creatable: () => verified,
          verified,
          waiting: (slot) => isWaitedFor(seen, state, slot, candidate),
          stampedBy: state,
        },
      );
      const withdrawn = new Set(withdrawals(state, seen).map(({ id }) => id));
      const idle = idleOn(seen, "candidate", candidate, slots);
      return { ...changes, remove: changes.remove.filter(({ id }) => !withdrawn.has(id) && !idle.has(id)) };
    }
    default:
      return unreachable(state);
  }
}

/**
 * Configurations of candidates that are not (or no longer) going out: the devices that they target are exposed to them. They stay
 * for as long as there is nothing to fall back to.
 */
export function withdrawals(state: RolloutState, seen: RolloutSeen): readonly Remove[] {
  if (state.phase === "RollingBack") return [];
  const { stable } = state;
  const hasFallback =
    stable === null || ownOn(seen, "stable").some(({ labels }) => labels[LABEL.release] === stable.release);
  if (!hasFallback) return [];
  const completed = state.phase === "Completed" ? stable : null;
  const out = isUnderWay(state) ? state.candidate : completed;
  return ownOn(seen, "candidate")
    .filter(({ labels }) => labels[LABEL.release] !== out?.release)
    .map(({ id, targetCondition }) => ({
      kind: "remove",
      id,
      lane: targetCondition === MATCH_NONE ? "normal" : "rollback",
    }));
}

/**
 * What the hub targets beyond the exposure is withdrawn, whatever else stands in the way: it takes neither the object of
 * the release nor a hub whose fleet can be read. `wanted` are the conditions that are meant to be; where one of them
 * selects fewer devices for certain, it is the one.
 */
export function narrowingActions(
  state: RolloutState,
  seen: RolloutSeen,
  wanted: readonly Retarget[],
): readonly Retarget[] {
  if (!isUnderWay(state)) return [];
  const { candidate, exposure } = state;
  return ownOn(seen, "candidate")
    .filter(({ labels }) => labels[LABEL.release] === candidate.release)
    .flatMap((had) => {
      const meant = wanted.find(({ id }) => id === had.id);
      if (meant !== undefined && isWithin(meant.condition, had.targetCondition))
        return [{ ...meant, lane: "rollback" as const }];
      const condition = narrowedTo(had.targetCondition, exposure, CONDITION_LIMIT);
      return condition === null || condition === had.targetCondition
        ? []
        : [retargetOf(had, condition, state, "rollback")];
    });
}
