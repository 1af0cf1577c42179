import type { InferenceDeploymentStatus } from "../api/inference-deployment.ts";
import type { Problem } from "../api/reasons.ts";
import { type EventDraft, lifecycleOf } from "../api/resource.ts";
import { canonicalJson } from "../base/digest.ts";
import { unreachable } from "../base/result.ts";
import { elapsed, type Instant, type Millis, millis, minutes, seconds } from "../base/time.ts";
import type { Action } from "./configurations/action.ts";
import { actionsFor, isSettled, renewalDue } from "./configurations/actions.ts";
import { cleanupActions, isCleanedUp, remainsOf } from "./configurations/cleanup.ts";
import { type Takeover, takeoverOf } from "./configurations/takeover.ts";
import { confirmationDue } from "./evidence/judge.ts";
import { type Facts, factsOf } from "./facts.ts";
import { eventsOf } from "./report/events.ts";
import { statusOfUnknown } from "./report/report.ts";
import type { RolloutSeen } from "./seen.ts";
import { advance } from "./state/advance.ts";
import { type Objections, objectionsTo } from "./state/holds.ts";
import { contradiction, decided, recover } from "./state/recover.ts";
import { fieldsOf, type RolloutState, stateOf } from "./state/state.ts";
import { bakeOf, currentStep, deadlineOf, holdOf } from "./state/strategy.ts";

// Composes the pure parts: from what was seen to a plan.

export type Wake =
  | { readonly kind: "onChange" }
  | { readonly kind: "after"; readonly delay: Millis; readonly why: string };

export type RolloutPlan =
  | { readonly kind: "adopt" }
  /** Being deleted, and not held by us (any more). */
  | { readonly kind: "gone" }
  | {
      readonly kind: "cleanup";
      readonly actions: readonly Action[];
      /** Nothing of ours is left anywhere: the finalizer may go. */
      readonly done: boolean;
      readonly wake: Wake;
    }
  /** The deployment does not exist, and its configurations do. */
  | {
      readonly kind: "ownerless";
      readonly actions: readonly Action[];
      /** Whether it has been gone for long enough; before that nothing is touched. */
      readonly due: boolean;
      readonly wake: Wake;
    }
  /** Without status, and the hub cannot be asked: nothing is known, so nothing is done. */
  | { readonly kind: "unknown"; readonly status: InferenceDeploymentStatus; readonly wake: Wake }
  | {
      readonly kind: "live";
      readonly before: RolloutState;
      readonly state: RolloutState;
      /** Whether `state` has to be remembered before anything is done. */
      readonly changed: boolean;
      readonly facts: Facts;
      readonly objections: Objections;
      readonly actions: readonly Action[];
      readonly problem: Problem | null;
      readonly events: readonly EventDraft[];
      readonly wake: Wake;
    };

export function decideRollout(seen: RolloutSeen): RolloutPlan {
  const { deployment } = seen;
  if (seen.ownerlessSince !== null) return decideOwnerless(seen, seen.ownerlessSince);
  const lifecycle = lifecycleOf(deployment);
  switch (lifecycle) {
    case "adopt":
    case "gone":
      return { kind: lifecycle };
    case "cleanup":
      return decideCleanup(seen);
    case "live":
      return decideLive(seen);
    default:
      return unreachable(lifecycle);
  }
}

function decideCleanup(seen: RolloutSeen): RolloutPlan {
  const readable = seen.hub.reachable && seen.configurations !== null;
  return {
    kind: "cleanup",
    actions: readable ? cleanupActions(seen) : [],
    done: readable && isCleanedUp(remainsOf(seen)),
    wake: after(seconds(10), "deletion"),
  };
}

/** Configurations of a deployment that went without its finalizer: it may return, for example from a backup. */
function decideOwnerless(seen: RolloutSeen, since: Instant): RolloutPlan {
  const left = seen.settings.ownerlessAfter - elapsed(since, seen.now);
  if (left > 0) {
    return {
      kind: "ownerless",
      actions: [],
      due: false,
      wake: after(millis(left), "waiting for the deployment to be recreated"),
    };
  }
  const readable = seen.hub.reachable && seen.configurations !== null;
  return {
    kind: "ownerless",
    actions: readable ? cleanupActions(seen) : [],
    due: true,
    wake: after(seconds(10), "removing ownerless configurations"),
  };
}

function decideLive(seen: RolloutSeen): RolloutPlan {
  const before = stateOf(seen.deployment.status, seen.now) ?? recover(seen);
  if (before === null) {
    return {
      kind: "unknown",
      status: statusOfUnknown(seen),
      wake: after(seconds(10), "the hub has not been read yet"),
    };
  }
  const takeover = takeoverOf(before, seen);
  if (takeover.kind === "preparing") return prepareTakeover(seen, before, takeover);
  const start = takeover.kind === "ready" ? takeover.state : before;
  const judged = factsOf(seen, start);
  // A state that the hub contradicts does not advance: a person decides which of the two counts.
  const state = contradiction(start, seen) === null ? advance(start, judged) : decided(start, judged);
  const remembered = fieldsOf(state);
  const had = pick(seen.deployment.status, Object.keys({ ...fieldsOf(before), ...remembered }));
  const changed = canonicalJson(remembered) !== canonicalJson(had);
  // Another state exposes others, so what its devices say is assessed again.
  const facts: Facts = changed ? { ...factsOf(seen, state), evidence: judged.assessment } : judged;
  const { actions, problem } = actionsFor(state, facts);
  return {
    kind: "live",
    before,
    state,
    changed,
    facts,
    objections: objectionsTo(state, facts),
    actions,
    problem,
    events: eventsOf(before, state),
    wake: changed ? after(millis(0), "waiting for the next step") : wakeOf(state, facts, actions),
  };
}

/** Only configurations are created; nothing is remembered that could not be observed again. */
function prepareTakeover(
  seen: RolloutSeen,
  state: RolloutState,
  { actions, problem }: Extract<Takeover, { readonly kind: "preparing" }>,
): RolloutPlan {
  const facts = factsOf(seen, state);
  return {
    kind: "live",
    before: state,
    state,
    changed: false,
    facts,
    objections: objectionsTo(state, facts),
    actions,
    problem,
    events: [],
    wake:
      actions.length > 0
        ? after(seconds(1), "verifying the changes on the hub")
        : after(minutes(1), "taking over devices"),
  };
}

/** When to look again: the earliest moment at which something becomes due that no change announces. */
export function wakeOf(state: RolloutState, facts: Facts, actions: readonly Action[]): Wake {
  if (actions.length > 0) return after(seconds(1), "verifying the changes on the hub");
  const { seen, now } = facts;
  const interval = seen.settings.analysisInterval;
  switch (state.phase) {
    case "Completed": {
      if (isSettled(state, seen)) return { kind: "onChange" };
      const renewal = renewalDue(state, seen);
      const delay =
        renewal === null ? minutes(10) : Math.max(seconds(1), Math.min(minutes(10), elapsed(now, renewal)));
      return after(millis(delay), "waiting for devices to update");
    }
    case "RolledBack": {
      const { release } = state.because;
      const isBack = seen.members.every(
        ({ pointer }) => pointer?.release !== `${seen.deployment.namespace}.${release}`,
      );
      return isBack ? { kind: "onChange" } : after(minutes(10), "waiting for devices to roll back");
    }
    case "Pending":
      return after(minutes(1), "waiting for the release");
    case "RollingBack":
      return after(millis(Math.min(interval, seconds(5))), "rolling back");
    case "Frozen":
      return after(interval, "waiting for the hub");
    case "Progressing":
    case "Holding":
    case "Baking": {
      const { passingSince, convergedAt, waitingSince } = state.step;
      const moments = [
        interval,
        ...(passingSince === null
          ? []
          : [holdOf(currentStep(state.step, seen)) - elapsed(passingSince, now)]),
        ...(convergedAt !== null ? [] : [deadlineOf(seen).after - elapsed(waitingSince, now)]),
        ...(state.phase === "Baking" ? [bakeOf(seen) - elapsed(state.bakingSince, now)] : []),
        confirmationDue(
          seen.deployment.spec.objectives ?? [],
          facts.assessment?.analysis.results ?? [],
          facts.assessment?.analysis.windowLength ?? minutes(1),
          now,
        ) ?? interval,
      ].filter((moment) => moment > 0);
      return after(millis(Math.min(...moments)), "analysis");
    }
    default:
      return unreachable(state);
  }
}

function after(delay: Millis, why: string): Wake {
  return { kind: "after", delay, why };
}

function pick(
  status: InferenceDeploymentStatus | null,
  keys: readonly string[],
): Readonly<Record<string, unknown>> {
  const wanted = new Set(keys);
  return Object.fromEntries(
    Object.entries(status ?? {}).filter(([key, value]) => wanted.has(key) && value !== undefined),
  );
}
