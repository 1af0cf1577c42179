import { type Condition, findCondition } from "../../api/condition.ts";
import type { EdgeDeviceStatus } from "../../api/edge-device.ts";
import { REASONS } from "../../api/reasons.ts";
import type { EventDraft } from "../../api/resource.ts";
import type { Fault } from "../../base/fault.ts";
import type { DevicePlan } from "../decide.ts";
import type { DeviceActed, DeviceSeen } from "../seen.ts";
import { deletionHold } from "./problem.ts";

/** The identity was removed outside of the operator: the new one has other keys, which the device does not have. */
function recreated({ device, deviceId, host }: DeviceSeen, { created }: DeviceActed): readonly EventDraft[] {
  const had = device.status?.hub?.generationId ?? "";
  if (created === null || had === "" || had === created) return [];
  const secret = device.spec.connectionSecret;
  const keys = secret === undefined ? "" : `, which are in Secret ${secret.name}`;
  return [
    {
      type: "Warning",
      reason: REASONS.IdentityRecreated,
      message: `${deviceId} no longer existed on ${host} and has been recreated with new keys${keys}; the device cannot connect until it has them`,
    },
  ];
}

/**
 * Events report a problem, its end, and an adoption. What goes well from the start is in the status alone: ten thousand
 * new devices are not ten thousand events.
 */
export function eventsOf(
  seen: DeviceSeen,
  plan: DevicePlan,
  acted: DeviceActed,
  fault: Fault | null,
  after: EdgeDeviceStatus,
): readonly EventDraft[] {
  const before = seen.device.status?.conditions ?? [];
  const transitions = transitionsOf(before, after.conditions ?? []);
  const hold = deletionHold(seen, plan, acted, fault);
  if (hold === null) return [...recreated(seen, acted), ...transitions];
  const { reason, message, waitsFor } = hold;
  const warning: EventDraft = { type: "Warning", reason, message };
  if (waitsFor === "hub") return [...transitions, warning];
  return findCondition(before, "Ready")?.reason === reason ? [] : [warning];
}

function transitionsOf(before: readonly Condition[], after: readonly Condition[]): readonly EventDraft[] {
  return ["Registered", "Online", "ModelInSync", "ConnectionSecret", "Conflict"].flatMap(
    (type): readonly EventDraft[] => {
      const had = findCondition(before, type);
      const has = findCondition(after, type);
      if (has === undefined)
        return type === "Conflict" && had !== undefined
          ? [
              {
                type: "Normal",
                reason: REASONS.NoConflict,
                message: "each module is selected by at most one InferenceDeployment again",
              },
            ]
          : [];
      if (had?.reason === has.reason) return [];
      const { reason, message } = has;
      if (PROBLEMS.has(reason)) return [{ type: "Warning", reason, message }];
      if (
        reason === REASONS.Adopted ||
        (had !== undefined && PROBLEMS.has(had.reason) && has.status === "True")
      )
        return [{ type: "Normal", reason, message }];
      return [];
    },
  );
}

const PROBLEMS: ReadonlySet<string> = new Set([
  REASONS.NotPermitted,
  REASONS.OwnedByAnother,
  REASONS.HubRejected,
  REASONS.HubDenied,
  REASONS.HubUnavailable,
  REASONS.HeartbeatMissing,
  REASONS.ClockAhead,
  REASONS.UpdateFailed,
  REASONS.SecretConflict,
  REASONS.KubeUnavailable,
  REASONS.SelectedTwice,
]);
