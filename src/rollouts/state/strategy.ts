import type { Step } from "../../api/inference-deployment.ts";
import { STRATEGY_DEFAULTS } from "../../api/inference-deployment.ts";
import { type Millis, millis, millisOf } from "../../base/time.ts";
import type { RolloutSeen } from "../seen.ts";
import type { StratifyBy } from "./exposure.ts";
import type { AtStep } from "./state.ts";

// The strategy in spec, and where a rollout stands in it. Spec can be rewritten while a rollout is under way, so a step
// is found by its width: its place in the list says nothing once others have been added or removed.

type Deployed = Pick<RolloutSeen, "deployment">;

export function stepsOf({ deployment }: Deployed): readonly Step[] {
  return deployment.spec.strategy?.steps ?? [];
}

/**
 * The step that the state is at. Where spec no longer has its width: the step that was rewritten to be narrower, at the
 * same place; otherwise the width that is exposed now, with the hold of the widest step below it.
 */
export function currentStep(at: Pick<AtStep, "index" | "percent">, seen: Deployed): Step {
  const steps = stepsOf(seen);
  const same = steps[at.index];
  if (same?.percent === at.percent) return same;
  const found = steps.find(({ percent }) => percent === at.percent);
  if (found !== undefined) return found;
  if (same !== undefined && same.percent < at.percent) return same;
  const below = steps.findLast(({ percent }) => percent < at.percent);
  return { ...below, percent: at.percent };
}

/** The step after the one that the state is at, and its index; `null`: it was the last. */
export function stepAfter(
  at: Pick<AtStep, "index" | "percent">,
  seen: Deployed,
): { readonly step: Step; readonly index: number } | null {
  const steps = stepsOf(seen);
  const current = currentStep(at, seen);
  const position = steps.indexOf(current);
  const index = position >= 0 ? position + 1 : steps.findIndex(({ percent }) => percent > current.percent);
  const step = steps[index];
  return step === undefined ? null : { step, index };
}

/** The index of the current step in spec, for display; where spec no longer has it, the index that it had. */
export function indexOfStep(at: Pick<AtStep, "index" | "percent">, seen: Deployed): number {
  const position = stepsOf(seen).indexOf(currentStep(at, seen));
  return position >= 0 ? position : at.index;
}

export function holdOf(step: Step): Millis {
  return step.hold === undefined ? millis(0) : millisOf(step.hold);
}

export function bakeOf({ deployment }: Deployed): Millis {
  const bake = deployment.spec.strategy?.bake;
  return bake === undefined ? millis(0) : millisOf(bake);
}

export function deadlineOf({ deployment }: Deployed): {
  readonly after: Millis;
  readonly onDeadline: "Rollback" | "Hold";
} {
  const { progressDeadline, onDeadline } = deployment.spec.strategy ?? STRATEGY_DEFAULTS;
  return { after: millisOf(progressDeadline), onDeadline };
}

export function stratifyByOf({ deployment }: Deployed): StratifyBy {
  return (deployment.spec.strategy ?? STRATEGY_DEFAULTS).stratifyBy;
}
