import { REASONS } from "../../api/reasons.ts";
import { type Decimal, decimalText, numberOf } from "../../base/decimal.ts";
import type { SectionMeasured } from "../protocol/messages.ts";
import {
  type Classification,
  classText,
  confusedText,
  shareText,
  weakestClass,
} from "../score/classes/classification.ts";
import type { Ranking } from "../score/classes/ranking.ts";
import { apart, numberText } from "../score/comparison.ts";
import type { FiniteCount } from "../score/finite.ts";
import type { OutputFigures } from "../score/output-metrics.ts";
import type { GoldenBounds } from "../score/sections.ts";
import { differenceParts } from "./differences.ts";
import { type Part, unusable } from "./judgement.ts";

// The bounds of a golden set beside what was measured for one output: pure.

export function sectionParts(bounds: GoldenBounds, found: SectionMeasured, suffix: string): readonly Part[] {
  const { classification, ranking, comparison, figures } = found;
  return [
    ...(classification === null ? [] : accuracyParts(bounds, classification, suffix)),
    ...(classification === null ? [] : thresholdParts(bounds, classification)),
    ...(ranking === null ? [] : rankingParts(bounds, ranking, suffix)),
    ...(comparison === null ? [] : differenceParts(bounds, comparison, REASONS.OutputsDiffer, suffix)),
    ...(figures === null ? [] : figureParts(bounds, figures, suffix)),
  ];
}

/** A threshold beside scores of classes, or beside classes that are answered, would be about nothing. */
function thresholdParts(bounds: GoldenBounds, { reading, output }: Classification): readonly Part[] {
  const { threshold, minimumMaskIou } = bounds;
  if (threshold === undefined || minimumMaskIou !== undefined || reading.startsWith("by the threshold"))
    return [];
  return [
    unusable(
      `threshold ${numberText(numberOf(threshold))}`,
      `threshold is for one score for each label, and output "${output}" ${reading === "" ? "has one score for each class" : reading.replace("which ", "")}: leave it out`,
    ),
  ];
}

function accuracyParts(wanted: GoldenBounds, found: Classification, suffix: string): readonly Part[] {
  const { samples, correct, correctTopK, topK, classes, worst, output, notNumbers } = found;
  const example =
    worst === null
      ? null
      : {
          index: worst.index,
          where: output,
          expected: classText(found, worst.expected),
          got: classText(found, worst.got),
        };
  const part = (
    name: string,
    count: { readonly samples: number; readonly correct: number },
    bound: number,
    failure: string,
  ): Part => {
    const share = count.correct / count.samples;
    const good = share >= bound;
    return {
      measured: `${name}${suffix} ${decimalText(share)} (${count.correct} of ${count.samples})`,
      bound: `${name}${suffix} ≥ ${decimalText(bound)}`,
      message: good ? "" : `${failure}, which is ${shareText(share, bound)}`,
      reason: good ? null : REASONS.AccuracyTooLow,
      worst: good ? null : example,
    };
  };
  const parts: Part[] = [];
  if (wanted.minimumAccuracy !== undefined) {
    const mistakes =
      worst === null
        ? ""
        : `; the most confident mistake is sample ${worst.index}: expected ${classText(found, worst.expected)}, got ${classText(found, worst.got)}; confused most often: ${confusedText(found)}${notNumbers === 0 ? "" : `; a score is NaN in ${notNumbers} of them`}`;
    const one = part(
      "accuracy",
      { samples, correct },
      numberOf(wanted.minimumAccuracy),
      `${correct} of ${samples} samples are classified correctly by output "${output}"`,
    );
    parts.push(one.message === "" ? one : { ...one, message: `${one.message}${mistakes}` });
  }
  if (wanted.minimumTopKAccuracy !== undefined) {
    const bound = numberOf(wanted.minimumTopKAccuracy);
    parts.push(
      topKFault(found) ??
        part(
          `top-${topK} accuracy`,
          { samples, correct: correctTopK ?? 0 },
          bound,
          `of ${samples} samples, ${correctTopK} have their label among the ${topK} most probable of ${classes} classes`,
        ),
    );
  }
  const weakest = weakestClass(found);
  if (wanted.minimumClassAccuracy !== undefined && weakest !== null)
    parts.push(
      part(
        `accuracy of ${classText(found, weakest.label)}`,
        weakest,
        numberOf(wanted.minimumClassAccuracy),
        `${classText(found, weakest.label)} is the weakest: ${weakest.correct} of its ${weakest.samples} samples are right`,
      ),
    );
  return parts;
}

function topKFault({ topK, correctTopK, classes, output }: Classification): Part | null {
  const bound = `top-${topK} accuracy`;
  if (correctTopK === null)
    return unusable(
      bound,
      `minimumTopKAccuracy needs scores of which it is known what class each is for, and output "${output}" does not say it: golden.classes does, in their order`,
    );
  return topK < classes
    ? null
    : unusable(
        bound,
        `every model has each label among its ${topK} most probable of ${classes} classes: minimumTopKAccuracy needs a topK below ${classes}`,
      );
}

function rankingParts(wanted: GoldenBounds, found: Ranking, suffix: string): readonly Part[] {
  const asked = [
    { name: "ROC AUC", written: wanted.minimumRocAuc, value: found.rocAuc },
    { name: "average precision", written: wanted.minimumAveragePrecision, value: found.averagePrecision },
  ];
  return asked.flatMap(({ name, written, value }) => {
    if (written === undefined) return [];
    if (value === null)
      return [
        unusable(
          `${name} ≥ ${numberText(numberOf(written))}`,
          `${name} is not defined for the golden set: ${found.undefinedFor}`,
        ),
      ];
    return [shareBound({ name: `${name}${suffix}`, value, written, reason: REASONS.AccuracyTooLow })];
  });
}

function figureParts(wanted: GoldenBounds, found: OutputFigures, suffix: string): readonly Part[] {
  const { boxes } = found;
  const most = (name: string, value: number | null, written: Decimal | undefined) =>
    figurePart({ name: `${name}${suffix}`, value, written, found, most: true });
  const least = (name: string, value: number | null, written: Decimal | undefined) =>
    figurePart({ name: `${name}${suffix}`, value, written, found, most: false });
  const matched =
    boxes === null
      ? ""
      : ` (${boxes.matched} pairs of ${boxes.expected} expected and ${boxes.got} found boxes)`;
  return [
    ...most("root mean squared error", found.rootMeanSquaredError, wanted.maximumRootMeanSquaredError),
    ...most("mean absolute error", found.meanAbsoluteError, wanted.maximumMeanAbsoluteError),
    ...least("mask IoU", found.maskIou, wanted.minimumMaskIou),
    ...least("box match", found.boxMatch, wanted.minimumBoxMatch).map((part) => ({
      ...part,
      measured: `${part.measured}${matched}`,
    })),
    ...most("word error rate", found.wordErrorRate, wanted.maximumWordErrorRate),
    ...most("character error rate", found.characterErrorRate, wanted.maximumCharacterErrorRate),
  ];
}

type Figure = {
  readonly name: string;
  readonly value: number | null;
  readonly written: Decimal | undefined;
  readonly found: OutputFigures;
  readonly most: boolean;
};

function figurePart({ name, value, written, found, most }: Figure): readonly Part[] {
  if (written === undefined) return [];
  if (value === null)
    return [unusable(name, `${name} is not defined for the golden set: ${found.undefinedFor.join(", ")}`)];
  const reason = REASONS.OutputsDiffer;
  return [most ? sizeBound({ name, value, written, reason }) : shareBound({ name, value, written, reason })];
}

type Bound = {
  readonly name: string;
  readonly value: number;
  readonly written: Decimal;
  readonly reason: typeof REASONS.OutputsDiffer | typeof REASONS.AccuracyTooLow;
};

/** NaN keeps no bound. */
function shareBound({ name, value, written, reason }: Bound): Part {
  const bound = numberOf(written);
  const good = value >= bound;
  const [has, than] = apart(value, bound);
  const message = Number.isNaN(value) ? `${name} is NaN: a score is` : `${name} is ${has}, less than ${than}`;
  return {
    measured: `${name} ${has}`,
    bound: `${name} ≥ ${than}`,
    message: good ? "" : message,
    reason: good ? null : reason,
    worst: null,
  };
}

function sizeBound({ name, value, written, reason }: Bound): Part {
  const bound = numberOf(written);
  const good = value <= bound;
  const [has, than] = apart(value, bound);
  return {
    measured: `${name} ${has}`,
    bound: `${name} ≤ ${than}`,
    message: good ? "" : `${name} is ${has}, more than ${than}`,
    reason: good ? null : reason,
    worst: null,
  };
}

export function finitePart(finite: readonly FiniteCount[]): Part {
  const bad = finite.filter(({ nonFinite }) => nonFinite > 0);
  const count = (of: "elements" | "nonFinite") => finite.reduce((sum, one) => sum + one[of], 0);
  const [first] = bad;
  return {
    measured: `${count("nonFinite")} values that are NaN or infinite in ${finite.length} outputs`,
    bound: "all values finite",
    message:
      first === undefined
        ? ""
        : `${count("nonFinite")} of ${count("elements")} values are NaN or infinite: ${bad
            .slice(0, 5)
            .map((one) => `${one.nonFinite} in output "${one.output}", from sample ${one.first} on`)
            .join(", ")}`,
    reason: first === undefined ? null : REASONS.NonFinite,
    worst:
      first === undefined
        ? null
        : {
            index: first.first,
            where: `output "${first.output}"`,
            expected: "a finite number",
            got: "NaN or infinity",
          },
  };
}
