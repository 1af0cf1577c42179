import type { RollbackReason } from "../../api/inference-deployment.ts";
import { REASONS, type Reason } from "../../api/reasons.ts";
import { durationText, elapsed, minutes } from "../../base/time.ts";
import type { Facts, Trial } from "../facts.ts";
import { devices } from "../text.ts";
import type { Because, UnderWay } from "./state.ts";
import { currentStep, deadlineOf, holdOf } from "./strategy.ts";

// What speaks against a candidate that is out: a breach takes it back, anything else only holds its width.

export type Breach = { readonly reason: RollbackReason; readonly message: string };

/** What would take the candidate back now; `null`: nothing, as far as anything can be seen. */
export function breachNow(state: UnderWay, facts: Facts, trial: Trial): Breach | null {
  if (trial.verification.kind === "failed")
    return { reason: "VerificationFailed", message: trial.verification.message };
  if (!facts.exposedReadable) return null;
  if (trial.analysis.overall === "Fail")
    return { reason: "ObjectiveBreached", message: trial.analysis.message };
  if (trial.budget.spent) return { reason: "FailureBudgetSpent", message: trial.budget.message };
  // Time stands still while the hub cannot be read.
  const { after } = deadlineOf(facts.seen);
  const { waitingFrom, unplacedAt: unplaced } = state.step;
  // What the hub brought late has the whole time from there.
  const from = unplaced === null || unplaced < waitingFrom ? waitingFrom : unplaced;
  const hadItsTime = elapsed(from, facts.now) >= after;
  const mayBeLate = facts.hubReadable && state.phase !== "Frozen" && hadItsTime;
  // A release that the hub has not brought to the devices has not failed on them: that is for a person to look at.
  if (mayBeLate && trial.overdue && trial.budget.missed && deadlineOf(facts.seen).onDeadline === "Rollback") {
    return { reason: "DeadlineExceeded", message: overdueText(state, facts, trial) };
  }
  return null;
}

export type Held = { readonly reason: Reason; readonly message: string };

/** Why the width may not grow now, although nothing is broken; `null`: nothing holds it. */
export function heldNow(state: UnderWay, facts: Facts, trial: Trial): Held | null {
  const breach = breachOf(state);
  if (breach !== null) return { reason: breach.reason, message: breach.message };
  const { verification } = trial;
  if (verification.kind === "missing") {
    return { reason: REASONS.ReleaseMissing, message: `ModelRelease ${state.candidate.release} is gone` };
  }
  if (verification.kind === "unverified") {
    return {
      reason: REASONS.ReleaseUnverified,
      message: `${state.candidate.release} is being verified again: ${verification.message}`,
    };
  }
  if (trial.problem !== null) return trial.problem;
  if (facts.seen.deployment.spec.paused === true) {
    return { reason: REASONS.Paused, message: "spec.paused is true; protection continues" };
  }
  if (trial.overdue) {
    return { reason: REASONS.DeadlineExceeded, message: overdueText(state, facts, trial) };
  }
  const { overall, message } = trial.analysis;
  if (overall === "Warn") return { reason: REASONS.ObjectiveWarning, message };
  if (!trial.converged || !isPatienceOver(state, facts)) return null;
  if (!trial.coverage.enough) {
    const why = overall === "Inconclusive" ? `${trial.coverage.message}; ${message}` : trial.coverage.message;
    return { reason: REASONS.Inconclusive, message: why };
  }
  if (overall === "Inconclusive") return { reason: REASONS.Inconclusive, message };
  return null;
}

/** The first windows take a while; only then is missing evidence worth a person's attention. */
function isPatienceOver(state: UnderWay, facts: Facts): boolean {
  const since = state.step.pausedAt ?? state.step.convergedAt ?? facts.now;
  return elapsed(since, facts.now) >= Math.max(holdOf(currentStep(state.step, facts.seen)), minutes(3));
}

function overdueText(state: UnderWay, facts: Facts, { cohort }: Trial): string {
  const deadline = durationText(deadlineOf(facts.seen).after);
  const [first] = cohort.missing;
  const named = first === undefined ? "" : `, such as ${cohort.missing.slice(0, 3).join(", ")}`;
  const unplaced =
    cohort.unplaced === 0 ? "" : `, ${cohort.unplaced} of which the hub has not pointed at it yet`;
  return `${cohort.running} of ${devices(cohort.reachable)} run ${state.candidate.release} ${deadline} after the step began (${cohort.waiting + cohort.stragglers} missing${named}${unplaced}; ${cohort.failed} failed), and that is more than the failure budget allows`;
}

export function breachOf(state: UnderWay): Because | null {
  return state.phase === "Holding" || state.phase === "Frozen" ? state.breach : null;
}
