import {
  type HistoryEntry,
  QUARANTINE_LIMIT,
  type Request,
  type RollbackReason,
  requestAnnotation,
  type Step,
  type StratumExposure,
} from "../../api/inference-deployment.ts";
import { REASONS, type Reason } from "../../api/reasons.ts";
import { unreachable } from "../../base/result.ts";
import { cut } from "../../base/text.ts";
import {
  durationText,
  elapsed,
  type Instant,
  later,
  type Millis,
  minutes,
  timestampOf,
} from "../../base/time.ts";
import { devices } from "../evidence/cohort.ts";
import type { Facts, Trial } from "../facts.ts";
import { boundOf, countExposed, everybody, expose } from "./exposure.ts";
import { hasCandidate } from "./recover.ts";
import {
  type AtStep,
  type Because,
  type Completed,
  type Exposed,
  exposureOf,
  type Frozen,
  newStep,
  type Pending,
  type Quarantined,
  type ReleaseRef,
  type RolledBack,
  type RollingBack,
  type RolloutState,
  type UnderWay,
} from "./state.ts";
import { bakeOf, currentStep, deadlineOf, holdOf, indexOfStep, stepAfter, stepsOf } from "./strategy.ts";

// The state machine: one step. Rules are tried in order, and the first that has something to say decides.
// Requests of a person come first, then what takes a candidate back, then what stops it, then what lets it go on.

const HISTORY = 10;

export function advance(state: RolloutState, facts: Facts): RolloutState {
  switch (state.phase) {
    case "Pending":
      return whilePending(state, facts);
    case "Completed":
      return whileCompleted(state, facts);
    case "RolledBack":
      return whileRolledBack(state, facts);
    case "RollingBack":
      return whileRollingBack(state, facts);
    case "Progressing":
    case "Holding":
    case "Frozen":
    case "Baking": {
      const trial = facts.trial;
      return trial === null ? state : whileUnderWay(state, facts, trial);
    }
    default:
      return unreachable(state);
  }
}

function whilePending(state: Pending, facts: Facts): RolloutState {
  const { wanted, requests, seen } = facts;
  if (requests.abort !== null && state.candidate !== null) {
    return abort({ ...state, candidate: state.candidate }, facts, requests.abort);
  }
  const served = ignoreRequests(state, facts, ["abort", "promote", "retry"], "nothing is exposed yet");
  if (served !== null) return served;
  const { release } = wanted.reference;
  if (state.stable?.release === release) {
    return complete(state, state.stable, facts, `${release} is what devices run already`);
  }
  const quarantined = state.quarantined.find((entry) => entry.release === release);
  if (quarantined !== undefined) return rest(state, quarantined, facts);
  if (!isSameReference(state.candidate, wanted.reference)) {
    const named = { ...state, candidate: wanted.reference };
    if (state.candidate?.release === release) return named;
    return withHistory(named, facts, `${release} is to go out`);
  }
  const step = stepsOf(seen)[0];
  const mayBegin =
    wanted.verification.kind === "verified" &&
    wanted.problem === null &&
    wanted.tested &&
    facts.hubReadable &&
    seen.deployment.spec.paused !== true;
  if (!mayBegin || step === undefined) return state;
  const begun: Exposed = {
    quarantined: state.quarantined,
    handled: state.handled,
    history: state.history,
    stable: state.stable,
    candidate: wanted.reference,
    begunAt: facts.now,
    step: newStep(0, step.percent, facts.now),
    exposure: [],
    previousExposure: [],
    givenAt: null,
  };
  return atStep(begun, facts, step, 0, `begins with ${step.percent} %`);
}

function whileCompleted(state: Completed, facts: Facts): RolloutState {
  const served = ignoreRequests(state, facts, ["abort", "promote", "retry"], "no rollout is under way");
  if (served !== null) return served;
  const { reference } = facts.wanted;
  if (reference.release === state.stable.release) return state;
  return start(state, facts);
}

function whileRolledBack(state: RolledBack, facts: Facts): RolloutState {
  const { wanted, requests } = facts;
  const { release } = wanted.reference;
  if (requests.retry !== null) {
    const handled = { ...state.handled, retry: requests.retry };
    const quarantined = state.quarantined.filter((entry) => entry.release !== release);
    return start({ ...state, handled, quarantined }, facts, `${release} is retried on request`);
  }
  const served = ignoreRequests(state, facts, ["abort", "promote"], "no rollout is under way");
  if (served !== null) return served;
  if (state.stable?.release === release) {
    return complete(state, state.stable, facts, `spec names ${release} again, which devices run`);
  }
  if (state.quarantined.some((entry) => entry.release === release)) return state;
  return start(state, facts);
}

function whileRollingBack(state: RollingBack, facts: Facts): RolloutState {
  const { requests, rollback } = facts;
  if (requests.abort !== null) {
    const handled = { ...state.handled, abort: requests.abort };
    if (state.because.reason !== "Withdrawn") return { ...state, handled };
    // Taking a release back because it is no longer wanted, and because it is bad, end differently.
    return {
      ...state,
      handled,
      because: { ...state.because, reason: "Aborted", message: "aborted by request" },
    };
  }
  // A retry waits: it is for the release, and the release is on its way out.
  const served = ignoreRequests(state, facts, ["promote"], "the release is being rolled back");
  if (served !== null) return served;
  if (!rollback.done) return state;
  const { quarantined, handled, history, stable, because, candidate } = state;
  const kept = { quarantined, handled, history };
  if (because.reason === "Withdrawn") {
    if (stable !== null) {
      return complete(
        { ...kept, phase: "Pending", stable, candidate: null },
        stable,
        facts,
        `${candidate.release} is withdrawn`,
      );
    }
    return withHistory(
      { ...kept, phase: "Pending", stable, candidate: null },
      facts,
      `${candidate.release} is withdrawn`,
    );
  }
  const entry = { release: candidate.release, reason: because.reason, at: facts.now };
  const others = quarantined.filter(({ release }) => release !== candidate.release);
  const target = stable === null ? "no release" : stable.release;
  return withHistory(
    {
      ...kept,
      phase: "RolledBack",
      stable,
      because,
      quarantined: [...others, entry].slice(-QUARANTINE_LIMIT),
    },
    facts,
    `devices are desired on ${target} again; ${candidate.release} is quarantined`,
  );
}

function whileUnderWay(before: UnderWay, facts: Facts, trial: Trial): RolloutState {
  const aborted = abortRequested(before, facts);
  if (aborted !== null) return aborted;
  const state = watched(before, facts);
  // The clocks were moved on by an absence: that is remembered first, and judged by the next look, right away.
  if (state.step.startedAt !== before.step.startedAt) return state;
  return (
    releaseChanged(state, facts) ??
    rollBackOnBreach(state, facts, trial) ??
    frozen(state, facts, trial) ??
    promoteRequested(state, facts, trial) ??
    continueStep(state, facts, trial)
  );
}

/** Longer than this without a look is an absence; a rollout under way is looked at every analysis interval. */
const ABSENCE = minutes(5);
/** `watchedAt` is written once in this time: it is not worth a write for every look. */
const WATCH_GRAIN = minutes(1);

/** The operator's own absence is no watching: holds, deadlines and bakes count only time in which it looked. */
function watched(state: UnderWay, facts: Facts): UnderWay {
  const absence = elapsed(state.step.watchedAt, facts.now);
  if (absence < WATCH_GRAIN) return state;
  const seenNow = { ...state, step: { ...state.step, watchedAt: facts.now } };
  const longest = Math.max(ABSENCE, 4 * facts.seen.settings.analysisInterval);
  // Frozen stands still anyway, and is moved on when it ends.
  if (absence < longest || state.phase === "Frozen") return seenNow;
  return withHistory(
    movedOn(seenNow, absence),
    facts,
    `not watched for ${durationText(absence)}: that time does not count`,
  );
}

/** The same state, as if the time of `by` had not passed. */
function movedOn<S extends UnderWay>(state: S, by: Millis): S {
  const { startedAt, waitingFrom, convergedAt, passingSince, pausedAt, unplacedAt } = state.step;
  const move = (at: Instant | null) => (at === null ? null : later(at, by));
  const step = {
    ...state.step,
    startedAt: later(startedAt, by),
    waitingFrom: later(waitingFrom, by),
    convergedAt: move(convergedAt),
    passingSince: move(passingSince),
    pausedAt: move(pausedAt),
    unplacedAt: move(unplacedAt),
  };
  return "bakingSince" in state
    ? { ...state, step, bakingSince: move(state.bakingSince) }
    : { ...state, step };
}

/** Abort wins from every state. */
function abortRequested(state: UnderWay, facts: Facts): RolloutState | null {
  if (facts.requests.abort !== null) return abort(state, facts, facts.requests.abort);
  const served = ignoreRequests(state, facts, ["retry"], "the release is going out already");
  if (served !== null) return served;
  if (state.quarantined.some(({ release }) => release === state.candidate.release)) {
    return rollBack(state, facts, "Aborted", `${state.candidate.release} is quarantined here`);
  }
  return null;
}

/** Another release in spec: back to stable withdraws, a third one starts over. */
function releaseChanged(state: UnderWay, facts: Facts): RolloutState | null {
  const { release } = facts.wanted.reference;
  if (release === state.candidate.release) return null;
  const quarantined = state.quarantined.some((entry) => entry.release === release);
  if (release === state.stable?.release || quarantined) {
    return rollBack(state, facts, "Withdrawn", `spec names ${release} again`);
  }
  // Nothing new is exposed while nothing can be seen.
  if (!facts.hubReadable || state.phase === "Frozen") return null;
  return start(state, facts, `${release} replaces ${state.candidate.release}`);
}

/** Without the whole hub nothing is widened, and time stands still. What lowers exposure goes on. */
function frozen(state: UnderWay, facts: Facts, trial: Trial): RolloutState | null {
  if (facts.hubReadable) return state.phase === "Frozen" ? unfreeze(state, facts) : null;
  if (state.phase === "Frozen") return narrowed(state, facts, trial);
  const next: Frozen = {
    ...exposedOf(state),
    phase: "Frozen",
    frozenSince: facts.now,
    bakingSince: state.phase === "Progressing" ? null : state.bakingSince,
    breach: state.phase === "Holding" ? state.breach : null,
  };
  return narrowed(
    withHistory(next, facts, "the hub cannot be read: nothing is widened until it can"),
    facts,
    trial,
  );
}

/** Devices that join fall under conditions that the hub has: while it is frozen they widen nothing. */
function narrowed<S extends UnderWay>(state: S, facts: Facts, trial: Trial): S {
  const { members } = facts.seen;
  const step = currentStep(state.step, facts.seen);
  if (members.length === 0 || step.percent >= 100) return state;
  const intended = state.exposure.reduce((sum, stratum) => sum + stratum.devices, 0);
  const most = Math.min(boundOf(step, members.length), intended);
  if (trial.cohort.exposed.length <= most) return state;
  return { ...state, exposure: expose(members, trial.stratifyBy, most, state.exposure) };
}

function unfreeze(state: Frozen, facts: Facts): RolloutState {
  const message = "the hub can be read again";
  const moved = movedOn(state, elapsed(state.frozenSince, facts.now));
  const exposed = exposedOf(moved);
  const { bakingSince } = moved;
  if (state.breach !== null) {
    const heldBecause = state.breach.reason;
    return withHistory(
      { ...exposed, phase: "Holding", heldBecause, bakingSince, breach: state.breach },
      facts,
      message,
    );
  }
  if (bakingSince !== null) return withHistory({ ...exposed, phase: "Baking", bakingSince }, facts, message);
  return withHistory({ ...exposed, phase: "Progressing" }, facts, message);
}

/** Protection: it runs while paused, held, frozen and baking. */
function rollBackOnBreach(state: UnderWay, facts: Facts, trial: Trial): RolloutState | null {
  const mode = facts.seen.deployment.spec.rollback?.mode ?? "Automatic";
  const kept = breachOf(state);
  const found = breachNow(state, facts, trial);
  if (mode === "Automatic") {
    const because = found ?? kept;
    return because === null ? null : rollBack(state, facts, because.reason, because.message);
  }
  if (found === null || kept !== null) return null;
  const breach: Because = { ...found, release: state.candidate.release, at: facts.now };
  const bakingSince = state.phase === "Progressing" ? null : state.bakingSince;
  if (state.phase === "Frozen")
    return withHistory({ ...state, breach }, facts, `held once the hub can be read: ${breach.message}`);
  const next: UnderWay = {
    ...exposedOf(state),
    phase: "Holding",
    heldBecause: breach.reason,
    bakingSince,
    breach,
    step: { ...state.step, passingSince: null, pausedAt: null },
  };
  return withHistory(next, facts, `held instead of rolled back (rollback.mode: Hold): ${breach.message}`);
}

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

/** A person says: go on from here. Past a hold, a warning, missing evidence; never past a breach. */
function promoteRequested(state: UnderWay, facts: Facts, trial: Trial): RolloutState | null {
  const token = facts.requests.promote;
  if (token === null) return null;
  const served = { ...state, handled: { ...state.handled, promote: token } };
  const refusal = refusalOf(state, facts, trial);
  if (refusal !== null) return withHistory(served, facts, `promote refused: ${refusal}`);
  const { cohort } = trial;
  // Devices that are missing are not asked for again; at the last width, evidence is not either.
  const isLast = stepAfter(state.step, facts.seen) === null;
  const uncovered = Math.max(0, cohort.reachable - cohort.discounted - trial.evidence);
  const accepted = isLast ? uncovered : cohort.waiting + cohort.stragglers;
  return nextStep({ ...served, step: { ...served.step, accepted } }, facts, trial, "promoted by request");
}

function refusalOf(state: UnderWay, facts: Facts, trial: Trial): string | null {
  const breach = breachNow(state, facts, trial);
  if (breach !== null) return breach.message;
  if (trial.verification.kind !== "verified") return `${state.candidate.release} is not verified`;
  if (trial.problem !== null) return trial.problem.message;
  if (facts.seen.deployment.spec.paused === true) return "spec.paused is true";
  if (!hasCandidate(state.candidate, facts.seen))
    return `the hub has not been given ${state.candidate.release} yet, so there is nothing to go on from`;
  return null;
}

/** The width stays, or it becomes the next one. */
function continueStep(state: UnderWay, facts: Facts, trial: Trial): RolloutState {
  const step = currentStep(state.step, facts.seen);
  const width = widthAt(state, facts, trial, step);
  const next: UnderWay = {
    ...state,
    step: {
      ...clocked(state.step, facts, trial),
      index: indexOfStep(state.step, facts.seen),
      percent: width.percent,
    },
    exposure: width.exposure,
    givenAt: state.givenAt ?? (hasCandidate(state.candidate, facts.seen) ? facts.now : null),
  };
  const held = heldNow(next, facts, trial);
  if (next.phase === "Baking") {
    const bake = bakeOf(facts.seen);
    const isOver = elapsed(next.bakingSince, facts.now) >= bake;
    if (!isOver || held !== null || !isPassing(trial)) return next;
    return complete(next, next.candidate, facts, `watched for ${durationText(bake)} at 100 %`);
  }
  if (held !== null) {
    const heldBecause = held.reason;
    if (next.phase === "Holding" && next.heldBecause === heldBecause) return next;
    const bakingSince = next.phase === "Holding" ? next.bakingSince : null;
    const breach = next.phase === "Holding" ? next.breach : null;
    return withHistory(
      { ...exposedOf(next), phase: "Holding", heldBecause, bakingSince, breach },
      facts,
      `held: ${held.message}`,
    );
  }
  const { passingSince } = next.step;
  const isHeldLongEnough = passingSince !== null && elapsed(passingSince, facts.now) >= holdOf(step);
  if (isPassing(trial) && isHeldLongEnough)
    return nextStep(next, facts, trial, "converged, held and passing");
  if (next.phase !== "Holding") return next;
  if (next.bakingSince !== null) {
    const { bakingSince } = next;
    return withHistory({ ...exposedOf(next), phase: "Baking", bakingSince }, facts, "continues");
  }
  return withHistory({ ...exposedOf(next), phase: "Progressing" }, facts, "continues");
}

function lastUnplaced({ unplacedAt: had }: AtStep, now: Instant, { converged, cohort, budget }: Trial) {
  const isUnplaced = !converged && cohort.unplaced > 0 && !budget.missed;
  return isUnplaced && (had === null || elapsed(had, now) >= WATCH_GRAIN) ? now : had;
}

/** Converged, with enough devices heard, failures within the budget, and every objective passing. */
function isPassing(trial: Trial): boolean {
  return trial.converged && trial.coverage.enough && trial.analysis.overall === "Pass";
}

/** What speaks against the candidate, as opposed to what is only missing. */
function isAgainst(trial: Trial): boolean {
  return trial.analysis.overall === "Warn" || trial.analysis.overall === "Fail" || trial.budget.spent;
}

/** The clocks of the step: convergence is no memory, and the hold counts the time in which there was evidence. */
function clocked(step: AtStep, { now }: Facts, trial: Trial): AtStep {
  const convergedAt = trial.converged ? (step.convergedAt ?? now) : null;
  const wasConverged = step.convergedAt !== null && convergedAt === null;
  const waitingFrom =
    wasConverged && step.convergedAt !== null
      ? later(step.waitingFrom, elapsed(step.convergedAt, now))
      : step.waitingFrom;
  const clocks = { ...step, convergedAt, waitingFrom, unplacedAt: lastUnplaced(step, now, trial) };
  if (isAgainst(trial)) return { ...clocks, passingSince: null, pausedAt: null };
  if (step.passingSince === null)
    return { ...clocks, passingSince: isPassing(trial) ? now : null, pausedAt: null };
  if (!isPassing(trial)) return { ...clocks, pausedAt: step.pausedAt ?? now };
  if (step.pausedAt === null) return clocks;
  return {
    ...clocks,
    passingSince: later(step.passingSince, elapsed(step.pausedAt, now)),
    pausedAt: null,
  };
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

/** Takes the candidate one width further, or ends the rollout. */
function nextStep(state: UnderWay, facts: Facts, trial: Trial, why: string): RolloutState {
  const { seen } = facts;
  const next = stepAfter(state.step, seen);
  const isBaking = state.phase === "Baking" || (state.phase === "Holding" && state.bakingSince !== null);
  if (next !== null && !isBaking) return atStep(exposedOf(state), facts, next.step, next.index, why, trial);
  if (!isBaking && bakeOf(seen) > 0) {
    const baking: UnderWay = { ...exposedOf(state), phase: "Baking", bakingSince: facts.now };
    return withHistory(baking, facts, `${why}; watched for ${durationText(bakeOf(seen))}`);
  }
  return complete(state, state.candidate, facts, why);
}

function atStep(
  state: Exposed,
  facts: Facts,
  step: Step,
  index: number,
  why: string,
  trial?: Trial,
): RolloutState {
  const { members } = facts.seen;
  const next: UnderWay = {
    ...state,
    phase: "Progressing",
    step: newStep(index, step.percent, facts.now, state.step.accepted),
    previousExposure: state.exposure,
    exposure:
      step.percent >= 100
        ? everybody(members.length)
        : expose(members, (trial ?? facts.wanted).stratifyBy, boundOf(step, members.length), state.exposure),
  };
  const exposed = countExposed(next.exposure, members);
  return withHistory(next, facts, `${why}; ${exposed} of ${devices(members.length)} exposed`);
}

/**
 * The width of the step that is under way. It changes only when it must: when devices have joined or left so that more
 * are exposed than the step allows; when exposed ones have vanished; when the step itself has been rewritten.
 */
function widthAt(state: UnderWay, facts: Facts, trial: Trial, step: Step): Width {
  const { members } = facts.seen;
  const same: Width = { percent: state.step.percent, exposure: state.exposure };
  if (members.length === 0 || (step.percent >= 100 && same.percent >= 100)) return same;
  const bound = boundOf(step, members.length);
  const exposed = trial.cohort.exposed.length;
  if (exposed > bound) {
    return { percent: step.percent, exposure: expose(members, trial.stratifyBy, bound, state.exposure) };
  }
  // Whoever replaces a device that vanished is newly exposed: only while the candidate is in good standing.
  if (heldNow(state, facts, trial) !== null) return same;
  if (step.percent >= 100) return { percent: step.percent, exposure: everybody(members.length) };
  const intended = state.exposure.reduce((sum, stratum) => sum + stratum.devices, 0);
  const target = same.percent === step.percent ? Math.min(bound, intended) : bound;
  if (exposed >= target) return { percent: step.percent, exposure: state.exposure };
  return { percent: step.percent, exposure: expose(members, trial.stratifyBy, target, state.exposure) };
}

type Width = { readonly percent: number; readonly exposure: readonly StratumExposure[] };

function start(state: RolloutState, facts: Facts, message?: string): RolloutState {
  const { reference } = facts.wanted;
  const quarantined = state.quarantined.find(({ release }) => release === reference.release);
  if (quarantined !== undefined) return rest(state, quarantined, facts);
  const { handled, history, stable } = state;
  const next: Pending = {
    phase: "Pending",
    quarantined: state.quarantined,
    handled,
    history,
    stable,
    candidate: reference,
  };
  return withHistory(next, facts, message ?? `${reference.release} is to go out`);
}

/** Spec names a release that failed here before: that is the end of it until a person retries it. */
function rest(state: RolloutState, entry: Quarantined, facts: Facts): RolledBack {
  const because: Because = {
    reason: rollbackReasonOf(entry.reason),
    message: `${entry.release} failed here before (${entry.reason})`,
    release: entry.release,
    at: entry.at,
  };
  const { quarantined, handled, history, stable } = state;
  return withHistory(
    { phase: "RolledBack", quarantined, handled, history, stable, because },
    facts,
    because.message,
  );
}

function rollbackReasonOf(reason: string): RollbackReason {
  const known: readonly RollbackReason[] = [
    "ObjectiveBreached",
    "FailureBudgetSpent",
    "DeadlineExceeded",
    "VerificationFailed",
  ];
  return known.find((one) => one === reason) ?? "Aborted";
}

function complete(state: RolloutState, stable: ReleaseRef, facts: Facts, message: string): Completed {
  const { quarantined, handled, history } = state;
  const text = message.startsWith(stable.release) ? message : `${stable.release} is stable: ${message}`;
  return withHistory({ phase: "Completed", quarantined, handled, history, stable }, facts, text);
}

function abort(
  state: UnderWay | (Pending & { readonly candidate: ReleaseRef }),
  facts: Facts,
  token: string,
): RollingBack {
  const handled = { ...state.handled, abort: token };
  return rollBack({ ...state, handled }, facts, "Aborted", "aborted by request");
}

function rollBack(
  state: UnderWay | (Pending & { readonly candidate: ReleaseRef }),
  facts: Facts,
  reason: RollbackReason,
  message: string,
): RollingBack {
  const { quarantined, handled, history, stable, candidate } = state;
  const text = cut(message, 1000);
  const because: Because = { reason, message: text, release: candidate.release, at: facts.now };
  const next: RollingBack = {
    phase: "RollingBack",
    quarantined,
    handled,
    history,
    stable,
    candidate,
    exposure: exposureOf(state),
    because,
  };
  return withHistory(next, facts, `back to ${stable === null ? "no release" : stable.release}: ${text}`);
}

/** Requests that have nothing to act on are served too, or they would strike a later rollout. */
function ignoreRequests<S extends RolloutState>(
  state: S,
  facts: Facts,
  requests: readonly Request[],
  why: string,
): S | null {
  for (const request of requests) {
    const token = facts.requests[request];
    if (token === null) continue;
    const handled = { ...state.handled, [request]: token };
    return withHistory({ ...state, handled }, facts, `${requestAnnotation(request)} had no effect: ${why}`);
  }
  return null;
}

function withHistory<S extends RolloutState>(state: S, facts: Facts, message: string): S {
  const entry: HistoryEntry = {
    at: timestampOf(facts.now),
    phase: state.phase,
    ...("candidate" in state && state.candidate !== null ? { release: state.candidate.release } : {}),
    ...("step" in state ? { step: state.step.index } : {}),
    message: cut(message, 1024),
  };
  return { ...state, history: [...withoutRepeats(state.history, entry), entry].slice(-HISTORY) };
}

/** A hub that comes and goes is one story: its latest outage is kept, and does not push out what happened before. */
function withoutRepeats(history: readonly HistoryEntry[], entry: HistoryEntry): readonly HistoryEntry[] {
  const [before, last] = history.slice(-2);
  const isRepeat = before?.phase === "Frozen" && last?.phase !== "Frozen" && before.release === entry.release;
  return entry.phase === "Frozen" && isRepeat ? history.slice(0, -2) : history;
}

function exposedOf(state: Exposed): Exposed {
  const {
    quarantined,
    handled,
    history,
    stable,
    candidate,
    begunAt,
    step,
    exposure,
    previousExposure,
    givenAt,
  } = state;
  return {
    quarantined,
    handled,
    history,
    stable,
    candidate,
    begunAt,
    step,
    exposure,
    previousExposure,
    givenAt,
  };
}

export function breachOf(state: UnderWay): Because | null {
  return state.phase === "Holding" || state.phase === "Frozen" ? state.breach : null;
}

function isSameReference(a: ReleaseRef | null, b: ReleaseRef): boolean {
  return a !== null && a.release === b.release && a.digests.join() === b.digests.join();
}
