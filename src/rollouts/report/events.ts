import type { HistoryEntry } from "../../api/inference-deployment.ts";
import { REASONS, type Reason } from "../../api/reasons.ts";
import type { EventDraft } from "../../api/resource.ts";
import { unreachable } from "../../base/result.ts";
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

function eventReason(entry: HistoryEntry, after: RolloutState): Reason {
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
