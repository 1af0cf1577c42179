import {
  type HistoryEntry,
  type Request,
  type RollbackReason,
  requestAnnotation,
  type Step,
  type StratumExposure,
} from "../api/inference-deployment.ts";
import { REASONS, type Reason } from "../api/reasons.ts";
import { unreachable } from "../base/result.ts";
import {
  durationText,
  elapsed,
  type Instant,
  later,
  type Millis,
  millis,
  millisOf,
  minutes,
  timestampOf,
} from "../base/time.ts";
import { devices } from "./cohort.ts";
import { boundOf, countExposed, everybody, expose } from "./exposure.ts";
import type { Facts, Trial } from "./facts.ts";
import { stepsOf } from "./plan.ts";
import {
  type AtStep,
  type Because,
  type Completed,
  type Exposed,
  exposureOf,
  type Frozen,
  type Pending,
  type Quarantined,
  type ReleaseRef,
  type RolledBack,
  type RollingBack,
  type RolloutState,
  type UnderWay,
} from "./state.ts";

// The state machine: one step. Rules are tried in order, and the first that has something to say decides.
// Requests of a person come first, then what takes a candidate back, then what stops it, then what lets it go on.

const HISTORY = 10;
const QUARANTINE = 20;

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
  const served = serveInVain(state, facts, ["abort", "promote", "retry"], "nothing is exposed yet");
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
    return noted(named, facts, `${release} is to go out`);
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
    step: stepAt(0, step, facts.now),
    exposure: [],
  };
  return atStep(begun, facts, step, 0, `begins with ${step.percent} %`);
}

function whileCompleted(state: Completed, facts: Facts): RolloutState {
  const served = serveInVain(state, facts, ["abort", "promote", "retry"], "no rollout is under way");
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
    return start({ ...state, handled, quarantined }, facts, `${release} is tried again on request`);
  }
  const served = serveInVain(state, facts, ["abort", "promote"], "no rollout is under way");
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
  const served = serveInVain(state, facts, ["promote"], "the release is being rolled back");
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
    return noted(
      { ...kept, phase: "Pending", stable, candidate: null },
      facts,
      `${candidate.release} is withdrawn`,
    );
  }
  const entry = { release: candidate.release, reason: because.reason, at: facts.now };
  const others = quarantined.filter(({ release }) => release !== candidate.release);
  const target = stable === null ? "no release" : stable.release;
  return noted(
    { ...kept, phase: "RolledBack", stable, because, quarantined: [...others, entry].slice(-QUARANTINE) },
    facts,
    `devices are desired on ${target} again; ${candidate.release} is quarantined`,
  );
}

function whileUnderWay(state: UnderWay, facts: Facts, trial: Trial): RolloutState {
  return (
    takenBackByPerson(state, facts) ??
    replaced(state, facts) ??
    refusedByVerifier(state, facts, trial) ??
    frozen(state, facts) ??
    takenBack(state, facts, trial) ??
    promoted(state, facts, trial) ??
    goOn(state, facts, trial)
  );
}

/** Abort wins from every state. */
function takenBackByPerson(state: UnderWay, facts: Facts): RolloutState | null {
  if (facts.requests.abort !== null) return abort(state, facts, facts.requests.abort);
  const served = serveInVain(state, facts, ["retry"], "the release is going out already");
  if (served !== null) return served;
  if (state.quarantined.some(({ release }) => release === state.candidate.release)) {
    return rollBack(state, facts, "Aborted", `${state.candidate.release} is quarantined here`);
  }
  return null;
}

/** Another release in spec: back to stable withdraws, a third one begins anew. */
function replaced(state: UnderWay, facts: Facts): RolloutState | null {
  const { release } = facts.wanted.reference;
  if (release === state.candidate.release) return null;
  const quarantined = state.quarantined.some((entry) => entry.release === release);
  if (release === state.stable?.release || quarantined) {
    return rollBack(state, facts, "Withdrawn", `spec names ${release} again`);
  }
  // Nothing new is exposed while nothing can be seen.
  if (!facts.hubReadable || state.phase === "Frozen") return null;
  return start(state, facts, `${release} takes the place of ${state.candidate.release}`);
}

function refusedByVerifier(state: UnderWay, facts: Facts, trial: Trial): RolloutState | null {
  if (trial.verification.kind !== "failed") return null;
  return rollBack(state, facts, "VerificationFailed", trial.verification.message);
}

/** Without the hub nothing advances and nothing is judged; time stands still. */
function frozen(state: UnderWay, facts: Facts): RolloutState | null {
  if (!facts.hubReadable) {
    if (state.phase === "Frozen") return state;
    const next: Frozen = {
      ...exposedOf(state),
      phase: "Frozen",
      frozenSince: facts.now,
      bakingSince: state.phase === "Progressing" ? null : state.bakingSince,
      breach: state.phase === "Holding" ? state.breach : null,
      step: { ...state.step, passingSince: null },
    };
    return noted(next, facts, "the hub cannot be read: nothing moves until it can");
  }
  return state.phase === "Frozen" ? thaw(state, facts) : null;
}

function thaw(state: Frozen, facts: Facts): RolloutState {
  const outage = elapsed(state.frozenSince, facts.now);
  const step = { ...state.step, startedAt: later(state.step.startedAt, outage) };
  const message = "the hub can be read again";
  const exposed = { ...exposedOf(state), step };
  const bakingSince = state.bakingSince === null ? null : later(state.bakingSince, outage);
  if (state.breach !== null) {
    const heldBecause = heldText(REASONS.ObjectiveBreached);
    return noted(
      { ...exposed, phase: "Holding", heldBecause, bakingSince, breach: state.breach },
      facts,
      message,
    );
  }
  if (bakingSince !== null) return noted({ ...exposed, phase: "Baking", bakingSince }, facts, message);
  return noted({ ...exposed, phase: "Progressing" }, facts, message);
}

/** Protection: it runs while paused, held and baking. */
function takenBack(state: UnderWay, facts: Facts, trial: Trial): RolloutState | null {
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
  const next: UnderWay = {
    ...exposedOf(state),
    phase: "Holding",
    heldBecause: heldText(REASONS.ObjectiveBreached),
    bakingSince,
    breach,
    step: { ...state.step, passingSince: null },
  };
  return noted(next, facts, `held instead of rolled back (rollback.mode: Hold): ${breach.message}`);
}

export type Breach = { readonly reason: RollbackReason; readonly message: string };

/** What would take the candidate back now; `null`: nothing. */
export function breachNow(state: UnderWay, facts: Facts, trial: Trial): Breach | null {
  if (trial.analysis.overall === "Fail")
    return { reason: "ObjectiveBreached", message: trial.analysis.message };
  if (trial.budget.spent) return { reason: "FailureBudgetSpent", message: trial.budget.message };
  if (deadlineOf(facts).onDeadline === "Rollback" && isOverdue(state, facts, trial)) {
    return { reason: "DeadlineExceeded", message: overdueText(state, facts, trial) };
  }
  return null;
}

/** A person says: go on from here. Past a hold, a warning, missing evidence; never past a breach. */
function promoted(state: UnderWay, facts: Facts, trial: Trial): RolloutState | null {
  const token = facts.requests.promote;
  if (token === null) return null;
  const served = { ...state, handled: { ...state.handled, promote: token } };
  const refusal = refusalOf(state, facts, trial);
  if (refusal !== null) return noted(served, facts, `promote refused: ${refusal}`);
  return nextStep(served, facts, trial, "promoted by request");
}

function refusalOf(state: UnderWay, facts: Facts, trial: Trial): string | null {
  const breach = breachNow(state, facts, trial);
  if (breach !== null) return breach.message;
  if (trial.verification.kind !== "verified") return `${state.candidate.release} is not verified`;
  if (trial.problem !== null) return trial.problem.message;
  if (facts.seen.deployment.spec.paused === true) return "spec.paused is true";
  return null;
}

/** The width stays, or it becomes the next one. */
function goOn(state: UnderWay, facts: Facts, trial: Trial): RolloutState {
  const step = currentStep(state, facts);
  // A new width has new devices: it passes once all of them were heard, or after enough patience.
  const heard = trial.heard || isPatienceOver(state, facts);
  const passing = trial.converged && heard && trial.analysis.overall === "Pass";
  const width = widthAt(state, facts, trial, step);
  const next: UnderWay = {
    ...state,
    step: {
      ...state.step,
      percent: width.percent,
      convergedAt: state.step.convergedAt ?? (trial.converged ? facts.now : null),
      passingSince: passing ? (state.step.passingSince ?? facts.now) : null,
    },
    exposure: width.exposure,
  };
  const held = heldNow(next, facts, trial);
  if (next.phase === "Baking") {
    const bake = bakeOf(facts);
    const over = elapsed(next.bakingSince, facts.now) >= bake;
    if (!over || held !== null || trial.analysis.overall !== "Pass") return next;
    return complete(next, next.candidate, facts, `watched for ${durationText(bake)} at 100 %`);
  }
  if (held !== null) {
    const heldBecause = heldText(held.reason);
    if (next.phase === "Holding" && next.heldBecause === heldBecause) return next;
    const bakingSince = next.phase === "Holding" ? next.bakingSince : null;
    const breach = next.phase === "Holding" ? next.breach : null;
    return noted(
      { ...exposedOf(next), phase: "Holding", heldBecause, bakingSince, breach },
      facts,
      `held: ${held.message}`,
    );
  }
  const { passingSince } = next.step;
  if (passingSince !== null && elapsed(passingSince, facts.now) >= holdOf(step)) {
    return nextStep(next, facts, trial, "converged, held and passing");
  }
  if (next.phase !== "Holding") return next;
  if (next.bakingSince !== null) {
    return noted({ ...exposedOf(next), phase: "Baking", bakingSince: next.bakingSince }, facts, "goes on");
  }
  return noted({ ...exposedOf(next), phase: "Progressing" }, facts, "goes on");
}

export type Held = { readonly reason: Reason; readonly message: string };

/** Why the width may not grow now, although nothing is broken; `null`: nothing holds it. */
export function heldNow(state: UnderWay, facts: Facts, trial: Trial): Held | null {
  const breach = breachOf(state);
  if (breach !== null) return { reason: REASONS.ObjectiveBreached, message: breach.message };
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
    return { reason: REASONS.Paused, message: "spec.paused is true; protection goes on" };
  }
  if (isOverdue(state, facts, trial)) {
    return { reason: REASONS.DeadlineExceeded, message: overdueText(state, facts, trial) };
  }
  const { overall, message } = trial.analysis;
  if (overall === "Warn") return { reason: REASONS.ObjectiveWarning, message };
  if (overall === "Error") return { reason: REASONS.Inconclusive, message };
  if (overall === "Inconclusive" && trial.converged && isPatienceOver(state, facts)) {
    return { reason: REASONS.Inconclusive, message };
  }
  return null;
}

/** The first windows take a while; only then is missing evidence worth a person's attention. */
function isPatienceOver(state: UnderWay, facts: Facts): boolean {
  const since = state.step.convergedAt ?? facts.now;
  return elapsed(since, facts.now) >= Math.max(holdOf(currentStep(state, facts)), minutes(3));
}

/** Stable text for the state: values tick, and belong to the conditions. */
function heldText(reason: Reason): string {
  return reason;
}

function isOverdue(state: UnderWay, facts: Facts, trial: Trial): boolean {
  if (state.step.convergedAt !== null || trial.converged) return false;
  return elapsed(state.step.startedAt, facts.now) >= deadlineOf(facts).after;
}

function overdueText(state: UnderWay, facts: Facts, { cohort }: Trial): string {
  const deadline = durationText(deadlineOf(facts).after);
  return `${cohort.running} of ${devices(cohort.exposed.length)} run ${state.candidate.release} ${deadline} after the step began (${cohort.waiting} waiting, ${cohort.failed} failed, ${cohort.offline} offline)`;
}

/** Takes the candidate one width further, or ends the rollout. */
function nextStep(state: UnderWay, facts: Facts, trial: Trial, why: string): RolloutState {
  const steps = stepsOf(facts.seen);
  const index = Math.min(state.step.index, steps.length - 1) + 1;
  const step = steps[index];
  const baking = state.phase === "Baking" || (state.phase === "Holding" && state.bakingSince !== null);
  if (step !== undefined && !baking) return atStep(exposedOf(state), facts, step, index, why, trial);
  if (!baking && bakeOf(facts) > 0) {
    const next: UnderWay = { ...exposedOf(state), phase: "Baking", bakingSince: facts.now };
    return noted(next, facts, `${why}; watched for ${durationText(bakeOf(facts))}`);
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
    step: stepAt(index, step, facts.now),
    exposure:
      step.percent >= 100
        ? everybody(members.length)
        : expose(members, (trial ?? facts.wanted).stratifyBy, boundOf(step, members.length), state.exposure),
  };
  const exposed = countExposed(next.exposure, members);
  return noted(next, facts, `${why}; ${exposed} of ${devices(members.length)} exposed`);
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
  return noted(next, facts, message ?? `${reference.release} is to go out`);
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
  return noted(
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
  return noted({ phase: "Completed", quarantined, handled, history, stable }, facts, text);
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
  const text = message.slice(0, 1000);
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
  return noted(next, facts, `back to ${stable === null ? "no release" : stable.release}: ${text}`);
}

/** Requests that have nothing to act on are served too, or they would strike a later rollout. */
function serveInVain<S extends RolloutState>(
  state: S,
  facts: Facts,
  requests: readonly Request[],
  why: string,
): S | null {
  for (const request of requests) {
    const token = facts.requests[request];
    if (token === null) continue;
    const handled = { ...state.handled, [request]: token };
    return noted({ ...state, handled }, facts, `${requestAnnotation(request)} had no effect: ${why}`);
  }
  return null;
}

function noted<S extends RolloutState>(state: S, facts: Facts, message: string): S {
  const entry: HistoryEntry = {
    at: timestampOf(facts.now),
    phase: state.phase,
    ...("candidate" in state && state.candidate !== null ? { release: state.candidate.release } : {}),
    ...("step" in state ? { step: state.step.index } : {}),
    message: message.slice(0, 1024),
  };
  return { ...state, history: [...state.history, entry].slice(-HISTORY) };
}

function exposedOf(state: Exposed): Exposed {
  const { quarantined, handled, history, stable, candidate, step, exposure } = state;
  return { quarantined, handled, history, stable, candidate, step, exposure };
}

export function breachOf(state: UnderWay): Because | null {
  return state.phase === "Holding" || state.phase === "Frozen" ? state.breach : null;
}

/** The step of spec that the state is at: spec may have fewer steps than when it began. */
export function currentStep(state: Pick<UnderWay, "step">, facts: Pick<Facts, "seen">): Step {
  const steps = stepsOf(facts.seen);
  return steps[Math.min(state.step.index, steps.length - 1)] ?? { percent: state.step.percent };
}

export function holdOf(step: Step): Millis {
  return step.hold === undefined ? millis(0) : millisOf(step.hold);
}

export function bakeOf(facts: Pick<Facts, "seen">): Millis {
  const bake = facts.seen.deployment.spec.strategy?.bake;
  return bake === undefined ? millis(0) : millisOf(bake);
}

export function deadlineOf(facts: Pick<Facts, "seen">): {
  readonly after: Millis;
  readonly onDeadline: "Rollback" | "Hold";
} {
  const { strategy } = facts.seen.deployment.spec;
  return {
    after: strategy === undefined ? minutes(120) : millisOf(strategy.progressDeadline),
    onDeadline: strategy?.onDeadline ?? "Rollback",
  };
}

function stepAt(index: number, step: Step, now: Instant): AtStep {
  return { index, percent: step.percent, startedAt: now, convergedAt: null, passingSince: null };
}

function isSameReference(a: ReleaseRef | null, b: ReleaseRef): boolean {
  return a !== null && a.release === b.release && a.digests.join() === b.digests.join();
}
