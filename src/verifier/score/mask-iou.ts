export type Overlap = { readonly intersection: number; readonly union: number };

/** Elements above the threshold on both sides, and on either; NaN, wherever it is answered, is there and is wrong. */
export function overlapOf(
  expected: (at: number) => number,
  got: (at: number) => number,
  count: number,
  threshold: number,
): Overlap {
  let intersection = 0;
  let union = 0;
  for (let at = 0; at < count; at += 1) {
    const [wanted, has] = [expected(at) > threshold, got(at) > threshold];
    if (wanted && has) intersection += 1;
    if (wanted || has || Number.isNaN(got(at))) union += 1;
  }
  return { intersection, union };
}

/** Intersection over union, scikit-learn's jaccard_score; `null` where neither side has anything. */
export function iouOf({ intersection, union }: Overlap): number | null {
  return union === 0 ? null : intersection / union;
}
