import type { Problem } from "../../api/reasons.ts";
import { REASONS } from "../../api/reasons.ts";
import type { Fault } from "../../base/fault.ts";
import { unreachable } from "../../base/result.ts";
import { deletionPolicyOf, remainsOf } from "../configurations/cleanup.ts";
import { arrivalOf, type CandidateAssessment, type Facts } from "../facts.ts";
import { membershipProblem, releaseProblem } from "../preconditions.ts";
import type { RolloutSeen } from "../seen.ts";
import type { Decided } from "../state/holds.ts";
import { fieldsOf, type RolloutState } from "../state/state.ts";
import { devices } from "../text.ts";
import { conditionsOf } from "./conditions.ts";
import { draft, type Status, stamped } from "./draft.ts";
import { hubCondition, hubReason, hubText } from "./hub-condition.ts";

// Counts and conditions, from scratch on every pass. Nothing here is ever read back to decide.

/** What acting found out that only a person can change. */
export type RolloutActed = { readonly problem: Problem | null };

export function statusOf(decided: Decided, acted: RolloutActed, fault: Fault | null): Status {
  const { state, facts } = decided;
  const { seen } = facts;
  const problem = acted.problem ?? standingProblem(state, facts);
  const { assessment } = facts;
  const { analysis, examples } = findings(state, facts);
  const arrival = arrivalOf(seen, state.stable);
  return {
    observedGeneration: seen.deployment.generation,
    ...fieldsOf(state),
    devices: {
      matched: seen.members.length,
      exposed: assessment?.cohort.exposed.length ?? 0,
      updated: assessment === null ? arrival.running : assessment.cohort.running,
      failed: assessment?.cohort.failed ?? 0,
      offline: assessment?.cohort.offline ?? 0,
      onStable: arrival.running,
    },
    ...(examples.length === 0 ? {} : { failedDevices: examples }),
    ...(analysis.length === 0 ? {} : { analysis }),
    conditions: stamped(seen, conditionsOf(decided, problem, fault, arrival)),
  };
}

/** What the analysis of the candidate found; it stays after the end of the rollout, because it explains the end. */
function findings(
  state: RolloutState,
  { assessment, evidence, seen }: Facts,
): { readonly analysis: NonNullable<Status["analysis"]>; readonly examples: readonly string[] } {
  const before = seen.deployment.status;
  const kept = { analysis: before?.analysis ?? [], examples: before?.failedDevices ?? [] };
  const found = (of: CandidateAssessment | null) =>
    of === null ? kept : { analysis: of.analysis.results, examples: of.cohort.examples };
  switch (state.phase) {
    case "Pending":
      return { analysis: [], examples: [] };
    case "Frozen":
      return kept;
    case "Progressing":
    case "Holding":
    case "Baking":
      return found(assessment);
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
export function statusOfUnknown(seen: RolloutSeen): Status {
  const message = `waiting until the hub has been read: ${hubText(seen)}`;
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
export function statusOfCleanup(seen: RolloutSeen, fault: Fault | null): Status {
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
  const left = `remaining (deletionPolicy ${deletionPolicyOf(seen)}): ${waits.length === 0 ? "nothing" : waits.join(", ")}`;
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

function handoverText(seen: RolloutSeen, heirs: string, count: number): string {
  const { namespace } = seen.deployment;
  return heirs.includes(", ")
    ? `${devices(count)} are selected by ${heirs}: narrow the selectors so that only one of them takes the devices over`
    : `${devices(count)} are being handed over to ${heirs} and keep what they run until then: kubectl -n ${namespace} describe idep ${heirs}`;
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
      return facts.assessment?.problem ?? null;
    case "Completed": {
      const { release: name } = state.stable;
      const release = seen.releases[name];
      const gone = {
        reason: REASONS.ReleaseMissing,
        message: `devices run ${name}, but ModelRelease ${name} no longer exists, so further devices cannot receive it; apply it again, or set another release`,
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
