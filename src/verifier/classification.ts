import { decimalText } from "../base/decimal.ts";
import { elementCount, isText, numberAt, type TensorValue, type Value } from "./tensor.ts";

// How often the most probable class is the right one: pure, and added up run by run.

/** A sample that was classified wrongly; `got` is -1 where all scores are NaN. */
export type Misclassified = {
  readonly index: number;
  readonly expected: number;
  readonly got: number;
  /** By how much the score of the wrong class was above that of the right one. */
  readonly margin: number;
};

export type ClassCount = { readonly label: number; readonly samples: number; readonly correct: number };
export type Confusion = { readonly expected: number; readonly got: number; readonly samples: number };

export type Classification = {
  readonly output: string;
  readonly classes: number;
  readonly samples: number;
  readonly correct: number;
  readonly topK: number;
  /** Samples whose label is among the `topK` largest scores. */
  readonly correctTopK: number;
  /** Of each label that occurs, in order. */
  readonly byClass: readonly ClassCount[];
  /** The pairs that are taken for each other most often, most often first; at most ten. */
  readonly confused: readonly Confusion[];
  /** The mistake that the model was surest about. */
  readonly worst: Misclassified | null;
};

const MOST_CONFUSED = 10;

export type Counting = {
  /** Adds one run, or says what is wrong with it. */
  readonly add: (outputs: ReadonlyMap<string, Value>, labels: readonly number[]) => string | null;
  /** `null` before the first run. */
  readonly found: () => Classification | null;
};

/** @param topK how many of the largest scores count for `correctTopK`. */
export function createCounting(topK: number): Counting {
  // The output is chosen once: the last run may be a smaller one.
  let output: string | null = null;
  let classes = 0;
  let samples = 0;
  let correctTopK = 0;
  let worst: Misclassified | null = null;
  const byClass = new Map<number, { samples: number; correct: number }>();
  const confused = new Map<string, { expected: number; got: number; samples: number }>();

  function addSample(scores: TensorValue, row: number, expected: number): void {
    const start = row * classes;
    const got = largestOf(scores, start, classes);
    const count = byClass.get(expected) ?? { samples: 0, correct: 0 };
    byClass.set(expected, count);
    count.samples += 1;
    if (isAmong(scores, start, classes, expected, topK)) correctTopK += 1;
    if (got === expected) {
      count.correct += 1;
      return;
    }
    const pair = `${expected}/${got}`;
    const before = confused.get(pair) ?? { expected, got, samples: 0 };
    before.samples += 1;
    confused.set(pair, before);
    const certain = got < 0 ? Number.POSITIVE_INFINITY : numberAt(scores, start + got);
    const difference = certain - numberAt(scores, start + expected);
    const margin = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
    if (worst === null || margin > worst.margin) worst = { index: samples, expected, got, margin };
  }

  return {
    add: (outputs, labels) => {
      const scores = output === null ? scoresOutput(outputs, labels.length) : scoresNamed(outputs, output);
      if (scores === null) return "no output has one score for each class of each sample";
      const found = scores.tensor.data.length / labels.length;
      if (output === null) classes = found;
      if (found !== classes)
        return `output "${scores.output}" has ${found} scores a sample, ${classes} before`;
      output = scores.output;
      const outside = labels.find((label) => label >= classes);
      if (outside !== undefined)
        return `label ${outside} is none of the ${classes} classes of output "${output}"`;
      for (const [row, expected] of labels.entries()) {
        addSample(scores.tensor, row, expected);
        samples += 1;
      }
      return null;
    },
    found: () => {
      if (output === null) return null;
      const counts = [...byClass].map(([label, count]) => ({ label, ...count }));
      return {
        output,
        classes,
        samples,
        correct: counts.reduce((sum, { correct }) => sum + correct, 0),
        topK,
        correctTopK,
        byClass: counts.sort((a, b) => a.label - b.label),
        confused: [...confused.values()].sort((a, b) => b.samples - a.samples).slice(0, MOST_CONFUSED),
        worst,
      };
    },
  };
}

type Scores = { readonly output: string; readonly tensor: TensorValue };

function scoresNamed(outputs: ReadonlyMap<string, Value>, output: string): Scores | null {
  const tensor = outputs.get(output);
  return tensor === undefined || isText(tensor) ? null : { output, tensor };
}

/**
 * The first output that has one score for each class: after the axis of the samples, exactly one axis is longer than 1.
 * @param batchSize samples in this run; a single one may come without an axis for it.
 */
export function scoresOutput(outputs: ReadonlyMap<string, Value>, batchSize: number): Scores | null {
  for (const [output, tensor] of outputs) {
    if (isText(tensor)) continue;
    const long = tensor.shape.filter((size) => size !== 1);
    const classes = elementCount(tensor.shape) / batchSize;
    const along = tensor.shape[0] === batchSize && tensor.shape.slice(1).some((size) => size === classes);
    const alone = batchSize === 1 && long.length === 1;
    if (Number.isInteger(classes) && classes > 1 && (along || alone)) return { output, tensor };
  }
  return null;
}

/** Place of the first largest number; -1 where all are NaN. */
export function largestOf(tensor: TensorValue, start: number, count: number): number {
  let place = -1;
  let largest = Number.NEGATIVE_INFINITY;
  for (let index = 0; index < count; index += 1) {
    const value = numberAt(tensor, start + index);
    if (Number.isNaN(value) || (place >= 0 && value <= largest)) continue;
    place = index;
    largest = value;
  }
  return place;
}

/** Whether fewer than `k` scores come before that of `label`; of equal ones the first comes first, NaN never. */
function isAmong(tensor: TensorValue, start: number, count: number, label: number, k: number): boolean {
  const own = numberAt(tensor, start + label);
  if (Number.isNaN(own)) return false;
  let before = 0;
  for (let index = 0; index < count && before < k; index += 1) {
    const value = numberAt(tensor, start + index);
    if (value > own || (value === own && index < label)) before += 1;
  }
  return before < k;
}

/** The class of which the smallest share is right; the first of equal ones. */
export function weakestClass({ byClass }: Classification): ClassCount | null {
  let weakest: ClassCount | null = null;
  for (const count of byClass)
    if (weakest === null || count.correct / count.samples < weakest.correct / weakest.samples)
      weakest = count;
  return weakest;
}

export function classText(label: number): string {
  return label < 0 ? "only NaN" : `class ${label}`;
}

/** `7 for 9 (12), 3 for 5 (4)`: how often which class was taken for which. */
export function confusedText({ confused }: Classification): string {
  return confused
    .slice(0, 3)
    .map(({ expected, got, samples }) => `${got < 0 ? "NaN" : got} for ${expected} (${samples}×)`)
    .join(", ");
}

/** Two shares that differ must not look the same. */
export function shareText(share: number, bound: number): string {
  const [a, b] = [decimalText(share), decimalText(bound)];
  return a === b ? `${share}, less than ${bound}` : `${a}, less than ${b}`;
}
