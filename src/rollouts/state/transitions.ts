import {
  type HistoryEntry,
  type Request,
  type RollbackReason,
  requestAnnotation,
  type Step,
} from "../../api/inference-deployment.ts";
import { cut } from "../../base/text.ts";
import { timestampOf } from "../../base/time.ts";
import type { CandidateAssessment, Facts } from "../facts.ts";
import { devices } from "../text.ts";
import { allDevices, boundOf, countExposed, countedFor, expose } from "./exposure.ts";
import {
  type Carried,
  type Completed,
  type Exposed,
  exposureOf,
  newStep,
  type Pending,
  type Quarantined,
  type ReleaseRef,
  type RollbackCause,
  type RolledBack,
  type RollingBack,
  type RolloutState,
  type UnderWay,
} from "./state.ts";

// How one state becomes another. Each says in its history what happened.

const HISTORY = 10;

export function atStep(
  state: Exposed,
  facts: Facts,
  step: Step,
  index: number,
  why: string,
  assessment?: CandidateAssessment,
): RolloutState {
  const { members } = facts.seen;
  const counted = countedFor(members);
  const next: UnderWay = {
    ...state,
    phase: "Progressing",
    step: newStep(index, step.percent, facts.now, state.step.acceptedMissing),
    previousExposure: state.exposure,
    exposure:
      step.percent >= 100
        ? allDevices(members.length)
        : expose(
            counted,
            (assessment ?? facts.wanted).stratifyBy,
            boundOf(step, counted.length),
            state.exposure,
          ),
  };
  const exposed = countExposed(next.exposure, members);
  return withHistory(next, facts, `${why}; ${exposed} of ${devices(members.length)} exposed`);
}

export function start(state: RolloutState, facts: Facts, message?: string): RolloutState {
  const { reference } = facts.wanted;
  const quarantined = state.quarantined.find(({ release }) => release === reference.release);
  if (quarantined !== undefined) return stayRolledBack(state, quarantined, facts);
  const next: Pending = { ...carry(state), phase: "Pending", candidate: reference };
  return withHistory(next, facts, message ?? `${reference.release} will be rolled out`);
}

/** Spec names a release that failed here before: that is the end of it until a person retries it. */
export function stayRolledBack(state: RolloutState, entry: Quarantined, facts: Facts): RolledBack {
  const because: RollbackCause = {
    reason: rollbackReasonOf(entry.reason),
    message: `${entry.release} failed in this deployment before (${entry.reason})`,
    release: entry.release,
    at: entry.at,
  };
  return withHistory({ ...carry(state), phase: "RolledBack", because }, facts, because.message);
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

export function complete(state: RolloutState, stable: ReleaseRef, facts: Facts, message: string): Completed {
  const text = message.startsWith(stable.release) ? message : `${stable.release} is stable: ${message}`;
  return withHistory({ ...carry(state), phase: "Completed", stable }, facts, text);
}

export function abort(
  state: UnderWay | (Pending & { readonly candidate: ReleaseRef }),
  facts: Facts,
  token: string,
): RollingBack {
  const handled = { ...state.handled, abort: token };
  return rollBack({ ...state, handled }, facts, "Aborted", "aborted on request");
}

export function rollBack(
  state: UnderWay | (Pending & { readonly candidate: ReleaseRef }),
  facts: Facts,
  reason: RollbackReason,
  message: string,
): RollingBack {
  const { stable, candidate } = state;
  const text = cut(message, 1000);
  const because: RollbackCause = { reason, message: text, release: candidate.release, at: facts.now };
  const next: RollingBack = {
    ...carry(state),
    phase: "RollingBack",
    candidate,
    exposure: exposureOf(state),
    because,
  };
  return withHistory(next, facts, `back to ${stable === null ? "no release" : stable.release}: ${text}`);
}

/** Requests that have nothing to act on are served too, or they would take effect on a later rollout. */
export function ignoreRequests<S extends RolloutState>(
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

export function withHistory<S extends RolloutState>(state: S, facts: Facts, message: string): S {
  const entry: HistoryEntry = {
    at: timestampOf(facts.now),
    phase: state.phase,
    ...("candidate" in state && state.candidate !== null ? { release: state.candidate.release } : {}),
    ...("step" in state ? { step: state.step.index } : {}),
    message: cut(message, 1024),
  };
  return { ...state, history: [...withoutRepeats(state.history, entry), entry].slice(-HISTORY) };
}

export const FREEZES = "the hub cannot be read; the rollout is frozen until it can";
export const UNFREEZES = "the hub can be read again";

/**
 * A hub that comes and goes counts as one story: of outages that follow each other only the latest stays in the history,
 * and does not push out what happened before. What happened during one, a request that was served for one, stays.
 */
function withoutRepeats(history: readonly HistoryEntry[], entry: HistoryEntry): readonly HistoryEntry[] {
  const [before, last] = history.slice(-2);
  const isRepeat =
    before?.message === FREEZES && last?.message === UNFREEZES && before.release === entry.release;
  return entry.message === FREEZES && isRepeat ? history.slice(0, -2) : history;
}

/** What every phase carries on from the one before it. */
export function carry({ quarantined, handled, history, stable }: RolloutState | Exposed): Carried {
  return { quarantined, handled, history, stable };
}

/** What every phase with exposed devices carries on from another one, without what only that one has. */
export function exposedOf(state: Exposed): Exposed {
  const { candidate, startedAt, step, exposure, previousExposure, configuredAt } = state;
  return { ...carry(state), candidate, startedAt, step, exposure, previousExposure, configuredAt };
}
