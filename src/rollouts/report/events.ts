import type { HistoryEntry, Phase } from "../../api/inference-deployment.ts";
import { REASONS, type Reason } from "../../api/reasons.ts";
import type { EventDraft } from "../../api/resource.ts";
import type { RolloutState } from "../state/state.ts";

/** Events, for transitions only: one for each entry that is new in the history. */
export function eventsOf(before: RolloutState, after: RolloutState): readonly EventDraft[] {
  return after.history
    .filter((entry) => !before.history.includes(entry))
    .map((entry) => ({
      type: isAlarming(entry, after) ? "Warning" : "Normal",
      reason: eventReason(entry, after),
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

const REASON_OF = {
  Pending: REASONS.StepInProgress,
  Progressing: REASONS.StepInProgress,
  Holding: REASONS.Held,
  Frozen: REASONS.Frozen,
  Baking: REASONS.Baking,
  Completed: REASONS.Completed,
  RollingBack: REASONS.RollingBack,
  RolledBack: REASONS.RolledBack,
} as const satisfies Readonly<Record<Phase, Reason>>;

/** A rollback is reported with its cause. */
function eventReason({ phase }: HistoryEntry, after: RolloutState): Reason {
  return phase === "RollingBack" && after.phase === "RollingBack" ? after.because.reason : REASON_OF[phase];
}
