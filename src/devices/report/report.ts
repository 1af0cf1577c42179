import type { EdgeDevice, EdgeDeviceStatus } from "../../api/edge-device.ts";
import { REASONS } from "../../api/reasons.ts";
import type { Fault } from "../../base/fault.ts";
import { own } from "../../base/lookup.ts";
import { millisOf } from "../../base/time.ts";
import { bucketFor, type DevicePlan, type HubRecord } from "../decide.ts";
import type { DeviceActed, DeviceSeen, ModuleSlot } from "../seen.ts";
import { deploymentsInTags } from "../tags.ts";
import {
  conditionsOf,
  conflictFact,
  factOf,
  progressFact,
  registration,
  type SecretStatus,
  secretFact,
  summary,
  syncFact,
  UNREADABLE,
} from "./conditions.ts";
import { modelOf, slotFor } from "./model.ts";
import { type Placement, placementsOf } from "./placement.ts";
import { heartbeatOf, presenceOf } from "./presence.ts";
import { type DeletionHold, deletionHold, problemOf } from "./problem.ts";

/**
 * The status from scratch. `null`: the object is on its way out, and there is nothing that the hub keeps it for.
 * Conditions, in this order: Registered, Online, ModelInSync; ConnectionSecret where one is asked for; Conflict while
 * true; Ready; Reconciling or Stalled while true.
 */
export function statusOf(
  seen: DeviceSeen,
  plan: DevicePlan,
  acted: DeviceActed,
  fault: Fault | null,
): EdgeDeviceStatus | null {
  const hold = deletionHold(seen, plan, acted, fault);
  if (hold !== null) return statusOfHeldDeletion(seen, hold);
  return plan.kind === "undo" ? null : statusOfKept(seen, plan, acted, fault);
}

function statusOfKept(
  seen: DeviceSeen,
  plan: Exclude<DevicePlan, { readonly kind: "undo" }>,
  acted: DeviceActed,
  fault: Fault | null,
): EdgeDeviceStatus {
  const { device, hub } = seen;
  const { spec } = device;
  const record = recordAfter(seen, plan, acted, fault);
  const secret = secretAfter(seen, plan, record, acted);
  const problem = problemOf(seen, plan, acted, fault);
  const registered = registration(seen, record, problem, acted);
  const bucket = bucketFor(seen);
  const owned = plan.kind === "keep" || plan.obstacle.kind !== "ownedByAnother";
  const base = {
    observedGeneration: device.generation,
    // The place of a device that belongs to another object is that one's to say.
    ...(owned ? { bucket } : bucketBefore(device.status)),
    ...(record === null ? {} : { hub: record }),
    ...(secret === null ? {} : { connectionSecret: secret }),
  };
  if (problem !== null && plan.kind === "blocked" && plan.obstacle.kind !== "fault") {
    // Not ours, or not what was meant: what that identity runs and when it was seen is no fact about this object.
    const conditions = conditionsOf(seen, [
      { type: "Registered", ...registered },
      { type: "Ready", ...registered },
      { type: "Stalled", ...registered, status: "True" },
    ]);
    return { ...base, conditions };
  }

  const readable = hub.kind !== "unreadable";
  const slots = hub.kind === "present" ? hub.slots : {};
  const held = hub.kind === "present" ? deploymentsInTags(hub.tags) : {};
  const placements = placementsOf(
    device,
    bucket,
    plan.memberships,
    held,
    (module) => slotFor(slots, spec.iotEdge, module)?.pointer ?? null,
  );
  const observed = readable
    ? observedOf(device, slots, placements[0] ?? null)
    : observedBefore(device.status);

  const online = presenceOf({
    enabled: spec.enabled,
    hasReported: Object.values(slots).some(({ report }) => report !== null),
    heartbeatAt: heartbeatOf(slots),
    timeout: millisOf(spec.heartbeatTimeout),
    hubReachable: seen.hubReachable && readable,
    now: seen.now,
  });
  const inSync = readable ? syncFact(device, placements, slots) : UNREADABLE;
  const connection = secretFact(seen, acted, secret, problem);
  const conflict = conflictFact(plan.memberships, spec.iotEdge);
  const ready = summary([
    registered,
    ...(problem === null ? [] : [factOf(problem)]),
    ...(connection === null ? [] : [connection]),
    ...(conflict === null ? [] : [{ ...conflict, status: "False" } as const]),
  ]);
  const progress = progressFact(ready, problem, connection, conflict);
  const conditions = conditionsOf(seen, [
    { type: "Registered", ...registered },
    { type: "Online", ...online },
    { type: "ModelInSync", ...inSync },
    ...(connection === null ? [] : [{ type: "ConnectionSecret", ...connection }]),
    ...(conflict === null ? [] : [{ type: "Conflict", ...conflict }]),
    { type: "Ready", ...ready },
    ...(progress === null ? [] : [progress]),
  ]);
  return {
    ...base,
    ...observed,
    conditions,
  };
}

function bucketBefore(status: EdgeDeviceStatus | null): Pick<EdgeDeviceStatus, "bucket"> {
  return status?.bucket === undefined ? {} : { bucket: status.bucket };
}

/** Deletion stands still: everything stays as it was last seen, and Ready says why. */
function statusOfHeldDeletion(
  seen: DeviceSeen,
  { reason, message, waitsFor }: DeletionHold,
): EdgeDeviceStatus {
  const { device } = seen;
  const before = device.status?.conditions ?? [];
  const conditions = conditionsOf(seen, [
    ...before.filter(({ type }) => type !== "Ready" && type !== "Reconciling" && type !== "Stalled"),
    { type: "Ready", status: "False", reason, message },
    waitsFor === "hub"
      ? { type: "Reconciling", status: "True", reason: REASONS.Deleting, message }
      : { type: "Stalled", status: "True", reason, message },
  ]);
  return { ...device.status, observedGeneration: device.generation, conditions };
}

function recordAfter(
  seen: DeviceSeen,
  plan: Exclude<DevicePlan, { readonly kind: "undo" }>,
  acted: DeviceActed,
  fault: Fault | null,
): HubRecord | null {
  if (plan.kind === "blocked") return seen.device.status?.hub ?? null;
  if (plan.record !== null) return plan.record;
  const { host, deviceId } = seen;
  if (acted.created !== null) return { host, deviceId, generationId: acted.created, adopted: false };
  // An unanswered creation may have happened: an identity that is there next time is ours.
  if (fault?.kind === "unavailable") return { host, deviceId, generationId: "", adopted: false };
  return null;
}

function secretAfter(
  seen: DeviceSeen,
  plan: DevicePlan,
  record: HubRecord | null,
  acted: DeviceActed,
): SecretStatus | null {
  const { spec, status } = seen.device;
  if (spec.connectionSecret === undefined) return null;
  const { name } = spec.connectionSecret;
  if (acted.secret !== null) {
    if (acted.secret.kind !== "written") return null;
    const { generationId, identityEtag } = acted.secret;
    return { name, generationId, ...(identityEtag === null ? {} : { identityEtag }) };
  }
  const had = status?.connectionSecret;
  if (had?.name !== name || had.generationId !== record?.generationId) return null;
  // Not looked at for the new generation, or the changed identity, yet: it stays due.
  const due = plan.kind === "keep" && plan.actions.some(({ kind }) => kind === "writeSecret");
  return due ? null : had;
}

function reportOf(slots: Readonly<Record<string, ModuleSlot>>, iotEdge: boolean, placed: Placement | null) {
  if (placed !== null) return slotFor(slots, iotEdge, placed.module)?.report ?? null;
  const reporting = Object.keys(slots)
    .sort()
    .find((module) => own(slots, module)?.report?.active !== undefined);
  return reporting === undefined ? null : (own(slots, reporting)?.report ?? null);
}

type Observed = Pick<EdgeDeviceStatus, "placement" | "model">;

/** What the device is meant to run, and what it reports. */
function observedOf(
  { spec, namespace }: EdgeDevice,
  slots: Readonly<Record<string, ModuleSlot>>,
  placed: Placement | null,
): Observed {
  const model = modelOf(reportOf(slots, spec.iotEdge, placed), placed, namespace);
  return {
    ...(placed === null ? {} : { placement: placementStatus(placed) }),
    ...(model === null ? {} : { model }),
  };
}

/** What cannot be seen at the moment is not forgotten. */
function observedBefore(status: EdgeDeviceStatus | null): Observed {
  const { model, placement } = status ?? {};
  return {
    ...(placement === undefined ? {} : { placement }),
    ...(model === undefined ? {} : { model }),
  };
}

function placementStatus(placement: Placement): NonNullable<EdgeDeviceStatus["placement"]> {
  const { deployment, module, release, track } = placement;
  return { deployment, module, ...(release === null ? {} : { release }), track };
}
