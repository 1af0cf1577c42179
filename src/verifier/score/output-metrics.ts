import {
  type Datum,
  isTensor,
  isText,
  numberAt,
  type TensorValue,
  tensorText,
  type Value,
} from "../onnx/tensor.ts";
import { createBoxCounts } from "./box-counts.ts";
import type { BoxFormat } from "./box-match.ts";
import { errorAt } from "./comparison.ts";
import { createErrorRates } from "./error-rate.ts";
import { iouOf, overlapOf } from "./mask-iou.ts";
import { createMeanErrors } from "./mean-error.ts";

// Figures of one output as a whole, beside what is expected of it: pure, and added up run by run.

export const OUTPUT_METRICS = ["meanError", "mask", "boxes", "texts"] as const;
export type OutputMetric = (typeof OUTPUT_METRICS)[number];

export type OutputMetricOptions = {
  readonly metrics: readonly OutputMetric[];
  readonly threshold: number;
  readonly iouThreshold: number;
  readonly boxFormat: BoxFormat;
};

/** `null`: it was not asked for. */
export type OutputFigures = {
  readonly output: string;
  readonly rootMeanSquaredError: number | null;
  readonly meanAbsoluteError: number | null;
  readonly maskIou: number | null;
  /** Twice the pairs among all boxes, expected and found. */
  readonly boxMatch: number | null;
  readonly boxes: { readonly expected: number; readonly got: number; readonly matched: number } | null;
  readonly wordErrorRate: number | null;
  readonly characterErrorRate: number | null;
  /** What was asked for and is not defined for these samples, in words. */
  readonly undefinedFor: readonly string[];
};

export type OutputAccumulator = {
  /** Adds one run, or says why the two cannot be held against each other. */
  readonly add: (samples: number, expected: Datum, got: Datum | undefined) => string | null;
  readonly found: () => OutputFigures;
};

export function createOutputAccumulator(output: string, options: OutputMetricOptions): OutputAccumulator {
  const { metrics, threshold, iouThreshold, boxFormat } = options;
  const errors = createMeanErrors();
  const overlap = { intersection: 0, union: 0 };
  const boxes = createBoxCounts(boxFormat, iouThreshold);
  const texts = createErrorRates();
  let samples = 0;

  function addNumbers(count: number, expected: TensorValue, got: TensorValue): string | null {
    if (metrics.includes("boxes") && !boxes.add(count, expected, got))
      return `boxes are four numbers along the last axis: output "${output}" is ${tensorText(got)}, ${tensorText(expected)} is expected`;
    if (!metrics.includes("meanError") && !metrics.includes("mask")) return null;
    const along = count === 1 || got.shape[0] === count;
    if (!along || expected.data.length !== got.data.length) return differs(output, expected, got);
    if (metrics.includes("meanError")) {
      const distances = Float64Array.from(expected.data, (_: unknown, at: number) =>
        errorAt(expected, got, at),
      );
      errors.add(distances, distances.length / Math.max(1, count));
    }
    if (metrics.includes("mask")) {
      const here = overlapOf(
        (at) => numberAt(expected, at),
        (at) => numberAt(got, at),
        expected.data.length,
        threshold,
      );
      overlap.intersection += here.intersection;
      overlap.union += here.union;
    }
    return null;
  }

  return {
    add: (count, expected, got) => {
      samples += count;
      if (got === undefined) return `the model answers no output "${output}" that can be read`;
      if (!isTensor(expected) || !isTensor(got)) return `output "${output}" is not a tensor`;
      if (isText(expected) !== isText(got)) return differs(output, expected, got);
      const ofTexts = isText(expected) && isText(got);
      if (ofTexts !== metrics.includes("texts") || (ofTexts && metrics.length > 1))
        return `output "${output}" is ${tensorText(got)}: error rates are of texts, everything else of numbers`;
      if (isText(expected) && isText(got)) {
        if (expected.data.length !== got.data.length) return differs(output, expected, got);
        texts.add(expected.data, got.data);
        return null;
      }
      return addNumbers(count, expected as TensorValue, got as TensorValue);
    },
    found: () => {
      const undefinedFor: string[] = [];
      const asked = (metric: OutputMetric, value: number | null, why: string): number | null => {
        if (!metrics.includes(metric)) return null;
        if (value === null && samples > 0) undefinedFor.push(why);
        return value;
      };
      const mean = errors.found();
      const matches = boxes.found();
      const rates = texts.found();
      const ofError = "samples have different numbers of elements, or none";
      return {
        output,
        rootMeanSquaredError: asked("meanError", mean?.rootMeanSquared ?? null, ofError),
        meanAbsoluteError: asked("meanError", mean?.meanAbsolute ?? null, ofError),
        maskIou: asked("mask", iouOf(overlap), "neither mask has anything in it"),
        boxMatch: asked("boxes", matches.match, "there is no box on either side"),
        boxes: metrics.includes("boxes") ? matches.boxes : null,
        wordErrorRate: asked("texts", rates.words, "no word is expected"),
        characterErrorRate: asked("texts", rates.characters, "no character is expected"),
        undefinedFor,
      };
    },
  };
}

function differs(output: string, expected: Value, got: Value): string {
  return `output "${output}" should be ${tensorText(expected)}, the model answers ${tensorText(got)}`;
}
