import type { Random } from "./random.ts";

/** Milliseconds that differ from one time to the next: always the same, evenly between two, or by percentiles. */
export type Spread =
  | number
  | { readonly min: number; readonly max: number }
  | { readonly p50: number; readonly p95: number; readonly p99: number };

/** One draw. Between percentiles it is linear: from nothing up to the middle, and beyond the last there is no more. */
export function drawSpread(spread: Spread, random: Random): number {
  if (typeof spread === "number") return spread;
  const at = random();
  if ("min" in spread) return between(at, [0, spread.min], [1, spread.max]);
  const { p50, p95, p99 } = spread;
  if (at < 0.5) return between(at, [0, 0], [0.5, p50]);
  if (at < 0.95) return between(at, [0.5, p50], [0.95, p95]);
  return at < 0.99 ? between(at, [0.95, p95], [0.99, p99]) : p99;
}

type Point = readonly [share: number, milliseconds: number];

function between(at: number, [from, low]: Point, [to, high]: Point): number {
  return low + ((at - from) / (to - from)) * (high - low);
}
