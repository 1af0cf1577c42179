import {
  ANALYSIS_DEFAULTS,
  BUDGET_DEFAULTS,
  OFFLINE_DEFAULTS,
  REQUESTS,
  type Request,
  requestAnnotation,
} from "../api/inference-deployment.ts";
import { qualifiedName } from "../api/membership.ts";
import type { ModelRelease } from "../api/model-release.ts";
import type { Problem } from "../api/reasons.ts";
import { numberOf } from "../base/decimal.ts";
import { clip } from "../base/text.ts";
import { elapsed, type Instant, millisOf } from "../base/time.ts";
import type { PointerRow } from "../hub/hub.ts";
import { LABEL } from "./configurations/content.ts";
import { conditionsToTest, stratifyFor } from "./configurations/slots.ts";
import { MATCH_NONE } from "./configurations/target.ts";
import { type Budget, type Coverage, coverageOf, failureBudget, hasArrived } from "./evidence/budget.ts";
import { type Cohort, cohortOf } from "./evidence/cohort.ts";
import { evidenceOf } from "./evidence/evidence.ts";
import { type Judgement, judge } from "./evidence/judge.ts";
import { type CohortRules, runs } from "./evidence/standing.ts";
import { hubProblem, membershipProblem, permissionProblem, releaseProblem } from "./preconditions.ts";
import type { Member, RolloutSeen } from "./seen.ts";
import { exposureIndex, type StratifyBy, stratumKey } from "./state/exposure.ts";
import { isUnderWay, type ReleaseRef, type RolloutState, type UnderWay } from "./state/state.ts";
import { deadlineOf, stratifyByOf } from "./state/strategy.ts";
import { referenceOf, type Verification, verificationOf, verificationOfCandidate } from "./verification.ts";

// What was seen, as the facts that the state machine decides on.

export type Facts = {
  readonly now: Instant;
  readonly seen: RolloutSeen;
  /** The release in spec. */
  readonly wanted: {
    readonly reference: ReleaseRef;
    readonly verification: Verification;
    /** Why it cannot begin; `null`: nothing is in the way. */
    readonly problem: Problem | null;
    /** Whether the hub has been asked about every condition that it needs. */
    readonly tested: boolean;
    readonly stratifyBy: StratifyBy;
  };
  /** Requests whose token has not been served yet. */
  readonly requests: Readonly<Record<Request, string | null>>;
  /** Whether the hub answers and its configurations are known. */
  readonly hubReadable: boolean;
  /** Whether the devices that are exposed can be read, although the rest of the fleet may not be. */
  readonly exposedReadable: boolean;
  /** The assessment of the candidate that is out; `null` where none is. */
  readonly assessment: CandidateAssessment | null;
  /** The assessment that the state was decided on, where it has changed in this pass; otherwise `null`. */
  readonly evidence: CandidateAssessment | null;
  /** What a rollback still has to do. */
  readonly rollback: RollbackProgress;
};

export type CandidateAssessment = {
  readonly release: ModelRelease | undefined;
  readonly verification: Verification;
  readonly problem: Problem | null;
  readonly stratifyBy: StratifyBy;
  readonly cohort: Cohort;
  /** Whether every device at this width runs the candidate, has failed within the budget, or need not be waited for. */
  readonly converged: boolean;
  /** Whether the deadline has passed and more is missing than the budget allows. */
  readonly overdue: boolean;
  /** Devices that have been heard recently with the candidate, and with what the objectives need. */
  readonly evidence: number;
  readonly coverage: Coverage;
  readonly budget: Budget;
  readonly analysis: Judgement;
};

export type RollbackProgress = {
  /** Candidate configurations that still target devices. */
  readonly targeting: number;
  /** Devices that are, or may still be, desired on the candidate. */
  readonly devices: readonly DeviceToCheck[];
  /** Whether devices that have left the deployment are known, because the whole fleet has been read since the start. */
  readonly isSwept: boolean;
  readonly done: boolean;
};

export type DeviceToCheck = {
  readonly twin: Pick<Member, "device" | "iotEdge">;
  /** `null`: it has left the deployment, and gets nothing in place of the candidate. */
  readonly member: Pick<Member, "deviceClass" | "iotEdge"> | null;
};

/** After this the hub has evaluated a withdrawn condition everywhere, and a sweep of the fleet view has seen it. */
export const SWEEP_SETTLE = 10 * 60_000;

export function factsOf(seen: RolloutSeen, state: RolloutState): Facts {
  const name = seen.deployment.spec.release.name;
  const release = seen.releases[name];
  const hubReadable = seen.hub.reachable && seen.configurations !== null;
  return {
    now: seen.now,
    seen,
    wanted: {
      reference: release === undefined ? { release: name, digests: [] } : referenceOf(release),
      verification: verificationOf(release),
      ...preconditionsOf(seen, state, release),
    },
    requests: unserved(seen, state),
    hubReadable,
    exposedReadable: seen.hub.reachable || seen.hub.canReadTwins,
    assessment: isUnderWay(state) ? assessmentOf(seen, state) : null,
    evidence: null,
    rollback: rollbackProgress(seen, state),
  };
}

/** Only a rollout that has yet to begin has preconditions. */
function preconditionsOf(
  seen: RolloutSeen,
  state: RolloutState,
  release: ModelRelease | undefined,
): Pick<Facts["wanted"], "problem" | "tested" | "stratifyBy"> {
  if (state.phase !== "Pending") return { problem: null, tested: false, stratifyBy: [] };
  const problem = membershipProblem(seen);
  if (problem !== null || release === undefined) return { problem, tested: false, stratifyBy: [] };
  return {
    problem: permissionProblem(seen, release) ?? releaseProblem(seen, release) ?? hubProblem(seen, release),
    tested: conditionsToTest(seen, release).every((condition) => seen.tested[condition] !== undefined),
    stratifyBy: stratifyFor(seen, release),
  };
}

function unserved(seen: RolloutSeen, state: RolloutState): Facts["requests"] {
  const token = (request: Request): string | null => {
    const written = clip(seen.deployment.annotations[requestAnnotation(request)] ?? "", 256);
    return written === "" || written === state.handled[request] ? null : written;
  };
  const [abort, promote, retry] = REQUESTS;
  return { abort: token(abort), promote: token(promote), retry: token(retry) };
}

function assessmentOf(seen: RolloutSeen, state: UnderWay): CandidateAssessment {
  const { spec } = seen.deployment;
  const release = seen.releases[state.candidate.release];
  const cohort = cohortOf(seen.members, cohortRules(seen, state, release));
  const percent = numberOf((spec.failureBudget ?? BUDGET_DEFAULTS).percent);
  const budget = failureBudget(cohort, spec.failureBudget, percent);
  const { waitingSince, convergedAt, acceptedMissing } = state.step;
  // While it was converged the deadline did not count.
  const isLate =
    elapsed(waitingSince, convergedAt ?? seen.now) >= deadlineOf(seen).after && cohort.untold === 0;
  const isAccepted = acceptedMissing > 0 && cohort.waiting + cohort.stragglers <= acceptedMissing;
  const isTolerated = isAccepted || (isLate && budget.covers);
  const converged = hasArrived(cohort, percent) || (cohort.running > 0 && isTolerated);
  const collected = evidenceOf(seen.members, {
    now: seen.now,
    namespace: seen.deployment.namespace,
    exposure: state.exposure,
    stratifyBy: stratifyByOf(seen),
    stepStarted: state.step.startedAt,
    sweepTime: seen.hub.sweepTime,
    candidate: state.candidate,
    stable: state.stable,
    releases: seen.releases,
  });
  const objectives = spec.objectives ?? [];
  const evidence =
    objectives.length === 0
      ? cohort.heard.length
      : cohort.heard.filter(({ device }) => collected.covering.has(device)).length;
  const minimum = spec.analysis?.minimumCoverage ?? ANALYSIS_DEFAULTS.minimumCoverage;
  return {
    release,
    verification: verificationOfCandidate(state.candidate, release),
    problem: membershipProblem(seen) ?? (release === undefined ? null : releaseProblem(seen, release)),
    stratifyBy: release === undefined ? [] : stratifyFor(seen, release),
    cohort,
    converged,
    overdue: isLate && !converged,
    evidence,
    coverage: coverageOf(cohort, evidence, minimum, acceptedMissing),
    budget,
    analysis: judge(objectives, {
      now: seen.now,
      exposed: cohort.exposed.length,
      ...collected,
      before: seen.deployment.status?.analysis ?? [],
    }),
  };
}

function cohortRules(seen: RolloutSeen, state: UnderWay, release: ModelRelease | undefined): CohortRules {
  const { namespace, spec } = seen.deployment;
  const stratifyBy = stratifyByOf(seen);
  return {
    now: seen.now,
    namespace,
    candidate: state.candidate,
    release,
    exposure: state.exposure,
    previousExposure: state.previousExposure,
    startedAt: state.startedAt,
    stepStarted: state.step.startedAt,
    hearingSince: seen.hub.twinsSince,
    sweepTime: seen.hub.sweepTime,
    isFirst: state.stable === null,
    offline: spec.offline,
    deadline: deadlineOf(seen).after,
    stratumOf: (member) => stratumKey(member, stratifyBy),
  };
}

/**
 * A rollback is over when no candidate configuration targets any device and no device is desired on the candidate: read
 * again after the withdrawal, device by device, up to `fastPathLimit` of them; the rest is known from the sweeps. So are
 * devices that have left: before the first whole sweep since the start one of them may be on the candidate unseen.
 */
function rollbackProgress(seen: RolloutSeen, state: RolloutState): RollbackProgress {
  if (state.phase !== "RollingBack") return { targeting: 0, devices: [], isSwept: false, done: false };
  const own = seen.own;
  const targeting = own.filter(
    ({ labels, targetCondition }) => labels[LABEL.track] === "candidate" && targetCondition !== MATCH_NONE,
  ).length;
  const candidate = qualifiedName({ namespace: seen.deployment.namespace, name: state.candidate.release });
  const deployment = qualifiedName(seen.deployment);
  const covers = exposureIndex(state.exposure);
  const isOnCandidate = (pointer: PointerRow | null): boolean =>
    pointer?.release === candidate && pointer.deployment === deployment;
  const pointing: DeviceToCheck[] = [];
  const unread: DeviceToCheck[] = [];
  let exposed = 0;
  for (const member of seen.members) {
    const isCovered = covers(member);
    if (isCovered) exposed += 1;
    if (isOnCandidate(member.pointer)) pointing.push({ twin: member, member });
    else if (isCovered && !seen.cleared.has(member.device)) unread.push({ twin: member, member });
  }
  // Contested devices keep what they run, unless it is the release that is rolled back.
  for (const contested of seen.contested) {
    if (isOnCandidate(contested.pointer)) pointing.push({ twin: contested, member: contested });
  }
  for (const staleDevice of seen.staleDevices) {
    if (isOnCandidate(staleDevice.pointer)) pointing.push({ twin: staleDevice, member: null });
  }
  const looked = Math.min(exposed, seen.cleared.size);
  const due = unread.slice(0, Math.max(0, seen.settings.fastPathLimit - looked));
  // While queries fail nothing is swept.
  const sweptSince = seen.hub.reachable ? Math.max(state.because.at, seen.hub.since) : seen.now;
  const isAllRead = due.length === 0 && (unread.length === 0 || seen.now - sweptSince >= SWEEP_SETTLE);
  const { isSwept } = seen.hub;
  return {
    targeting,
    devices: [...pointing, ...due],
    isSwept,
    done: seen.configurations !== null && targeting === 0 && pointing.length === 0 && isAllRead && isSwept,
  };
}

export type Arrival = {
  /** Devices whose last report says that they run the release. */
  readonly running: number;
  /** Devices that are there now (enabled, and heard within `offline.after`) and report something else. */
  readonly missing: readonly string[];
  /** Whether so few are missing that the failure budget covers them. */
  readonly complete: boolean;
};

/** What devices report about a release that all of them are meant to run. */
export function arrivalOf(seen: RolloutSeen, reference: ReleaseRef | null): Arrival {
  const { spec } = seen.deployment;
  const after = millisOf((spec.offline ?? OFFLINE_DEFAULTS).after);
  const release = reference === null ? undefined : seen.releases[reference.release];
  const present = seen.members.filter(
    ({ enabled, heardAt }) => enabled && heardAt !== null && elapsed(heardAt, seen.now) < after,
  );
  const missing = present.filter((member) => !runs(member, reference, release));
  return {
    running: countRunning(seen, reference),
    missing: missing.map(({ device }) => device).sort(),
    complete:
      missing.length * 100 <= numberOf((spec.failureBudget ?? BUDGET_DEFAULTS).percent) * present.length,
  };
}

export function countRunning(seen: RolloutSeen, reference: ReleaseRef | null): number {
  if (reference === null) return 0;
  const release = seen.releases[reference.release];
  return seen.members.filter((member) => runs(member, reference, release)).length;
}
