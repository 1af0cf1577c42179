export type ScoreGroup = { readonly positives: number; readonly samples: number };

/** Samples by their score, the highest first; those of equal score together. */
export function* byScoreDescending(scores: Float64Array, positive: Uint8Array): Generator<ScoreGroup, void> {
  const order = Uint32Array.from(scores.keys()).sort((a, b) => (scores[b] ?? 0) - (scores[a] ?? 0));
  let at = 0;
  while (at < order.length) {
    const score = scores[order[at] ?? 0];
    let positives = 0;
    let samples = 0;
    // NaN equals nothing: each is a group of its own.
    do {
      positives += positive[order[at] ?? 0] ?? 0;
      samples += 1;
      at += 1;
    } while (at < order.length && scores[order[at] ?? 0] === score);
    yield { positives, samples };
  }
}
