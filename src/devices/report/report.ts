import {
  type Condition,
  type ConditionDraft,
  findCondition,
  keepWords,
  stampConditions,
} from "../../api/condition.ts";
import type { EdgeDevice, EdgeDeviceStatus } from "../../api/edge-device.ts";
import type { Membership } from "../../api/membership.ts";
import { isForeign, type Owner } from "../../api/ownership.ts";
import { REASONS, type Reason } from "../../api/reasons.ts";
import { FINALIZER, type Note } from "../../api/resource.ts";
import { ALLOW_DELETIONS_ANNOTATION } from "../../api/tenancy.ts";
import { own } from "../../base/lookup.ts";
import { redacted } from "../../base/redact.ts";
import { type Fault, unreachable } from "../../base/result.ts";
import { millisOf } from "../../base/time.ts";
import { bucketFor, type DevicePlan, type HubRecord, type Obstacle } from "../decide.ts";
import type { DeviceActed, DeviceSeen, SecretOutcome, Slot } from "../seen.ts";
import { deploymentsInTags } from "../tags.ts";
import { modelOf, type Sync, slotFor, syncOf } from "./model.ts";
import { type Placement, placementsOf } from "./placement.ts";
import { heartbeatOf, presenceOf } from "./presence.ts";

export type DeviceReport = { readonly status: EdgeDeviceStatus; readonly notes: readonly Note[] };

/** One observed fact, without the fields that are the same for all. */
type Fact = Pick<ConditionDraft, "status" | "reason" | "message">;
type Draft = Fact & { readonly type: string };

/**
 * Status and events from scratch. `null`: the object is on its way out, and there is nothing that the hub keeps it for.
 * Conditions, in this order: Registered, Online, ModelInSync; ConnectionSecret where one is asked for; Conflict while
 * true; Ready; Reconciling or Stalled while true.
 */
export function reportDevice(
  seen: DeviceSeen,
  plan: DevicePlan,
  acted: DeviceActed,
  fault: Fault | null,
): DeviceReport | null {
  switch (plan.kind) {
    case "undo":
      return fault === null || fault.kind === "conflict" || acted.failedAt === "kube"
        ? null
        : leaving(seen, fault);
    case "blocked":
      if (plan.lifecycle === "cleanup" && plan.obstacle.kind === "fault")
        return leaving(seen, plan.obstacle.fault);
      if (plan.lifecycle === "cleanup") return waiting(seen, obstacleTrouble(seen, plan.obstacle).fact);
      return staying(seen, plan, acted, fault);
    case "keep":
      return staying(seen, plan, acted, fault);
    default:
      return unreachable(plan);
  }
}

function staying(
  seen: DeviceSeen,
  plan: Exclude<DevicePlan, { readonly kind: "undo" }>,
  acted: DeviceActed,
  fault: Fault | null,
): DeviceReport {
  const { device, hub } = seen;
  const { spec, namespace } = device;
  const record = recordAfter(seen, plan, acted, fault);
  const secret = secretAfter(seen, plan, record, acted);
  const trouble = troubleOf(seen, plan, acted, fault);
  const registered = registration(seen, record, trouble, acted);
  const bucket = bucketFor(seen);
  const owned = plan.kind === "keep" || plan.obstacle.kind !== "ownedByAnother";
  const base = {
    observedGeneration: device.generation,
    // The place of a device that belongs to another object is that one's to say.
    ...(owned ? { bucket } : bucketBefore(device.status)),
    ...(record === null ? {} : { hub: record }),
    ...(secret === null ? {} : { connectionSecret: secret }),
  };
  const before = device.status?.conditions ?? [];

  if (trouble !== null && plan.kind === "blocked" && plan.obstacle.kind !== "fault") {
    // Not ours, or not what was meant: what that identity runs and when it was seen is no fact about this object.
    const conditions = conditionsOf(seen, [
      { type: "Registered", ...registered },
      { type: "Ready", ...registered },
      { type: "Stalled", ...registered, status: "True" },
    ]);
    return { status: { ...base, conditions }, notes: notesOf(before, conditions) };
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
  const placed = placements[0] ?? null;
  const { model, placement } = readable
    ? {
        model: modelOf(reportOf(slots, spec.iotEdge, placed), placed, namespace),
        placement: placed === null ? null : placementStatus(placed),
      }
    : keptFrom(device.status);

  const online = presenceOf({
    enabled: spec.enabled,
    heartbeatAt: heartbeatOf(slots),
    timeout: millisOf(spec.heartbeatTimeout),
    hubReachable: seen.hubReachable && readable,
    now: seen.now,
  });
  const inSync = readable ? syncFact(device, placements, slots) : UNREADABLE;
  const connection = secretFact(seen, acted, secret, trouble);
  const conflict = conflictFact(plan.memberships, spec.iotEdge);
  const ready = summary([
    registered,
    ...(trouble === null ? [] : [trouble.fact]),
    ...(connection === null ? [] : [connection]),
    ...(conflict === null ? [] : [{ ...conflict, status: "False" } as const]),
    online,
    inSync,
  ]);
  const progress = progressFact(ready, trouble, connection, conflict, inSync);
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
    status: {
      ...base,
      ...(placement === null ? {} : { placement }),
      ...(model === null ? {} : { model }),
      conditions,
    },
    notes: [...recreated(seen, acted), ...notesOf(before, conditions)],
  };
}

function bucketBefore(status: EdgeDeviceStatus | null): Pick<EdgeDeviceStatus, "bucket"> {
  return status?.bucket === undefined ? {} : { bucket: status.bucket };
}

/** Somebody removed the identity behind our back: the new one has other keys, and the device does not know them. */
function recreated({ device, deviceId, host }: DeviceSeen, { created }: DeviceActed): readonly Note[] {
  const had = device.status?.hub?.generationId ?? "";
  if (created === null || had === "" || had === created) return [];
  const secret = device.spec.connectionSecret;
  const keys = secret === undefined ? "" : `, Secret ${secret.name} holds them`;
  return [
    {
      type: "Warning",
      reason: REASONS.IdentityRecreated,
      message: `${deviceId} was gone from ${host} and has been created anew, with new keys${keys}: the device cannot connect until it is given them`,
    },
  ];
}

const UNREADABLE: Fact = {
  status: "Unknown",
  reason: REASONS.HubUnavailable,
  message: "the hub cannot be read at the moment",
};

/** Deletion stands still: everything stays as it was last seen, and Ready says why. */
function leaving(seen: DeviceSeen, fault: Fault): DeviceReport {
  const { device } = seen;
  const before = device.status?.conditions ?? [];
  const kept = before.filter(({ type }) => type !== "Ready" && type !== "Reconciling" && type !== "Stalled");
  const message = `deletion waits for the hub: ${wordsOf(fault)}. Should the hub be gone for good, remove the finalizer ${FINALIZER} by hand`;
  const drafts: readonly Draft[] = [
    ...kept,
    { type: "Ready", status: "False", reason: reasonOf(fault), message },
    { type: "Reconciling", status: "True", reason: REASONS.Deleting, message },
  ];
  const conditions = conditionsOf(seen, drafts);
  return {
    status: { ...device.status, observedGeneration: device.generation, conditions },
    notes: [...notesOf(before, conditions), { type: "Warning", reason: reasonOf(fault), message }],
  };
}

/** Deletion waits for a person: everything stays as it was last seen, and Ready says for what. */
function waiting(seen: DeviceSeen, { reason, message }: Fact): DeviceReport {
  const { device } = seen;
  const before = device.status?.conditions ?? [];
  const kept = before.filter(({ type }) => type !== "Ready" && type !== "Reconciling" && type !== "Stalled");
  const conditions = conditionsOf(seen, [
    ...kept,
    { type: "Ready", status: "False", reason, message },
    { type: "Stalled", status: "True", reason, message },
  ]);
  const isNew = findCondition(before, "Ready")?.reason !== reason;
  return {
    status: { ...device.status, observedGeneration: device.generation, conditions },
    notes: isNew ? [{ type: "Warning", reason, message }] : [],
  };
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
  // Nobody knows whether an unanswered creation happened: should the identity be there next time, it is ours.
  if (fault?.kind === "unavailable") return { host, deviceId, generationId: "", adopted: false };
  return null;
}

type Trouble = { readonly fault: Fault | null; readonly fact: Fact };

/** What kept the hub from being as it ought to be. A conflict is no news: the next pass reads again and decides anew. */
function troubleOf(
  seen: DeviceSeen,
  plan: DevicePlan,
  acted: DeviceActed,
  fault: Fault | null,
): Trouble | null {
  if (plan.kind === "blocked") return obstacleTrouble(seen, plan.obstacle);
  const { secret } = acted;
  if (secret?.kind === "failed") return { fault: secret.fault, fact: secretFailure(secret) };
  return fault === null || fault.kind === "conflict" ? null : faultTrouble(fault);
}

/** What other tenants call their objects is theirs. */
function ownedText({ device, grant, clusterId }: DeviceSeen, owner: Owner): string {
  const named = `EdgeDevice ${redacted(owner.namespace, 253)}/${redacted(owner.device, 253)}`;
  if (isForeign(owner, clusterId)) {
    const whose = grant.isOpen ? named : "an EdgeDevice";
    const other = redacted(owner.cluster ?? "", 128);
    return `the identity belongs to ${whose} of cluster ${other} and is left alone (this cluster is ${clusterId}); delete one of the two. If this cluster replaces that one, start its operator with --cluster-id ${other}`;
  }
  const whose =
    grant.isOpen || owner.namespace === device.namespace ? named : "an EdgeDevice of another namespace";
  return `the identity belongs to ${whose} and is left alone; delete one of the two, or remove the twin's tag edgefleet if that one no longer exists`;
}

function obstacleTrouble(seen: DeviceSeen, obstacle: Obstacle): Trouble {
  switch (obstacle.kind) {
    case "fault":
      return faultTrouble(obstacle.fault);
    case "ownedByAnother": {
      return {
        fault: null,
        fact: { status: "False", reason: REASONS.OwnedByAnother, message: ownedText(seen, obstacle.owner) },
      };
    }
    case "edgeMismatch":
      return {
        fault: null,
        fact: {
          status: "False",
          reason: REASONS.HubRejected,
          message: `the identity on the hub ${obstacle.iotEdge ? "is" : "is not"} an IoT Edge device, and the hub cannot change that: delete the identity, or create this EdgeDevice anew with iotEdge: ${obstacle.iotEdge}`,
        },
      };
    case "notPermitted":
      return {
        fault: null,
        fact: { status: "False", reason: REASONS.NotPermitted, message: obstacle.message },
      };
    case "deletionsPaused":
      return {
        fault: null,
        fact: { status: "False", reason: REASONS.DeletionsPaused, message: pausedText(seen) },
      };
    default:
      return unreachable(obstacle);
  }
}

/** Without tenants the operator does not read Namespaces. */
function pausedText({ grant }: DeviceSeen): string {
  const where = grant.isOpen ? "of this EdgeDevice" : "of the Namespace (or of this EdgeDevice)";
  return `too many identities would be removed at once, so this one waits for a person: to remove them, set the annotation ${ALLOW_DELETIONS_ANNOTATION} ${where} to a time in the near future, such as 2026-12-01T10:00:00Z; to keep them on the hub, set spec.deletionPolicy to Retain`;
}

function faultTrouble(fault: Fault): Trouble {
  return { fault, fact: { status: "False", reason: reasonOf(fault), message: wordsOf(fault) } };
}

function reasonOf(fault: Fault): Reason {
  switch (fault.kind) {
    case "throttled":
      return REASONS.HubThrottled;
    case "unavailable":
      return REASONS.HubUnavailable;
    case "denied":
      return REASONS.HubDenied;
    case "rejected":
      return REASONS.HubRejected;
    case "conflict":
      return REASONS.HubConflict;
    default:
      return unreachable(fault);
  }
}

function wordsOf(fault: Fault): string {
  const words = redacted(fault.message);
  switch (fault.kind) {
    case "throttled":
      return "the hub has no budget left for this at the moment; tried again by itself";
    case "unavailable":
      return `the hub cannot be reached (${words}); tried again by itself`;
    case "denied":
      return `the hub refuses the operator (${words}); give its credential the right to manage identities and twins`;
    case "rejected":
      return `the hub refuses: ${words}; change the spec or the identity`;
    case "conflict":
      return "it was changed meanwhile; read again by itself";
    default:
      return unreachable(fault);
  }
}

function registration(
  seen: DeviceSeen,
  record: HubRecord | null,
  trouble: Trouble | null,
  acted: DeviceActed,
): Fact {
  const failedSecret = acted.secret?.kind === "failed";
  const registered = record !== null && record.generationId !== "";
  if (trouble !== null && !failedSecret) {
    // An identity that is there stays registered while the hub is busy or away.
    const passing = trouble.fault?.kind === "throttled" || trouble.fault?.kind === "unavailable";
    if (!registered || !passing) return trouble.fact;
  }
  if (!registered)
    return {
      status: "False",
      reason: REASONS.HubConflict,
      message: "the identity appeared meanwhile; read again by itself",
    };
  return record.adopted
    ? {
        status: "True",
        reason: REASONS.Adopted,
        message: `${record.deviceId} on ${record.host} existed before; ${seen.device.spec.deletionPolicy === "Delete" ? "it is deleted with this object" : "it is retained when this object is deleted"}`,
      }
    : {
        status: "True",
        reason: REASONS.Registered,
        message: `${record.deviceId} on ${record.host}`,
      };
}

type SecretStatus = NonNullable<EdgeDeviceStatus["connectionSecret"]>;

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

function secretFact(
  seen: DeviceSeen,
  acted: DeviceActed,
  secret: SecretStatus | null,
  trouble: Trouble | null,
): Fact | null {
  const wanted = seen.device.spec.connectionSecret;
  if (wanted === undefined) return null;
  if (secret !== null)
    return {
      status: "True",
      reason: REASONS.SecretWritten,
      message: `Secret ${wanted.name} holds the keys of this life of the identity`,
    };
  const outcome = acted.secret;
  switch (outcome?.kind) {
    case "foreign":
      return {
        status: "False",
        reason: REASONS.SecretConflict,
        message: `Secret ${wanted.name} is not owned by this EdgeDevice and is left alone; delete it or choose another name`,
      };
    case "keyless":
      return {
        status: "False",
        reason: REASONS.HubRejected,
        message: "the identity has no symmetric keys; take connectionSecret out of the spec",
      };
    case "failed":
      return secretFailure(outcome);
    case "written":
    case undefined:
      return {
        status: "Unknown",
        reason: trouble?.fact.reason ?? REASONS.HubConflict,
        message: `Secret ${wanted.name} is written once the identity is as it should be`,
      };
    default:
      return unreachable(outcome);
  }
}

function secretFailure({ source, fault }: Extract<SecretOutcome, { readonly kind: "failed" }>): Fact {
  return source === "hub"
    ? { status: "False", reason: reasonOf(fault), message: wordsOf(fault) }
    : {
        status: "False",
        reason: REASONS.KubeUnavailable,
        message: `the connection Secret cannot be written: ${redacted(fault.message)}`,
      };
}

function reportOf(slots: Readonly<Record<string, Slot>>, iotEdge: boolean, placed: Placement | null) {
  if (placed !== null) return slotFor(slots, iotEdge, placed.module)?.report ?? null;
  const reporting = Object.keys(slots)
    .sort()
    .find((module) => own(slots, module)?.report?.active !== undefined);
  return reporting === undefined ? null : (own(slots, reporting)?.report ?? null);
}

/** What cannot be seen at the moment is not forgotten. */
function keptFrom(status: EdgeDeviceStatus | null) {
  return { model: status?.model ?? null, placement: status?.placement ?? null };
}

function placementStatus(placement: Placement): NonNullable<EdgeDeviceStatus["placement"]> {
  const { deployment, module, release, track } = placement;
  return { deployment, module, ...(release === null ? {} : { release }), track };
}

/** A device that the hub shuts out cannot say what it runs: that is no update under way, however long it lasts. */
function syncFact(
  { spec, namespace }: EdgeDevice,
  placements: readonly Placement[],
  slots: Readonly<Record<string, Slot>>,
): Fact {
  const worst = worstSync(placements, slots, spec.iotEdge, namespace);
  if (spec.enabled || worst.status === "True") return worst;
  return {
    status: "Unknown",
    reason: REASONS.Disabled,
    message: `spec.enabled is false, so the device cannot be updated; when it last reported: ${worst.message}`,
  };
}

function worstSync(
  placements: readonly Placement[],
  slots: Readonly<Record<string, Slot>>,
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

function conflictFact(memberships: readonly Membership[], iotEdge: boolean): Fact | null {
  const conflicts = memberships.flatMap((membership) => (membership.kind === "conflict" ? [membership] : []));
  if (conflicts.length === 0) return null;
  const named = (deployments: readonly { readonly name: string }[]) =>
    deployments.map(({ name }) => name).join(" and ");
  const each = iotEdge
    ? conflicts.map(({ module, deployments }) => `${named(deployments)} both want module ${module}`)
    : // Each of them names all who contend.
      conflicts
        .slice(0, 1)
        .map(
          ({ deployments }) =>
            `${named(deployments)} both want the one model that a device without IoT Edge can run`,
        );
  return {
    status: "True",
    reason: REASONS.SelectedTwice,
    message: `${each.join("; ")}: what runs there stays; change one of the selectors`,
  };
}

function summary(facts: readonly Fact[]): Fact {
  const against =
    facts.find(({ status }) => status === "False") ?? facts.find(({ status }) => status === "Unknown");
  if (against !== undefined) return against;
  return {
    status: "True",
    reason: REASONS.DeviceReady,
    message: "registered, online, and running what it is meant to run",
  };
}

/** kstatus: Stalled is what only a person mends, Reconciling what goes on by itself. */
function progressFact(
  ready: Fact,
  trouble: Trouble | null,
  connection: Fact | null,
  conflict: Fact | null,
  inSync: Fact,
): Draft | null {
  const passing =
    trouble !== null && (trouble.fault?.kind === "throttled" || trouble.fault?.kind === "unavailable");
  if (trouble !== null) return { type: passing ? "Reconciling" : "Stalled", ...trouble.fact, status: "True" };
  const stuck = [connection, conflict].find(
    (fact) => fact?.reason === REASONS.SecretConflict || fact?.reason === REASONS.SelectedTwice,
  );
  if (stuck !== undefined && stuck !== null) return { type: "Stalled", ...stuck, status: "True" };
  if (ready.status !== "True" && inSync.reason === REASONS.Updating)
    return { type: "Reconciling", ...inSync, status: "True" };
  return null;
}

function conditionsOf(seen: DeviceSeen, drafts: readonly Draft[]): readonly Condition[] {
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
  return stampConditions(had, keepWords(had, judged, PASSING), seen.now);
}

const PASSING: ReadonlySet<string> = new Set([
  REASONS.HubThrottled,
  REASONS.HubUnavailable,
  REASONS.HubDenied,
  REASONS.HubRejected,
  REASONS.KubeUnavailable,
  REASONS.Deleting,
]);

/**
 * Events tell of trouble, of its end, and of an adoption. What goes well from the start is told by the status alone: ten
 * thousand new devices are not ten thousand events.
 */
function notesOf(before: readonly Condition[], after: readonly Condition[]): readonly Note[] {
  return ["Registered", "Online", "ModelInSync", "ConnectionSecret", "Conflict"].flatMap(
    (type): readonly Note[] => {
      const had = findCondition(before, type);
      const has = findCondition(after, type);
      if (has === undefined)
        return type === "Conflict" && had !== undefined
          ? [
              {
                type: "Normal",
                reason: REASONS.NoConflict,
                message: "no two InferenceDeployments want the same module any more",
              },
            ]
          : [];
      if (had?.reason === has.reason) return [];
      const { reason, message } = has;
      if (TROUBLE.has(reason)) return [{ type: "Warning", reason, message }];
      if (
        reason === REASONS.Adopted ||
        (had !== undefined && TROUBLE.has(had.reason) && has.status === "True")
      )
        return [{ type: "Normal", reason, message }];
      return [];
    },
  );
}

const TROUBLE: ReadonlySet<string> = new Set([
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
