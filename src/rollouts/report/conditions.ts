import type { Problem } from "../../api/reasons.ts";
import { REASONS } from "../../api/reasons.ts";
import type { Fault } from "../../base/fault.ts";
import { unreachable } from "../../base/result.ts";
import type { Arrival, Facts } from "../facts.ts";
import type { RolloutSeen } from "../seen.ts";
import type { Decided } from "../state/holds.ts";
import { breachOf } from "../state/holds.ts";
import { isUnderWay, type RolloutState } from "../state/state.ts";
import { devices } from "../text.ts";
import { type Verification, verificationOf } from "../verification.ts";
import { type Bare, draft } from "./draft.ts";
import { hubCondition } from "./hub-condition.ts";
import { type Summary, summaryOf } from "./message.ts";

export function conditionsOf(
  decided: Decided,
  problem: Problem | null,
  fault: Fault | null,
  arrival: Arrival,
): readonly Bare[] {
  const { state, facts } = decided;
  const { seen } = facts;
  const summary = summaryOf(decided, problem, arrival);
  const isReady = state.phase === "Completed" && problem === null && arrival.complete;
  return [
    draft("Ready", isReady ? "True" : "False", summary.reason, summary.message),
    draft("Progressing", summary.moving ? "True" : "False", summary.reason, summary.message),
    degraded(state, facts, summary),
    releaseVerified(state, facts),
    hubCondition(seen, fault),
    ...conflict(seen),
    ...(isReady
      ? []
      : [draft(summary.stalled ? "Stalled" : "Reconciling", "True", summary.reason, summary.message)]),
  ];
}

function degraded(state: RolloutState, facts: Facts, summary: Summary): Bare {
  if (
    state.phase === "RolledBack" ||
    (state.phase === "RollingBack" && state.because.reason !== "Withdrawn")
  ) {
    return draft("Degraded", "True", state.because.reason, summary.message);
  }
  if (isUnderWay(state) && breachOf(state) !== null)
    return draft("Degraded", "True", breachOf(state)?.reason ?? REASONS.ObjectiveBreached, summary.message);
  const stable = state.stable === null ? undefined : facts.seen.releases[state.stable.release];
  const verdict = verificationOf(stable);
  if (verdict.kind === "failed" && state.phase === "Completed") {
    return draft(
      "Degraded",
      "True",
      REASONS.VerificationFailed,
      `devices run ${state.stable?.release}, which no longer passes verification: ${verdict.message}; roll out another release`,
    );
  }
  return draft("Degraded", "False", REASONS.Healthy, "no rollback");
}

/** About the release in spec, or, while another one is out, about that one. */
function releaseVerified(state: RolloutState, facts: Facts): Bare {
  const out = isUnderWay(state) ? state.candidate.release : facts.wanted.reference.release;
  const verification: Verification =
    facts.assessment === null ? facts.wanted.verification : facts.assessment.verification;
  switch (verification.kind) {
    case "missing":
      return draft(
        "ReleaseVerified",
        "Unknown",
        REASONS.ReleaseMissing,
        `ModelRelease ${out} does not exist`,
      );
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

/** Present only while it is true. */
function conflict(seen: RolloutSeen): readonly Bare[] {
  if (seen.contested.length === 0) return [];
  const otherDeployments = new Map<string, number>();
  for (const { otherDeployments: names } of seen.contested) {
    for (const name of names) otherDeployments.set(name, (otherDeployments.get(name) ?? 0) + 1);
  }
  const named = [...otherDeployments]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, count]) => `${name} (${devices(count)})`);
  return [
    draft(
      "Conflict",
      "True",
      REASONS.Conflict,
      `another deployment selects devices for module ${seen.deployment.spec.module.name} as well: ${named.slice(0, 10).join(", ")}; new releases reach these devices only when one of the selectors no longer matches them`,
    ),
  ];
}
