import { isObject, type JsonObject, type JsonValue, NOTHING, ownValue, setKey } from "../../base/json.ts";
import { type Answer, ok, refuse } from "../errors.ts";
import type { Undocumented } from "../undocumented.ts";

/** `device`, or `device/module`: neither id can contain a slash. */
export type TwinKey = string;

export type Section = {
  readonly value: JsonObject;
  /** A tree beside the values that says when each was last written. */
  readonly metadata: JsonObject;
  readonly version: number;
};

export type ConfigurationStatus = "Targeted" | "Applied";

/** Never changed in place: a write makes a new one, so that queries may look at old ones for as long as they like. */
export type Twin = {
  readonly deviceId: string;
  /** `null`: the twin of the device itself. */
  readonly moduleId: string | null;
  /** Moves with every write of tags or desired; the etag is made of it. */
  readonly counter: number;
  /** Counts writes of tags and desired. */
  readonly version: number;
  readonly tags: JsonObject;
  readonly desired: Section;
  readonly reported: Section;
  readonly configurations: Readonly<Record<string, { readonly status: ConfigurationStatus }>>;
};

export function twinKey(deviceId: string, moduleId: string | null): TwinKey {
  return moduleId === null ? deviceId : `${deviceId}/${moduleId}`;
}

/** Base64 of the counter as eight bytes: the first is `AAAAAAAAAAE=`. */
export function twinEtag(twin: Twin): string {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(twin.counter));
  return bytes.toString("base64");
}

export function newTwin(deviceId: string, moduleId: string | null, now: string): Twin {
  const desired = { value: NOTHING, metadata: { $lastUpdated: now }, version: 1 };
  return {
    deviceId,
    moduleId,
    counter: 1,
    version: 2,
    tags: NOTHING,
    desired,
    reported: desired,
    configurations: {},
  };
}

/** What is written over a value: shared by all values of one write. */
type Stamp = JsonObject;

/** Recursive merge: `null` deletes, an object goes into an object, everything else replaces. */
export function mergeSection(
  section: Section,
  patch: JsonObject,
  now: string,
  withVersion: boolean,
): Section {
  const version = section.version + 1;
  const stamp: Stamp = withVersion
    ? { $lastUpdated: now, $lastUpdatedVersion: version }
    : { $lastUpdated: now };
  return { ...mergeTree(section.value, section.metadata, patch, stamp), version };
}

export function replaceSection(section: Section, value: JsonObject, now: string): Section {
  const version = section.version + 1;
  const stamp: Stamp = { $lastUpdated: now, $lastUpdatedVersion: version };
  return { ...mergeTree(NOTHING, NOTHING, value, stamp), version };
}

function mergeTree(
  value: JsonObject,
  metadata: JsonObject,
  patch: JsonObject,
  stamp: Stamp,
): { readonly value: JsonObject; readonly metadata: JsonObject } {
  const merged: Record<string, JsonValue> = { ...value };
  const stamps: Record<string, JsonValue> = { ...metadata, ...stamp };
  for (const [key, next] of Object.entries(patch)) {
    if (next === null) {
      delete merged[key];
      delete stamps[key];
    } else if (isObject(next)) {
      const had = ownValue(merged, key);
      const hadStamp = ownValue(stamps, key);
      const keeps = isObject(had) && isObject(hadStamp);
      const inner = mergeTree(keeps ? had : NOTHING, keeps ? hadStamp : NOTHING, next, stamp);
      setKey(merged, key, inner.value);
      setKey(stamps, key, inner.metadata);
    } else {
      setKey(merged, key, next);
      setKey(stamps, key, stamp);
    }
  }
  return { value: merged, metadata: stamps };
}

/** Merge without the tree of times: tags have none. */
export function mergeJson(value: JsonObject, patch: JsonObject): JsonObject {
  const merged: Record<string, JsonValue> = { ...value };
  for (const [key, next] of Object.entries(patch)) {
    const had = ownValue(merged, key);
    if (next === null) delete merged[key];
    else if (isObject(next)) setKey(merged, key, mergeJson(isObject(had) ? had : NOTHING, next));
    else setKey(merged, key, next);
  }
  return merged;
}

const KILOBYTE = 1024;
/** Bytes that one section may have. */
export const SECTION_LIMITS = {
  tags: 8 * KILOBYTE,
  "properties.desired": 32 * KILOBYTE,
  "properties.reported": 32 * KILOBYTE,
} as const;
export type SectionName = keyof typeof SECTION_LIMITS;

/** Objects in one another below the section: the innermost may have values. */
const DEEPEST = 10;
const LONGEST_STRING = 4096;
const LONGEST_KEY = 1024;
const LARGEST_INTEGER = 4_503_599_627_370_495;
const SMALLEST_INTEGER = -4_503_599_627_370_496;
// biome-ignore lint/suspicious/noControlCharactersInRegex: the hub refuses control characters
const FORBIDDEN_IN_KEYS = /[\u0000-\u001f\u007f-\u009f.$# ]/;

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it is about
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/g;

/** Everything that the hub checks in what is sent, before it is merged; the refusal names the offending path. */
export function checkPatch(
  section: SectionName,
  patch: JsonObject,
  arrays: Undocumented["arrays"] = "accepted",
): Answer<void> {
  const wrong = problemIn(patch, section, 1) ?? (arrays === "refused" ? arrayIn(patch, section) : null);
  if (wrong === null) return ok(undefined);
  return refuse("ArgumentInvalid", `The JSON is not a valid ${section} object: ${wrong}`);
}

function arrayIn(value: JsonObject, path: string): string | null {
  for (const [key, inner] of Object.entries(value)) {
    const here = `${path}.${key}`;
    if (Array.isArray(inner)) return `${here} is an array`;
    const deeper = isObject(inner) ? arrayIn(inner, here) : null;
    if (deeper !== null) return deeper;
  }
  return null;
}

function problemIn(value: JsonObject, path: string, depth: number): string | null {
  for (const [key, inner] of Object.entries(value)) {
    const here = `${path}.${key}`;
    if (FORBIDDEN_IN_KEYS.test(key))
      return `the key ${here} has a control character, a blank or one of . $ #`;
    if (Buffer.byteLength(key) > LONGEST_KEY)
      return `a key below ${path} is longer than ${LONGEST_KEY} bytes`;
    const wrong = problemOf(inner, here, depth);
    if (wrong !== null) return wrong;
  }
  return null;
}

function problemOf(value: JsonValue, path: string, depth: number): string | null {
  if (typeof value === "string")
    return Buffer.byteLength(value) > LONGEST_STRING
      ? `${path} is longer than ${LONGEST_STRING} bytes`
      : null;
  if (typeof value === "number") {
    const fits = !Number.isInteger(value) || (value >= SMALLEST_INTEGER && value <= LARGEST_INTEGER);
    return fits ? null : `${path} is an integer out of range`;
  }
  if (typeof value === "object" && value !== null && depth > DEEPEST)
    return `${path} is deeper than ${DEEPEST} levels`;
  if (Array.isArray(value)) {
    for (const [index, item] of value.entries()) {
      if (item === null) return `${path}[${index}] is null, which an array must not have`;
      const wrong = problemOf(item as JsonValue, `${path}[${index}]`, depth + 1);
      if (wrong !== null) return wrong;
    }
    return null;
  }
  return isObject(value) ? problemIn(value, path, depth + 1) : null;
}

/** Checked after the merge: the size counts the whole section. */
export function checkSize(section: SectionName, value: JsonObject): Answer<void> {
  const size = sizeOf(value);
  const limit = SECTION_LIMITS[section];
  if (size <= limit) return ok(undefined);
  return refuse("ArgumentInvalid", `${section} would have ${size} bytes; the limit is ${limit}`);
}

/** As the hub counts: UTF-8 bytes of keys and strings without control characters, 8 for a number, 4 for a boolean, nothing for structure. */
export function sizeOf(value: JsonValue): number {
  if (typeof value === "string") return Buffer.byteLength(value.replaceAll(CONTROL, ""));
  if (typeof value === "number") return 8;
  if (typeof value === "boolean") return 4;
  if (value === null) return 0;
  if (Array.isArray(value)) return value.reduce<number>((sum, item: JsonValue) => sum + sizeOf(item), 0);
  let size = 0;
  for (const [key, inner] of Object.entries(value)) size += Buffer.byteLength(key) + sizeOf(inner);
  return size;
}
