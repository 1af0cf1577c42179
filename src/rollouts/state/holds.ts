import type { RollbackReason } from "../../api/inference-deployment.ts";
import type { Problem } from "../../api/reasons.ts";
import { REASONS } from "../../api/reasons.ts";
import { durationText, elapsed, minutes } from "../../base/time.ts";
import type { CandidateAssessment, Facts } from "../facts.ts";
import { devices } from "../text.ts";
import { isUnderWay, type RollbackCause, type RolloutState, type UnderWay } from "./state.ts";
import { currentStep, deadlineOf, holdOf } from "./strategy.ts";

// What speaks against a candidate that is out: a breach rolls it back, anything else only holds its width.

/** What speaks against the candidate, decided once in a pass; both `null` where none is out. */
export type Objections = {
  /** What would roll it back now. */
  readonly breach: Breach | null;
  /** Why its width may not grow now. */
  readonly held: Problem | null;
};

export function objectionsTo(state: RolloutState, facts: Facts): Objections {
  const { assessment } = facts;
  if (assessment === null || !isUnderWay(state)) return { breach: null, held: null };
  return { breach: breachNow(state, facts, assessment), held: heldNow(state, facts, assessment) };
}

/** What was decided in a pass. */
export type Decided = {
  readonly state: RolloutState;
  readonly facts: Facts;
  readonly objections: Objections;
};

export type Breach = { readonly reason: RollbackReason; readonly message: string };

/** What would roll the candidate back now; `null`: nothing, as far as anything can be seen. */
export function breachNow(state: UnderWay, facts: Facts, assessment: CandidateAssessment): Breach | null {
  if (assessment.verification.kind === "failed")
    return { reason: "VerificationFailed", message: assessment.verification.message };
  if (!facts.exposedReadable) return null;
  if (assessment.analysis.overall === "Fail")
    return { reason: "ObjectiveBreached", message: assessment.analysis.message };
  if (assessment.budget.spent) return { reason: "FailureBudgetSpent", message: assessment.budget.message };
  // Time stands still while the hub cannot be read.
  const { after } = deadlineOf(facts.seen);
  const { waitingSince, lastUnplacedAt: unplaced } = state.step;
  // What the hub brought late has the whole time from there.
  const from = unplaced === null || unplaced < waitingSince ? waitingSince : unplaced;
  const hadItsTime = elapsed(from, facts.now) >= after;
  const mayBeLate = facts.hubReadable && state.phase !== "Frozen" && hadItsTime;
  // A release that the hub has not brought to the devices has not failed on them: that is for a person to look at.
  if (
    mayBeLate &&
    assessment.overdue &&
    assessment.budget.missed &&
    deadlineOf(facts.seen).onDeadline === "Rollback"
  ) {
    return { reason: "DeadlineExceeded", message: overdueText(state, facts, assessment) };
  }
  return null;
}

/** Why the width may not grow now, although nothing is broken; `null`: nothing holds it. */
export function heldNow(state: UnderWay, facts: Facts, assessment: CandidateAssessment): Problem | null {
  const breach = breachOf(state);
  if (breach !== null) return { reason: breach.reason, message: breach.message };
  const { verification } = assessment;
  if (verification.kind === "missing") {
    return {
      reason: REASONS.ReleaseMissing,
      message: `ModelRelease ${state.candidate.release} no longer exists`,
    };
  }
  if (verification.kind === "unverified") {
    return {
      reason: REASONS.ReleaseUnverified,
      message: `${state.candidate.release} is being verified again: ${verification.message}`,
    };
  }
  if (assessment.problem !== null) return assessment.problem;
  if (facts.seen.deployment.spec.paused === true) {
    return { reason: REASONS.Paused, message: "spec.paused is true; protection continues" };
  }
  if (assessment.overdue) {
    return { reason: REASONS.DeadlineExceeded, message: overdueText(state, facts, assessment) };
  }
  const { overall, message } = assessment.analysis;
  if (overall === "Warn") return { reason: REASONS.ObjectiveWarning, message };
  if (!assessment.converged || !isEvidenceOverdue(state, facts)) return null;
  if (!assessment.coverage.enough) {
    const why =
      overall === "Inconclusive" ? `${assessment.coverage.message}; ${message}` : assessment.coverage.message;
    return { reason: REASONS.Inconclusive, message: why };
  }
  if (overall === "Inconclusive") return { reason: REASONS.Inconclusive, message };
  return null;
}

/** The first windows take a while; only then is missing evidence worth a person's attention. */
function isEvidenceOverdue(state: UnderWay, facts: Facts): boolean {
  const since = state.step.pausedAt ?? state.step.convergedAt ?? facts.now;
  return elapsed(since, facts.now) >= Math.max(holdOf(currentStep(state.step, facts.seen)), minutes(3));
}

function overdueText(state: UnderWay, facts: Facts, { cohort }: CandidateAssessment): string {
  const deadline = durationText(deadlineOf(facts.seen).after);
  const [first] = cohort.missing;
  const named = first === undefined ? "" : `, such as ${cohort.missing.slice(0, 3).join(", ")}`;
  const unplaced =
    cohort.unplaced === 0 ? "" : `, ${cohort.unplaced} of which have not been assigned it by the hub yet`;
  return `${cohort.running} of ${devices(cohort.reachable)} run ${state.candidate.release} ${deadline} after the step started (${cohort.waiting + cohort.stragglers} missing${named}${unplaced}; ${cohort.failed} failed), which exceeds the failure budget`;
}

export function breachOf(state: UnderWay): RollbackCause | null {
  return state.phase === "Holding" || state.phase === "Frozen" ? state.breach : null;
}
