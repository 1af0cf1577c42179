import { ownValue } from "./json.ts";

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds of `90s`, `10m`, `1h30m`, `3d`, `250ms`, with a sign where one is given; `null` for other text. */
export function parseDuration(written: string): number | null {
  if (!/^[-+]?([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$/.test(written)) return null;
  let total = 0;
  for (const [, amount = "0", unit = "ms"] of written.matchAll(/([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)/g))
    total += Number(amount) * (ownValue(UNITS, unit) ?? 0);
  return written.startsWith("-") ? -total : total;
}
