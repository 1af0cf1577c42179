import { isObject, type JsonObject, NOTHING, sameJson } from "../../base/json.ts";
import { hash32 } from "../../base/random.ts";
import { type Answer, ok, refuse } from "../errors.ts";
import type { PersistedRecords } from "../persistence.ts";
import { checkEtag, type IfMatch } from "../preconditions.ts";
import { UNDOCUMENTED_DEFAULTS, type Undocumented } from "../undocumented.ts";
import {
  type ConfigurationStatus,
  checkPatch,
  checkSize,
  mergeJson,
  mergeSection,
  newTwin,
  replaceSection,
  type Section,
  type Twin,
  type TwinKey,
  twinEtag,
  twinKey,
} from "./twin.ts";

export type TwinWrite = {
  readonly key: TwinKey;
  /** `null`: the twin is gone. */
  readonly twin: Twin | null;
  /** What a connected device is sent; `null` where desired properties were not written. */
  readonly desiredPatch: JsonObject | null;
  /** What was written, for listeners of changes; `null` where the twin was made or removed. */
  readonly change: TwinNotice | null;
};

/** Each section as it was sent; `null`: it was not written. */
export type TwinNotice = {
  readonly operation: "updateTwin" | "replaceTwin";
  readonly tags: JsonObject | null;
  readonly desired: JsonObject | null;
  readonly reported: JsonObject | null;
};

/** `null` for a section that is not to be written. */
export type TwinChange = { readonly tags: JsonObject | null; readonly desired: JsonObject | null };

export type Twins = {
  readonly get: (key: TwinKey) => Twin | undefined;
  readonly create: (deviceId: string, moduleId: string | null) => Twin;
  readonly remove: (key: TwinKey) => void;
  readonly patch: (key: TwinKey, change: TwinChange, ifMatch: IfMatch) => Answer<Twin>;
  readonly replace: (key: TwinKey, change: TwinChange, ifMatch: IfMatch) => Answer<Twin>;
  /** A write of the device: it moves neither etag nor version of the twin. */
  readonly report: (key: TwinKey, patch: JsonObject) => Answer<Twin>;
  readonly setConfigurations: (key: TwinKey, status: Readonly<Record<string, ConfigurationStatus>>) => void;
  readonly onWrite: (listener: (write: TwinWrite) => void) => void;
  readonly persisted: PersistedRecords;
};

/** All twins of the hub; each way to change one is an operation of a few lines. `now` is milliseconds since the Unix epoch. */
export function createTwins(now: () => number, undocumented: Undocumented = UNDOCUMENTED_DEFAULTS): Twins {
  const twins = new Map<TwinKey, Twin>();
  const listeners: ((write: TwinWrite) => void)[] = [];
  const time = () => new Date(now()).toISOString();

  function store(
    key: TwinKey,
    twin: Twin,
    desiredPatch: JsonObject | null,
    change: TwinNotice | null = null,
  ): Twin {
    twins.set(key, twin);
    for (const listener of listeners) listener({ key, twin, desiredPatch, change });
    return twin;
  }

  function write(
    key: TwinKey,
    change: TwinChange,
    ifMatch: IfMatch,
    next: (twin: Twin) => Pick<Twin, "tags" | "desired">,
    notice: (after: Twin) => TwinNotice,
  ): Answer<Twin> {
    const twin = twins.get(key);
    if (twin === undefined) return missing(key);
    const matched = checkEtag(ifMatch, twinEtag(twin));
    if (!matched.ok) return matched;
    const checked = checkChange(change, undocumented.arrays);
    if (!checked.ok) return checked;
    const written = next(twin);
    const sized = checkSizes(written);
    if (!sized.ok) return sized;
    const counter = twin.counter + etagStep(twin, undocumented);
    const after = { ...twin, ...written, counter, version: twin.version + 1 };
    const noticed = notice(after);
    return ok(store(key, after, noticed.desired, noticed));
  }

  return {
    get: (key) => twins.get(key),

    create(deviceId, moduleId) {
      const key = twinKey(deviceId, moduleId);
      return store(key, newTwin(deviceId, moduleId, time()), null);
    },

    remove(key) {
      if (!twins.delete(key)) return;
      for (const listener of listeners) listener({ key, twin: null, desiredPatch: null, change: null });
    },

    patch: (key, change, ifMatch) =>
      write(
        key,
        change,
        ifMatch,
        (twin) => patched(twin, change, time()),
        () => ({ operation: "updateTwin", ...change, reported: null }),
      ),

    replace: (key, change, ifMatch) =>
      write(
        key,
        change,
        ifMatch,
        (twin) => replaced(twin, change, time()),
        ({ tags, desired }) => ({ operation: "replaceTwin", tags, desired: desired.value, reported: null }),
      ),

    report(key, patch) {
      const twin = twins.get(key);
      if (twin === undefined) return missing(key);
      const reported = reportedSection(twin, patch, time(), undocumented.arrays);
      if (!reported.ok) return reported;
      const change = { operation: "updateTwin", tags: null, desired: null, reported: patch } as const;
      return ok(store(key, { ...twin, reported: reported.value }, null, change));
    },

    setConfigurations(key, status) {
      const twin = twins.get(key);
      if (twin === undefined) return;
      const configurations = Object.fromEntries(
        Object.entries(status).map(([id, value]) => [id, { status: value }]),
      );
      if (sameJson(twin.configurations, configurations)) return;
      store(key, { ...twin, configurations }, null);
    },

    onWrite: (listener) => {
      listeners.push(listener);
    },
    persisted: {
      kind: "twin",
      record: (key) => twins.get(key),
      restore: (key, record) => twins.set(key, record as unknown as Twin),
      onChange: (listener) => listeners.push(({ key }) => listener(key)),
    },
  };
}

function missing(key: TwinKey) {
  const [device = "", module] = key.split("/");
  return module === undefined
    ? refuse("DeviceNotFound", `Device ${device} not registered`)
    : refuse("ModuleNotFound", `Module ${module} on device ${device} not registered`);
}

/** How far the etag's counter goes: where it is undocumented, clients must not count on it. */
function etagStep({ deviceId, counter }: Twin, undocumented: Undocumented): number {
  return undocumented["twin-versions"] === "together" ? 1 : 1 + (hash32(`${deviceId}/${counter}`) % 97);
}

function checkChange({ tags, desired }: TwinChange, arrays: Undocumented["arrays"]): Answer<void> {
  const checked = tags === null ? ok(undefined) : checkPatch("tags", tags, arrays);
  if (!checked.ok || desired === null) return checked;
  return checkPatch("properties.desired", desired, arrays);
}

function checkSizes({ tags, desired }: Pick<Twin, "tags" | "desired">): Answer<void> {
  const sized = checkSize("tags", tags);
  return sized.ok ? checkSize("properties.desired", desired.value) : sized;
}

function patched(twin: Twin, { tags, desired }: TwinChange, time: string): Pick<Twin, "tags" | "desired"> {
  return {
    tags: tags === null ? twin.tags : mergeJson(twin.tags, tags),
    desired: desired === null ? twin.desired : mergeSection(twin.desired, desired, time, true),
  };
}

function replaced(twin: Twin, { tags, desired }: TwinChange, time: string): Pick<Twin, "tags" | "desired"> {
  return {
    tags: tags === null ? NOTHING : mergeJson(NOTHING, tags),
    desired: replaceSection(twin.desired, desired ?? NOTHING, time),
  };
}

/** The reported properties after a report of the device. */
function reportedSection(
  twin: Twin,
  patch: JsonObject,
  time: string,
  arrays: Undocumented["arrays"],
): Answer<Section> {
  const checked = checkPatch("properties.reported", patch, arrays);
  if (!checked.ok) return checked;
  const reported = mergeSection(twin.reported, patch, time, false);
  const sized = checkSize("properties.reported", reported.value);
  return sized.ok ? ok(reported) : sized;
}

/** The writable parts of a body of PATCH or PUT; unknown root fields are ignored, as the hub ignores them. */
export function parseTwinChange(body: JsonObject): Answer<TwinChange> {
  const { tags, properties } = body;
  if (tags !== undefined && tags !== null && !isObject(tags))
    return refuse("ArgumentInvalid", "tags must be an object");
  if (properties !== undefined && properties !== null && !isObject(properties))
    return refuse("ArgumentInvalid", "properties must be an object");
  const desired = isObject(properties) ? properties["desired"] : undefined;
  if (desired !== undefined && desired !== null && !isObject(desired))
    return refuse("ArgumentInvalid", "properties.desired must be an object");
  return ok({
    tags: isObject(tags) ? tags : null,
    desired: isObject(desired) ? withoutSystem(desired) : null,
  });
}

/** `$version` and `$metadata` come back from clients that send what they read; the hub passes over them. */
function withoutSystem(desired: JsonObject): JsonObject {
  const { $version: _version, $metadata: _metadata, ...rest } = desired;
  return rest;
}
