import { type Condition, type ConditionDraft, keepMessages, stampConditions } from "../../api/condition.ts";
import type { EdgeDevice, EdgeDeviceStatus } from "../../api/edge-device.ts";
import type { Membership } from "../../api/membership.ts";
import { type Problem, REASONS } from "../../api/reasons.ts";
import { unreachable } from "../../base/result.ts";
import type { HubRecord } from "../decide.ts";
import type { DeviceActed, DeviceSeen, ModuleSlot } from "../seen.ts";
import { type Sync, slotFor, syncOf } from "./model.ts";
import type { Placement } from "./placement.ts";
import { type DeviceProblem, secretProblem } from "./problem.ts";

/** One observed fact, without the fields that are the same for all. */
export type Fact = Pick<ConditionDraft, "status" | "reason" | "message">;

export type Draft = Fact & { readonly type: string };

export type SecretStatus = NonNullable<EdgeDeviceStatus["connectionSecret"]>;

export function factOf({ reason, message }: Problem): Fact {
  return { status: "False", reason, message };
}

export const UNREADABLE: Fact = {
  status: "Unknown",
  reason: REASONS.HubUnavailable,
  message: "the hub cannot be read at the moment",
};

export function registration(
  seen: DeviceSeen,
  record: HubRecord | null,
  problem: DeviceProblem | null,
  acted: DeviceActed,
): Fact {
  const failedSecret = acted.secret?.kind === "failed";
  const registered = record !== null && record.generationId !== "";
  if (problem !== null && !failedSecret) {
    // An identity that is there stays registered while the hub is busy or away.
    const passing = problem.fault?.kind === "throttled" || problem.fault?.kind === "unavailable";
    if (!registered || !passing) return factOf(problem);
  }
  if (!registered)
    return {
      status: "False",
      reason: REASONS.HubConflict,
      message: "the identity was created in the meantime; it will be read again automatically",
    };
  return record.adopted
    ? {
        status: "True",
        reason: REASONS.Adopted,
        message: `${record.deviceId} on ${record.host} already existed; ${seen.device.spec.deletionPolicy === "Delete" ? "it will be deleted together with this object" : "it will be retained when this object is deleted"}`,
      }
    : {
        status: "True",
        reason: REASONS.Registered,
        message: `${record.deviceId} on ${record.host}`,
      };
}

export function secretFact(
  seen: DeviceSeen,
  acted: DeviceActed,
  secret: SecretStatus | null,
  problem: DeviceProblem | null,
): Fact | null {
  const wanted = seen.device.spec.connectionSecret;
  if (wanted === undefined) return null;
  if (secret !== null)
    return {
      status: "True",
      reason: REASONS.SecretWritten,
      message: `Secret ${wanted.name} contains the current keys of the identity`,
    };
  const outcome = acted.secret;
  switch (outcome?.kind) {
    case "foreign":
      return {
        status: "False",
        reason: REASONS.SecretConflict,
        message: `Secret ${wanted.name} is not owned by this EdgeDevice and was not changed; delete it or choose another name`,
      };
    case "keyless":
      return {
        status: "False",
        reason: REASONS.HubRejected,
        message: "the identity does not use symmetric keys; remove connectionSecret from the spec",
      };
    case "failed":
      return factOf(secretProblem(outcome));
    case "written":
    case undefined:
      return {
        status: "Unknown",
        reason: problem?.reason ?? REASONS.HubConflict,
        message: `Secret ${wanted.name} will be written as soon as the identity is up to date`,
      };
    default:
      return unreachable(outcome);
  }
}

/** A device that the hub shuts out cannot say what it runs: that is no update under way, however long it lasts. */
export function syncFact(
  { spec, namespace }: EdgeDevice,
  placements: readonly Placement[],
  slots: Readonly<Record<string, ModuleSlot>>,
): Fact {
  const worst = worstSync(placements, slots, spec.iotEdge, namespace);
  if (spec.enabled || worst.status === "True") return worst;
  return {
    status: "Unknown",
    reason: REASONS.Disabled,
    message: `the device cannot be updated, because spec.enabled is false; when it last reported: ${worst.message}`,
  };
}

function worstSync(
  placements: readonly Placement[],
  slots: Readonly<Record<string, ModuleSlot>>,
  iotEdge: boolean,
  namespace: string,
): Sync {
  const syncs = placements.map((placement) =>
    syncOf(slotFor(slots, iotEdge, placement.module)?.report ?? null, placement, namespace),
  );
  return (
    syncs.find(({ reason }) => reason === REASONS.UpdateFailed) ??
    syncs.find(({ status }) => status === "False") ??
    syncs.find(({ status }) => status === "Unknown") ??
    syncs.find(({ reason }) => reason === REASONS.InSync) ??
    syncs[0] ?? {
      status: "True",
      reason: REASONS.NothingPlaced,
      message: "no InferenceDeployment selects this device",
    }
  );
}

export function conflictFact(memberships: readonly Membership[], iotEdge: boolean): Fact | null {
  const conflicts = memberships.flatMap((membership) => (membership.kind === "conflict" ? [membership] : []));
  if (conflicts.length === 0) return null;
  const named = (deployments: readonly { readonly name: string }[]) =>
    deployments.map(({ name }) => name).join(" and ");
  const each = iotEdge
    ? conflicts.map(
        ({ module, deployments }) => `${named(deployments)} select this device for module ${module}`,
      )
    : // Each of them names all who contend.
      conflicts
        .slice(0, 1)
        .map(
          ({ deployments }) =>
            `${named(deployments)} select this device, which can run only one model without IoT Edge`,
        );
  return {
    status: "True",
    reason: REASONS.SelectedTwice,
    message: `${each.join("; ")}; the device keeps what it runs; change the selectors so that only one matches`,
  };
}

/** Whether the object is reconciled. Whether the device is there and up to date is said by Online and ModelInSync. */
export function summary(facts: readonly Fact[]): Fact {
  const against =
    facts.find(({ status }) => status === "False") ?? facts.find(({ status }) => status === "Unknown");
  if (against !== undefined) return against;
  return {
    status: "True",
    reason: REASONS.DeviceReady,
    message: "the identity on the hub is as specified; Online and ModelInSync describe the device itself",
  };
}

/** kstatus: Stalled needs a person, Reconciling continues automatically; with Ready there is neither. */
export function progressFact(
  ready: Fact,
  problem: DeviceProblem | null,
  connection: Fact | null,
  conflict: Fact | null,
): Draft | null {
  if (problem !== null) {
    const { reason, message, fault } = problem;
    const passing = fault?.kind === "throttled" || fault?.kind === "unavailable";
    return { type: passing ? "Reconciling" : "Stalled", reason, message, status: "True" };
  }
  const stuck = connection?.status === "False" ? connection : conflict;
  if (stuck !== null) return { type: "Stalled", ...stuck, status: "True" };
  return ready.status === "True" ? null : { type: "Reconciling", ...ready, status: "True" };
}

export function conditionsOf(seen: DeviceSeen, drafts: readonly Draft[]): readonly Condition[] {
  const had = seen.device.status?.conditions ?? [];
  const { generation } = seen.device;
  const judged = drafts.map(
    ({ type, status, reason, message }): ConditionDraft => ({
      type,
      status,
      reason,
      message,
      observedGeneration: generation,
    }),
  );
  return stampConditions(had, keepMessages(had, judged, PASSING), seen.now);
}

const PASSING: ReadonlySet<string> = new Set([
  REASONS.HubThrottled,
  REASONS.HubUnavailable,
  REASONS.HubDenied,
  REASONS.HubRejected,
  REASONS.KubeUnavailable,
  REASONS.Deleting,
]);
