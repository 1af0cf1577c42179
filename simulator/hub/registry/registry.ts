import type { JsonObject } from "../../base/json.ts";
import { type Answer, ok, type Refused, refuse } from "../errors.ts";
import type { PersistedRecords } from "../persistence.ts";
import { checkEtag, type IfMatch } from "../preconditions.ts";
import type { Twins } from "../twins/twins.ts";
import { checkId, type Identity, parseDraft } from "./identity.ts";
import {
  createIdentityStore,
  type IdentityStore,
  type IdentityWrite,
  type RegistryNumbers,
  type RegistryOptions,
} from "./identity-store.ts";

export type Registry = {
  readonly get: (deviceId: string, moduleId: string | null) => Identity | undefined;
  readonly devices: () => Iterable<Identity>;
  readonly modulesOf: (deviceId: string) => readonly Identity[];
  readonly count: () => number;
  /** No If-Match creates and refuses to overwrite; any If-Match updates and refuses to create. */
  readonly putDevice: (deviceId: string, body: JsonObject, ifMatch: IfMatch) => Answer<Identity>;
  readonly removeDevice: (deviceId: string, ifMatch: IfMatch) => Answer<void>;
  readonly putModule: (
    deviceId: string,
    moduleId: string,
    body: JsonObject,
    ifMatch: IfMatch,
  ) => Answer<Identity>;
  readonly removeModule: (deviceId: string, moduleId: string, ifMatch: IfMatch) => Answer<void>;
  /** Modules that a manifest names: the hub makes their identities. */
  readonly ensureModule: (deviceId: string, moduleId: string) => void;
  readonly onWrite: (listener: (write: IdentityWrite) => void) => void;
  readonly persisted: PersistedRecords;
  readonly numbers: () => RegistryNumbers;
  readonly resume: (numbers: RegistryNumbers) => void;
};

/** The two of the IoT Edge runtime do not count. */
const MODULES_PER_DEVICE = 50;
const SYSTEM_MODULES: readonly string[] = ["$edgeAgent", "$edgeHub"];

/** Identities of devices and modules; their twins are made and removed with them. What the hub checks before each write. */
export function createRegistry(twins: Twins, options: RegistryOptions): Registry {
  const store = createIdentityStore(twins, options);

  function remove(identity: Identity | undefined, ifMatch: IfMatch, missing: Refused): Answer<void> {
    if (identity === undefined) return missing;
    const matched = checkEtag(ifMatch, identity.etag);
    if (matched.ok) store.remove(identity);
    return matched;
  }

  function ensureModule(deviceId: string, moduleId: string): void {
    if (store.get(deviceId, null) === undefined || store.get(deviceId, moduleId) !== undefined) return;
    if (!checkId(moduleId, "moduleId").ok) return;
    if (!hasRoom(store, deviceId, moduleId)) return;
    const draft = parseDraft({ managedBy: "IotEdge" }, store.makeKey);
    if (draft.ok) store.create(deviceId, moduleId, draft.value);
  }

  function putDevice(deviceId: string, body: JsonObject, ifMatch: IfMatch): Answer<Identity> {
    const named = checkId(deviceId, "deviceId");
    if (!named.ok) return named;
    if (body["deviceId"] !== undefined && body["deviceId"] !== deviceId)
      return refuse("ArgumentInvalid", "deviceId of the body is not that of the path");
    const before = store.get(deviceId, null) ?? null;
    const allowed = checkWrite(before, ifMatch, {
      exists: refuse("DeviceAlreadyExists", `A device with ID '${deviceId}' is already registered.`),
      missing: refuse("DeviceNotFound", `Device ${deviceId} not registered`),
    });
    if (!allowed.ok) return allowed;
    if (before === null && store.count() >= options.maximumDevices)
      return refuse("TooManyDevices", `The hub holds ${options.maximumDevices} devices already`);
    const parsed = parseDraft(body, store.makeKey);
    if (!parsed.ok) return parsed;
    const draft = store.scopes.resolve(deviceId, parsed.value, before);
    if (!draft.ok) return draft;
    const after =
      before === null ? store.create(deviceId, null, draft.value) : store.update(before, draft.value);
    if (after.iotEdge) for (const module of SYSTEM_MODULES) ensureModule(deviceId, module);
    return ok(after);
  }

  function removeDevice(deviceId: string, ifMatch: IfMatch): Answer<void> {
    const missing = refuse("DeviceNotFound", `Device ${deviceId} not registered`);
    return remove(store.get(deviceId, null), ifMatch, missing);
  }

  function putModule(
    deviceId: string,
    moduleId: string,
    body: JsonObject,
    ifMatch: IfMatch,
  ): Answer<Identity> {
    const named = checkId(moduleId, "moduleId");
    if (!named.ok) return named;
    const device = store.get(deviceId, null);
    if (device === undefined) return refuse("DeviceNotFound", `Device ${deviceId} not registered`);
    const before = store.get(deviceId, moduleId) ?? null;
    const allowed = checkWrite(before, ifMatch, {
      exists: refuse("ModuleAlreadyExistsOnDevice", `Module ${moduleId} already exists on ${deviceId}`),
      missing: refuse("ModuleNotFound", `Module ${moduleId} on device ${deviceId} not registered`),
    });
    if (!allowed.ok) return allowed;
    if (before === null && !hasRoom(store, deviceId, moduleId))
      return refuse("TooManyModulesOnDevice", `${deviceId} has ${MODULES_PER_DEVICE} modules already`);
    const draft = parseDraft(body, store.makeKey);
    if (!draft.ok) return draft;
    const stored = { ...draft.value, iotEdge: false, enabled: true };
    return ok(before === null ? store.create(deviceId, moduleId, stored) : store.update(before, stored));
  }

  function removeModule(deviceId: string, moduleId: string, ifMatch: IfMatch): Answer<void> {
    const isDevice = store.get(deviceId, null) !== undefined;
    const missing = isDevice
      ? refuse("ModuleNotFound", `Module ${moduleId} on device ${deviceId} not registered`)
      : refuse("DeviceNotFound", `Device ${deviceId} not registered`);
    return remove(store.get(deviceId, moduleId), ifMatch, missing);
  }

  return {
    get: store.get,
    devices: store.devices,
    modulesOf: (deviceId) =>
      store.moduleIdsOf(deviceId).flatMap((moduleId) => store.get(deviceId, moduleId) ?? []),
    count: store.count,
    putDevice,
    removeDevice,
    putModule,
    removeModule,
    ensureModule,
    onWrite: store.onWrite,
    persisted: store.persisted,
    numbers: store.numbers,
    resume: store.resume,
  };
}

function hasRoom(store: IdentityStore, deviceId: string, moduleId: string): boolean {
  const counted = store.moduleIdsOf(deviceId).filter((module) => !SYSTEM_MODULES.includes(module));
  return SYSTEM_MODULES.includes(moduleId) || counted.length < MODULES_PER_DEVICE;
}

function checkWrite(
  before: Identity | null,
  ifMatch: IfMatch,
  refusals: { readonly exists: Refused; readonly missing: Refused },
): Answer<void> {
  if (ifMatch === null) return before === null ? ok(undefined) : refusals.exists;
  return before === null ? refusals.missing : checkEtag(ifMatch, before.etag);
}
