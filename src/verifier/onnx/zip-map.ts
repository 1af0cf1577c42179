import { err, ok, type Result } from "../../base/result.ts";
import type { MapsValue } from "./data.ts";
import type { Datum, TensorInfo } from "./tensor.ts";

/** Maps with the keys of a model's output, as the table that they were made of: one row for each map. */
export function fromMaps({ maps }: MapsValue, { name, keys }: TensorInfo): Result<Datum, string> {
  if (keys === undefined) return err(`has maps, which the model's "${name}" has not`);
  const data = new Float32Array(maps.length * keys.length);
  for (const [row, map] of maps.entries()) {
    if (map.size !== keys.length)
      return err(`has ${map.size} keys in map ${row}, the model has ${keys.length}`);
    for (const [column, key] of keys.entries()) {
      const value = map.get(key);
      if (value === undefined) return err(`has no key ${key} in map ${row}, which the model has`);
      data[row * keys.length + column] = value;
    }
  }
  return ok({ type: "float32", shape: [maps.length, keys.length], data });
}
