import { hash32, seededKey } from "../../base/random.ts";
import type { PersistedRecords } from "../persistence.ts";
import { type TwinKey, twinKey } from "../twins/twin.ts";
import type { Twins } from "../twins/twins.ts";
import { createDeviceScopes, type DeviceScopes } from "./device-scopes.ts";
import type { Identity, IdentityDraft } from "./identity.ts";

export type IdentityWrite = {
  readonly key: TwinKey;
  readonly before: Identity | null;
  /** `null`: the identity is gone. */
  readonly after: Identity | null;
};

/** Etags, generations and keys are made of them: they never come a second time. */
export type RegistryNumbers = { readonly writes: number; readonly keys: number };

export type RegistryOptions = {
  /** Milliseconds since the Unix epoch. */
  readonly now: () => number;
  readonly seed: number;
  readonly maximumDevices: number;
};

/** .NET ticks of the Unix epoch: scopes and generations are written in them. */
const EPOCH_TICKS = 621_355_968_000_000_000n;

/** Identities of devices and modules, without the rules of who may write them; their twins come and go with them. */
export type IdentityStore = {
  readonly get: (deviceId: string, moduleId: string | null) => Identity | undefined;
  readonly devices: () => Iterable<Identity>;
  readonly moduleIdsOf: (deviceId: string) => readonly string[];
  readonly count: () => number;
  readonly create: (deviceId: string, moduleId: string | null, draft: IdentityDraft) => Identity;
  readonly update: (before: Identity, draft: IdentityDraft) => Identity;
  /** With the modules of a device. */
  readonly remove: (identity: Identity) => void;
  readonly scopes: DeviceScopes;
  /** A key of its own for each call, by the seed. */
  readonly makeKey: () => string;
  readonly onWrite: (listener: (write: IdentityWrite) => void) => void;
  readonly persisted: PersistedRecords;
  readonly numbers: () => RegistryNumbers;
  readonly resume: (numbers: RegistryNumbers) => void;
};

export function createIdentityStore(twins: Twins, options: RegistryOptions): IdentityStore {
  const { identities, modules, scopes, place, unplace } = createIdentityTable(ticks);
  const listeners: ((write: IdentityWrite) => void)[] = [];
  let writes = 0;
  let keys = 0;

  function time(): string {
    return new Date(options.now()).toISOString();
  }

  function ticks(): string {
    return String(EPOCH_TICKS + BigInt(Math.floor(options.now())) * 10_000n + BigInt(writes));
  }

  /** Base64 of a decimal, as the hub makes etags of identities; it never repeats. */
  function nextEtag(): string {
    writes += 1;
    return Buffer.from(String(100_000_000 + (hash32(`${options.seed}`) % 400_000_000) + writes)).toString(
      "base64",
    );
  }

  function store(before: Identity | null, after: Identity): Identity {
    const key = twinKey(after.deviceId, after.moduleId);
    place(key, after);
    if (before === null) twins.create(after.deviceId, after.moduleId);
    for (const listener of listeners) listener({ key, before, after });
    return after;
  }

  function remove(identity: Identity): void {
    const { deviceId, moduleId } = identity;
    const key = twinKey(deviceId, moduleId);
    const inner = moduleId === null ? [...(modules.get(deviceId) ?? [])] : [];
    for (const module of inner.map((id) => identities.get(twinKey(deviceId, id))))
      if (module !== undefined) remove(module);
    unplace(key, identity);
    twins.remove(key);
    for (const listener of listeners) listener({ key, before: identity, after: null });
  }

  return {
    /** The key alone will not do: text with a slash is not a device, though a module may have that key. */
    get: (deviceId, moduleId) => {
      const found = identities.get(twinKey(deviceId, moduleId));
      return found?.deviceId === deviceId ? found : undefined;
    },
    *devices() {
      for (const deviceId of modules.keys()) {
        const identity = identities.get(deviceId);
        if (identity !== undefined) yield identity;
      }
    },
    moduleIdsOf: (deviceId) => [...(modules.get(deviceId) ?? [])],
    count: () => modules.size,
    create: (deviceId, moduleId, draft) => {
      const etag = nextEtag();
      return store(null, {
        ...draft,
        deviceId,
        moduleId,
        generationId: ticks(),
        etag,
        statusUpdatedTime: time(),
      });
    },
    update: (before, draft) => {
      const turned = before.enabled !== draft.enabled;
      const statusUpdatedTime = turned ? time() : before.statusUpdatedTime;
      return store(before, { ...before, ...draft, etag: nextEtag(), statusUpdatedTime });
    },
    remove,
    scopes,
    makeKey: () => seededKey(options.seed, `identity/${keys++}`),
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

/** The identities, and the modules of each device. */
function createIdentityTable(ticks: () => string) {
  const identities = new Map<TwinKey, Identity>();
  const modules = new Map<string, Set<string>>();
  const scopes = createDeviceScopes(ticks);
  return {
    identities: identities as ReadonlyMap<TwinKey, Identity>,
    modules: modules as ReadonlyMap<string, ReadonlySet<string>>,
    scopes,

    place: (key: TwinKey, identity: Identity) => {
      const before = identities.get(key) ?? null;
      identities.set(key, identity);
      scopes.note(before, identity);
      if (before !== null) return;
      if (identity.moduleId === null) modules.set(identity.deviceId, new Set());
      else modules.get(identity.deviceId)?.add(identity.moduleId);
    },

    unplace: (key: TwinKey, identity: Identity) => {
      if (identity.moduleId === null) modules.delete(identity.deviceId);
      else modules.get(identity.deviceId)?.delete(identity.moduleId);
      identities.delete(key);
      scopes.note(identity, null);
    },
  };
}
