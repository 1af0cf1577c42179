import type { Labels } from "../../golden/labels.ts";
import { numberAt, type TensorValue } from "../../onnx/tensor.ts";
import type { Head } from "./heads.ts";

// The scores of one label: pure.

export function columnsOf({ raw }: Labels, samples: number): readonly number[] {
  const columns = raw.data.length / samples;
  return Array.from({ length: samples }, (_, row) => {
    for (let column = 0; column < columns; column += 1)
      if (numberAt(raw as TensorValue, row * columns + column) === 1) return column;
    return -1;
  });
}

/** Scores of one label; one number where the output is one score. */
export function rowOf(
  tensor: TensorValue,
  { kind, classes, classesFirst }: Head,
  { at, of }: { readonly at: number; readonly of: number },
): readonly number[] {
  if (kind === "score") return [numberAt(tensor, at)];
  const start = classesFirst ? Math.floor(at / of) * of * classes + (at % of) : at * classes;
  const step = classesFirst ? of : 1;
  return Array.from({ length: classes }, (_, index) => numberAt(tensor, start + index * step));
}

/** Place of the first largest score; -1 where one of them is NaN. */
export function mostProbable(row: readonly number[], head: Head | null, threshold: number): number {
  if (row.some(Number.isNaN)) return -1;
  if (head?.kind === "score") return (row[0] ?? 0) > threshold ? 1 : 0;
  let place = 0;
  for (const [index, value] of row.entries()) if (value > (row[place] ?? 0)) place = index;
  return place;
}

/** Whether fewer than `k` scores come before that of `label`; of equal ones the first comes first, NaN never. */
export function isAmong(row: readonly number[], label: number, k: number): boolean {
  const own = row[label] ?? Number.NaN;
  if (row.some(Number.isNaN)) return false;
  let before = 0;
  for (const [index, value] of row.entries())
    if (value > own || (value === own && index < label)) before += 1;
  return before < k;
}

export function marginOf(
  row: readonly number[] | null,
  index: number,
  known: number,
  threshold: number,
): number {
  if (row === null || (index >= 0 && known < 0)) return 0;
  if (index < 0) return Number.POSITIVE_INFINITY;
  if (row.length === 1) return Math.abs((row[0] ?? 0) - threshold);
  const margin = (row[index] ?? 0) - (row[known] ?? 0);
  return Number.isNaN(margin) ? Number.POSITIVE_INFINITY : margin;
}
