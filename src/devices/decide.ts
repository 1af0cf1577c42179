import type { EdgeDeviceStatus } from "../api/edge-device.ts";
import { bucketOf, type Membership, membershipsOf, orphanedTags } from "../api/membership.ts";
import { isOwner, type Owner, ownerOf } from "../api/ownership.ts";
import { type Lifecycle, lifecycleOf } from "../api/resource.ts";
import type { Fault } from "../base/fault.ts";
import { own } from "../base/lookup.ts";
import { unreachable } from "../base/result.ts";
import { adoptionProblem, idRefusal, isProven } from "./permitted.ts";
import type { DeviceSeen, IdentitySeen } from "./seen.ts";
import {
  adoptedInTags,
  bucketInTags,
  deploymentsInTags,
  tagsPatch,
  type WantedTags,
  wantedTags,
} from "./tags.ts";

export type HubRecord = NonNullable<EdgeDeviceStatus["hub"]>;

/** Why nothing on the hub is changed. */
export type Obstacle =
  | { readonly kind: "fault"; readonly fault: Fault }
  | { readonly kind: "ownedByAnother"; readonly owner: Owner }
  /** The identity is an edge device where the spec says otherwise, or the other way round: the hub cannot change it. */
  | { readonly kind: "edgeMismatch"; readonly iotEdge: boolean }
  /** The namespace may not use the device id, or not take over an identity that exists. */
  | { readonly kind: "notPermitted"; readonly message: string }
  /** Too many identities would be removed at once. */
  | { readonly kind: "deletionsPaused" };

export type KeepAction =
  | { readonly kind: "createIdentity" }
  /** The view may be old: acting looks before it writes. */
  | { readonly kind: "setEnabled"; readonly enabled: boolean }
  /** `etag: null`: the twin of an identity that is created in the same pass; it is read first. */
  | { readonly kind: "patchTags"; readonly etag: string | null; readonly wanted: WantedTags }
  /** `identity: null`: the one that is created in the same pass. */
  | { readonly kind: "writeSecret"; readonly name: string; readonly identity: Life | null };

/** One state of an identity: its keys change with the etag, everything with the generation. */
export type Life = { readonly generationId: string; readonly etag: string | null };

export type UndoAction =
  | { readonly kind: "removeIdentity" }
  /** Another EdgeDevice of the namespace has the same deviceId: the identity, its keys, its bucket and its model are its. */
  | { readonly kind: "handOver"; readonly to: string }
  /** The object that it was handed to is gone: it is this object's again, and goes with it. */
  | { readonly kind: "takeBack" }
  /** Takes tags and pointers back and leaves the identity. */
  | { readonly kind: "withdraw"; readonly modules: readonly string[] }
  | { readonly kind: "removeFinalizer" };

/** keep: the device is to be on the hub · undo: it is to be removed from it · blocked: nothing is changed until something else does */
export type DevicePlan =
  | {
      readonly kind: "keep";
      /** The identity as it stands; `null`: it is still to be created. */
      readonly record: HubRecord | null;
      /** Written to the object before the hub is touched. */
      readonly remember: { readonly record: HubRecord | null; readonly finalizer: boolean };
      readonly memberships: readonly Membership[];
      readonly actions: readonly KeepAction[];
    }
  | { readonly kind: "undo"; readonly actions: readonly UndoAction[] }
  | {
      readonly kind: "blocked";
      readonly lifecycle: Lifecycle;
      readonly obstacle: Obstacle;
      readonly memberships: readonly Membership[];
    };

/**
 * The life cycle of an identity; after a crash between any two lines the next pass starts from the state on the left:
 *
 *     no finalizer, absent       → finalizer → create → tags → Secret → status     (created)
 *     no finalizer, present      → status.hub.adopted → finalizer → tags → …       (adopted)
 *     present without tags, made for our uid: created by us before a crash          (created)
 *     deleting, ours             → identity removed, or tags and pointers removed → finalizer off
 *     deleting, and another object of the namespace has the deviceId: tags name that one → finalizer off (renamed)
 */
export function decideDevice(seen: DeviceSeen): DevicePlan {
  const lifecycle = lifecycleOf(seen.device);
  switch (lifecycle) {
    case "adopt":
    case "live":
      return keep(seen, lifecycle);
    case "cleanup":
    case "gone":
      return undo(seen, lifecycle);
    default:
      return unreachable(lifecycle);
  }
}

/** Place of the device in canaries: what its tags say, for its whole life, also where the salt or the object changes. */
export function bucketFor(seen: DeviceSeen): number {
  const { device, hub } = seen;
  const owner = hub.kind === "present" ? ownerOf(hub.tags) : null;
  const written =
    hub.kind === "present" && owner !== null && isOurs(seen, owner) ? bucketInTags(hub.tags) : null;
  return written ?? device.status?.bucket ?? bucketOf(seen.salt, seen.deviceId);
}

/** Whether the tags name this object, or one that gives the identity up to it. */
function isOurs(seen: DeviceSeen, owner: Owner): boolean {
  return isOwner(seen.device, owner, seen.clusterId) || seen.succeeds;
}

function keep(seen: DeviceSeen, lifecycle: "adopt" | "live"): DevicePlan {
  const { device, hub } = seen;
  const memberships = membershipsOf(device, seen.deployments);
  const blocked = (obstacle: Obstacle): DevicePlan => ({ kind: "blocked", lifecycle, obstacle, memberships });
  const refused = idRefusal(seen);
  if (refused !== null) return blocked({ kind: "notPermitted", message: refused });
  if (hub.kind === "unreadable") return blocked({ kind: "fault", fault: hub.fault });

  const pointed = hub.kind === "present" ? (own(hub.slots, "")?.pointer?.deployment ?? null) : null;
  const held = hub.kind === "present" ? deploymentsInTags(hub.tags) : {};
  const orphaned = orphanedTags(device, held, seen.deployments);
  const { clusterId } = seen;
  const facts = (adopted: boolean) => ({ clusterId, bucket: bucketFor(seen), adopted, pointed, orphaned });
  const finalizer = lifecycle === "adopt";
  if (hub.kind === "absent") {
    const wanted = wantedTags(device, facts(false), memberships, {});
    return {
      kind: "keep",
      record: null,
      remember: { record: null, finalizer },
      memberships,
      actions: [
        { kind: "createIdentity" },
        { kind: "patchTags", etag: null, wanted },
        ...secretActions(seen, null),
      ],
    };
  }

  const owner = ownerOf(hub.tags);
  if (owner !== null && !isOurs(seen, owner)) return blocked({ kind: "ownedByAnother", owner });
  const foreign = adoptionProblem(seen, hub);
  if (owner === null && foreign !== null) return blocked({ kind: "notPermitted", message: foreign });
  if (hub.iotEdge !== device.spec.iotEdge) return blocked({ kind: "edgeMismatch", iotEdge: hub.iotEdge });
  const record = recordOf(seen, hub);
  const wanted = wantedTags(device, facts(record.adopted), memberships, hub.tags);
  // Tags that name us say who made the identity, too: then there is nothing to remember beforehand.
  const unsaid = owner === null && record.adopted && !sameRecord(device.status?.hub, record);
  return {
    kind: "keep",
    record,
    remember: { record: unsaid ? record : null, finalizer },
    memberships,
    actions: [
      ...(hub.enabled === device.spec.enabled
        ? []
        : [{ kind: "setEnabled", enabled: device.spec.enabled } as const]),
      ...(tagsPatch(wanted, hub.tags) === null
        ? []
        : [{ kind: "patchTags", etag: hub.etag, wanted } as const]),
      ...secretActions(seen, { generationId: record.generationId, etag: hub.identityEtag }),
    ],
  };
}

function undo(seen: DeviceSeen, lifecycle: Lifecycle): DevicePlan {
  const { device, hub } = seen;
  const blocked = (obstacle: Obstacle): DevicePlan => ({
    kind: "blocked",
    lifecycle,
    obstacle,
    memberships: [],
  });
  if (hub.kind === "unreadable") return blocked({ kind: "fault", fault: hub.fault });
  if (hub.kind === "absent") return { kind: "undo", actions: [{ kind: "removeFinalizer" }] };
  // What is not proven to be ours stays as it is, whatever finalizer the object came with.
  if (!isProven(seen, hub)) return notProven(seen, blocked);
  const refused = idRefusal(seen);
  if (refused !== null) return blocked({ kind: "notPermitted", message: refused });
  if (ownerOf(hub.tags) !== null && seen.successor !== null)
    return { kind: "undo", actions: [{ kind: "handOver", to: seen.successor }] };
  const policy = device.spec.deletionPolicy ?? (recordOf(seen, hub).adopted ? "Retain" : "Delete");
  if (policy === "Delete" && seen.mustWait) return blocked({ kind: "deletionsPaused" });
  if (policy === "Delete")
    return { kind: "undo", actions: [{ kind: "removeIdentity" }, { kind: "removeFinalizer" }] };
  return {
    kind: "undo",
    actions: [{ kind: "withdraw", modules: modulesOf(seen, hub) }, { kind: "removeFinalizer" }],
  };
}

/** The object that was given the identity must have it before this one goes: if that one goes first, it is taken back. */
function notProven(
  { handedTo, deviceId }: DeviceSeen,
  blocked: (obstacle: Obstacle) => DevicePlan,
): DevicePlan {
  switch (handedTo) {
    case "gone":
      return { kind: "undo", actions: [{ kind: "takeBack" }] };
    case "waiting": {
      const message = `waiting for the EdgeDevice named in the tags of ${deviceId} to take over the identity`;
      return blocked({ kind: "fault", fault: { kind: "conflict", message } });
    }
    case "none":
    case "taken":
      return { kind: "undo", actions: [{ kind: "removeFinalizer" }] };
    default:
      return unreachable(handedTo);
  }
}

/** Whether an identity was created or adopted. Where nothing says so it counts as adopted: what is left behind can still be removed. */
function recordOf(seen: DeviceSeen, hub: IdentitySeen): HubRecord {
  const { device, deviceId, host } = seen;
  const had = device.status?.hub;
  const generationId = hub.generationId ?? had?.generationId ?? "";
  const sameLife =
    had !== undefined &&
    had.host === host &&
    had.deviceId === deviceId &&
    (had.generationId === generationId || (had.generationId === "" && hub.madeFor === device.uid));
  const base = { host, deviceId, generationId };
  if (sameLife) return { ...base, adopted: had.adopted };
  const said = adoptedInTags(hub.tags);
  if (said !== null) return { ...base, adopted: said };
  // A pass that created the identity and then crashed has left the object's uid in it.
  return { ...base, adopted: hub.madeFor !== device.uid };
}

/** The keys are read when the Secret is due: for a new object, a new life of the identity, and a change of the identity. */
function secretActions(seen: DeviceSeen, identity: Life | null): readonly KeepAction[] {
  const { spec, status, generation } = seen.device;
  if (spec.connectionSecret === undefined) return [];
  const { name } = spec.connectionSecret;
  const had = status?.connectionSecret;
  const written =
    had?.name === name &&
    identity !== null &&
    had.generationId === identity.generationId &&
    (identity.etag === null || had.identityEtag === identity.etag) &&
    status?.observedGeneration === generation;
  return written ? [] : [{ kind: "writeSecret", name, identity }];
}

/** Modules whose twins may hold a pointer of ours. Without IoT Edge the pointer is in the device's own twin. */
function modulesOf(seen: DeviceSeen, hub: IdentitySeen): readonly string[] {
  if (!hub.iotEdge) return [];
  const pointed = Object.entries(hub.slots).flatMap(([module, slot]) =>
    module !== "" && slot.pointer !== null ? [module] : [],
  );
  const placed = seen.device.status?.placement?.module;
  const tagged = Object.keys(deploymentsInTags(hub.tags));
  return [...new Set([...tagged, ...pointed, ...(placed === undefined ? [] : [placed])])].sort();
}

function sameRecord(had: HubRecord | undefined, now: HubRecord): boolean {
  return (
    had !== undefined &&
    had.host === now.host &&
    had.deviceId === now.deviceId &&
    had.generationId === now.generationId &&
    had.adopted === now.adopted
  );
}
