import type { JsonObject } from "../../base/json.ts";
import type { Authentication, Identity } from "../registry/identity.ts";
import type { Registry } from "../registry/registry.ts";
import { type Twin, twinEtag, twinKey } from "../twins/twin.ts";
import type { Twins } from "../twins/twins.ts";

/** One JSON object in each line: every device, followed by its modules. Keys are null where they are left out. */
export function exportLines(registry: Registry, twins: Twins, excludeKeys: boolean): readonly string[] {
  const lines: string[] = [];
  const add = (identity: Identity) => {
    const twin = twins.get(twinKey(identity.deviceId, identity.moduleId));
    lines.push(JSON.stringify(entryOf(identity, twin, excludeKeys)));
  };
  for (const device of inOrder(registry)) {
    add(device);
    for (const module of registry.modulesOf(device.deviceId)) add(module);
  }
  return lines;
}

/** Parents before children, so that an import finds the scopes that it reads of. */
function inOrder(registry: Registry): readonly Identity[] {
  const byScope = new Map<string, Identity>();
  const all = [...registry.devices()];
  for (const device of all)
    if (device.iotEdge && device.deviceScope !== null) byScope.set(device.deviceScope, device);
  const placed = new Set<Identity>();
  const place = (device: Identity, below: ReadonlySet<Identity>) => {
    if (placed.has(device) || below.has(device)) return;
    for (const scope of device.parentScopes) {
      const parent = byScope.get(scope);
      if (parent !== undefined) place(parent, new Set([...below, device]));
    }
    placed.add(device);
  };
  for (const device of all) place(device, new Set());
  return [...placed];
}

/** As the API calls it: ExportImportDevice. */
function entryOf(identity: Identity, twin: Twin | undefined, excludeKeys: boolean): JsonObject {
  const { deviceId, moduleId, etag, enabled, statusReason, iotEdge, deviceScope, parentScopes } = identity;
  return {
    id: deviceId,
    ...(moduleId === null ? {} : { moduleId, managedBy: identity.managedBy }),
    eTag: etag,
    status: enabled ? "enabled" : "disabled",
    ...(statusReason === null ? {} : { statusReason }),
    authentication: authenticationOf(identity.authentication, excludeKeys),
    ...(twin === undefined
      ? {}
      : {
          twinETag: twinEtag(twin),
          tags: twin.tags,
          properties: { desired: twin.desired.value, reported: twin.reported.value },
        }),
    ...(moduleId === null ? { capabilities: { iotEdge } } : {}),
    ...(deviceScope === null ? {} : { deviceScope }),
    ...(parentScopes.length === 0 ? {} : { parentScopes }),
  };
}

function authenticationOf(authentication: Authentication, excludeKeys: boolean): JsonObject {
  const none = { primaryKey: null, secondaryKey: null };
  return { ...authentication, symmetricKey: excludeKeys ? none : authentication.symmetricKey };
}
