import { decimalText } from "../base/decimal.ts";
import type { Labels } from "./golden.ts";
import {
  type Datum,
  elementCount,
  isTensor,
  isText,
  numberAt,
  type TensorInfo,
  type TensorValue,
} from "./tensor.ts";

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
  /** By number, where classes have names; `null`: they are numbers. */
  readonly names: readonly string[] | null;
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
  readonly add: (outputs: ReadonlyMap<string, Datum>, labels: Labels) => string | null;
  /** `null` before the first run. */
  readonly found: () => Classification | null;
};

/**
 * Takes the first output that has scores; where none has, the first that answers with the class itself.
 * @param topK how many of the largest scores count for `correctTopK`.
 * @param infos of the outputs: the names of classes that scores are for, where they have any.
 */
export function createCounting(topK: number, infos: readonly TensorInfo[]): Counting {
  // The output is chosen once: the last run may be a smaller one.
  let output: string | null = null;
  let classes = 0;
  let samples = 0;
  let correctTopK = 0;
  let worst: Misclassified | null = null;
  let names: string[] | null = null;
  let answersClasses = false;
  const numbers = new Map<string, number>();
  const byClass = new Map<number, { samples: number; correct: number }>();
  const confused = new Map<string, { expected: number; got: number; samples: number }>();

  function count(expected: number, got: number, margin: () => number): void {
    const ofClass = byClass.get(expected) ?? { samples: 0, correct: 0 };
    byClass.set(expected, ofClass);
    ofClass.samples += 1;
    samples += 1;
    if (got === expected) {
      ofClass.correct += 1;
      return;
    }
    const pair = `${expected}/${got}`;
    const before = confused.get(pair) ?? { expected, got, samples: 0 };
    before.samples += 1;
    confused.set(pair, before);
    const size = margin();
    if (worst === null || size > worst.margin) worst = { index: samples - 1, expected, got, margin: size };
  }

  function addScores(scores: TensorValue, row: number, expected: number): void {
    const start = row * classes;
    const got = largestOf(scores, start, classes);
    if (isAmong(scores, start, classes, expected, topK)) correctTopK += 1;
    count(expected, got, () => {
      const certain = got < 0 ? Number.POSITIVE_INFINITY : numberAt(scores, start + got);
      const difference = certain - numberAt(scores, start + expected);
      return Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
    });
  }

  function addAllScores(scores: Scores, labels: Labels): string | null {
    const found = scores.tensor.data.length / labels.length;
    if (output === null) classes = found;
    if (found !== classes) return `output "${scores.output}" has ${found} scores a sample, ${classes} before`;
    const { keys } = infos.find(({ name }) => name === scores.output) ?? {};
    names = keys === undefined ? null : [...keys];
    output = scores.output;
    for (const [row, label] of labels.entries()) {
      const expected = keys === undefined ? Number(label) : keys.indexOf(String(label));
      if (!(expected >= 0 && expected < classes))
        return `label ${label} is none of the ${classes} classes of output "${output}"`;
      addScores(scores.tensor, row, expected);
    }
    return null;
  }

  /** Classes as the model answers them, numbers too, have names; they are numbered as they come. */
  function addAllClasses(answered: Answered, labels: Labels): void {
    output = answered.output;
    for (const [row, label] of labels.entries()) {
      const expected = numberOf(String(label));
      const got = numberOf(String(answered.classes[row]));
      if (expected === got) correctTopK += 1;
      count(expected, got, () => 0);
    }
    names = [...numbers.keys()];
    classes = names.length;
  }

  function numberOf(name: string): number {
    const known = numbers.get(name) ?? numbers.size;
    numbers.set(name, known);
    return known;
  }

  return {
    add: (outputs, labels) => {
      const texts = typeof labels[0] === "string";
      const scores = output === null ? scoresOutput(outputs, labels.length) : scoresNamed(outputs, output);
      const named =
        scores !== null && infos.some(({ name, keys }) => name === scores.output && keys !== undefined);
      if (scores !== null && (named || !texts) && !answersClasses) return addAllScores(scores, labels);
      const answered = classesOutput(outputs, labels.length, texts);
      if (answered === null)
        return texts
          ? "labels are texts, and no output has one text for each sample"
          : "no output has one score for each class of each sample";
      answersClasses = true;
      addAllClasses(answered, labels);
      return null;
    },
    found: () => {
      if (output === null) return null;
      const counts = [...byClass].map(([label, ofClass]) => ({ label, ...ofClass }));
      return {
        output,
        classes,
        names,
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

function scoresNamed(outputs: ReadonlyMap<string, Datum>, output: string): Scores | null {
  const tensor = outputs.get(output);
  return tensor === undefined || !isTensor(tensor) || isText(tensor) ? null : { output, tensor };
}

type Answered = { readonly output: string; readonly classes: readonly (number | bigint | string)[] };

/** The first output that has one text, or one whole number, for each sample. */
function classesOutput(
  outputs: ReadonlyMap<string, Datum>,
  samples: number,
  texts: boolean,
): Answered | null {
  for (const [output, tensor] of outputs) {
    if (!isTensor(tensor) || tensor.data.length !== samples) continue;
    if (isText(tensor) ? texts : !texts && tensor.type.includes("int"))
      return { output, classes: [...tensor.data] };
  }
  return null;
}

/**
 * The first output that has one score for each class: after the axis of the samples, exactly one axis is longer than 1.
 * @param batchSize samples in this run; a single one may come without an axis for it.
 */
export function scoresOutput(outputs: ReadonlyMap<string, Datum>, batchSize: number): Scores | null {
  for (const [output, tensor] of outputs) {
    if (!isTensor(tensor) || isText(tensor)) continue;
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

export function classText({ names }: Classification, label: number): string {
  if (label < 0) return "only NaN";
  return names === null ? `class ${label}` : `class "${names[label] ?? label}"`;
}

/** `7 for 9 (12), 3 for 5 (4)`: how often which class was taken for which. */
export function confusedText({ confused, names }: Classification): string {
  const name = (label: number) => names?.[label] ?? String(label);
  return confused
    .slice(0, 3)
    .map(({ expected, got, samples }) => `${got < 0 ? "NaN" : name(got)} for ${name(expected)} (${samples}×)`)
    .join(", ");
}

/** Two shares that differ must not look the same. */
export function shareText(share: number, bound: number): string {
  const [a, b] = [decimalText(share), decimalText(bound)];
  return a === b ? `${share}, less than ${bound}` : `${a}, less than ${b}`;
}
