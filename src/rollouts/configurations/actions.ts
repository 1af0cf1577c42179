import { type Instant, instant } from "../../base/time.ts";
import { countRunning, type Facts } from "../facts.ts";
import { fullProblem } from "../preconditions.ts";
import type { RolloutSeen } from "../seen.ts";
import { contradiction } from "../state/recover.ts";
import type { RolloutState } from "../state/state.ts";
import type { Action, Actions } from "./action.ts";
import { candidateActions, narrowingActions, withdrawals } from "./candidate.ts";
import { BASE_ID } from "./content.ts";
import { expiryOf, ownBases } from "./own.ts";
import { restoreActions } from "./pointers.ts";
import { fallbackProblem, stableActions } from "./stable.ts";

// State minus world. Nothing here looks at how the state came about, so finishing, repairing and retrying are one path,
// and a world that is as the state says costs nothing.

const NONE: Actions = { actions: [], problem: null };

/**
 * What has to be done so that the hub says what the state says, in an order in which any prefix is safe: what exposes
 * fewer devices comes first, in the lane that has a reserve, and nothing waits for what exposes more.
 */
export function actionsFor(state: RolloutState, facts: Facts): Actions {
  const { seen } = facts;
  if (seen.configurations === null) return NONE;
  const contradicted = contradiction(state, seen);
  if (contradicted !== null) return { actions: [], problem: contradicted };
  const withdrawn = withdrawals(state, seen);
  const candidate = candidateActions(state, seen);
  const narrowing = narrowingActions(state, seen, candidate.retarget);
  const narrowed = new Set(narrowing.map(({ id, condition }) => `${id} ${condition}`));
  const rest = candidate.retarget.filter(({ id, condition }) => !narrowed.has(`${id} ${condition}`));
  const restores = restoreActions(state, facts);
  const protective = [...narrowing, ...withdrawn];
  // Whether contested devices would be moved is not known before their twins have been read.
  const isBlind = !seen.hub.reachable && seen.contested.some(({ isKnown }) => !isKnown);
  if (state.phase === "Frozen" || isBlind)
    return { actions: [...protective, ...restores.urgent], problem: null };
  const stable = stableActions(state, seen);
  const base = baseActions(seen);
  // A rollback is never in the queue behind anything else.
  const urgent = [
    ...protective,
    ...rest.filter(({ lane }) => lane === "rollback"),
    // A stable configuration that is about to be created has what these devices are to get.
    ...restores.urgent.filter(({ to }) => to !== null || state.stable === null || stable.create.length === 0),
  ];
  const widening = rest.filter(({ lane }) => lane === "normal");
  // No device is exposed before there is a way back; where the object of stable is gone, the hub has what there is.
  const noFallback =
    stable.missing && state.stable !== null && seen.releases[state.stable.release] !== undefined;
  const candidates = noFallback ? [] : candidate.create;
  const creates = [...base, ...stable.create, ...candidates].filter(({ kind }) => kind !== "remove");
  const full = fullProblem(seen, creates.length);
  if (full !== null) {
    // Nothing is removed either: what is there may be what devices depend on.
    return { actions: [...urgent, ...widening], problem: full };
  }
  return {
    actions: [
      ...urgent,
      ...base,
      // The fallback stands before any device may need it.
      ...stable.create,
      ...stable.retarget,
      ...candidates,
      ...widening,
      ...stable.remove,
      ...(stable.missing ? [] : candidate.remove),
      ...restores.ordinary,
    ],
    problem: fallbackProblem(state, seen),
  };
}

export function baseActions(seen: RolloutSeen): readonly Action[] {
  if (seen.settings.baseDeployment === "external") return [];
  if (!seen.members.some(({ iotEdge }) => iotEdge)) return [];
  if (!(seen.configurations ?? []).some(({ id }) => id === BASE_ID)) return [{ kind: "createBase" }];
  return ownBases(seen)
    .filter(({ id }) => id !== BASE_ID)
    .map(({ id }) => ({ kind: "remove", id, lane: "normal" }));
}

/** Whether every device says it runs what it is meant to run: then there is nothing to come back for. */
export function isSettled(state: RolloutState, seen: RolloutSeen): boolean {
  return (
    state.phase === "Completed" &&
    countRunning(seen, state.stable) === seen.members.length &&
    seen.staleDevices.length === 0
  );
}

/**
 * When the next URL may have to be renewed for devices that wait; `null`: none. One that was due before and was not
 * renewed is one that no device waits for: it must cause no further wake-ups.
 */
export function renewalDue(state: RolloutState, seen: RolloutSeen): Instant | null {
  const times = seen.own
    .map((configuration) => expiryOf(configuration) - seen.settings.sasLifetime / 4)
    .filter((time) => time >= seen.now);
  if (times.length === 0 || isSettled(state, seen)) return null;
  return instant(Math.min(...times));
}
