import { isObject, type JsonObject, type JsonValue, ownValue, sameJson, setKey } from "../../base/json.ts";

/** The merge patch (RFC 7396) that turns `from` into `to`: what is gone is null, what is equal is left out. */
export function mergePatch(from: JsonObject, to: JsonObject): JsonObject {
  const patch: Record<string, JsonValue> = {};
  for (const key of Object.keys(from)) if (!Object.hasOwn(to, key)) setKey(patch, key, null);
  for (const [key, next] of Object.entries(to)) {
    const had = ownValue(from, key);
    if (had !== undefined && sameJson(had, next)) continue;
    setKey(patch, key, isObject(had) && isObject(next) ? mergePatch(had, next) : next);
  }
  return patch;
}
