import { type Box, type BoxFormat, isBox, matchedBoxes } from "./box-match.ts";
import { errorAt } from "./comparison.ts";
import { characterEdits, type Edits, wordEdits } from "./error-rate.ts";
import { iouOf, overlapOf } from "./mask-iou.ts";
import { createMeanErrors } from "./mean-error.ts";
import {
  type Datum,
  elementCount,
  isTensor,
  isText,
  numberAt,
  type TensorValue,
  tensorText,
} from "./tensor.ts";

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

export type OutputMeasuring = {
  /** Adds one run, or says why the two cannot be held against each other. */
  readonly add: (samples: number, expected: Datum, got: Datum | undefined) => string | null;
  readonly found: () => OutputFigures;
};

export function createOutputMeasuring(output: string, options: OutputMetricOptions): OutputMeasuring {
  const { metrics, threshold, iouThreshold, boxFormat } = options;
  const errors = createMeanErrors();
  const overlap = { intersection: 0, union: 0 };
  const boxes = { expected: 0, got: 0, matched: 0 };
  const words = { edits: 0, length: 0 };
  const characters = { edits: 0, length: 0 };
  let samples = 0;

  function addNumbers(count: number, expected: TensorValue, got: TensorValue): string | null {
    const differs = `output "${output}" should be ${tensorText(expected)}, the model answers ${tensorText(got)}`;
    if (metrics.includes("boxes")) {
      const problem = addBoxes(count, expected, got);
      if (problem !== null) return problem;
    }
    if (!metrics.includes("meanError") && !metrics.includes("mask")) return null;
    if (expected.data.length !== got.data.length) return differs;
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

  function addBoxes(count: number, expected: TensorValue, got: TensorValue): string | null {
    const wanted = boxesIn(expected, count);
    const has = boxesIn(got, count);
    if (wanted === null || has === null)
      return `boxes are four numbers along the last axis: output "${output}" is ${tensorText(got)}, ${tensorText(expected)} is expected`;
    for (const [sample, own] of wanted.entries()) {
      const left = own.filter((box) => isBox(box, boxFormat));
      const right = (has[sample] ?? []).filter((box) => isBox(box, boxFormat));
      boxes.expected += left.length;
      boxes.got += right.length;
      boxes.matched += matchedBoxes(left, right, boxFormat, iouThreshold);
    }
    return null;
  }

  function addTexts(expected: readonly string[], got: readonly string[]): void {
    for (const [at, wanted] of expected.entries()) {
      add(words, wordEdits(wanted, got[at] ?? ""));
      add(characters, characterEdits(wanted, got[at] ?? ""));
    }
  }

  return {
    add: (count, expected, got) => {
      samples += count;
      if (got === undefined) return `the model answers no output "${output}" that can be read`;
      if (!isTensor(expected) || !isTensor(got)) return `output "${output}" is no tensor`;
      if (isText(expected) !== isText(got))
        return `output "${output}" should be ${tensorText(expected)}, the model answers ${tensorText(got)}`;
      const texts = isText(expected) && isText(got);
      if (texts !== metrics.includes("texts") || (texts && metrics.length > 1))
        return `output "${output}" is ${tensorText(got)}: error rates are of texts, everything else of numbers`;
      if (isText(expected) && isText(got)) {
        if (expected.data.length !== got.data.length)
          return `output "${output}" should be ${tensorText(expected)}, the model answers ${tensorText(got)}`;
        addTexts(expected.data, got.data);
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
      const all = boxes.expected + boxes.got;
      const rate = ({ edits, length }: Edits) => (length === 0 ? null : edits / length);
      const ofError = "samples have different numbers of elements, or none";
      return {
        output,
        rootMeanSquaredError: asked("meanError", mean?.rootMeanSquared ?? null, ofError),
        meanAbsoluteError: asked("meanError", mean?.meanAbsolute ?? null, ofError),
        maskIou: asked("mask", iouOf(overlap), "neither mask has anything in it"),
        boxMatch: asked(
          "boxes",
          all === 0 ? null : (2 * boxes.matched) / all,
          "there is no box on either side",
        ),
        boxes: metrics.includes("boxes") ? { ...boxes } : null,
        wordErrorRate: asked("texts", rate(words), "no word is expected"),
        characterErrorRate: asked("texts", rate(characters), "no character is expected"),
        undefinedFor,
      };
    },
  };
}

function add(sum: { edits: number; length: number }, more: Edits): void {
  sum.edits += more.edits;
  sum.length += more.length;
}

/** Boxes of each sample; `null` where the last axis is not one of four. */
function boxesIn({ shape, ...tensor }: TensorValue, samples: number): readonly (readonly Box[])[] | null {
  if (shape.at(-1) !== 4) return null;
  const apart = shape[0] === samples && shape.length > 2;
  if (!apart && samples !== 1 && shape[0] !== samples) return null;
  const each = elementCount(shape) / 4 / samples;
  const value = (at: number) => numberAt({ ...tensor, shape }, at);
  return Array.from({ length: samples }, (_, sample) =>
    Array.from({ length: each }, (_one, row): Box => {
      const at = (sample * each + row) * 4;
      return [value(at), value(at + 1), value(at + 2), value(at + 3)];
    }),
  );
}
