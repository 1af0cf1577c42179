import { own } from "../base/lookup.ts";
import { deviceIdOf, type EdgeDevice } from "./edge-device.ts";
import { type ObjectKey, objectKey } from "./resource.ts";

// Which EdgeDevice an identity of the hub belongs to: the one that the twin's tags name. `devices/` writes the tags, and
// every room asks here, so that two objects with one deviceId never both act on it.

type Json = Readonly<Record<string, unknown>>;

/** The root tag that is the operator's own. */
export const OWN_TAG = "edgefleet";

export type Owner = {
  /** Id of the cluster; `null`: written before clusters were named there. */
  readonly cluster: string | null;
  readonly namespace: string;
  readonly device: string;
};

/** The EdgeDevice that the tags name; `null` where no operator manages the twin. */
export function ownerOf(tags: Json): Owner | null {
  const ours = own(tags, OWN_TAG);
  if (typeof ours !== "object" || ours === null || !("managed" in ours) || ours.managed !== true) return null;
  const text = (name: string): string | null => {
    const value = own(ours as Json, name);
    return typeof value === "string" ? value : null;
  };
  return { cluster: text("cluster"), namespace: text("namespace") ?? "", device: text("device") ?? "" };
}

/** Whether the tags name a cluster, and another than this one. */
export function isForeign(owner: Owner, clusterId: string): boolean {
  return owner.cluster !== null && owner.cluster !== clusterId;
}

export function isOwner(
  device: Pick<EdgeDevice, "namespace" | "name">,
  owner: Owner,
  clusterId: string,
): boolean {
  return !isForeign(owner, clusterId) && owner.namespace === device.namespace && owner.device === device.name;
}

type Known = Pick<EdgeDevice, "name" | "spec" | "deleting">;

/**
 * Whether the device may take the identity over from the owner that the tags name: an EdgeDevice of the same namespace
 * that is being deleted, is gone, or has another identity by now. That is how an object is renamed.
 */
export function succeeds(
  device: Pick<EdgeDevice, "namespace" | "name" | "spec">,
  owner: Owner,
  clusterId: string,
  get: (key: ObjectKey) => Known | undefined,
): boolean {
  if (isForeign(owner, clusterId) || owner.namespace !== device.namespace) return false;
  const named = get(objectKey(owner.namespace, owner.device));
  return named === undefined || named.deleting || deviceIdOf(named) !== deviceIdOf(device);
}
