import type { Step, StratumExposure } from "../../api/inference-deployment.ts";
import { ROLLBACK_DEFAULTS } from "../../api/inference-deployment.ts";
import { durationText, elapsed, type Instant, later, type Millis, minutes } from "../../base/time.ts";
import type { CandidateAssessment, Facts } from "../facts.ts";
import { allDevices, boundOf, countExposed, countedFor, expose } from "./exposure.ts";
import { breachNow, breachOf, heldNow } from "./holds.ts";
import { hasCandidate } from "./recover.ts";
import type { AtStep, Frozen, RollbackCause, RolloutState, UnderWay } from "./state.ts";
import { bakeOf, currentStep, holdOf, indexOfStep, stepAfter } from "./strategy.ts";
import {
  abort,
  atStep,
  complete,
  exposedOf,
  FREEZES,
  ignoreRequests,
  rollBack,
  start,
  UNFREEZES,
  withHistory,
} from "./transitions.ts";

// A candidate is out. Rules are tried in order, and the first that has something to say decides: requests of a person come
// first, then what rolls a candidate back, then what holds it, then what lets it continue.

export function whileUnderWay(before: UnderWay, facts: Facts, assessment: CandidateAssessment): RolloutState {
  const aborted = abortRequested(before, facts);
  if (aborted !== null) return aborted;
  const state = watched(before, facts);
  // The clocks were moved on by an absence: that is remembered first, and judged by the next look, right away.
  if (state.step.startedAt !== before.step.startedAt) return state;
  return (
    releaseChanged(state, facts) ??
    rollBackOnBreach(state, facts, assessment) ??
    hubUnreadable(state, facts, assessment) ??
    promoteRequested(state, facts, assessment) ??
    continueStep(state, facts, assessment)
  );
}

/** Longer than this without a look is an absence; a rollout under way is looked at every analysis interval. */
const ABSENCE = minutes(5);

/** `lastObservedAt` is written once in this time: it is not worth a write for every look. */
const WATCH_GRAIN = minutes(1);

/** The operator's own absence is no watching: holds, deadlines and bakes count only time in which it looked. */
function watched(state: UnderWay, facts: Facts): UnderWay {
  const absence = elapsed(state.step.lastObservedAt, facts.now);
  if (absence < WATCH_GRAIN) return state;
  const seenNow = { ...state, step: { ...state.step, lastObservedAt: facts.now } };
  const longest = Math.max(ABSENCE, 4 * facts.seen.settings.analysisInterval);
  // Frozen stands still anyway, and is moved on when it ends.
  if (absence < longest || state.phase === "Frozen") return seenNow;
  return withHistory(
    movedOn(seenNow, absence),
    facts,
    `not observed for ${durationText(absence)}; that time does not count`,
  );
}

/** The same state, as if the time of `by` had not passed. */
function movedOn<S extends UnderWay>(state: S, by: Millis): S {
  const { startedAt, waitingSince, convergedAt, passingSince, pausedAt, lastUnplacedAt } = state.step;
  const move = (at: Instant | null) => (at === null ? null : later(at, by));
  const step = {
    ...state.step,
    startedAt: later(startedAt, by),
    waitingSince: later(waitingSince, by),
    convergedAt: move(convergedAt),
    passingSince: move(passingSince),
    pausedAt: move(pausedAt),
    lastUnplacedAt: move(lastUnplacedAt),
  };
  return "bakingSince" in state
    ? { ...state, step, bakingSince: move(state.bakingSince) }
    : { ...state, step };
}

/** Abort wins from every state. */
function abortRequested(state: UnderWay, facts: Facts): RolloutState | null {
  if (facts.requests.abort !== null) return abort(state, facts, facts.requests.abort);
  const served = ignoreRequests(state, facts, ["retry"], "the release is already being rolled out");
  if (served !== null) return served;
  if (state.quarantined.some(({ release }) => release === state.candidate.release)) {
    return rollBack(state, facts, "Aborted", `${state.candidate.release} is quarantined in this deployment`);
  }
  return null;
}

/** Another release in spec: back to stable withdraws, a third one starts over. */
function releaseChanged(state: UnderWay, facts: Facts): RolloutState | null {
  const { release } = facts.wanted.reference;
  if (release === state.candidate.release) return null;
  const quarantined = state.quarantined.some((entry) => entry.release === release);
  if (release === state.stable?.release || quarantined) {
    return rollBack(state, facts, "Withdrawn", `spec.release is ${release} again`);
  }
  // Nothing new is exposed while nothing can be seen.
  if (!facts.hubReadable || state.phase === "Frozen") return null;
  return start(state, facts, `${release} replaces ${state.candidate.release}`);
}

/** Without the whole hub nothing is widened, and time stands still. What lowers exposure continues. */
function hubUnreadable(state: UnderWay, facts: Facts, assessment: CandidateAssessment): RolloutState | null {
  if (facts.hubReadable) return state.phase === "Frozen" ? unfreeze(state, facts) : null;
  if (state.phase === "Frozen") return narrowed(state, facts, assessment);
  const next: Frozen = {
    ...exposedOf(state),
    phase: "Frozen",
    frozenSince: facts.now,
    bakingSince: state.phase === "Progressing" ? null : state.bakingSince,
    breach: state.phase === "Holding" ? state.breach : null,
  };
  return narrowed(withHistory(next, facts, FREEZES), facts, assessment);
}

/** Devices that join fall under conditions that the hub has: while it is frozen they widen nothing. */
function narrowed<S extends UnderWay>(state: S, facts: Facts, assessment: CandidateAssessment): S {
  const counted = countedFor(facts.seen.members);
  const step = currentStep(state.step, facts.seen);
  if (counted.length === 0 || step.percent >= 100) return state;
  const intended = state.exposure.reduce((sum, stratum) => sum + stratum.devices, 0);
  const most = Math.min(boundOf(step, counted.length), intended);
  if (countExposed(state.exposure, counted) <= most) return state;
  return { ...state, exposure: expose(counted, assessment.stratifyBy, most, state.exposure) };
}

function unfreeze(state: Frozen, facts: Facts): RolloutState {
  const message = UNFREEZES;
  const moved = movedOn(state, elapsed(state.frozenSince, facts.now));
  const exposed = exposedOf(moved);
  const { bakingSince } = moved;
  if (state.breach !== null) {
    const holdReason = state.breach.reason;
    return withHistory(
      { ...exposed, phase: "Holding", holdReason, bakingSince, breach: state.breach },
      facts,
      message,
    );
  }
  if (bakingSince !== null) return withHistory({ ...exposed, phase: "Baking", bakingSince }, facts, message);
  return withHistory({ ...exposed, phase: "Progressing" }, facts, message);
}

/** Protection: it runs while paused, held, frozen and baking. */
function rollBackOnBreach(
  state: UnderWay,
  facts: Facts,
  assessment: CandidateAssessment,
): RolloutState | null {
  const { mode } = facts.seen.deployment.spec.rollback ?? ROLLBACK_DEFAULTS;
  const kept = breachOf(state);
  const found = breachNow(state, facts, assessment);
  if (mode === "Automatic") {
    const because = found ?? kept;
    return because === null ? null : rollBack(state, facts, because.reason, because.message);
  }
  if (found === null || kept !== null) return null;
  const breach: RollbackCause = { ...found, release: state.candidate.release, at: facts.now };
  const bakingSince = state.phase === "Progressing" ? null : state.bakingSince;
  if (state.phase === "Frozen")
    return withHistory(
      { ...state, breach },
      facts,
      `held when the hub could be read again: ${breach.message}`,
    );
  const next: UnderWay = {
    ...exposedOf(state),
    phase: "Holding",
    holdReason: breach.reason,
    bakingSince,
    breach,
    step: { ...state.step, passingSince: null, pausedAt: null },
  };
  return withHistory(next, facts, `held instead of rolled back (rollback.mode: Hold): ${breach.message}`);
}

/** A person asks to continue from here. Past a hold, a warning, missing evidence; never past a breach. */
function promoteRequested(
  state: UnderWay,
  facts: Facts,
  assessment: CandidateAssessment,
): RolloutState | null {
  const token = facts.requests.promote;
  if (token === null) return null;
  const served = { ...state, handled: { ...state.handled, promote: token } };
  const refusal = promoteRefusal(state, facts, assessment);
  if (refusal !== null) return withHistory(served, facts, `promote rejected: ${refusal}`);
  const { cohort } = assessment;
  // Devices that are missing are not asked for again; at the last width, evidence is not either.
  const isLast = stepAfter(state.step, facts.seen) === null;
  const uncovered = Math.max(0, cohort.reachable - cohort.discounted - assessment.evidence);
  const acceptedMissing = isLast ? uncovered : cohort.waiting + cohort.stragglers;
  return nextStep(
    { ...served, step: { ...served.step, acceptedMissing } },
    facts,
    assessment,
    "promoted on request",
  );
}

function promoteRefusal(state: UnderWay, facts: Facts, assessment: CandidateAssessment): string | null {
  const breach = breachNow(state, facts, assessment);
  if (breach !== null) return breach.message;
  if (assessment.verification.kind !== "verified") return `${state.candidate.release} is not verified`;
  if (assessment.problem !== null) return assessment.problem.message;
  if (facts.seen.deployment.spec.paused === true) return "spec.paused is true";
  if (!hasCandidate(state.candidate, facts.seen))
    return `${state.candidate.release} has not been configured on the hub yet, so there is nothing to promote`;
  return null;
}

/** The width stays, or it becomes the next one. */
function continueStep(state: UnderWay, facts: Facts, assessment: CandidateAssessment): RolloutState {
  const step = currentStep(state.step, facts.seen);
  const width = widthAt(state, facts, assessment, step);
  const next: UnderWay = {
    ...state,
    step: {
      ...clocked(state.step, facts, assessment),
      index: indexOfStep(state.step, facts.seen),
      percent: width.percent,
    },
    exposure: width.exposure,
    configuredAt: state.configuredAt ?? (hasCandidate(state.candidate, facts.seen) ? facts.now : null),
  };
  const held = heldNow(next, facts, assessment);
  if (next.phase === "Baking") {
    const bake = bakeOf(facts.seen);
    const isOver = elapsed(next.bakingSince, facts.now) >= bake;
    if (!isOver || held !== null || !isPassing(assessment)) return next;
    return complete(next, next.candidate, facts, `baked for ${durationText(bake)} at 100 %`);
  }
  if (held !== null) {
    const holdReason = held.reason;
    if (next.phase === "Holding" && next.holdReason === holdReason) return next;
    const bakingSince = next.phase === "Holding" ? next.bakingSince : null;
    const breach = next.phase === "Holding" ? next.breach : null;
    return withHistory(
      { ...exposedOf(next), phase: "Holding", holdReason, bakingSince, breach },
      facts,
      `held: ${held.message}`,
    );
  }
  const { passingSince } = next.step;
  const isHeldLongEnough = passingSince !== null && elapsed(passingSince, facts.now) >= holdOf(step);
  if (isPassing(assessment) && isHeldLongEnough)
    return nextStep(next, facts, assessment, "converged, held, and passing analysis");
  if (next.phase !== "Holding") return next;
  if (next.bakingSince !== null) {
    const { bakingSince } = next;
    return withHistory({ ...exposedOf(next), phase: "Baking", bakingSince }, facts, "continues");
  }
  return withHistory({ ...exposedOf(next), phase: "Progressing" }, facts, "continues");
}

function lastUnplaced(
  { lastUnplacedAt: had }: AtStep,
  now: Instant,
  { converged, cohort, budget }: CandidateAssessment,
) {
  const isUnplaced = !converged && cohort.unplaced > 0 && !budget.missed;
  return isUnplaced && (had === null || elapsed(had, now) >= WATCH_GRAIN) ? now : had;
}

/** Converged, with enough devices heard, failures within the budget, and every objective passing. */
function isPassing(assessment: CandidateAssessment): boolean {
  return assessment.converged && assessment.coverage.enough && assessment.analysis.overall === "Pass";
}

/** What speaks against the candidate, as opposed to what is only missing. */
function isAgainst(assessment: CandidateAssessment): boolean {
  return (
    assessment.analysis.overall === "Warn" ||
    assessment.analysis.overall === "Fail" ||
    assessment.budget.spent
  );
}

/** The clocks of the step: convergence is no memory, and the hold counts the time in which there was evidence. */
function clocked(step: AtStep, { now }: Facts, assessment: CandidateAssessment): AtStep {
  const convergedAt = assessment.converged ? (step.convergedAt ?? now) : null;
  const wasConverged = step.convergedAt !== null && convergedAt === null;
  const waitingSince =
    wasConverged && step.convergedAt !== null
      ? later(step.waitingSince, elapsed(step.convergedAt, now))
      : step.waitingSince;
  const clocks = { ...step, convergedAt, waitingSince, lastUnplacedAt: lastUnplaced(step, now, assessment) };
  if (isAgainst(assessment)) return { ...clocks, passingSince: null, pausedAt: null };
  if (step.passingSince === null)
    return { ...clocks, passingSince: isPassing(assessment) ? now : null, pausedAt: null };
  if (!isPassing(assessment)) return { ...clocks, pausedAt: step.pausedAt ?? now };
  if (step.pausedAt === null) return clocks;
  return {
    ...clocks,
    passingSince: later(step.passingSince, elapsed(step.pausedAt, now)),
    pausedAt: null,
  };
}

/** Takes the candidate one width further, or ends the rollout. */
function nextStep(state: UnderWay, facts: Facts, assessment: CandidateAssessment, why: string): RolloutState {
  const { seen } = facts;
  const next = stepAfter(state.step, seen);
  const isBaking = state.phase === "Baking" || (state.phase === "Holding" && state.bakingSince !== null);
  if (next !== null && !isBaking)
    return atStep(exposedOf(state), facts, next.step, next.index, why, assessment);
  if (!isBaking && bakeOf(seen) > 0) {
    const baking: UnderWay = { ...exposedOf(state), phase: "Baking", bakingSince: facts.now };
    return withHistory(baking, facts, `${why}; baking for ${durationText(bakeOf(seen))}`);
  }
  return complete(state, state.candidate, facts, why);
}

/**
 * The width of the step that is under way. It changes only when it must: when devices have joined or left so that more
 * are exposed than the step allows; when exposed ones have vanished; when the step itself has been rewritten.
 */
function widthAt(state: UnderWay, facts: Facts, assessment: CandidateAssessment, step: Step): Width {
  const { members } = facts.seen;
  const same: Width = { percent: state.step.percent, exposure: state.exposure };
  if (members.length === 0 || (step.percent >= 100 && same.percent >= 100)) return same;
  const counted = countedFor(members);
  const bound = boundOf(step, counted.length);
  const exposed = countExposed(state.exposure, counted);
  if (exposed > bound) {
    return { percent: step.percent, exposure: expose(counted, assessment.stratifyBy, bound, state.exposure) };
  }
  // A device that replaces one that vanished is newly exposed: only while the candidate is in good standing.
  if (heldNow(state, facts, assessment) !== null) return same;
  if (step.percent >= 100) return { percent: step.percent, exposure: allDevices(members.length) };
  const intended = state.exposure.reduce((sum, stratum) => sum + stratum.devices, 0);
  const target = same.percent === step.percent ? Math.min(bound, intended) : bound;
  if (exposed >= target) return { percent: step.percent, exposure: state.exposure };
  return { percent: step.percent, exposure: expose(counted, assessment.stratifyBy, target, state.exposure) };
}

type Width = { readonly percent: number; readonly exposure: readonly StratumExposure[] };
