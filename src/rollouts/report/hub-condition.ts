import { REASONS, type Reason } from "../../api/reasons.ts";
import type { Fault } from "../../base/fault.ts";
import { redacted } from "../../base/redact.ts";
import type { RolloutSeen } from "../seen.ts";
import { type Bare, draft } from "./draft.ts";

export function hubCondition(seen: RolloutSeen, fault: Fault | null): Bare {
  if (!seen.hub.reachable) return draft("HubReachable", "False", hubReason(seen), hubText(seen));
  if (seen.configurations === null) {
    return draft("HubReachable", "Unknown", REASONS.HubUnavailable, hubText(seen));
  }
  if (fault?.kind === "denied")
    return draft("HubReachable", "False", REASONS.HubDenied, redacted(fault.message));
  if (fault?.kind === "rejected")
    return draft("HubReachable", "True", REASONS.HubRejected, redacted(fault.message));
  return draft("HubReachable", "True", REASONS.HubReachable, "the hub is responding");
}

/** A missing right and an outage have different owners, so they are different reasons. */
export function hubReason(seen: RolloutSeen): Reason {
  return !seen.hub.reachable && seen.hub.kind === "denied" ? REASONS.HubDenied : REASONS.HubUnavailable;
}

export function hubText(seen: RolloutSeen): string {
  if (!seen.hub.reachable)
    return redacted(seen.hub.message === "" ? "the hub is not responding" : seen.hub.message);
  return seen.configurations === null
    ? "its configurations have not been listed yet"
    : "the hub is responding";
}
