import { byScoreDescending } from "./ranked-scores.ts";

/**
 * Average precision, as scikit-learn's average_precision_score has it: the precision at each score, weighted by what it
 * adds to recall, without interpolation.
 * @param positive 1 for each sample of the class, else 0.
 * @returns 0 where no sample is of the class, NaN where a score is NaN.
 */
export function averagePrecision(scores: Float64Array, positive: Uint8Array): number {
  if (scores.some(Number.isNaN)) return Number.NaN;
  const all = positive.reduce((count, one) => count + one, 0);
  if (all === 0) return 0;
  let found = 0;
  let seen = 0;
  let sum = 0;
  for (const { positives, samples } of byScoreDescending(scores, positive)) {
    found += positives;
    seen += samples;
    sum += (positives / all) * (found / seen);
  }
  return sum;
}
