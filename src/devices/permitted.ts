import { isOwner, ownerOf } from "../api/ownership.ts";
import { adoptionRefusal, deviceRefusal, mayAdopt, mayUseDevice } from "../api/tenancy.ts";
import type { DeviceSeen, IdentitySeen } from "./seen.ts";

/** Why the namespace may not use the device id; `null`: it may. Nothing on the hub has to be looked at for it. */
export function idRefusal({ device, deviceId, grant }: Pick<DeviceSeen, "device" | "deviceId" | "grant">) {
  return mayUseDevice(grant, deviceId) ? null : deviceRefusal(device.namespace, grant, deviceId);
}

/** Why an identity without an owner may not be taken over; `null`: it may, or it is this object's already. */
export function adoptionProblem(seen: DeviceSeen, hub: IdentitySeen): string | null {
  const { device, deviceId, grant } = seen;
  if (isProven(seen, hub) || mayAdopt(grant, deviceId)) return null;
  return adoptionRefusal(device.namespace, grant, deviceId);
}

/**
 * Whether it is proven that the identity is this object's. The proof is on the hub: the tags name the object, or the
 * identity says that it was made for its uid, or it lives the life that our status remembers to have made. A finalizer
 * is none: a manifest can name any finalizer.
 */
export function isProven(
  { device, deviceId, host, clusterId }: Pick<DeviceSeen, "device" | "deviceId" | "host" | "clusterId">,
  { tags, madeFor, generationId }: Pick<IdentitySeen, "tags" | "madeFor" | "generationId">,
): boolean {
  const owner = ownerOf(tags);
  if (owner !== null) return isOwner(device, owner, clusterId);
  if (madeFor === device.uid) return true;
  const had = device.status?.hub;
  return (
    had !== undefined &&
    !had.adopted &&
    had.host === host &&
    had.deviceId === deviceId &&
    had.generationId !== "" &&
    had.generationId === generationId
  );
}
