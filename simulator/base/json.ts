export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;
export type JsonObject = { readonly [key: string]: JsonValue };

export const NOTHING: JsonObject = Object.freeze({});

export function isObject(value: unknown): value is JsonObject {
  return value !== null && typeof value === "object" && !Array.isArray(value);
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
  const inner = root[key];
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
