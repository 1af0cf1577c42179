// Two layers of equal priority behave badly on a hub, so every configuration has its own.

export type Band = { readonly from: number; readonly to: number };

export const BANDS = {
  base: { from: 0, to: 99 },
  stable: { from: 100, to: 499 },
  candidate: { from: 500, to: 899 },
} as const satisfies Readonly<Record<string, Band>>;

/**
 * A priority that no configuration uses, as low as possible but above those that must be outranked; where there is no room above
 * them, any free one (they are about to go). `null`: the band is full.
 */
export function priorityFor(
  band: Band,
  used: readonly number[],
  outranked: readonly number[],
): number | null {
  const taken = new Set(used);
  const floor = Math.max(band.from - 1, ...outranked.filter((one) => one >= band.from && one <= band.to));
  const free = (from: number, to: number): number | null => {
    for (let priority = from; priority <= to; priority += 1) if (!taken.has(priority)) return priority;
    return null;
  };
  return free(floor + 1, band.to) ?? free(band.from, floor);
}
