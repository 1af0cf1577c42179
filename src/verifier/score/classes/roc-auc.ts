import { byScoreDescending } from "./ranked-scores.ts";

/**
 * Area under the ROC curve, as scikit-learn's roc_auc_score has it: equal scores count half.
 * @param positive 1 for each sample of the class, else 0.
 * @returns NaN where all samples are of one class, or a score is NaN.
 */
export function rocAuc(scores: Float64Array, positive: Uint8Array): number {
  let positives = 0;
  let area = 0;
  let before = 0;
  for (const { positives: here, samples } of byScoreDescending(scores, positive)) {
    const negatives = samples - here;
    // Each negative sample stands below the positives before it, and beside those of its own score.
    area += negatives * (before + here / 2);
    before += here;
    positives += here;
  }
  const negatives = scores.length - positives;
  if (positives === 0 || negatives === 0 || scores.some(Number.isNaN)) return Number.NaN;
  return area / (positives * negatives);
}
