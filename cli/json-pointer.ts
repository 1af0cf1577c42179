import { isRecord } from "../src/base/guards.ts";
import { own } from "../src/base/lookup.ts";
/** A value as it comes out of YAML or JSON. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

export type JsonObject = { readonly [key: string]: Json };

export function isObject(value: unknown): value is JsonObject {
  return isRecord(value);
}

/** RFC 6901: the keys of `/spec/a~1b/0`. */
export function keysOf(pointer: string): readonly string[] {
  return pointer
    .split("/")
    .slice(1)
    .map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"));
}

export function pointerTo(base: string, key: string | number): string {
  return `${base}/${String(key).replaceAll("~", "~0").replaceAll("/", "~1")}`;
}

/** A copy with `value` at `pointer`; what is missing or no object on the way becomes one. */
export function withValueAt(root: Json, pointer: string, value: Json): Json {
  const write = (at: Json | undefined, [key, ...rest]: readonly string[]): Json => {
    if (key === undefined) return value;
    const object = isObject(at) ? at : {};
    return { ...object, [key]: write(Object.hasOwn(object, key) ? own(object, key) : undefined, rest) };
  };
  return write(root, keysOf(pointer));
}
