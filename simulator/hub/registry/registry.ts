import type { JsonObject } from "../../base/json.ts";
import { hash32, seededKey } from "../../base/random.ts";
import { type Answer, ok, type Refused, refuse } from "../errors.ts";
import type { PersistedRecords } from "../persistence.ts";
import { checkEtag, type IfMatch } from "../preconditions.ts";
import { type TwinKey, twinKey } from "../twins/twin.ts";
import type { Twins } from "../twins/twins.ts";
import { checkId, type Identity, type IdentityDraft, parseDraft } from "./identity.ts";

export type IdentityWrite = {
  readonly key: TwinKey;
  readonly before: Identity | null;
  /** `null`: the identity is gone. */
  readonly after: Identity | null;
};

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
  /** Modules that a manifest names: the hub makes their identities by itself. */
  readonly ensureModule: (deviceId: string, moduleId: string) => void;
  readonly onWrite: (listener: (write: IdentityWrite) => void) => void;
  readonly persisted: PersistedRecords;
  readonly numbers: () => RegistryNumbers;
  readonly resume: (numbers: RegistryNumbers) => void;
};

/** Etags, generations and keys are made of them: they never come a second time. */
export type RegistryNumbers = { readonly writes: number; readonly keys: number };

export type RegistryOptions = {
  /** Milliseconds since the Unix epoch. */
  readonly now: () => number;
  readonly seed: number;
  readonly maximumDevices: number;
};

/** The two of the IoT Edge runtime do not count. */
const MODULES_PER_DEVICE = 50;
const SYSTEM_MODULES: readonly string[] = ["$edgeAgent", "$edgeHub"];
const SCOPE = "ms-azure-iot-edge://";
const SCOPE_END = /-[0-9]{18}$/;
/** .NET ticks of the Unix epoch: scopes and generations are written in them. */
const EPOCH_TICKS = 621_355_968_000_000_000n;

/** Identities of devices and modules; their twins are made and removed with them. */
export function createRegistry(twins: Twins, options: RegistryOptions): Registry {
  const identities = new Map<TwinKey, Identity>();
  const modules = new Map<string, Set<string>>();
  /** Of edge devices: what children may name. */
  const scopes = new Set<string>();
  const listeners: ((write: IdentityWrite) => void)[] = [];
  let writes = 0;
  let keys = 0;

  const time = () => new Date(options.now()).toISOString();
  const makeKey = () => seededKey(options.seed, `identity/${keys++}`);
  const ticks = () => String(EPOCH_TICKS + BigInt(Math.floor(options.now())) * 10_000n + BigInt(writes));

  /** Base64 of a decimal, as the hub makes etags of identities; it never repeats. */
  function nextEtag(): string {
    writes += 1;
    return Buffer.from(String(100_000_000 + (hash32(`${options.seed}`) % 400_000_000) + writes)).toString(
      "base64",
    );
  }

  /** The key alone will not do: text with a slash is no device, though a module may have that key. */
  function get(deviceId: string, moduleId: string | null): Identity | undefined {
    const found = identities.get(twinKey(deviceId, moduleId));
    return found?.deviceId === deviceId ? found : undefined;
  }

  function tell(write: IdentityWrite): void {
    for (const listener of listeners) listener(write);
  }

  function store(before: Identity | null, after: Identity): Identity {
    const key = twinKey(after.deviceId, after.moduleId);
    place(key, after);
    if (before === null) twins.create(after.deviceId, after.moduleId);
    tell({ key, before, after });
    return after;
  }

  function noteScope(before: Identity | null, after: Identity | null): void {
    if (before?.iotEdge === true && before.deviceScope !== null) scopes.delete(before.deviceScope);
    if (after?.iotEdge === true && after.deviceScope !== null) scopes.add(after.deviceScope);
  }

  function place(key: TwinKey, identity: Identity): void {
    const before = identities.get(key) ?? null;
    identities.set(key, identity);
    noteScope(before, identity);
    if (before !== null) return;
    if (identity.moduleId === null) modules.set(identity.deviceId, new Set());
    else modules.get(identity.deviceId)?.add(identity.moduleId);
  }

  function countModules(deviceId: string): number {
    const all = [...(modules.get(deviceId) ?? [])];
    return all.filter((module) => !SYSTEM_MODULES.includes(module)).length;
  }

  function remove(identity: Identity): void {
    const key = twinKey(identity.deviceId, identity.moduleId);
    if (identity.moduleId === null) {
      for (const module of modules.get(identity.deviceId) ?? []) {
        const inner = identities.get(twinKey(identity.deviceId, module));
        if (inner !== undefined) remove(inner);
      }
      modules.delete(identity.deviceId);
    } else {
      modules.get(identity.deviceId)?.delete(identity.moduleId);
    }
    identities.delete(key);
    noteScope(identity, null);
    twins.remove(key);
    tell({ key, before: identity, after: null });
  }

  function create(deviceId: string, moduleId: string | null, draft: IdentityDraft): Identity {
    const etag = nextEtag();
    return store(null, {
      ...draft,
      deviceId,
      moduleId,
      generationId: ticks(),
      etag,
      statusUpdatedTime: time(),
    });
  }

  function ensureSystemModules(deviceId: string): void {
    for (const module of SYSTEM_MODULES) ensureModule(deviceId, module);
  }

  function ensureModule(deviceId: string, moduleId: string): void {
    if (!identities.has(deviceId) || identities.has(twinKey(deviceId, moduleId))) return;
    if (!checkId(moduleId, "moduleId").ok) return;
    if (!SYSTEM_MODULES.includes(moduleId) && countModules(deviceId) >= MODULES_PER_DEVICE) return;
    const draft = parseDraft({ managedBy: "IotEdge" }, makeKey);
    if (draft.ok) create(deviceId, moduleId, draft.value);
  }

  /**
   * The hub makes the scope of an edge device, once; a leaf takes its parent's, and a child that is an edge device
   * itself names its parent in parentScopes.
   */
  function scopesOf(deviceId: string, draft: IdentityDraft, before: Identity | null): Answer<IdentityDraft> {
    const parents = draft.parentScopes.filter((scope) => scope !== "");
    if (parents.length > 1) return refuse("InvalidDeviceScope", "a device has one parent at most");
    const unknown = parents.find((scope) => !isScopeOfAnother(scope, before));
    if (unknown !== undefined)
      return refuse("InvalidDeviceScope", `${unknown} is not the scope of another edge device of this hub`);
    const given = draft.deviceScope === "" ? null : draft.deviceScope;
    if (draft.iotEdge) return ownScopeOf(deviceId, { ...draft, parentScopes: parents }, given, before);
    if (given === null || (given === before?.deviceScope && before.iotEdge))
      return ok({ ...draft, deviceScope: null, parentScopes: parents });
    if (!isScopeOfAnother(given, before))
      return refuse("InvalidDeviceScope", `${given} is not the scope of an edge device of this hub`);
    return ok({ ...draft, deviceScope: given, parentScopes: [given] });
  }

  function isScopeOfAnother(scope: string, self: Identity | null): boolean {
    return scopes.has(scope) && !(self?.iotEdge === true && self.deviceScope === scope);
  }

  function ownScopeOf(
    deviceId: string,
    draft: IdentityDraft,
    given: string | null,
    before: Identity | null,
  ): Answer<IdentityDraft> {
    const own = before?.iotEdge === true ? before.deviceScope : null;
    if (own !== null && given !== null && given !== own)
      return refuse("InvalidDeviceScope", `the scope of ${deviceId} is ${own} and cannot be changed`);
    // An identity that was exported keeps its scope: the children that come after it name it.
    const brought = given?.startsWith(`${SCOPE}${deviceId}-`) && SCOPE_END.test(given) ? given : null;
    return ok({ ...draft, deviceScope: own ?? brought ?? `${SCOPE}${deviceId}-${ticks()}` });
  }

  function putDevice(deviceId: string, body: JsonObject, ifMatch: IfMatch): Answer<Identity> {
    const named = checkId(deviceId, "deviceId");
    if (!named.ok) return named;
    if (body["deviceId"] !== undefined && body["deviceId"] !== deviceId)
      return refuse("ArgumentInvalid", "deviceId of the body is not that of the path");
    const before = identities.get(deviceId) ?? null;
    const allowed = checkWrite(before, ifMatch, {
      exists: refuse("DeviceAlreadyExists", `A device with ID '${deviceId}' is already registered.`),
      missing: refuse("DeviceNotFound", `Device ${deviceId} not registered`),
    });
    if (!allowed.ok) return allowed;
    if (before === null && modules.size >= options.maximumDevices)
      return refuse("TooManyDevices", `The hub holds ${options.maximumDevices} devices already`);
    const parsed = parseDraft(body, makeKey);
    if (!parsed.ok) return parsed;
    const draft = scopesOf(deviceId, parsed.value, before);
    if (!draft.ok) return draft;
    const after = before === null ? create(deviceId, null, draft.value) : update(before, draft.value);
    if (after.iotEdge) ensureSystemModules(deviceId);
    return ok(after);
  }

  function update(before: Identity, draft: IdentityDraft): Identity {
    const turned = before.enabled !== draft.enabled;
    return store(before, {
      ...before,
      ...draft,
      etag: nextEtag(),
      statusUpdatedTime: turned ? time() : before.statusUpdatedTime,
    });
  }

  function removeDevice(deviceId: string, ifMatch: IfMatch): Answer<void> {
    const identity = get(deviceId, null);
    if (identity === undefined) return refuse("DeviceNotFound", `Device ${deviceId} not registered`);
    const matched = checkEtag(ifMatch, identity.etag);
    if (matched.ok) remove(identity);
    return matched;
  }

  function putModule(
    deviceId: string,
    moduleId: string,
    body: JsonObject,
    ifMatch: IfMatch,
  ): Answer<Identity> {
    const named = checkId(moduleId, "moduleId");
    if (!named.ok) return named;
    const device = identities.get(deviceId);
    if (device === undefined) return refuse("DeviceNotFound", `Device ${deviceId} not registered`);
    const before = identities.get(twinKey(deviceId, moduleId)) ?? null;
    const allowed = checkWrite(before, ifMatch, {
      exists: refuse("ModuleAlreadyExistsOnDevice", `Module ${moduleId} already exists on ${deviceId}`),
      missing: refuse("ModuleNotFound", `Module ${moduleId} on device ${deviceId} not registered`),
    });
    if (!allowed.ok) return allowed;
    if (before === null && !SYSTEM_MODULES.includes(moduleId) && countModules(deviceId) >= MODULES_PER_DEVICE)
      return refuse("TooManyModulesOnDevice", `${deviceId} has ${MODULES_PER_DEVICE} modules already`);
    const draft = parseDraft(body, makeKey);
    if (!draft.ok) return draft;
    const stored = { ...draft.value, iotEdge: false, enabled: true };
    return ok(before === null ? create(deviceId, moduleId, stored) : update(before, stored));
  }

  function removeModule(deviceId: string, moduleId: string, ifMatch: IfMatch): Answer<void> {
    const identity = get(deviceId, moduleId);
    if (identity === undefined)
      return identities.has(deviceId)
        ? refuse("ModuleNotFound", `Module ${moduleId} on device ${deviceId} not registered`)
        : refuse("DeviceNotFound", `Device ${deviceId} not registered`);
    const matched = checkEtag(ifMatch, identity.etag);
    if (matched.ok) remove(identity);
    return matched;
  }

  return {
    get,
    *devices() {
      for (const deviceId of modules.keys()) {
        const identity = identities.get(deviceId);
        if (identity !== undefined) yield identity;
      }
    },
    modulesOf: (deviceId) =>
      [...(modules.get(deviceId) ?? [])].flatMap((moduleId) => {
        const identity = identities.get(twinKey(deviceId, moduleId));
        return identity === undefined ? [] : [identity];
      }),
    count: () => modules.size,
    putDevice,
    removeDevice,
    putModule,
    removeModule,
    ensureModule,
    onWrite: (listener) => {
      listeners.push(listener);
    },
    persisted: {
      kind: "identity",
      record: (key) => identities.get(key),
      restore: (key, record) => place(key, record as unknown as Identity),
      onChange: (listener) => listeners.push(({ key }) => listener(key)),
    },
    numbers: () => ({ writes, keys }),
    resume: (numbers) => {
      ({ writes, keys } = numbers);
    },
  };
}

function checkWrite(
  before: Identity | null,
  ifMatch: IfMatch,
  refusals: { readonly exists: Refused; readonly missing: Refused },
): Answer<void> {
  if (ifMatch === null) return before === null ? ok(undefined) : refusals.exists;
  return before === null ? refusals.missing : checkEtag(ifMatch, before.etag);
}
