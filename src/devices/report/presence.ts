import { REASONS, type Reason } from "../../api/reasons.ts";
import {
  durationText,
  elapsed,
  type Instant,
  later,
  type Millis,
  parseTimestamp,
  TIMESTAMP_FORM,
  timestampOf,
} from "../../base/time.ts";
import type { ModuleSlot } from "../seen.ts";

/** The newest heartbeat of all slots, by the device's clock; `null` where there is none. */
export function heartbeatOf(slots: Readonly<Record<string, ModuleSlot>>): Instant | null {
  let newest: Instant | null = null;
  for (const { report } of Object.values(slots)) {
    const at = report === null ? null : parseTimestamp(report.heartbeatAt);
    if (at !== null && (newest === null || at > newest)) newest = at;
  }
  return newest;
}

export type Presence = {
  readonly status: "True" | "False" | "Unknown";
  readonly reason: Reason;
  readonly message: string;
};

/** Whether a device is there. No words that change with every heartbeat: they would be written to the API server. */
export function presenceOf(facts: {
  readonly enabled: boolean;
  /** Whether there is a report, whatever its heartbeat is. */
  readonly hasReported: boolean;
  readonly heartbeatAt: Instant | null;
  readonly timeout: Millis;
  readonly hubReachable: boolean;
  readonly now: Instant;
}): Presence {
  const { enabled, hasReported, heartbeatAt, timeout, hubReachable, now } = facts;
  if (!enabled)
    return {
      status: "False",
      reason: REASONS.Disabled,
      message: "the hub refuses the device's connection, because spec.enabled is false",
    };
  if (heartbeatAt === null && !hubReachable) return UNREACHABLE;
  if (heartbeatAt === null)
    return {
      status: "Unknown",
      reason: REASONS.NeverSeen,
      message: hasReported
        ? `the device reports, but its heartbeatAt is invalid: it must be ${TIMESTAMP_FORM}`
        : "the device has not reported yet",
    };
  const limit = durationText(timeout);
  if (heartbeatAt > later(now, timeout))
    return {
      status: "Unknown",
      reason: REASONS.ClockAhead,
      message: `the device's clock is more than ${limit} ahead, so whether it is online cannot be determined; check its time source`,
    };
  if (elapsed(heartbeatAt, now) < timeout)
    return {
      status: "True",
      reason: REASONS.Heartbeat,
      message: `the device reports at least every ${limit}`,
    };
  if (!hubReachable) return UNREACHABLE;
  return {
    status: "False",
    reason: REASONS.HeartbeatMissing,
    message: `no report since ${timestampOf(heartbeatAt)}, for longer than ${limit}; check the device's power, network and clock`,
  };
}

const UNREACHABLE: Presence = {
  status: "Unknown",
  reason: REASONS.HubUnavailable,
  message: "the hub cannot be read at the moment, so whether the device is online is unknown",
};
