// What a hub does with identities, twins and configurations, written from Microsoft's documentation and from live tests
// of its own tools, and not from the simulator: a second opinion, as small as it can be. Trees are Maps, so that no name
// of a key means anything.

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
export type Tree = ReadonlyMap<string, Json | Tree>;

/** What `If-Match` says: nothing, `"*"`, the etag that holds, or one that does not. */
export type Match = "none" | "any" | "right" | "stale";

export type TwinModel = {
  tags: Tree;
  desired: Tree;
  reported: Tree;
  desiredVersion: number;
  reportedVersion: number;
  /** Moves with every write of the service; the etag does too. */
  writes: number;
};

export type ModuleModel = { readonly life: number; writes: number; readonly twin: TwinModel };

export type DeviceModel = {
  /** No two lives of an identity have the same number. */
  readonly life: number;
  writes: number;
  enabled: boolean;
  statusReason: string | null;
  readonly twin: TwinModel;
  readonly modules: Map<string, ModuleModel>;
};

export type ConfigurationModel = {
  readonly content: Json;
  priority: number;
  labels: Readonly<Record<string, string>> | null;
  writes: number;
};

/** HTTP status and symbolic name; the name is empty where it worked. */
export type Verdict = { readonly status: number; readonly code: string };

const DONE: Verdict = { status: 200, code: "" };
const GONE: Verdict = { status: 204, code: "" };
const BAD: Verdict = { status: 400, code: "ArgumentInvalid" };
const STALE: Verdict = { status: 412, code: "PreconditionFailed" };
const NO_DEVICE: Verdict = { status: 404, code: "DeviceNotFound" };
const NO_MODULE: Verdict = { status: 404, code: "ModuleNotFound" };

export type TwinWrite = { readonly tags?: Json; readonly desired?: Json };
export type Draft = { readonly enabled: boolean; readonly statusReason: string | null };
export type BulkEntry = {
  readonly device: string;
  readonly mode: "create" | "Update" | "UpdateIfMatchETag" | "Delete" | "DeleteIfMatchETag" | "updateTwin";
  readonly match: "right" | "stale";
  readonly tags: Json;
};

export function createHubModel() {
  const devices = new Map<string, DeviceModel>();
  const configurations = new Map<string, ConfigurationModel>();
  let lives = 0;

  const newTwin = (): TwinModel => ({
    tags: new Map(),
    desired: new Map(),
    reported: new Map(),
    desiredVersion: 1,
    reportedVersion: 1,
    writes: 0,
  });
  const newModule = (): ModuleModel => ({ life: ++lives, writes: 0, twin: newTwin() });

  /** A PUT without If-Match creates and never overwrites; with it, it overwrites and never creates. */
  function judge(exists: boolean, match: Match, missing: Verdict, taken: Verdict): Verdict | null {
    if (match === "none") return exists ? taken : null;
    if (!exists) return missing;
    return match === "stale" ? STALE : null;
  }

  function putDevice(id: string, draft: Draft, match: Match): Verdict {
    const device = devices.get(id);
    const taken = { status: 409, code: "DeviceAlreadyExists" };
    const refused = judge(device !== undefined, match, NO_DEVICE, taken);
    if (refused !== null) return refused;
    if (device !== undefined) Object.assign(device, draft, { writes: device.writes + 1 });
    else devices.set(id, { ...draft, life: ++lives, writes: 0, twin: newTwin(), modules: new Map() });
    return DONE;
  }

  function removeDevice(id: string, match: Match): Verdict {
    if (!devices.has(id)) return NO_DEVICE;
    if (match === "stale") return STALE;
    devices.delete(id);
    return GONE;
  }

  function putModule(id: string, module: string, match: Match): Verdict {
    const device = devices.get(id);
    if (device === undefined) return NO_DEVICE;
    const found = device.modules.get(module);
    const taken = { status: 409, code: "ModuleAlreadyExistsOnDevice" };
    const refused = judge(found !== undefined, match, NO_MODULE, taken);
    if (refused !== null) return refused;
    if (found !== undefined) found.writes += 1;
    else device.modules.set(module, newModule());
    return DONE;
  }

  function removeModule(id: string, module: string, match: Match): Verdict {
    const device = devices.get(id);
    if (device === undefined) return NO_DEVICE;
    if (!device.modules.has(module)) return NO_MODULE;
    if (match === "stale") return STALE;
    device.modules.delete(module);
    return GONE;
  }

  function twinOf(id: string, module: string | null): TwinModel | undefined {
    const device = devices.get(id);
    return module === null ? device?.twin : device?.modules.get(module)?.twin;
  }

  function writeTwin(
    id: string,
    module: string | null,
    write: TwinWrite,
    options: { readonly match: Match; readonly replaces: boolean },
  ): Verdict {
    const twin = twinOf(id, module);
    if (twin === undefined) return module === null ? NO_DEVICE : NO_MODULE;
    if (options.match === "stale") return STALE;
    for (const part of [write.tags, write.desired]) if (part !== undefined && !isAllowed(part)) return BAD;
    const next = (had: Tree, part: Json | undefined): Tree => {
      if (options.replaces) return merge(new Map(), part ?? {});
      return part === undefined ? had : merge(had, part);
    };
    const tags = next(twin.tags, write.tags);
    const desired = next(twin.desired, write.desired);
    if (sizeOf(tags) > 8192 || sizeOf(desired) > 32_768) return BAD;
    const bumps = options.replaces || write.desired !== undefined;
    Object.assign(twin, { tags, desired, writes: twin.writes + 1 });
    if (bumps) twin.desiredVersion += 1;
    return DONE;
  }

  function report(id: string, module: string | null, patch: Json): Verdict {
    const twin = twinOf(id, module);
    if (twin === undefined) return NO_DEVICE;
    if (!isAllowed(patch)) return BAD;
    const reported = merge(twin.reported, patch);
    if (sizeOf(reported) > 32_768) return BAD;
    Object.assign(twin, { reported, reportedVersion: twin.reportedVersion + 1 });
    return { status: 204, code: "" };
  }

  /** Each entry for itself: some fail, the others are done. The errors, or a refusal of the whole. */
  function bulk(entries: readonly BulkEntry[]): Verdict | ReadonlyMap<string, string> {
    if (new Set(entries.map(({ device }) => device)).size < entries.length)
      return { status: 400, code: "DeviceDefinedMultipleTimes" };
    const errors = new Map<string, string>();
    for (const entry of entries) {
      const verdict = bulkEntry(entry);
      if (verdict.code !== "") errors.set(entry.device, verdict.code);
    }
    return errors;
  }

  function bulkEntry({ device, mode, match, tags }: BulkEntry): Verdict {
    const draft = { enabled: true, statusReason: null };
    switch (mode) {
      case "create": {
        const made = putDevice(device, draft, "none");
        const twin = { tags };
        return made.code === "" && twin.tags !== null
          ? writeTwin(device, null, twin, { match: "none", replaces: false })
          : made;
      }
      case "Update":
        return putDevice(device, draft, "any");
      case "UpdateIfMatchETag":
        return putDevice(device, draft, match);
      case "Delete":
        return removeDevice(device, "any");
      case "DeleteIfMatchETag":
        return removeDevice(device, match);
      case "updateTwin":
        return writeTwin(device, null, { tags: tags ?? {} }, { match: "any", replaces: false });
    }
  }

  function putConfiguration(
    id: string,
    given: {
      readonly content: Json;
      readonly priority: number;
      readonly labels: ConfigurationModel["labels"];
    },
    match: Match,
  ): Verdict {
    const found = configurations.get(id);
    const missing = { status: 404, code: "ConfigurationNotFound" };
    const refused = judge(found !== undefined, match, missing, {
      status: 409,
      code: "ConfigurationAlreadyExists",
    });
    if (refused !== null) return refused;
    if (found === undefined) {
      configurations.set(id, { ...given, writes: 0 });
      return DONE;
    }
    if (canonical(found.content) !== canonical(given.content))
      return { status: 400, code: "CannotModifyImmutableConfigurationContent" };
    Object.assign(found, { priority: given.priority, labels: given.labels, writes: found.writes + 1 });
    return DONE;
  }

  function removeConfiguration(id: string, match: Match): Verdict {
    if (!configurations.has(id)) return { status: 404, code: "ConfigurationNotFound" };
    if (match === "stale") return STALE;
    configurations.delete(id);
    return GONE;
  }

  return {
    devices,
    configurations,
    twinOf,
    putDevice,
    removeDevice,
    putModule,
    removeModule,
    writeTwin,
    report,
    bulk,
    putConfiguration,
    removeConfiguration,
  };
}

const isTree = (value: Json | Tree | undefined): value is Tree => value instanceof Map;
const isRecord = (value: Json): value is { readonly [key: string]: Json } =>
  value !== null && typeof value === "object" && !Array.isArray(value);

/** `null` takes a key away, an object goes into an object, everything else replaces. */
export function merge(had: Tree, patch: Json): Tree {
  const next = new Map(had);
  for (const [key, value] of isRecord(patch) ? Object.entries(patch) : []) {
    const before = next.get(key);
    if (value === null) next.delete(key);
    else if (isRecord(value)) next.set(key, merge(isTree(before) ? before : new Map(), value));
    else next.set(key, value);
  }
  return next;
}

/** Ten objects deep; keys of at most 1 KB without control characters, blank, dot, dollar and hash; values in range. */
export function isAllowed(value: Json, depth = 0): boolean {
  if (typeof value === "string") return Buffer.byteLength(value) <= 4096;
  if (typeof value === "number")
    return !Number.isInteger(value) || (value >= -4_503_599_627_370_496 && value <= 4_503_599_627_370_495);
  if (value === null || typeof value === "boolean") return true;
  if (depth > 10) return false;
  if (Array.isArray(value))
    return (value as readonly Json[]).every((item) => item !== null && isAllowed(item, depth + 1));
  return Object.entries(value).every(
    ([key, inner]) =>
      Buffer.byteLength(key) <= 1024 && !/[\p{Cc} .$#]/u.test(key) && isAllowed(inner, depth + 1),
  );
}

/** Bytes of keys and texts without control characters, 8 for a number, 4 for a boolean; structure is free. */
function sizeOf(value: Json | Tree): number {
  if (isTree(value)) return [...value].reduce((sum, [key, inner]) => sum + sizeOf(key) + sizeOf(inner), 0);
  if (Array.isArray(value))
    return (value as readonly Json[]).reduce((sum: number, item) => sum + sizeOf(item), 0);
  if (typeof value === "string") return Buffer.byteLength(value.replaceAll(/\p{Cc}/gu, ""));
  if (typeof value === "number") return 8;
  if (typeof value === "boolean") return 4;
  return value === null
    ? 0
    : Object.entries(value).reduce((sum, [key, inner]) => sum + sizeOf(key) + sizeOf(inner), 0);
}

/** One text for one content, in whatever order its keys are, and whatever they are called. */
export function canonical(value: Json | Tree | undefined): string {
  if (value === undefined) return "nothing";
  if (Array.isArray(value)) return `[${(value as readonly Json[]).map(canonical).join()}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const entries: readonly (readonly [string, Json | Tree])[] = isTree(value)
    ? [...value]
    : Object.entries(value);
  const written = entries.map(([key, inner]) => `${JSON.stringify(key)}:${canonical(inner)}`);
  return `{${written.sort().join()}}`;
}
