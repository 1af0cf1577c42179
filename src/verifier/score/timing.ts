// What a series of timed runs says: pure.

/** Milliseconds. Percentiles by nearest rank: no run is left out, however long it took. */
export type Timing = {
  readonly runs: number;
  readonly mean: number;
  readonly least: number;
  readonly p50: Percentile;
  readonly p95: Percentile;
  readonly p99: Percentile;
  readonly most: { readonly value: number; readonly run: number };
  /** Runs further above the third quartile than three times the distance of the quartiles (Tukey's outer fence). */
  readonly outliers: number;
};

/** With the bounds between which the true percentile lies in 95 of 100 such series. */
export type Percentile = { readonly value: number; readonly low: number; readonly high: number };

/** 95 % of a normal distribution lie within so many standard deviations. */
const Z = 1.96;

/** @param runs milliseconds of each run, in the order in which they ran. */
export function timingOf(runs: ArrayLike<number>): Timing {
  const sorted = Float64Array.from(runs).sort();
  const count = sorted.length;
  const [q1, q3] = [nearestRank(sorted, 0.25), nearestRank(sorted, 0.75)];
  const fence = q3 + 3 * (q3 - q1);
  const most = sorted[count - 1] ?? Number.NaN;
  return {
    runs: count,
    mean: sorted.reduce((sum, run) => sum + run, 0) / count,
    least: sorted[0] ?? Number.NaN,
    p50: percentileOf(sorted, 0.5),
    p95: percentileOf(sorted, 0.95),
    p99: percentileOf(sorted, 0.99),
    most: { value: most, run: Array.from(runs).indexOf(most) },
    outliers: sorted.reduce((sum, run) => sum + (run > fence ? 1 : 0), 0),
  };
}

/**
 * Percentile and its confidence interval, from the ranks of the binomial distribution alone: nothing is assumed of how
 * latencies are distributed.
 */
function percentileOf(sorted: Float64Array, share: number): Percentile {
  const spread = Z * Math.sqrt(sorted.length * share * (1 - share));
  const at = (rank: number) => sorted[Math.min(sorted.length - 1, Math.max(0, rank))] ?? Number.NaN;
  return {
    value: nearestRank(sorted, share),
    low: at(Math.floor(sorted.length * share - spread) - 1),
    high: at(Math.ceil(sorted.length * share + spread)),
  };
}

/** The smallest value that at least `share` of all values do not exceed; NaN where there are none. */
export function nearestRank(sorted: ArrayLike<number>, share: number): number {
  const rank = Math.max(1, Math.ceil(share * sorted.length));
  return sorted[rank - 1] ?? Number.NaN;
}

/**
 * The same runs as seen by a caller that asks every `interval` milliseconds whether or not the last answer is there: a
 * run that takes longer delays those behind it (coordinated omission, as Gil Tene describes it for HdrHistogram).
 */
export function atRate(runs: ArrayLike<number>, interval: number): Float64Array {
  let free = 0;
  return Float64Array.from(runs, (run, index) => {
    const asked = index * interval;
    free = Math.max(free, asked) + run;
    return free - asked;
  });
}

export function latencyText(milliseconds: number): string {
  return `${Number(milliseconds.toPrecision(3))} ms`;
}
