import { findCondition } from "../api/condition.ts";
import type { EdgeDevice } from "../api/edge-device.ts";
import { REASONS } from "../api/reasons.ts";
import { lifecycleOf } from "../api/resource.ts";
import { ALLOW_DELETIONS_ANNOTATION, deletionsUntil, type GrantOf } from "../api/tenancy.ts";
import type { Instant } from "../base/time.ts";
import { hasLeft, type Leaving, mustWait } from "./brake.ts";

/** What is being deleted at this moment, for the brake on mass deletions. */
export type Departures = {
  /** Whether the removal of this device's identity has to wait for a person. */
  readonly mustWait: (device: EdgeDevice, now: Instant) => boolean;
  /** Its identity has been removed. */
  readonly left: (device: EdgeDevice, now: Instant) => void;
};

type DeviceCache = {
  readonly list: () => readonly EdgeDevice[];
  readonly onChange: (
    listener: (before: EdgeDevice | undefined, after: EdgeDevice | undefined) => void,
  ) => void;
};

/**
 * Follows the cache, so that ten thousand deletions are not counted ten thousand times. Who waits is in the
 * objects' status, and so survives this process; only the removals of the last minute are forgotten with it.
 * @param limit identities of a namespace that may be removed within a minute; 0: any number.
 */
export function createDepartures(devices: DeviceCache, grants: GrantOf, limit: number): Departures {
  const leaving = new Map<string, Map<string, Leaving>>();

  function put({ namespace }: EdgeDevice, one: Leaving): void {
    const those = leaving.get(namespace) ?? new Map<string, Leaving>();
    leaving.set(namespace, those.set(one.uid, one));
  }

  function drop({ namespace, uid }: EdgeDevice): void {
    const those = leaving.get(namespace);
    those?.delete(uid);
    if (those?.size === 0) leaving.delete(namespace);
  }

  function note(device: EdgeDevice): void {
    const had = leaving.get(device.namespace)?.get(device.uid);
    if (!losesIdentity(device)) {
      if (had !== undefined && had.removedAt === null) drop(device);
      return;
    }
    put(device, {
      uid: device.uid,
      allowedUntil: deletionsUntil(device.annotations[ALLOW_DELETIONS_ANNOTATION]),
      removedAt: had?.removedAt ?? null,
      isPaused: isPaused(device),
    });
  }

  function forgetOld(now: Instant): void {
    for (const [namespace, those] of leaving) {
      for (const one of those.values()) if (hasLeft(one, now)) those.delete(one.uid);
      if (those.size === 0) leaving.delete(namespace);
    }
  }

  for (const device of devices.list()) note(device);
  devices.onChange((before, after) => {
    if (after !== undefined) note(after);
    // What was removed a moment ago counts on; what merely went does not.
    else if (before !== undefined && leaving.get(before.namespace)?.get(before.uid)?.removedAt === null)
      drop(before);
  });

  return {
    mustWait: (device, now) => {
      if (limit === 0) return false;
      const onObject = deletionsUntil(device.annotations[ALLOW_DELETIONS_ANNOTATION]);
      const onNamespace = grants(device.namespace).allowDeletionsUntil;
      const allowedUntil = later(onObject, onNamespace);
      const { uid, namespace } = device;
      return mustWait(
        { uid, namespace, allowedUntil, isPaused: isPaused(device) },
        valuesOf(leaving),
        limit,
        now,
      );
    },
    left: (device, now) => {
      forgetOld(now);
      const allowedUntil = later(
        deletionsUntil(device.annotations[ALLOW_DELETIONS_ANNOTATION]),
        grants(device.namespace).allowDeletionsUntil,
      );
      // What a person allowed is no sign of an accident.
      if (allowedUntil !== null && allowedUntil > now) drop(device);
      else put(device, { uid: device.uid, allowedUntil: null, removedAt: now, isPaused: false });
    },
  };
}

/** Whether the status of a device says that its deletion waits for a person. */
export function isPaused({ status }: Pick<EdgeDevice, "status">): boolean {
  return findCondition(status?.conditions, "Ready")?.reason === REASONS.DeletionsPaused;
}

/** As far as the object says: an identity that was adopted is retained unless its deletion is written out. */
function losesIdentity(device: EdgeDevice): boolean {
  const { spec, status } = device;
  if (lifecycleOf(device) !== "cleanup") return false;
  return (spec.deletionPolicy ?? (status?.hub?.adopted === true ? "Retain" : "Delete")) === "Delete";
}

function later(a: Instant | null, b: Instant | null): Instant | null {
  if (a === null || b === null) return a ?? b;
  return a > b ? a : b;
}

function valuesOf(
  leaving: ReadonlyMap<string, ReadonlyMap<string, Leaving>>,
): ReadonlyMap<string, Iterable<Leaving>> {
  return new Map([...leaving].map(([namespace, those]) => [namespace, those.values()]));
}
