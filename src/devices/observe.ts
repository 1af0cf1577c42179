import type { EdgeDevice, EdgeDeviceStatus } from "../api/edge-device.ts";
import { deviceIdOf, type EdgeDeviceSpec } from "../api/edge-device.ts";
import type { InferenceDeploymentSpec, InferenceDeploymentStatus } from "../api/inference-deployment.ts";
import { isForeign, isOwner, ownerOf, succeeds } from "../api/ownership.ts";
import { FINALIZER, lifecycleOf, type ObjectKey, objectKey } from "../api/resource.ts";
import type { GrantOf } from "../api/tenancy.ts";
import type { Attempt, Fault } from "../base/fault.ts";
import { err, ok, type Result } from "../base/result.ts";
import type { Clock } from "../base/time.ts";
import type { DeviceHub, FleetDevice, FleetView } from "../hub/hub.ts";
import type { Resources } from "../kube/kube.ts";
import type { Departures } from "./departures.ts";
import { idRefusal } from "./permitted.ts";
import type { DeviceSeen, HubSeen, IdentitySeen } from "./seen.ts";

export type ObserveDeps = {
  readonly devices: Pick<Resources<EdgeDeviceSpec, EdgeDeviceStatus>, "get" | "list">;
  readonly deployments: Pick<Resources<InferenceDeploymentSpec, InferenceDeploymentStatus>, "list">;
  readonly hub: Pick<DeviceHub, "host" | "getIdentity" | "getTwin">;
  readonly fleet: Pick<FleetView, "get" | "health" | "note">;
  readonly clock: Pick<Clock, "now">;
  /** Of the buckets. */
  readonly salt: string;
  readonly grants: GrantOf;
  readonly departures: Pick<Departures, "mustWait">;
  readonly clusterId: string;
};

/** `null`: the object is gone, or leaving without anything of ours on the hub. A fault of the hub is a part of the picture. */
export function observeDevice(deps: ObserveDeps) {
  return async (key: ObjectKey, signal: AbortSignal): Attempt<DeviceSeen | null> => {
    const device = deps.devices.get(key);
    if (device === undefined || lifecycleOf(device) === "gone") return ok(null);
    const deviceId = deviceIdOf(device);
    const now = deps.clock.now();
    const grant = deps.grants(device.namespace);
    // Nothing is asked about an identity that is not the namespace's to use, until its own leave has to be taken.
    const looked =
      device.deleting || idRefusal({ device, deviceId, grant }) === null
        ? await lookAtHub(deps, device, deviceId, signal)
        : ok({ kind: "absent" } as const);
    const hub: HubSeen = looked.ok ? looked.value : { kind: "unreadable", fault: looked.error };
    return ok({
      now,
      device,
      deviceId,
      host: deps.hub.host,
      salt: deps.salt,
      clusterId: deps.clusterId,
      succeeds: hub.kind === "present" && givesUp(deps, device, hub.tags),
      successor: device.deleting ? successorOf(deps, device) : null,
      handedTo: device.deleting && hub.kind === "present" ? handedTo(deps, device, hub.tags) : "none",
      deployments: deps.deployments.list(device.namespace),
      hub,
      hubReachable: deps.fleet.health().reachable,
      grant,
      mustWait: device.deleting && deps.departures.mustWait(device, now),
    });
  };
}

/** Whether the tags name another object, which leaves the identity to this one. */
function givesUp(deps: ObserveDeps, device: EdgeDevice, tags: IdentitySeen["tags"]): boolean {
  const owner = ownerOf(tags);
  if (owner === null || isOwner(device, owner, deps.clusterId)) return false;
  return succeeds(device, owner, deps.clusterId, deps.devices.get);
}

function handedTo(deps: ObserveDeps, device: EdgeDevice, tags: IdentitySeen["tags"]): DeviceSeen["handedTo"] {
  const owner = ownerOf(tags);
  if (owner === null || owner.namespace !== device.namespace || isForeign(owner, deps.clusterId))
    return "none";
  if (isOwner(device, owner, deps.clusterId)) return "none";
  const named = deps.devices.get(objectKey(owner.namespace, owner.device));
  if (named === undefined) return "gone";
  if (deviceIdOf(named) !== deviceIdOf(device)) return "none";
  // An object without our finalizer can vanish before it has heard of what it was given.
  return !named.deleting && named.finalizers.includes(FINALIZER) ? "taken" : "waiting";
}

/** The first by name, so that every look names the same. */
function successorOf(deps: ObserveDeps, device: EdgeDevice): string | null {
  const id = deviceIdOf(device);
  const others = deps.devices
    .list(device.namespace)
    .filter(
      (other) =>
        other.key !== device.key &&
        !other.deleting &&
        deviceIdOf(other) === id &&
        other.spec.iotEdge === device.spec.iotEdge,
    );
  return others.map(({ name }) => name).sort()[0] ?? null;
}

/** A device whose owner the fleet view knows is not asked for again; the hub is asked about the others only. */
async function lookAtHub(
  deps: ObserveDeps,
  device: EdgeDevice,
  deviceId: string,
  signal: AbortSignal,
): Promise<Result<HubSeen, Fault>> {
  const row = deps.fleet.get(deviceId);
  const known = row === undefined ? null : knownFromView(deps, device, deviceId, row);
  if (known !== null) return ok(known);

  const identity = await deps.hub.getIdentity(deviceId, signal);
  if (!identity.ok) return identity;
  if (identity.value === null) return ok({ kind: "absent" });
  const { generationId, enabled, iotEdge, madeFor, etag: identityEtag } = identity.value;
  const slots = row?.slots ?? {};
  const seen = { kind: "present", generationId, enabled, iotEdge, madeFor, identityEtag, slots } as const;
  if (row !== undefined && ownerOf(row.tags) !== null) return ok({ ...seen, etag: row.etag, tags: row.tags });

  const twin = await deps.hub.getTwin({ device: deviceId, module: null }, "normal", signal);
  if (!twin.ok) return twin;
  if (twin.value === null)
    return err({ kind: "unavailable", message: "the identity does not have a twin yet" });
  const { etag, tags } = twin.value;
  // Tagged, and unknown to the view: its sweep is yet to come, or the answer to our patch was lost. Now it knows.
  if (ownerOf(tags) !== null) deps.fleet.note(twin.value);
  return ok({ ...seen, etag, tags });
}

/** `null`: the view does not say enough. */
function knownFromView(
  deps: ObserveDeps,
  device: EdgeDevice,
  deviceId: string,
  row: FleetDevice,
): ({ readonly kind: "present" } & IdentitySeen) | null {
  const owner = ownerOf(row.tags);
  if (owner === null) return null;
  const { enabled, iotEdge, identityEtag, etag, tags, slots } = row;
  const seen = { kind: "present", enabled, iotEdge, identityEtag, etag, tags, slots } as const;
  if (!isOwner(device, owner, deps.clusterId))
    return givesUp(deps, device, tags) && !device.deleting ? null : { ...seen, generationId: null };
  // Nothing of the identity itself is needed to take leave of it.
  if (device.deleting) return { ...seen, generationId: device.status?.hub?.generationId ?? null };
  const had = device.status?.hub;
  const registered = had?.host === deps.hub.host && had.deviceId === deviceId && had.generationId !== "";
  // What the hub cannot change is refused on the identity's own word only, never on that of a query.
  if (!registered || iotEdge !== device.spec.iotEdge) return null;
  return { ...seen, generationId: had.generationId };
}
