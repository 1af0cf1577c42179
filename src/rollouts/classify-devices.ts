import { deviceIdOf, type EdgeDevice } from "../api/edge-device.ts";
import type { InferenceDeployment } from "../api/inference-deployment.ts";
import { contend, matches, membershipsOf, qualifiedName, selects } from "../api/membership.ts";
import { isForeign, isOwner, ownerOf, succeeds } from "../api/ownership.ts";
import type { ObjectKey } from "../api/resource.ts";
import { own as ownValue } from "../base/lookup.ts";
import type { FleetDevice, FleetView } from "../hub/hub.ts";
import type { Contested, Member, RolloutSeen, Settings, StaleDevice } from "./seen.ts";

/** The caches that say which devices there are, and what the hub knows of them. */
export type DeviceViews = {
  readonly deployments: { readonly list: (namespace: string) => readonly InferenceDeployment[] };
  readonly devices: {
    readonly get: (key: ObjectKey) => EdgeDevice | undefined;
    readonly list: (namespace: string) => readonly EdgeDevice[];
  };
  readonly fleet: Pick<FleetView, "get" | "namedBy">;
  readonly settings: Pick<Settings, "clusterId">;
  /** Of devices without a tag. */
  readonly bucketOf: (device: string) => number;
};

/** Sorts the devices of the namespace and the rows of the fleet by what they are to this deployment. */
export function classifyDevices(
  views: DeviceViews,
  deployment: InferenceDeployment,
): Pick<RolloutSeen, "members" | "contested" | "staleDevices"> {
  const otherDeployments = views.deployments
    .list(deployment.namespace)
    .filter((other) => other.key !== deployment.key && !other.deleting);
  const known = new Set<string>();
  const members: Member[] = [];
  const contested: Contested[] = [];
  for (const device of views.devices.list(deployment.namespace)) {
    if (device.deleting || !selects(deployment, device)) continue;
    const id = deviceIdOf(device);
    const row = views.fleet.get(id);
    if (known.has(id) || !holds(views, device, row)) continue;
    known.add(id);
    const others = otherDeployments
      .filter((other) => contend(device, deployment, other) && selects(other, device))
      .map(({ name }) => name);
    const member = memberOf(views, device, id, row, deployment);
    if (others.length === 0) members.push(member);
    else contested.push(contestedOf(member, row !== undefined, others));
  }
  return { members, contested, staleDevices: staleDevicesOf(views, deployment, known) };
}

function staleDevicesOf(
  views: DeviceViews,
  deployment: InferenceDeployment,
  known: ReadonlySet<string>,
): readonly StaleDevice[] {
  const own = qualifiedName(deployment);
  const module = deployment.spec.module.name;
  const staleDevices: StaleDevice[] = [];
  let objects: ReadonlyMap<string, readonly EdgeDevice[]> | null = null;
  for (const row of rowsToCheck(views, deployment)) {
    if (known.has(row.device) || isOfAnotherCluster(views, row)) continue;
    const slot = ownValue(row.slots, row.iotEdge ? module : "");
    const pointer = slot?.pointer ?? null;
    const tagged = isTagged(row, module, own);
    const isPointed = pointer?.deployment === own;
    // The hub may have taken the pointer together with the tag: a deletion looks after every device that it had.
    if (!tagged && !isPointed && !(deployment.deleting && pointer === null && slot !== undefined)) continue;
    objects ??= Map.groupBy(views.devices.list(deployment.namespace), deviceIdOf);
    // Where one object succeeds another, it is the successor's.
    const holders = objects.get(row.device)?.filter((one) => holds(views, one, row)) ?? [];
    const object = holders.find(({ deleting }) => !deleting) ?? holders[0];
    const wasMember =
      object !== undefined && !object.deleting && matches(deployment.spec.selector, object.labels);
    if (!tagged && !isPointed && !wasMember) continue;
    staleDevices.push({
      device: row.device,
      deviceClass: object?.spec.deviceClass ?? row.fleetTags?.class ?? null,
      iotEdge: row.iotEdge,
      tagged,
      namesCluster: namesCluster(views, row),
      pointer,
      leaving: object?.deleting === true,
      heirs: object === undefined ? [] : heirsOf(views, deployment, object),
    });
  }
  return staleDevices;
}

/** Rows that may be left over: what names the deployment and, while it is deleted, what it selected. */
function rowsToCheck(views: DeviceViews, deployment: InferenceDeployment): Iterable<FleetDevice> {
  const named = views.fleet.namedBy(qualifiedName(deployment));
  if (!deployment.deleting) return named;
  const selected = views.devices
    .list(deployment.namespace)
    .filter(({ labels }) => matches(deployment.spec.selector, labels))
    .flatMap((device) => views.fleet.get(deviceIdOf(device)) ?? []);
  return new Set([...named, ...selected]);
}

/** Who wants the place on the device that the deployment had. */
function heirsOf(views: DeviceViews, deployment: InferenceDeployment, device: EdgeDevice): readonly string[] {
  if (device.deleting) return [];
  const others = views.deployments.list(deployment.namespace).filter(({ key }) => key !== deployment.key);
  const module = deployment.spec.module.name;
  return membershipsOf(device, others)
    .filter((membership) => !device.spec.iotEdge || membership.module === module)
    .flatMap((membership) =>
      membership.kind === "member"
        ? [membership.deployment.name]
        : membership.deployments.map(({ name }) => name),
    );
}

/** Two objects may have one deviceId: only the one that the tags name acts on it, and any while they name none. */
function holds(views: DeviceViews, device: EdgeDevice, row: FleetDevice | undefined): boolean {
  const owner = row === undefined ? null : ownerOf(row.tags);
  if (owner === null) return true;
  const { clusterId } = views.settings;
  return isOwner(device, owner, clusterId) || succeeds(device, owner, clusterId, views.devices.get);
}

/** A deployment of another cluster may have the same name: what it left there is its own. */
function isOfAnotherCluster(views: DeviceViews, row: FleetDevice): boolean {
  const owner = ownerOf(row.tags);
  return owner !== null && isForeign(owner, views.settings.clusterId);
}

function namesCluster(views: DeviceViews, row: FleetDevice | undefined): boolean {
  return row?.fleetTags?.cluster === views.settings.clusterId;
}

function memberOf(
  views: DeviceViews,
  device: EdgeDevice,
  id: string,
  row: FleetDevice | undefined,
  deployment: InferenceDeployment,
): Member {
  const module = deployment.spec.module.name;
  const slot = ownValue(row?.slots, row?.iotEdge ? module : "");
  const tagged = isTagged(row, module, qualifiedName(deployment));
  // What the hub targets by is what the tags say, also while they lag behind the object.
  const tags = tagged ? (row?.fleetTags ?? null) : null;
  return {
    device: id,
    site: (tags === null ? device.spec.site : tags.site) || undefined,
    deviceClass: tags?.class ?? device.spec.deviceClass,
    iotEdge: row?.iotEdge ?? device.spec.iotEdge,
    bucket: row?.fleetTags?.bucket ?? device.status?.bucket ?? views.bucketOf(id),
    tagged,
    namesCluster: namesCluster(views, row),
    pointer: slot?.pointer ?? null,
    report: slot?.report ?? null,
    heardAt: slot?.heardAt ?? null,
    enabled: device.spec.enabled,
    implausible: null,
  };
}

function contestedOf(member: Member, isKnown: boolean, otherDeployments: readonly string[]): Contested {
  const { device, deviceClass, iotEdge, tagged, pointer } = member;
  return {
    device,
    deviceClass,
    iotEdge,
    tagged,
    namesCluster: member.namesCluster,
    isKnown,
    pointer,
    otherDeployments,
  };
}

function isTagged(row: FleetDevice | undefined, module: string, own: string): boolean {
  const deployments = row?.fleetTags?.deployments ?? {};
  // Of what is ownerless the module is not always known.
  return module === "" ? Object.values(deployments).includes(own) : ownValue(deployments, module) === own;
}
