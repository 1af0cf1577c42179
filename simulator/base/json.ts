export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;
export type JsonObject = { readonly [key: string]: JsonValue };

export const NOTHING: JsonObject = Object.freeze({});

export function isObject(value: unknown): value is JsonObject {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

/** Levels of nesting that a document may have, far above the ten that a twin may have. */
const DEEPEST_JSON = 64;

export type ParsedJson =
  | { readonly ok: true; readonly value: JsonValue }
  | { readonly ok: false; readonly problem: string };

/**
 * JSON of a client. What is nested deeper than 64 levels is refused: everything that walks through a document calls
 * itself for each level, and a hundred thousand brackets would be the end of the stack.
 */
export function parseJson(text: string): ParsedJson {
  if (depthOf(text) > DEEPEST_JSON)
    return { ok: false, problem: `nested deeper than ${DEEPEST_JSON} levels` };
  try {
    return { ok: true, value: JSON.parse(text) as JsonValue };
  } catch {
    return { ok: false, problem: "not JSON" };
  }
}

/** Brackets in strings do not count. Stops at the first level that is too deep. */
function depthOf(text: string): number {
  let depth = 0;
  let deepest = 0;
  let quoted = false;
  for (let at = 0; at < text.length && deepest <= DEEPEST_JSON; at++) {
    const char = text.charCodeAt(at);
    if (char === QUOTE) quoted = !quoted;
    else if (quoted) at += char === BACKSLASH ? 1 : 0;
    else if (char === OPEN_BRACE || char === OPEN_BRACKET) deepest = Math.max(deepest, ++depth);
    else if (char === CLOSE_BRACE || char === CLOSE_BRACKET) depth -= 1;
  }
  return deepest;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;

/** Sets a key as data, whatever it is called: an assignment to `__proto__` would change what the object inherits. */
export function setKey<T>(target: Record<string, T>, key: string, value: T): void {
  if (key === "__proto__")
    Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true });
  else target[key] = value;
}

/** What the object itself has under a key: `constructor` and its like are inherited by every object. */
export function ownValue<T>(object: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(object, key) ? object[key] : undefined;
}

/** Order of keys does not count; the same object is equal without a look inside. */
export function sameJson(a: JsonValue | undefined, b: JsonValue | undefined): boolean {
  if (a === b) return true;
  if (Array.isArray(a) && Array.isArray(b))
    return a.length === b.length && a.every((item: JsonValue, index) => sameJson(item, b[index]));
  if (!isObject(a) || !isObject(b)) return false;
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length &&
    keys.every((key) => Object.hasOwn(b, key) && sameJson(a[key], b[key]))
  );
}

/** `undefined` where a step of the path is missing. */
export function valueAt(root: JsonValue | undefined, path: readonly string[]): JsonValue | undefined {
  let here = root;
  for (const key of path) {
    if (!isObject(here) || !Object.hasOwn(here, key)) return undefined;
    here = here[key];
  }
  return here;
}

/** A copy of `root` with `value` at `path`; steps that are missing, or are no objects, become objects. */
export function withValueAt(root: JsonObject, path: readonly string[], value: JsonValue): JsonObject {
  const [key, ...rest] = path;
  if (key === undefined) return isObject(value) ? value : root;
  if (rest.length === 0) return { ...root, [key]: value };
  const inner = ownValue(root, key);
  return { ...root, [key]: withValueAt(isObject(inner) ? inner : NOTHING, rest, value) };
}

/** A copy of `root` without what is at `path`; objects that become empty by that go too. */
export function withoutValueAt(root: JsonObject, path: readonly string[]): JsonObject {
  const [key, ...rest] = path;
  if (key === undefined || !Object.hasOwn(root, key)) return root;
  const { [key]: inner, ...others } = root;
  if (rest.length === 0 || !isObject(inner)) return rest.length === 0 ? others : root;
  const pruned = withoutValueAt(inner, rest);
  if (pruned === inner) return root;
  return Object.keys(pruned).length === 0 ? others : { ...root, [key]: pruned };
}
