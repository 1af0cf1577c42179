import { err, ok, type Result } from "../base/result.ts";
import type { Labels } from "./golden.ts";
import { isText, type Value } from "./tensor.ts";

/** Class numbers, or names of classes: one for each sample. */
export function labelsOf(array: Value | undefined, samples: number): Result<Labels, string> {
  if (array === undefined || array.data.length !== samples)
    return err(`\`labels\` must hold one class for each of ${samples} samples`);
  if (isText(array)) return ok(array.data);
  const labels = Array.from(array.data, Number);
  if (array.type.startsWith("float") || !labels.every((label) => Number.isSafeInteger(label) && label >= 0))
    return err("`labels` must hold whole numbers from 0 on");
  return ok(labels);
}
