import { type ConditionDraft, stampConditions } from "../../api/condition.ts";
import {
  type HistoryEntry,
  type InferenceDeployment,
  type InferenceDeploymentStatus,
  type Request,
  requestAnnotation,
} from "../../api/inference-deployment.ts";
import { REASONS, type Reason } from "../../api/reasons.ts";
import type { Note } from "../../api/resource.ts";
import { canonicalJson } from "../../base/digest.ts";
import { redacted } from "../../base/redact.ts";
import { type Fault, unreachable } from "../../base/result.ts";
import { durationText } from "../../base/time.ts";
import { deletionPolicyOf, remainsOf } from "../configurations/cleanup.ts";
import { bringsModule } from "../configurations/content.ts";
import { devices } from "../evidence/cohort.ts";
import { type Arrival, arrivalOf, type Facts, type Trial } from "../facts.ts";
import {
  membershipProblem,
  type Problem,
  releaseProblem,
  type Verification,
  verificationOf,
} from "../preconditions.ts";
import type { Seen } from "../seen.ts";
import { breachNow, breachOf, type Held, heldNow } from "../state/advance.ts";
import { fieldsOf, isUnderWay, type RolloutState, type UnderWay } from "../state/state.ts";
import { currentStep, holdOf } from "../state/strategy.ts";

// Counts and conditions, from scratch on every pass. Nothing here is ever read back to decide.

type Status = InferenceDeploymentStatus;

/** What acting found out that only a person can change. */
export type Acted = { readonly problem: Problem | null };

export function reportOf(state: RolloutState, facts: Facts, acted: Acted, fault: Fault | null): Status {
  const { seen } = facts;
  const problem = acted.problem ?? standingProblem(state, facts);
  const { trial } = facts;
  const { analysis, examples } = findings(state, facts);
  const arrival = arrivalOf(seen, state.stable);
  return {
    observedGeneration: seen.deployment.generation,
    ...fieldsOf(state),
    devices: {
      matched: seen.members.length,
      exposed: trial?.cohort.exposed.length ?? 0,
      updated: trial === null ? arrival.running : trial.cohort.running,
      failed: trial?.cohort.failed ?? 0,
      offline: trial?.cohort.offline ?? 0,
      onStable: arrival.running,
    },
    ...(examples.length === 0 ? {} : { failedDevices: examples }),
    ...(analysis.length === 0 ? {} : { analysis }),
    conditions: stamped(seen, conditionsOf(state, facts, problem, fault, arrival)),
  };
}

/** What the candidate was found to do; kept after its end, because it says why. */
function findings(
  state: RolloutState,
  { trial, evidence, seen }: Facts,
): { readonly analysis: NonNullable<Status["analysis"]>; readonly examples: readonly string[] } {
  const before = seen.deployment.status;
  const kept = { analysis: before?.analysis ?? [], examples: before?.failedDevices ?? [] };
  const found = (of: Trial | null) =>
    of === null ? kept : { analysis: of.analysis.results, examples: of.cohort.examples };
  switch (state.phase) {
    case "Pending":
      return { analysis: [], examples: [] };
    case "Frozen":
      return kept;
    case "Progressing":
    case "Holding":
    case "Baking":
      return found(trial);
    case "RollingBack":
    case "RolledBack":
      return found(evidence);
    case "Completed":
      return { ...found(evidence), examples: [] };
    default:
      return unreachable(state);
  }
}

/** While the hub cannot be asked what became of an object without status, nothing but this is known. */
export function reportUnknown(seen: Seen): Status {
  const message = `what devices run is read from the hub first: ${hubText(seen)}`;
  return {
    ...seen.deployment.status,
    observedGeneration: seen.deployment.generation,
    conditions: stamped(seen, [
      draft("Ready", "False", hubReason(seen), message),
      draft("HubReachable", seen.hub.reachable ? "Unknown" : "False", hubReason(seen), hubText(seen)),
      draft("Reconciling", "True", hubReason(seen), message),
    ]),
  };
}

/** A deletion that waits says for what. */
export function reportCleanup(seen: Seen, fault: Fault | null): Status {
  const remains = remainsOf(seen);
  const reachable = seen.hub.reachable && seen.configurations !== null;
  const handovers = [...remains.handovers]
    .slice(0, 5)
    .map(([heirs, count]) => handoverText(seen, heirs, count));
  const waits = [
    ...(remains.configurations === 0 ? [] : [`${remains.configurations} configurations on the hub`]),
    ...(remains.pointers === 0 ? [] : [`the model pointers of ${devices(remains.pointers)}`]),
    ...(remains.tags === 0 ? [] : [`the tags of ${devices(remains.tags)}`]),
  ];
  const left = `still to be done (deletionPolicy ${deletionPolicyOf(seen)}): ${waits.length === 0 ? "nothing" : waits.join(", ")}`;
  const message = reachable
    ? `being deleted; ${handovers.length === 0 ? left : handovers.join("; ")}`
    : `being deleted; nothing can be removed from the hub now: ${hubText(seen)}`;
  return {
    ...seen.deployment.status,
    observedGeneration: seen.deployment.generation,
    conditions: stamped(seen, [
      draft("Ready", "False", REASONS.Deleting, message),
      hubCondition(seen, fault),
      draft("Reconciling", "True", REASONS.Deleting, message),
    ]),
  };
}

function handoverText(seen: Seen, heirs: string, count: number): string {
  const { namespace } = seen.deployment;
  return heirs.includes(", ")
    ? `${devices(count)} are selected by ${heirs} at once: narrow one of the selectors, and one of them takes them over`
    : `${devices(count)} are handed over to ${heirs}, and keep what they run until it serves them: kubectl -n ${namespace} describe idep ${heirs}`;
}

/** Whether a report says something new, beyond numbers that move by themselves. */
export function isNews(before: Status | null, after: Status): boolean {
  return canonicalJson(essence(before)) !== canonicalJson(essence(after));
}

function essence(status: Status | null): unknown {
  if (status === null) return null;
  const { devices: _counts, analysis = [], conditions = [], failedDevices: _examples, ...state } = status;
  return {
    ...state,
    analysis: analysis.map(({ metric, verdict, breachedSince }) => ({ metric, verdict, breachedSince })),
    conditions: conditions.map(({ type, status: is, reason, observedGeneration }) => ({
      type,
      is,
      reason,
      observedGeneration,
    })),
  };
}

/** Events, for transitions only: one for each entry that is new in the history. */
export function narrate(before: RolloutState, after: RolloutState): readonly Note[] {
  return after.history
    .filter((entry) => !before.history.includes(entry))
    .map((entry) => ({
      type: isAlarming(entry, after) ? "Warning" : "Normal",
      reason: noteReason(entry, after),
      message: nameFirst(entry),
    }));
}

function isAlarming({ phase }: HistoryEntry, after: RolloutState): boolean {
  const isWithdrawal = after.phase === "RollingBack" && after.because.reason === "Withdrawn";
  return phase === "Frozen" || phase === "RolledBack" || (phase === "RollingBack" && !isWithdrawal);
}

/** An event is read without its history: it names the release, once. */
function nameFirst({ release, message }: HistoryEntry): string {
  return release === undefined || message.startsWith(`${release} `) ? message : `${release}: ${message}`;
}

function noteReason(entry: HistoryEntry, after: RolloutState): Reason {
  switch (entry.phase) {
    case "Pending":
    case "Progressing":
      return REASONS.StepInProgress;
    case "Holding":
      return REASONS.Held;
    case "Frozen":
      return REASONS.Frozen;
    case "Baking":
      return REASONS.Baking;
    case "Completed":
      return REASONS.Completed;
    case "RollingBack":
      return after.phase === "RollingBack" ? after.because.reason : REASONS.RollingBack;
    case "RolledBack":
      return REASONS.RolledBack;
    default:
      return unreachable(entry.phase);
  }
}

// ── conditions

function conditionsOf(
  state: RolloutState,
  facts: Facts,
  problem: Problem | null,
  fault: Fault | null,
  arrival: Arrival,
): readonly Bare[] {
  const { seen } = facts;
  const told = tell(state, facts, problem, arrival);
  const isReady = state.phase === "Completed" && problem === null && arrival.complete;
  return [
    draft("Ready", isReady ? "True" : "False", told.reason, told.message),
    draft("Progressing", told.moving ? "True" : "False", told.reason, told.message),
    degraded(state, facts, told),
    releaseVerified(state, facts),
    hubCondition(seen, fault),
    ...conflict(seen),
    ...(isReady ? [] : [draft(told.stalled ? "Stalled" : "Reconciling", "True", told.reason, told.message)]),
  ];
}

type Told = {
  readonly reason: Reason;
  readonly message: string;
  readonly moving: boolean;
  readonly stalled: boolean;
};

/** The one sentence that somebody reads at three in the morning. */
function tell(state: RolloutState, facts: Facts, problem: Problem | null, arrival: Arrival): Told {
  const { seen, wanted, trial } = facts;
  const moving = (reason: Reason, message: string): Told => ({
    reason,
    message,
    moving: true,
    stalled: false,
  });
  const standing = (reason: Reason, message: string): Told => ({
    reason,
    message,
    moving: false,
    stalled: false,
  });
  const stuck = (reason: Reason, message: string): Told => ({
    reason,
    message,
    moving: false,
    stalled: true,
  });
  const matched = seen.members.length;
  if (problem?.reason === REASONS.StateContradicted) return stuck(problem.reason, problem.message);
  switch (state.phase) {
    case "Pending": {
      const { release } = wanted.reference;
      if (problem !== null) return stuck(problem.reason, problem.message);
      const { verification } = wanted;
      if (verification.kind === "missing") {
        return standing(
          REASONS.ReleaseMissing,
          `there is no ModelRelease ${release} in namespace ${seen.deployment.namespace}`,
        );
      }
      if (verification.kind === "failed") {
        return stuck(REASONS.ReleaseRejected, `${release}: ${verification.message}; nothing is exposed`);
      }
      if (verification.kind === "unverified") {
        return standing(
          REASONS.ReleaseUnverified,
          `${release} is not verified yet (${verification.message}); nothing is exposed`,
        );
      }
      if (!facts.hubReadable)
        return standing(REASONS.Frozen, `${release} waits for the hub: ${hubText(seen)}`);
      if (seen.deployment.spec.paused === true)
        return standing(REASONS.Paused, `${release} waits because spec.paused is true`);
      return moving(REASONS.StepInProgress, `${release} is about to go out to ${devices(matched)}`);
    }
    case "Progressing":
    case "Baking":
    case "Holding":
      return trial === null
        ? moving(REASONS.StepInProgress, state.candidate.release)
        : tellTrial(state, facts, trial, problem);
    case "Frozen":
      return standing(
        REASONS.Frozen,
        `${widthText(state, facts)}; nothing is widened until the hub can be read again, then it continues automatically: ${hubText(seen)}`,
      );
    case "Completed": {
      if (problem !== null) return stuck(problem.reason, problem.message);
      const { running, missing, complete } = arrival;
      const silent = matched - running - missing.length;
      const rest = [
        ...(missing.length === 0 ? [] : [`${devices(missing.length)} not yet (${namesOf(missing)})`]),
        ...(silent === 0 ? [] : [`${devices(silent)} disabled or not heard from`]),
      ];
      const text = [`${running} of ${devices(matched)} report ${state.stable.release}`, ...rest].join("; ");
      return complete ? standing(REASONS.Completed, text) : moving(REASONS.Updating, text);
    }
    case "RollingBack": {
      const left = facts.rollback.devices.length;
      return moving(
        REASONS.RollingBack,
        `${state.candidate.release} is taken back to ${targetText(state)}: ${state.because.message}; ${devices(left)} still to be looked at or brought back`,
      );
    }
    case "RolledBack": {
      const back =
        state.stable === null
          ? ""
          : ` ${arrival.running} of ${devices(matched)} report ${state.stable.release}.`;
      return stuck(
        REASONS.RolledBack,
        `${state.because.release} is quarantined, and devices are desired on ${targetText(state)}: ${state.because.message}.${back} It goes out again when you type: ${annotate(seen.deployment, "retry")}`,
      );
    }
    default:
      return unreachable(state);
  }
}

function tellTrial(
  state: Exclude<UnderWay, { readonly phase: "Frozen" }>,
  facts: Facts,
  trial: Trial,
  problem: Problem | null,
): Told {
  const { seen } = facts;
  const width = widthText(state, facts);
  const breach = breachOf(state);
  if (breach !== null) {
    const now = breachNow(state, facts, trial) === null ? "; it is within its bounds again" : "";
    return {
      reason: breach.reason,
      message: `${width}; held for a person because rollback.mode is Hold: ${breach.message}${now}. Take it back: ${annotate(seen.deployment, "abort")}. Go on, once nothing is breached: ${annotate(seen.deployment, "promote")}`,
      moving: false,
      stalled: true,
    };
  }
  const held: Held | null = problem ?? heldNow(state, facts, trial);
  if (held !== null) {
    const stalled = problem !== null && held.reason !== REASONS.Paused;
    const hint =
      held.reason === REASONS.ObjectiveWarning ||
      held.reason === REASONS.Inconclusive ||
      held.reason === REASONS.DeadlineExceeded
        ? `. Go on all the same: ${annotate(seen.deployment, "promote")}. Take it back: ${annotate(seen.deployment, "abort")}`
        : "";
    return { reason: held.reason, message: `${width}; ${held.message}${hint}`, moving: false, stalled };
  }
  const { cohort } = trial;
  const missing = cohort.waiting + cohort.stragglers;
  const parts = [
    `${cohort.running} run it`,
    ...(missing === 0 ? [] : [`${missing} on the way${providedText(facts, trial)}`]),
    ...(cohort.failed === 0 ? [] : [`${cohort.failed} failed`]),
    ...(cohort.offline === 0 ? [] : [`${cohort.offline} offline`]),
  ];
  const evidence = evidenceText(state, facts, trial);
  const waits = trial.converged ? evidence : "";
  const reason = state.phase === "Baking" ? REASONS.Baking : REASONS.StepInProgress;
  return {
    reason,
    message: `${width}; ${parts.join(", ")}${waits === "" ? "" : `; ${waits}`}`,
    moving: true,
    stalled: false,
  };
}

/** What a converged step still waits for. */
function evidenceText(state: UnderWay, facts: Facts, { analysis, coverage }: Trial): string {
  if (!coverage.enough) return coverage.message;
  return analysis.overall === "Pass" ? holdText(state, facts) : analysis.message;
}

/** A module that neither this deployment nor another one brings to the devices will never report. */
function providedText({ seen }: Facts, { cohort }: Trial): string {
  const { name, image } = seen.deployment.spec.module;
  const isAwaited =
    image === undefined && seen.configurations !== null && cohort.exposed.some(({ iotEdge }) => iotEdge);
  if (!isAwaited || seen.members.some(({ report }) => report !== null)) return "";
  if ((seen.configurations ?? []).some((configuration) => bringsModule(configuration, name))) return "";
  return `: no device has reported from module ${name}, and no deployment on the hub brings it; set spec.module.image, or deploy the module`;
}

function namesOf(names: readonly string[]): string {
  const shown = names.slice(0, 3).join(", ");
  return names.length > 3 ? `${shown} and ${names.length - 3} more` : shown;
}

function holdText(state: UnderWay, facts: Facts): string {
  const hold = holdOf(currentStep(state.step, facts.seen));
  // No countdown: a message that ticks would be written again and again.
  return hold === 0 || state.phase === "Baking"
    ? "analysis passes"
    : `analysis passes, held for ${durationText(hold)}`;
}

function widthText(state: UnderWay, facts: Facts): string {
  const { members } = facts.seen;
  const exposed = facts.trial?.cohort.exposed.length ?? 0;
  const merged = mergedText(state, facts);
  return `${state.candidate.release} at ${state.step.percent} %: ${exposed} of ${devices(members.length)} exposed${merged}`;
}

/** Strata that make a condition longer than the hub accepts are merged, and that is said. */
function mergedText(state: UnderWay, facts: Facts): string {
  if (state.step.percent >= 100) return "";
  const wanted = facts.seen.deployment.spec.strategy?.stratifyBy ?? ["Site", "DeviceClass"];
  const first = state.exposure[0];
  const lost = wanted.filter((by) =>
    by === "Site" ? first?.site === undefined : first?.deviceClass === undefined,
  );
  if (first === undefined || lost.length === 0) return "";
  return ` (not shared out by ${lost.join(" and ")}: the target condition would be too long for the hub)`;
}

function degraded(state: RolloutState, facts: Facts, told: Told): Bare {
  if (
    state.phase === "RolledBack" ||
    (state.phase === "RollingBack" && state.because.reason !== "Withdrawn")
  ) {
    return draft("Degraded", "True", state.because.reason, told.message);
  }
  if (isUnderWay(state) && breachOf(state) !== null)
    return draft("Degraded", "True", breachOf(state)?.reason ?? REASONS.ObjectiveBreached, told.message);
  const stable = state.stable === null ? undefined : facts.seen.releases[state.stable.release];
  const verdict = verificationOf(stable);
  if (verdict.kind === "failed" && state.phase === "Completed") {
    return draft(
      "Degraded",
      "True",
      REASONS.VerificationFailed,
      `devices run ${state.stable?.release}, which does not pass verification any more: ${verdict.message}; roll another release out`,
    );
  }
  return draft("Degraded", "False", REASONS.Healthy, "nothing was taken back");
}

/** About the release in spec, or, while another one is out, about that one. */
function releaseVerified(state: RolloutState, facts: Facts): Bare {
  const out = isUnderWay(state) ? state.candidate.release : facts.wanted.reference.release;
  const verification: Verification =
    facts.trial === null ? facts.wanted.verification : facts.trial.verification;
  switch (verification.kind) {
    case "missing":
      return draft("ReleaseVerified", "Unknown", REASONS.ReleaseMissing, `there is no ModelRelease ${out}`);
    case "unverified":
      return draft("ReleaseVerified", "False", REASONS.ReleaseUnverified, `${out}: ${verification.message}`);
    case "failed":
      return draft("ReleaseVerified", "False", REASONS.ReleaseRejected, `${out}: ${verification.message}`);
    case "verified":
      return draft(
        "ReleaseVerified",
        "True",
        REASONS.ReleaseVerified,
        `every variant of ${out} has passed verification`,
      );
    default:
      return unreachable(verification);
  }
}

function hubCondition(seen: Seen, fault: Fault | null): Bare {
  if (!seen.hub.reachable) return draft("HubReachable", "False", hubReason(seen), hubText(seen));
  if (seen.configurations === null) {
    return draft("HubReachable", "Unknown", REASONS.HubUnavailable, hubText(seen));
  }
  if (fault?.kind === "denied")
    return draft("HubReachable", "False", REASONS.HubDenied, redacted(fault.message));
  if (fault?.kind === "rejected")
    return draft("HubReachable", "True", REASONS.HubRejected, redacted(fault.message));
  return draft("HubReachable", "True", REASONS.HubReachable, "the hub answers");
}

/** A right that is missing is mended by somebody else than an outage. */
function hubReason(seen: Seen): Reason {
  return !seen.hub.reachable && seen.hub.kind === "denied" ? REASONS.HubDenied : REASONS.HubUnavailable;
}

function hubText(seen: Seen): string {
  if (!seen.hub.reachable)
    return redacted(seen.hub.message === "" ? "the hub does not answer" : seen.hub.message);
  return seen.configurations === null ? "its configurations have not been listed yet" : "the hub answers";
}

/** Present only while it is true. */
function conflict(seen: Seen): readonly Bare[] {
  if (seen.contested.length === 0) return [];
  const rivals = new Map<string, number>();
  for (const { rivals: names } of seen.contested) {
    for (const name of names) rivals.set(name, (rivals.get(name) ?? 0) + 1);
  }
  const named = [...rivals]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, count]) => `${name} (${devices(count)})`);
  return [
    draft(
      "Conflict",
      "True",
      REASONS.Conflict,
      `module ${seen.deployment.spec.module.name} is wanted by another deployment as well: ${named.slice(0, 10).join(", ")}; new releases go to neither's devices until one selector lets go of them`,
    ),
  ];
}

/** A problem that stands apart from what acting found out. */
function standingProblem(state: RolloutState, facts: Facts): Problem | null {
  const { seen } = facts;
  switch (state.phase) {
    case "Pending":
      return facts.wanted.problem;
    case "Progressing":
    case "Holding":
    case "Frozen":
    case "Baking":
      return facts.trial?.problem ?? null;
    case "Completed": {
      const { release: name } = state.stable;
      const release = seen.releases[name];
      const gone = {
        reason: REASONS.ReleaseMissing,
        message: `devices run ${name}, but ModelRelease ${name} is gone: it cannot be delivered to further devices; apply it again, or name another release`,
      };
      return membershipProblem(seen) ?? (release === undefined ? gone : releaseProblem(seen, release));
    }
    case "RollingBack":
    case "RolledBack":
      return null;
    default:
      return unreachable(state);
  }
}

function targetText(state: RolloutState): string {
  return state.stable === null ? "no release (nothing ran here before)" : state.stable.release;
}

function annotate(deployment: InferenceDeployment, request: Request): string {
  return `kubectl -n ${deployment.namespace} annotate idep ${deployment.name} ${requestAnnotation(request)}=$(date +%s) --overwrite`;
}

/** A condition that has yet to be told its generation and its time. */
type Bare = Omit<ConditionDraft, "observedGeneration">;

function draft(type: string, status: Bare["status"], reason: Reason, message: string): Bare {
  return { type, status, reason, message };
}

function stamped(seen: Seen, drafts: readonly Bare[]): NonNullable<Status["conditions"]> {
  const { generation, status } = seen.deployment;
  return stampConditions(
    status?.conditions ?? [],
    drafts.map((one) => ({ ...one, observedGeneration: generation })),
    seen.now,
  );
}
