import { QUARANTINE_LIMIT } from "../../api/inference-deployment.ts";
import { unreachable } from "../../base/result.ts";
import type { Facts } from "../facts.ts";
import {
  type Completed,
  type Exposed,
  newStep,
  type Pending,
  type Quarantined,
  type ReleaseRef,
  type RolledBack,
  type RollingBack,
  type RolloutState,
} from "./state.ts";
import { stepsOf } from "./strategy.ts";
import {
  abort,
  atStep,
  carry,
  complete,
  ignoreRequests,
  start,
  stayRolledBack,
  withHistory,
} from "./transitions.ts";
import { whileUnderWay } from "./under-way.ts";

// The state machine: one step. Rules are tried in order, and the first that has something to say decides.

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
      const assessment = facts.assessment;
      return assessment === null ? state : whileUnderWay(state, facts, assessment);
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
    return complete(state, state.stable, facts, `devices already run ${release}`);
  }
  const quarantined = state.quarantined.find((entry) => entry.release === release);
  if (quarantined !== undefined) return stayRolledBack(state, quarantined, facts);
  if (!isSameReference(state.candidate, wanted.reference)) {
    const named = { ...state, candidate: wanted.reference };
    if (state.candidate?.release === release) return named;
    return withHistory(named, facts, `${release} will be rolled out`);
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
    ...carry(state),
    candidate: wanted.reference,
    startedAt: facts.now,
    step: newStep(0, step.percent, facts.now),
    exposure: [],
    previousExposure: [],
    configuredAt: null,
  };
  return atStep(begun, facts, step, 0, `starts with ${step.percent} %`);
}

function whileCompleted(state: Completed, facts: Facts): RolloutState {
  const served = ignoreRequests(state, facts, ["abort", "promote", "retry"], "no rollout is in progress");
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
  const served = ignoreRequests(state, facts, ["abort", "promote"], "no rollout is in progress");
  if (served !== null) return served;
  if (state.stable?.release === release) {
    return complete(state, state.stable, facts, `spec.release is ${release} again, which devices run`);
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
  const { quarantined, stable, because, candidate } = state;
  if (because.reason === "Withdrawn") {
    const pending: Pending = { ...carry(state), phase: "Pending", candidate: null };
    const message = `${candidate.release} is withdrawn`;
    return stable === null ? withHistory(pending, facts, message) : complete(pending, stable, facts, message);
  }
  const entry = { release: candidate.release, reason: because.reason, at: facts.now };
  const others = quarantined.filter(({ release }) => release !== candidate.release);
  const target = stable === null ? "no release" : stable.release;
  // Without its entry what spec or stable names would be rolled out again.
  const inUse = [facts.wanted.reference.release, stable?.release, candidate.release];
  const room = bounded([...others, entry], inUse);
  const forgotten = room.forgotten.map(({ release }) => release).join(", ");
  const note =
    forgotten === ""
      ? ""
      : `; ${forgotten} is no longer quarantined, because at most ${QUARANTINE_LIMIT} releases are remembered`;
  return withHistory(
    { ...carry(state), phase: "RolledBack", because, quarantined: room.kept },
    facts,
    `rolled back to ${target}; ${candidate.release} is quarantined${note}`,
  );
}

/** The entries that the status has room for: the oldest go, but none of a release that is in use. */
function bounded(entries: readonly Quarantined[], inUse: readonly (string | undefined)[]) {
  const forgotten = entries
    .filter(({ release }) => !inUse.includes(release))
    .slice(0, Math.max(0, entries.length - QUARANTINE_LIMIT));
  return { kept: entries.filter((entry) => !forgotten.includes(entry)), forgotten };
}

function isSameReference(a: ReleaseRef | null, b: ReleaseRef): boolean {
  return a !== null && a.release === b.release && a.digests.join() === b.digests.join();
}
