import { isObject, type JsonObject, type JsonValue } from "../base/json.ts";
import { hash32, seededKey } from "../base/random.ts";
import { type Answer, ok, refuse } from "./errors.ts";
import { checkId, type Identity, type IdentityDraft, parseDraft } from "./identity.ts";
import { checkEtag, type IfMatch } from "./preconditions.ts";
import { type TwinKey, twinKey } from "./twin.ts";
import { parseTwinChange, type Twins } from "./twins.ts";

export type IdentityWrite = {
  readonly key: TwinKey;
  readonly before: Identity | null;
  /** `null`: the identity is gone. */
  readonly after: Identity | null;
};

export type BulkError = {
  readonly deviceId: string;
  readonly moduleId: string | null;
  readonly errorCode: string;
  readonly errorStatus: string;
  readonly operation: string;
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
  /** One to a hundred entries; an empty list of errors is success. */
  readonly bulk: (entries: readonly JsonValue[]) => Answer<readonly BulkError[]>;
  readonly onWrite: (listener: (write: IdentityWrite) => void) => void;
};

export type RegistryOptions = {
  /** Milliseconds since the Unix epoch. */
  readonly now: () => number;
  readonly seed: number;
  readonly maximumDevices: number;
};

const MODULES_PER_DEVICE = 50;
const BULK_ENTRIES = 100;
/** .NET ticks of the Unix epoch: scopes and generations are written in them. */
const EPOCH_TICKS = 621_355_968_000_000_000n;

/** Identities of devices and modules; their twins are made and removed with them. */
export function createRegistry(twins: Twins, options: RegistryOptions): Registry {
  const identities = new Map<TwinKey, Identity>();
  const modules = new Map<string, Set<string>>();
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
    identities.set(key, after);
    if (before === null) {
      if (after.moduleId === null) modules.set(after.deviceId, new Set());
      else modules.get(after.deviceId)?.add(after.moduleId);
      twins.create(after.deviceId, after.moduleId);
    }
    tell({ key, before, after });
    return after;
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
    for (const module of ["$edgeAgent", "$edgeHub"]) ensureModule(deviceId, module);
  }

  function ensureModule(deviceId: string, moduleId: string): void {
    if (!identities.has(deviceId) || identities.has(twinKey(deviceId, moduleId))) return;
    if (!checkId(moduleId, "moduleId").ok) return;
    if ((modules.get(deviceId)?.size ?? 0) >= MODULES_PER_DEVICE + 2) return;
    const draft = parseDraft({ managedBy: "IotEdge" }, makeKey);
    if (draft.ok) create(deviceId, moduleId, draft.value);
  }

  /** The hub makes the scope of an edge device, once; a leaf takes its parent's. */
  function scopesOf(deviceId: string, draft: IdentityDraft, before: Identity | null): Answer<IdentityDraft> {
    const scopes = [draft.deviceScope, ...draft.parentScopes].filter(
      (scope) => scope !== null && scope !== "",
    );
    for (const scope of scopes)
      if (!/^ms-azure-iot-edge:\/\/.+-[0-9]{18}$/.test(scope ?? ""))
        return refuse("InvalidDeviceScope", `${scope} is not the scope of an edge device`);
    if (draft.iotEdge) {
      const own = before?.iotEdge === true ? before.deviceScope : null;
      return ok({ ...draft, deviceScope: own ?? `ms-azure-iot-edge://${deviceId}-${ticks()}` });
    }
    if (draft.deviceScope === null || draft.deviceScope === "") return ok({ ...draft, deviceScope: null });
    return ok({ ...draft, parentScopes: [draft.deviceScope] });
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
    if (before === null && (modules.get(deviceId)?.size ?? 0) >= MODULES_PER_DEVICE)
      return refuse("TooManyModulesOnDevice", `${deviceId} has ${MODULES_PER_DEVICE} modules already`);
    const draft = parseDraft(body, makeKey);
    if (!draft.ok) return draft;
    const kept = { ...draft.value, iotEdge: false, enabled: true };
    return ok(before === null ? create(deviceId, moduleId, kept) : update(before, kept));
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

  function bulk(entries: readonly JsonValue[]): Answer<readonly BulkError[]> {
    if (entries.length < 1 || entries.length > BULK_ENTRIES)
      return refuse("ArgumentInvalid", `a bulk operation takes 1 to ${BULK_ENTRIES} entries`);
    const seen = new Set<string>();
    const errors: BulkError[] = [];
    for (const entry of entries) {
      if (!isObject(entry) || typeof entry["id"] !== "string")
        return refuse("ArgumentInvalid", "every entry of a bulk operation needs an id");
      const moduleId = typeof entry["moduleId"] === "string" ? entry["moduleId"] : null;
      const key = twinKey(entry["id"], moduleId);
      if (seen.has(key)) return refuse("DeviceDefinedMultipleTimes", `${key} is in the list twice`);
      seen.add(key);
    }
    for (const entry of entries) {
      if (!isObject(entry)) continue;
      const done = bulkEntry(entry);
      if (!done.ok)
        errors.push({
          deviceId: String(entry["id"]),
          moduleId: typeof entry["moduleId"] === "string" ? entry["moduleId"] : null,
          errorCode: done.refusal.code,
          errorStatus: done.refusal.message,
          operation: String(entry["importMode"] ?? "create"),
        });
    }
    return ok(errors);
  }

  function bulkEntry(entry: JsonObject): Answer<unknown> {
    const device = String(entry["id"]);
    const module = typeof entry["moduleId"] === "string" ? entry["moduleId"] : null;
    const mode = String(entry["importMode"] ?? "create").toLowerCase();
    const guarded = mode.endsWith("ifmatchetag");
    const etag = entry["eTag"] ?? entry["etag"];
    if (guarded && typeof etag !== "string") return refuse("ArgumentNull", "an etag is needed");
    const wanted = guarded ? String(etag).replace(/^"(.*)"$/, "$1") : "*";
    const ifMatch = { any: wanted === "*", etag: wanted };
    const { id: _id, ...body } = entry;
    const put = (match: IfMatch) =>
      module === null
        ? putDevice(device, { ...body, deviceId: device }, match)
        : putModule(device, module, { ...body, deviceId: device }, match);
    switch (mode) {
      case "create": {
        const created = put(null);
        return created.ok ? initialTwin(created.value, entry) : created;
      }
      case "createorupdate":
        return put(identities.has(twinKey(device, module)) ? ifMatch : null);
      case "update":
      case "updateifmatchetag":
        return put(ifMatch);
      case "delete":
      case "deleteifmatchetag":
        return module === null ? removeDevice(device, ifMatch) : removeModule(device, module, ifMatch);
      case "updatetwin":
      case "updatetwinifmatchetag": {
        const named = checkId(device, "deviceId");
        if (!named.ok) return named;
        const change = parseTwinChange(body);
        return change.ok ? twins.patch(twinKey(device, module), change.value, ifMatch) : change;
      }
      default:
        return refuse("ArgumentInvalid", `importMode ${String(entry["importMode"])} is not known`);
    }
  }

  function initialTwin(identity: Identity, entry: JsonObject): Answer<unknown> {
    const change = parseTwinChange(entry);
    if (!change.ok || (change.value.tags === null && change.value.desired === null)) return change;
    return twins.patch(twinKey(identity.deviceId, identity.moduleId), change.value, null);
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
    bulk,
    onWrite: (listener) => {
      listeners.push(listener);
    },
  };
}

type Refused = Extract<Answer<never>, { readonly ok: false }>;

function checkWrite(
  before: Identity | null,
  ifMatch: IfMatch,
  refusals: { readonly exists: Refused; readonly missing: Refused },
): Answer<void> {
  if (ifMatch === null) return before === null ? ok(undefined) : refusals.exists;
  return before === null ? refusals.missing : checkEtag(ifMatch, before.etag);
}
