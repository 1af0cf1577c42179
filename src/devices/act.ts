import type { EdgeDeviceSpec, EdgeDeviceStatus } from "../api/edge-device.ts";
import { isOwner, OWN_TAG, ownerOf } from "../api/ownership.ts";
import { objectKey } from "../api/resource.ts";
import type { Attempt, Fault } from "../base/fault.ts";
import { own } from "../base/lookup.ts";
import { err, ok, type Result, unreachable } from "../base/result.ts";
import type { DeviceHub, FleetView, Twin, TwinPatch, TwinRef } from "../hub/hub.ts";
import type { Resources, Secrets } from "../kube/kube.ts";
import type { Done } from "../runtime/cycle.ts";
import type { Log } from "../telemetry/telemetry.ts";
import { connectionData } from "./connection.ts";
import type { DevicePlan, KeepAction, Life, UndoAction } from "./decide.ts";
import type { Departures } from "./departures.ts";
import { isProven } from "./permitted.ts";
import { holdsPointerOf } from "./pointer.ts";
import { type DeviceActed, type DeviceSeen, NOT_ACTED, type SecretOutcome } from "./seen.ts";
import { bareTagsPatch, deselectedPatch, tagsPatch, type WantedTags } from "./tags.ts";

export type ActDeps = {
  readonly devices: Pick<Resources<EdgeDeviceSpec, EdgeDeviceStatus>, "get" | "setFinalizer">;
  readonly hub: Pick<
    DeviceHub,
    | "host"
    | "getIdentity"
    | "getKeys"
    | "createIdentity"
    | "setEnabled"
    | "removeIdentity"
    | "getTwin"
    | "patchTwin"
  >;
  readonly fleet: Pick<FleetView, "note" | "forget">;
  readonly secrets: Secrets;
  readonly departures: Pick<Departures, "left">;
  readonly log: Log;
};

type DeviceDone = Done<DeviceActed>;

/** Carries a plan out in order and stops at the first fault. */
export function actOnDevice(deps: ActDeps) {
  return async (seen: DeviceSeen, plan: DevicePlan, signal: AbortSignal): Promise<DeviceDone> => {
    switch (plan.kind) {
      case "blocked":
        return { acted: NOT_ACTED, fault: null };
      case "keep":
        return keepDevice(deps, seen, plan.actions, signal);
      case "undo":
        return undoDevice(deps, seen, plan.actions, signal);
      default:
        return unreachable(plan);
    }
  };
}

async function keepDevice(
  deps: ActDeps,
  seen: DeviceSeen,
  actions: readonly KeepAction[],
  signal: AbortSignal,
): Promise<DeviceDone> {
  let acted = NOT_ACTED;
  let life: Life | null = null;
  for (const action of actions) {
    switch (action.kind) {
      case "createIdentity": {
        const created = await createIdentity(deps, seen, signal);
        if (!created.ok) return { acted, fault: created.error };
        life = created.value;
        acted = { ...acted, created: life.generationId };
        break;
      }
      case "setEnabled": {
        const set = await setEnabled(deps, seen, action.enabled, signal);
        if (!set.ok) return { acted, fault: set.error };
        break;
      }
      case "patchTags": {
        const patched = await patchTags(deps, seen, action, signal);
        if (!patched.ok) return { acted, fault: patched.error };
        break;
      }
      case "writeSecret": {
        const identity = action.identity ?? life ?? { generationId: "", etag: null };
        const secret = await writeSecret(deps, seen, action.name, identity, signal);
        acted = { ...acted, secret };
        if (secret.kind === "failed") return { acted, fault: secret.fault };
        break;
      }
      default:
        return unreachable(action);
    }
  }
  return { acted, fault: null };
}

async function createIdentity(deps: ActDeps, seen: DeviceSeen, signal: AbortSignal): Attempt<Life> {
  const { iotEdge, enabled } = seen.device.spec;
  const created = await deps.hub.createIdentity(
    { device: seen.deviceId, iotEdge, enabled, madeFor: seen.device.uid },
    signal,
  );
  if (!created.ok) return created;
  // Not worth a line at level info: the status says it, and a line for each costs a cold start 7 % of its processor time.
  deps.log.debug("created an identity", { device: seen.deviceId, iotEdge });
  return ok(created.value);
}

async function setEnabled(
  deps: ActDeps,
  seen: DeviceSeen,
  enabled: boolean,
  signal: AbortSignal,
): Attempt<void> {
  const { deviceId: device } = seen;
  // The view learns of it with a later sweep only: without this look each pass until then would write again.
  const identity = await deps.hub.getIdentity(device, signal);
  if (!identity.ok) return identity;
  if (identity.value === null || identity.value.enabled === enabled) return ok(undefined);
  const ref = { device, module: null };
  const twin = await deps.hub.getTwin(ref, "normal", signal);
  if (!twin.ok) return twin;
  if (twin.value !== null && belongsToAnother(seen, twin.value.tags)) {
    deps.fleet.note(twin.value);
    return err(TAKEN);
  }
  const set = await deps.hub.setEnabled(device, enabled, signal);
  if (!set.ok) return set;
  deps.log.info("enabled or disabled an identity", { device, enabled });
  return ok(undefined);
}

async function patchTags(
  deps: ActDeps,
  seen: DeviceSeen,
  action: { readonly etag: string | null; readonly wanted: WantedTags },
  signal: AbortSignal,
): Attempt<void> {
  const ref = { device: seen.deviceId, module: null };
  const start = await tagsBefore(deps, seen, action.etag, signal);
  if (!start.ok) return start;
  if (belongsToAnother(seen, start.value.tags)) {
    await noteCurrent(deps, ref, signal);
    return err(TAKEN);
  }
  const patch = tagsPatch(action.wanted, start.value.tags);
  if (patch === null) return ok(undefined);
  const patched = await deps.hub.patchTwin(
    { ...ref, etag: start.value.etag },
    { tags: patch },
    "normal",
    signal,
  );
  if (patched.ok) {
    deps.fleet.note(patched.value);
    return ok(undefined);
  }
  if (patched.error.kind === "conflict") await noteCurrent(deps, ref, signal);
  return patched;
}

const TAKEN: Fault = { kind: "conflict", message: "the tags name another owner in the meantime" };

/** The view may be minutes old: whatever was read since decides. */
function belongsToAnother(seen: DeviceSeen, tags: Twin["tags"]): boolean {
  const owner = ownerOf(tags);
  if (owner === null || isOwner(seen.device, owner, seen.clusterId)) return false;
  // An object that gives the identity up to this one is the one that was seen, and no other.
  const named = seen.hub.kind === "present" && seen.succeeds ? ownerOf(seen.hub.tags) : null;
  return named?.device !== owner.device || named.namespace !== owner.namespace;
}

async function tagsBefore(
  deps: ActDeps,
  seen: DeviceSeen,
  etag: string | null,
  signal: AbortSignal,
): Attempt<Pick<Twin, "etag" | "tags">> {
  if (etag !== null) return ok({ etag, tags: seen.hub.kind === "present" ? seen.hub.tags : {} });
  const twin = await deps.hub.getTwin({ device: seen.deviceId, module: null }, "normal", signal);
  if (!twin.ok) return twin;
  // A read right after the creation may still miss it.
  if (twin.value === null)
    return err({ kind: "unavailable", message: "the new identity does not have a twin yet" });
  return ok(twin.value);
}

/** Updates the view, so that the next pass decides on what is there now. */
async function noteCurrent(deps: ActDeps, ref: TwinRef, signal: AbortSignal): Promise<void> {
  const twin = await deps.hub.getTwin(ref, "normal", signal);
  if (!twin.ok) return; // The conflict itself is what is reported.
  if (twin.value === null) deps.fleet.forget(ref.device);
  else deps.fleet.note(twin.value);
}

async function writeSecret(
  deps: ActDeps,
  seen: DeviceSeen,
  name: string,
  identity: Life,
  signal: AbortSignal,
): Promise<SecretOutcome> {
  const { namespace, uid, name: owner } = seen.device;
  const had = await deps.secrets.get(namespace, name, signal);
  if (!had.ok) return { kind: "failed", source: "kube", fault: had.error };
  if (had.value !== null && had.value.ownerUid !== uid) return { kind: "foreign" };
  const keys = await deps.hub.getKeys(seen.deviceId, signal);
  if (!keys.ok) return { kind: "failed", source: "hub", fault: keys.error };
  if (keys.value === null) return { kind: "keyless" };
  const data = connectionData(deps.hub.host, seen.deviceId, keys.value);
  const written = {
    kind: "written",
    generationId: identity.generationId,
    identityEtag: identity.etag,
  } as const;
  if (had.value !== null && sameData(had.value.data, data)) return written;
  const applied = await deps.secrets.apply(
    { kind: "EdgeDevice", name: owner, uid },
    { namespace, name, data },
    signal,
  );
  if (!applied.ok) return { kind: "failed", source: "kube", fault: applied.error };
  return written;
}

function sameData(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => own(a, key) === own(b, key));
}

async function undoDevice(
  deps: ActDeps,
  seen: DeviceSeen,
  actions: readonly UndoAction[],
  signal: AbortSignal,
): Promise<DeviceDone> {
  for (const action of actions) {
    const done = await undoOne(deps, seen, action, signal);
    if (done.ok) continue;
    const failedAt = action.kind === "removeFinalizer" ? "kube" : "hub";
    return { acted: { ...NOT_ACTED, failedAt }, fault: done.error };
  }
  return { acted: NOT_ACTED, fault: null };
}

async function undoOne(
  deps: ActDeps,
  seen: DeviceSeen,
  action: UndoAction,
  signal: AbortSignal,
): Promise<Result<void, Fault>> {
  switch (action.kind) {
    case "removeIdentity":
      return removeIdentity(deps, seen, signal);
    case "handOver":
      return handOver(deps, seen, action.to, signal);
    case "takeBack":
      return takeBack(deps, seen, signal);
    case "withdraw":
      return withdraw(deps, seen, action.modules, signal);
    case "removeFinalizer": {
      const released = await deps.devices.setFinalizer(seen.device, "remove", signal);
      return released.ok ? ok(undefined) : released;
    }
    default:
      return unreachable(action);
  }
}

/** It cannot be undone, so the twin itself is asked whose it is: the view may be minutes old. */
async function removeIdentity(deps: ActDeps, seen: DeviceSeen, signal: AbortSignal): Attempt<void> {
  const { deviceId: device } = seen;
  const twin = await deps.hub.getTwin({ device, module: null }, "normal", signal);
  if (!twin.ok) return twin;
  const tags = twin.value?.tags ?? {};
  if (ownerOf(tags) === null || twin.value === null) {
    const identity = await deps.hub.getIdentity(device, signal);
    if (!identity.ok) return identity;
    if (identity.value === null || !isProven(seen, { ...identity.value, tags })) return ok(undefined);
  } else if (!isProven(seen, { tags, generationId: null })) return ok(undefined);
  const removed = await deps.hub.removeIdentity(device, signal);
  if (!removed.ok) return removed;
  deps.departures.left(seen.device, seen.now);
  deps.fleet.forget(device);
  deps.log.info("removed an identity", { device });
  return removed;
}

/** Names the new owner in the tags and leaves everything else: the next pass of that one reconciles the rest. */
async function handOver(deps: ActDeps, seen: DeviceSeen, to: string, signal: AbortSignal): Attempt<void> {
  const ref = { device: seen.deviceId, module: null };
  const handed = await patchOwn(deps, seen, ref, () => ({ tags: { [OWN_TAG]: { device: to } } }), signal);
  if (!handed.ok) return handed;
  deps.log.info("handed an identity to another EdgeDevice", { device: seen.deviceId, to });
  return handed;
}

async function takeBack(deps: ActDeps, seen: DeviceSeen, signal: AbortSignal): Attempt<void> {
  const ref = { device: seen.deviceId, module: null };
  const { namespace, name } = seen.device;
  const isGone = (device: string) => deps.devices.get(objectKey(namespace, device)) === undefined;
  return await patchTwinOf(
    deps,
    ref,
    ({ tags }) => {
      const owner = ownerOf(tags);
      return owner === null || owner.namespace !== namespace || !isGone(owner.device)
        ? null
        : { tags: { [OWN_TAG]: { device: name } } };
    },
    signal,
  );
}

/**
 * Takes everything back but the identity. First no configuration selects the device any more, then its pointers go (in
 * the other order the hub would put them back), last the tags, which say until then which modules there were.
 */
async function withdraw(
  deps: ActDeps,
  seen: DeviceSeen,
  modules: readonly string[],
  signal: AbortSignal,
): Attempt<void> {
  const ref = { device: seen.deviceId, module: null };
  const { namespace } = seen.device;
  if (modules.length > 0) {
    const deselected = await patchOwn(deps, seen, ref, (twin) => tagsOf(deselectedPatch(twin.tags)), signal);
    if (!deselected.ok) return deselected;
  }
  for (const module of modules) {
    const pointer = await patchTwinOf(deps, { ...ref, module }, (twin) => unpointed(namespace, twin), signal);
    if (!pointer.ok) return pointer;
  }
  const bare = await patchOwn(
    deps,
    seen,
    ref,
    (twin) => merged(tagsOf(bareTagsPatch(twin.tags)), unpointed(namespace, twin)),
    signal,
  );
  if (!bare.ok) return bare;
  deps.fleet.forget(seen.deviceId);
  deps.log.info("released a retained identity", { device: seen.deviceId });
  return ok(undefined);
}

/** As `patchTwinOf`, unless the tags have come to name another owner meanwhile. */
function patchOwn(
  deps: ActDeps,
  seen: DeviceSeen,
  ref: TwinRef,
  patchFor: (twin: Twin) => TwinPatch | null,
  signal: AbortSignal,
): Attempt<void> {
  return patchTwinOf(
    deps,
    ref,
    (twin) => {
      const owner = ownerOf(twin.tags);
      return owner === null || belongsToAnother(seen, twin.tags) ? null : patchFor(twin);
    },
    signal,
  );
}

/** Reads a twin and patches it under its etag; a twin that is not there needs no patch. */
async function patchTwinOf(
  deps: ActDeps,
  ref: TwinRef,
  patchFor: (twin: Twin) => TwinPatch | null,
  signal: AbortSignal,
): Attempt<void> {
  const twin = await deps.hub.getTwin(ref, "normal", signal);
  if (!twin.ok) return twin;
  const patch = twin.value === null ? null : patchFor(twin.value);
  if (twin.value === null || patch === null) return ok(undefined);
  const patched = await deps.hub.patchTwin({ ...ref, etag: twin.value.etag }, patch, "normal", signal);
  if (!patched.ok) return patched;
  deps.fleet.note(patched.value);
  return ok(undefined);
}

function unpointed(namespace: string, twin: Twin): TwinPatch | null {
  return holdsPointerOf(namespace, twin.desired) ? { desired: { model: null } } : null;
}

function tagsOf(tags: TwinPatch["tags"] | null): TwinPatch | null {
  return tags === null || tags === undefined ? null : { tags };
}

function merged(a: TwinPatch | null, b: TwinPatch | null): TwinPatch | null {
  return a === null && b === null ? null : { ...a, ...b };
}
