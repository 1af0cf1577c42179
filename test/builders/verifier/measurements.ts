import type { Classification } from "../../../src/verifier/score/classes/classification.ts";
import type { Comparison } from "../../../src/verifier/score/comparison.ts";

// What the child process may have measured, as the checks judge it.

export const classified = (over: Partial<Classification> = {}): Classification => ({
  output: "y",
  reading: "",
  notNumbers: 0,
  classes: 10,
  names: null,
  samples: 20,
  correct: 19,
  topK: 5,
  correctTopK: 20,
  byClass: [
    { label: 3, samples: 15, correct: 15 },
    { label: 7, samples: 5, correct: 4 },
  ],
  confused: [{ expected: 7, got: 3, samples: 1 }],
  worst: { index: 11, expected: 7, got: 3, margin: 0.5 },
  ...over,
});

export const compared = (over: Partial<Comparison> = {}): Comparison => ({
  samples: 2,
  elements: 4,
  beyond: 0,
  nonFinite: 0,
  largestAbsolute: 0,
  largestRelative: 0,
  worst: null,
  lowestCosine: null,
  outputs: ["y"],
  withoutCosine: [],
  ...over,
});

/** One of four values is too far off. */
export const OFF = compared({
  beyond: 1,
  largestAbsolute: 1,
  largestRelative: 0.5,
  worst: {
    output: "y",
    index: 1,
    element: 2,
    place: "2",
    expected: "2",
    got: "3",
    absolute: 1,
    relative: 0.5,
  },
  lowestCosine: { output: "y", index: 1, cosine: 0.9 },
});
