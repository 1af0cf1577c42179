import { type InferenceDeployment, type Request, requestAnnotation } from "../../api/inference-deployment.ts";
import type { Problem } from "../../api/reasons.ts";
import { REASONS, type Reason } from "../../api/reasons.ts";
import { unreachable } from "../../base/result.ts";
import { durationText } from "../../base/time.ts";
import { bringsModule } from "../configurations/content.ts";
import type { Arrival, CandidateAssessment, Facts } from "../facts.ts";
import type { Decided } from "../state/holds.ts";
import { breachOf } from "../state/holds.ts";
import type { Completed, RolloutState, UnderWay } from "../state/state.ts";
import { currentStep, holdOf, stratifyByOf } from "../state/strategy.ts";
import { devices } from "../text.ts";
import { hubText } from "./hub-condition.ts";

// The one sentence of a rollout: what Ready, Progressing, and Stalled or Reconciling say.

export type Summary = {
  readonly reason: Reason;
  readonly message: string;
  readonly moving: boolean;
  readonly stalled: boolean;
};

/** One sentence: what is going on, why, and what to do about it. */
export function summaryOf(decided: Decided, problem: Problem | null, arrival: Arrival): Summary {
  const { state, facts } = decided;
  const { seen, assessment } = facts;
  const matched = seen.members.length;
  if (problem?.reason === REASONS.StateContradicted) return stuck(problem.reason, problem.message);
  switch (state.phase) {
    case "Pending": {
      return problem === null ? summaryOfPending(facts) : stuck(problem.reason, problem.message);
    }
    case "Progressing":
    case "Baking":
    case "Holding":
      return assessment === null
        ? moving(REASONS.StepInProgress, state.candidate.release)
        : summaryOfCandidate(state, decided, assessment, problem);
    case "Frozen":
      return standing(
        REASONS.Frozen,
        `${widthText(state, facts)}; the rollout continues automatically when the hub can be read again: ${hubText(seen)}`,
      );
    case "Completed": {
      if (problem !== null) return stuck(problem.reason, problem.message);
      return summaryOfCompleted(state, arrival, matched);
    }
    case "RollingBack": {
      const left = facts.rollback.devices.length;
      const unseen =
        left > 0 || facts.rollback.isSwept
          ? ""
          : "; the fleet has to be read from the hub first, to find devices that have left the deployment";
      return moving(
        REASONS.RollingBack,
        `${state.candidate.release} is being rolled back to ${targetText(state)}: ${state.because.message}; ${devices(left)} still to be checked or rolled back${unseen}`,
      );
    }
    case "RolledBack": {
      const back =
        state.stable === null
          ? ""
          : ` ${arrival.running} of ${devices(matched)} report ${state.stable.release}.`;
      return stuck(
        REASONS.RolledBack,
        `${state.because.release} is quarantined, and was rolled back to ${targetText(state)}: ${state.because.message}.${back} To roll it out again: ${annotate(seen.deployment, "retry")}`,
      );
    }
    default:
      return unreachable(state);
  }
}

function moving(reason: Reason, message: string): Summary {
  return { reason, message, moving: true, stalled: false };
}

function standing(reason: Reason, message: string): Summary {
  return { reason, message, moving: false, stalled: false };
}

function stuck(reason: Reason, message: string): Summary {
  return { reason, message, moving: false, stalled: true };
}

function summaryOfPending(facts: Facts): Summary {
  const { seen, wanted } = facts;
  const { release } = wanted.reference;
  const { verification } = wanted;
  if (verification.kind === "missing") {
    return standing(
      REASONS.ReleaseMissing,
      `ModelRelease ${release} does not exist in namespace ${seen.deployment.namespace}`,
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
    return standing(REASONS.Frozen, `${release} is waiting for the hub: ${hubText(seen)}`);
  if (seen.deployment.spec.paused === true)
    return standing(REASONS.Paused, `${release} is waiting, because spec.paused is true`);
  return moving(
    REASONS.StepInProgress,
    `${release} is about to be rolled out to ${devices(seen.members.length)}`,
  );
}

function summaryOfCompleted({ stable }: Completed, arrival: Arrival, matched: number): Summary {
  const { running, missing, complete } = arrival;
  const silent = matched - running - missing.length;
  const rest = [
    ...(missing.length === 0 ? [] : [`${devices(missing.length)} not yet (${namesOf(missing)})`]),
    ...(silent === 0 ? [] : [`${devices(silent)} disabled or not reporting`]),
  ];
  const text = [`${running} of ${devices(matched)} report ${stable.release}`, ...rest].join("; ");
  return complete ? standing(REASONS.Completed, text) : moving(REASONS.Updating, text);
}

function summaryOfCandidate(
  state: Exclude<UnderWay, { readonly phase: "Frozen" }>,
  { facts, objections }: Decided,
  assessment: CandidateAssessment,
  problem: Problem | null,
): Summary {
  const { seen } = facts;
  const width = widthText(state, facts);
  const breach = breachOf(state);
  if (breach !== null) {
    const now = objections.breach === null ? "; it is within its bounds again" : "";
    return {
      reason: breach.reason,
      message: `${width}; held because rollback.mode is Hold: ${breach.message}${now}. To roll it back: ${annotate(seen.deployment, "abort")}. To continue, once nothing is breached: ${annotate(seen.deployment, "promote")}`,
      moving: false,
      stalled: true,
    };
  }
  const held = problem ?? objections.held;
  if (held !== null) {
    const stalled = problem !== null && held.reason !== REASONS.Paused;
    const hint =
      held.reason === REASONS.ObjectiveWarning ||
      held.reason === REASONS.Inconclusive ||
      held.reason === REASONS.DeadlineExceeded
        ? `. To continue anyway: ${annotate(seen.deployment, "promote")}. To roll it back: ${annotate(seen.deployment, "abort")}`
        : "";
    return { reason: held.reason, message: `${width}; ${held.message}${hint}`, moving: false, stalled };
  }
  const { cohort } = assessment;
  const missing = cohort.waiting + cohort.stragglers;
  const parts = [
    `${cohort.running} running`,
    ...(missing === 0 ? [] : [`${missing} updating${providedText(facts, assessment)}`]),
    ...(cohort.failed === 0 ? [] : [`${cohort.failed} failed`]),
    ...(cohort.offline === 0 ? [] : [`${cohort.offline} offline`]),
  ];
  const evidence = evidenceText(state, facts, assessment);
  const waits = assessment.converged ? evidence : "";
  const reason = state.phase === "Baking" ? REASONS.Baking : REASONS.StepInProgress;
  return {
    reason,
    message: `${width}; ${parts.join(", ")}${waits === "" ? "" : `; ${waits}`}`,
    moving: true,
    stalled: false,
  };
}

/** What a converged step still waits for. */
function evidenceText(state: UnderWay, facts: Facts, { analysis, coverage }: CandidateAssessment): string {
  if (!coverage.enough) return coverage.message;
  return analysis.overall === "Pass" ? holdText(state, facts) : analysis.message;
}

/** A module that neither this deployment nor another one brings to the devices will never report. */
function providedText({ seen }: Facts, { cohort }: CandidateAssessment): string {
  const { name, image } = seen.deployment.spec.module;
  const isAwaited =
    image === undefined && seen.configurations !== null && cohort.exposed.some(({ iotEdge }) => iotEdge);
  if (!isAwaited || seen.members.some(({ report }) => report !== null)) return "";
  if ((seen.configurations ?? []).some((configuration) => bringsModule(configuration, name))) return "";
  return `: no device has reported from module ${name}, and no deployment on the hub deploys it; set spec.module.image, or deploy the module`;
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
  const exposed = facts.assessment?.cohort.exposed.length ?? 0;
  const merged = mergedText(state, facts);
  return `${state.candidate.release} at ${state.step.percent} %: ${exposed} of ${devices(members.length)} exposed${merged}`;
}

/** Strata that make a condition longer than the hub accepts are merged, and that is said. */
function mergedText(state: UnderWay, facts: Facts): string {
  if (state.step.percent >= 100) return "";
  const wanted = stratifyByOf(facts.seen);
  const first = state.exposure[0];
  const lost = wanted.filter((by) =>
    by === "Site" ? first?.site === undefined : first?.deviceClass === undefined,
  );
  if (first === undefined || lost.length === 0) return "";
  return ` (not stratified by ${lost.join(" and ")}: the target condition would exceed the limit of the hub)`;
}

function targetText(state: RolloutState): string {
  return state.stable === null ? "no release (nothing ran here before)" : state.stable.release;
}

function annotate(deployment: InferenceDeployment, request: Request): string {
  return `kubectl -n ${deployment.namespace} annotate idep ${deployment.name} ${requestAnnotation(request)}=$(date +%s) --overwrite`;
}
