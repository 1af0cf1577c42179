import type { CheckResult, Tensor, Verification } from "../api/model-release.ts";
import { REASONS, type Reason } from "../api/reasons.ts";
import { decimalText, numberOf } from "../base/decimal.ts";
import { cut } from "../base/text.ts";
import { millisOf } from "../base/time.ts";
import { type Classification, classText, confusedText, shareText, weakestClass } from "./classification.ts";
import { type Comparison, numberText } from "./comparison.ts";
import type { GoldenMeasured, ParityMeasured } from "./model-messages.ts";
import { type Signature, type TensorInfo, tensorText } from "./tensor.ts";
import { atRate, latencyText, type Timing, timingOf } from "./timing.ts";

// What the checks find, from what was measured: pure.

export type CheckName = CheckResult["name"];

/** A check's result, why the model is refused where it is, and what only the full report has. */
export type Judgement = {
  readonly result: CheckResult;
  readonly reason: Reason | null;
  readonly details?: object;
};

export type Bytes = { readonly what: string; readonly expected: string; readonly got: string };

const LONGEST_VALUE = 256;
const LONGEST_MESSAGE = 2048;
const LONGEST_EXAMPLE = 128;

export function passed(
  name: CheckName,
  facts: Partial<Omit<CheckResult, "name" | "outcome">> = {},
): Judgement {
  return { result: clipped({ name, outcome: "Passed", ...facts }), reason: null };
}

export function failed(
  name: CheckName,
  reason: Reason,
  facts: Partial<Omit<CheckResult, "name" | "outcome">> & { readonly message: string },
): Judgement {
  return { result: clipped({ name, outcome: "Failed", ...facts }), reason };
}

export function skipped(name: CheckName, message: string): CheckResult {
  return clipped({ name, outcome: "Skipped", message });
}

/** Text of models and files goes into objects and terminals: without control characters, and not without end. */
export function printable(text: string, longest = LONGEST_MESSAGE): string {
  const clean = text.replaceAll(/\p{C}+/gu, " ").trim();
  return cut(clean, longest);
}

function clipped(result: CheckResult): CheckResult {
  return {
    ...result,
    ...(result.measured === undefined ? {} : { measured: printable(result.measured, LONGEST_VALUE) }),
    ...(result.bound === undefined ? {} : { bound: printable(result.bound, LONGEST_VALUE) }),
    ...(result.method === undefined ? {} : { method: printable(result.method, LONGEST_VALUE) }),
    ...(result.worst === undefined ? {} : { worst: clippedExample(result.worst) }),
    ...(result.message === undefined ? {} : { message: printable(result.message) }),
  };
}

function clippedExample(worst: NonNullable<CheckResult["worst"]>): NonNullable<CheckResult["worst"]> {
  return {
    ...worst,
    ...(worst.where === undefined ? {} : { where: printable(worst.where, LONGEST_VALUE) }),
    expected: printable(worst.expected, LONGEST_EXAMPLE),
    got: printable(worst.got, LONGEST_EXAMPLE),
  };
}

/** `files`: the model and, where there is one, the golden set. */
export function judgeDigests(files: readonly Bytes[]): Judgement {
  const wrong = files.filter(({ expected, got }) => expected !== got);
  const [first] = wrong;
  if (first === undefined) return passed("Digest", { measured: files[0]?.got ?? "" });
  return failed("Digest", REASONS.DigestMismatch, {
    measured: first.got,
    bound: first.expected,
    message: wrong
      .map(({ what, expected, got }) => `the ${what} is ${got}, the release says ${expected}`)
      .join("; "),
  });
}

export function judgeSignature(wanted: NonNullable<Verification["signature"]>, model: Signature): Judgement {
  const differences = signatureDifferences(wanted, model);
  if (differences.length === 0) return passed("Signature");
  return failed("Signature", REASONS.SignatureMismatch, {
    measured: `${sideText(model.inputs)} → ${sideText(model.outputs)}`,
    bound: `${sideText(wanted.inputs)} → ${sideText(wanted.outputs)}`,
    message: differences.join("; "),
  });
}

/** Every way in which the model is not what the release says; order does not matter. */
export function signatureDifferences(
  wanted: NonNullable<Verification["signature"]>,
  model: Signature,
): readonly string[] {
  return [
    ...sideDifferences("input", wanted.inputs, model.inputs),
    ...sideDifferences("output", wanted.outputs, model.outputs),
  ];
}

function sideDifferences(
  side: string,
  wanted: readonly Tensor[],
  has: readonly TensorInfo[],
): readonly string[] {
  const missing = wanted.filter(({ name }) => !has.some((one) => one.name === name));
  const extra = has.filter(({ name }) => !wanted.some((one) => one.name === name));
  const differing = wanted.flatMap((want) => {
    const found = has.find(({ name }) => name === want.name);
    const why = found === undefined ? null : tensorDifference(want, found);
    return why === null ? [] : [`${side} "${want.name}" ${why}`];
  });
  return [
    ...missing.map((one) => `${side} "${one.name}" (${tensorText(one)}) is missing`),
    ...extra.map((one) => `${side} "${one.name}" (${tensorText(one)}) is not in the release`),
    ...differing,
  ];
}

function tensorDifference(want: Tensor, found: TensorInfo): string | null {
  if (want.type !== found.type) return `is ${found.type}, the release says ${want.type}`;
  const shapes = `${tensorText(found)}, the release says ${tensorText(want)}`;
  if (want.shape.length !== found.shape.length)
    return `has ${found.shape.length} axes instead of ${want.shape.length}: ${shapes}`;
  const axes = want.shape.flatMap((axis, index) => {
    const has = found.shape[index];
    const same = typeof axis === "number" ? axis === has : typeof has === "string";
    return same ? [] : [String(index)];
  });
  return axes.length === 0 ? null : `differs in axis ${axes.join(" and ")}: ${shapes}`;
}

/** Why the two cannot be fed with the same samples; `null` where they can. */
export function inputsDifference(model: Signature, other: Signature): string | null {
  const names = ({ inputs }: Signature) => inputs.map(({ name }) => name);
  const [ours, theirs] = [names(model), names(other)];
  if (ours.length === theirs.length && ours.every((name) => theirs.includes(name))) return null;
  return `the inputs differ: it takes ${ours.join(", ")}, the other one ${theirs.join(", ")}`;
}

export function sideText(infos: readonly Pick<TensorInfo, "name" | "type" | "shape">[]): string {
  return infos.map((info) => `${info.name} ${tensorText(info)}`).join(", ");
}

type Bounds = {
  readonly [Name in
    | "maximumAbsoluteError"
    | "maximumRelativeError"
    | "minimumCosineSimilarity"]?: NonNullable<Verification["golden"]>[Name];
};

/** One bound of a check that may have several. */
type Part = {
  readonly measured: string;
  readonly bound: string;
  /** Empty where there is nothing to add. */
  readonly message: string;
  readonly reason: Reason | null;
  readonly worst: CheckResult["worst"] | null;
};

/** The check as a whole: it fails for the reason of the first part that does. */
function together(name: CheckName, parts: readonly Part[], method: string, details: object): Judgement {
  const refused = parts.filter((part) => part.reason !== null);
  const messages = (refused.length > 0 ? refused : parts)
    .map(({ message }) => message)
    .filter((text) => text !== "");
  const worst = (refused[0] ?? parts.find((part) => part.worst !== null))?.worst ?? null;
  const facts = {
    measured: parts.map(({ measured }) => measured).join(", "),
    bound: parts.map(({ bound }) => bound).join(", "),
    method,
    ...(messages.length === 0 ? {} : { message: messages.join("; ") }),
    ...(worst === null ? {} : { worst }),
  };
  const reason = refused[0]?.reason ?? null;
  const judgement = reason === null ? passed(name, facts) : failed(name, reason, { message: "", ...facts });
  return { ...judgement, details };
}

export function judgeGolden(
  wanted: NonNullable<Verification["golden"]>,
  measured: GoldenMeasured,
): Judgement {
  const { samples, classification, comparison } = measured;
  const parts = [
    ...(classification === null ? [] : accuracyParts(wanted, classification)),
    ...(comparison === null ? [] : differenceParts(wanted, comparison, REASONS.OutputsDiffer)),
    ...(comparison === null || wanted.nonFinite !== "Never" ? [] : [finitePart(comparison)]),
  ];
  return together("Golden", parts, `${samples} golden samples`, measured);
}

function accuracyParts(wanted: NonNullable<Verification["golden"]>, found: Classification): readonly Part[] {
  const { samples, correct, correctTopK, topK, worst, output } = found;
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
      measured: `${name} ${decimalText(share)} (${count.correct} of ${count.samples})`,
      bound: `${name} ≥ ${decimalText(bound)}`,
      message: good ? "" : `${failure}, which is ${shareText(share, bound)}`,
      reason: good ? null : REASONS.AccuracyTooLow,
      worst: good ? null : example,
    };
  };
  const parts: Part[] = [];
  if (wanted.minimumAccuracy !== undefined) {
    const confused = confusedText(found);
    const mistakes =
      worst === null
        ? ""
        : `; the surest mistake is sample ${worst.index}: expected ${classText(found, worst.expected)}, got ${classText(found, worst.got)}; most often taken for each other: ${confused}`;
    const one = part(
      "accuracy",
      { samples, correct },
      numberOf(wanted.minimumAccuracy),
      `${correct} of ${samples} samples are classified rightly by output "${output}"`,
    );
    parts.push(one.message === "" ? one : { ...one, message: `${one.message}${mistakes}` });
  }
  if (wanted.minimumTopKAccuracy !== undefined)
    parts.push(
      part(
        `top-${topK} accuracy`,
        { samples, correct: correctTopK },
        numberOf(wanted.minimumTopKAccuracy),
        `of ${samples} samples, ${correctTopK} have their label among the ${topK} most probable classes`,
      ),
    );
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

function differenceParts(bounds: Bounds, found: Comparison, reason: Reason): readonly Part[] {
  const { maximumAbsoluteError: absolute, maximumRelativeError: relative } = bounds;
  const parts: Part[] = [];
  if (absolute !== undefined || relative !== undefined) {
    const sizes = [
      ...(absolute === undefined ? [] : [`maximum absolute error ${numberText(found.largestAbsolute)}`]),
      ...(relative === undefined ? [] : [`maximum relative error ${numberText(found.largestRelative)}`]),
    ];
    const limits = [
      ...(absolute === undefined ? [] : [`maximum absolute error ≤ ${decimalOf(absolute)}`]),
      ...(relative === undefined ? [] : [`maximum relative error ≤ ${decimalOf(relative)}`]),
    ];
    const { worst, beyond, elements } = found;
    const good = beyond === 0;
    parts.push({
      measured: sizes.join(", "),
      bound: limits.join(absolute !== undefined && relative !== undefined ? " plus " : ", "),
      message:
        good || worst === null
          ? ""
          : `${beyond} of ${elements} values are further off than allowed; the worst is in output "${worst.output}": sample ${worst.index}, element ${worst.element}: expected ${worst.expected}, got ${worst.got}`,
      reason: good ? null : reason,
      worst:
        worst === null
          ? null
          : {
              index: worst.index,
              where: `output "${worst.output}", element ${worst.element}`,
              expected: worst.expected,
              got: worst.got,
            },
    });
  }
  if (bounds.minimumCosineSimilarity !== undefined) {
    const least = numberOf(bounds.minimumCosineSimilarity);
    const lowest = found.lowestCosine;
    const cosine = lowest?.cosine ?? 1;
    const good = cosine >= least;
    parts.push({
      measured: `cosine similarity ${numberText(cosine)}`,
      bound: `cosine similarity ≥ ${decimalOf(bounds.minimumCosineSimilarity)}`,
      message:
        good || lowest === null
          ? ""
          : `sample ${lowest.index} of output "${lowest.output}" points elsewhere: cosine similarity ${numberText(cosine)}, less than ${decimalOf(bounds.minimumCosineSimilarity)}`,
      reason: good ? null : reason,
      worst:
        good || lowest === null
          ? null
          : {
              index: lowest.index,
              where: `output "${lowest.output}"`,
              expected: `cosine ≥ ${least}`,
              got: numberText(cosine),
            },
    });
  }
  return parts;
}

function finitePart({ nonFinite, elements }: Comparison): Part {
  const good = nonFinite === 0;
  return {
    measured: `${nonFinite} values that are NaN or infinite`,
    bound: "all values finite",
    message: good ? "" : `${nonFinite} of ${elements} values are NaN or infinite`,
    reason: good ? null : REASONS.NonFinite,
    worst: null,
  };
}

function decimalOf(written: number | string): string {
  return numberText(numberOf(written));
}

export function judgeDeterminism(
  wanted: NonNullable<Verification["determinism"]>,
  comparison: Comparison,
  input: string,
): Judgement {
  const bound = numberOf(wanted.maximumAbsoluteError ?? 0);
  const good = comparison.beyond === 0;
  const { worst } = comparison;
  const facts = {
    measured: `maximum difference ${numberText(comparison.largestAbsolute)}`,
    bound: bound === 0 ? "no difference" : `maximum difference ≤ ${numberText(bound)}`,
    method: input,
  };
  if (good || worst === null) return { ...passed("Determinism", facts), details: comparison };
  const example = {
    index: worst.index,
    where: `output "${worst.output}", element ${worst.element}`,
    expected: worst.expected,
    got: worst.got,
  };
  return {
    ...failed("Determinism", REASONS.NotDeterministic, {
      ...facts,
      worst: example,
      message: `the same input gave other outputs: run ${worst.index} answered ${worst.got} in output "${worst.output}", element ${worst.element}, the first run ${worst.expected}`,
    }),
    details: comparison,
  };
}

/** @param other what the model is compared with, by name. */
export function judgeParity(
  name: "Parity" | "VariantParity",
  wanted: Bounds & { readonly minimumAgreement?: NonNullable<Verification["parity"]>["minimumAgreement"] },
  measured: ParityMeasured,
  other: string,
): Judgement {
  const { agreement, comparison, input } = measured;
  if (wanted.minimumAgreement !== undefined && agreement === null)
    return failed(name, REASONS.NotComparable, {
      message:
        "minimumAgreement needs an output with one score for each class of each sample, in both models",
    });
  const parts = [
    ...(wanted.minimumAgreement === undefined || agreement === null
      ? []
      : [agreementPart(numberOf(wanted.minimumAgreement), agreement, other)]),
    ...differenceParts(wanted, comparison, REASONS.ParityTooLow),
  ];
  return together(name, parts, `${input}, compared with ${other}`, measured);
}

function agreementPart(bound: number, found: Classification, other: string): Part {
  const { samples, correct, worst } = found;
  const share = correct / samples;
  const good = share >= bound;
  return {
    measured: `agreement ${decimalText(share)} (${correct} of ${samples})`,
    bound: `agreement ≥ ${decimalText(bound)}`,
    message:
      good || worst === null
        ? ""
        : `for ${correct} of ${samples} samples it finds the same class as ${other}, which is ${shareText(share, bound)}; they differ most in sample ${worst.index}: ${classText(found, worst.expected)} there, ${classText(found, worst.got)} here`,
    reason: good ? null : REASONS.ParityTooLow,
    worst:
      good || worst === null
        ? null
        : {
            index: worst.index,
            where: found.output,
            expected: classText(found, worst.expected),
            got: classText(found, worst.got),
          },
  };
}

const PERCENTILES = ["p50", "p95", "p99"] as const;

/**
 * @param runs milliseconds of each measured run.
 * @param perSecond inferences that the release wants in a second: the full report then has the latencies of somebody
 * who asks at that rate.
 */
export function judgeLatency(
  wanted: NonNullable<Verification["latency"]>,
  runs: Float64Array,
  input: string,
  perSecond: number | null = null,
): Judgement {
  const timing = timingOf(runs);
  const details: { readonly timing: Timing; readonly atRate?: Timing & { readonly perSecond: number } } = {
    timing,
    ...(perSecond === null
      ? {}
      : { atRate: { perSecond, ...timingOf(atRate(runs, (1000 * wanted.batchSize) / perSecond)) } }),
  };
  const bounds = PERCENTILES.flatMap((name) => {
    const bound = wanted[name];
    return bound === undefined ? [] : [{ name, bound: millisOf(bound), ...timing[name] }];
  });
  const threads = `${wanted.threads} thread${wanted.threads === 1 ? "" : "s"}`;
  const facts = {
    measured: PERCENTILES.map((name) => `${name} ${latencyText(timing[name].value)}`).join(", "),
    bound: bounds.map(({ name, bound }) => `${name} ≤ ${latencyText(bound)}`).join(", "),
    method: `${timing.runs} runs after ${wanted.warmup} more, ${input}, ${threads}, no run left out (${timing.outliers} outliers)`,
  };
  const broken = bounds.filter(({ value, bound }) => !(value <= bound));
  const unsure = bounds.filter(({ low, high, bound }) => low <= bound && bound < high);
  if (broken.length === 0) {
    const message = unsure
      .map(
        ({ name, low, high }) =>
          `${name} is close to its bound: with 95 % confidence it lies between ${latencyText(low)} and ${latencyText(high)}`,
      )
      .join("; ");
    return { ...passed("Latency", message === "" ? facts : { ...facts, message }), details };
  }
  return {
    ...failed("Latency", REASONS.LatencyTooHigh, {
      ...facts,
      message: broken
        .map(
          ({ name, value, bound, low, high }) =>
            `${name.slice(1)} of 100 runs take up to ${latencyText(value)} on the verifier's CPU, more than ${latencyText(bound)} (95 % confidence: ${latencyText(low)} to ${latencyText(high)})`,
        )
        .join("; "),
      worst: {
        index: timing.most.run,
        expected: bounds.map(({ name, bound }) => `${name} ≤ ${latencyText(bound)}`).join(", "),
        got: latencyText(timing.most.value),
      },
    }),
    details,
  };
}

export function judgeThroughput(
  wanted: NonNullable<Verification["throughput"]>,
  measured: { readonly inferences: number; readonly milliseconds: number; readonly input: string },
  threads: number,
): Judgement {
  const { inferences, milliseconds, input } = measured;
  const bound = numberOf(wanted.minimumPerSecond);
  const rate = (inferences * 1000) / milliseconds;
  const facts = {
    measured: `${rateText(rate)} inferences/s`,
    bound: `≥ ${rateText(bound)} inferences/s`,
    method: `${inferences} inferences in ${latencyText(milliseconds)}, ${input}, ${threads} thread${threads === 1 ? "" : "s"}, one run after the other`,
  };
  const details = { ...measured, perSecond: rate };
  if (rate >= bound) return { ...passed("Throughput", facts), details };
  return {
    ...failed("Throughput", REASONS.ThroughputTooLow, {
      ...facts,
      message: `one second holds ${rateText(rate)} inferences on the verifier's CPU, less than ${rateText(bound)}`,
    }),
    details,
  };
}

function rateText(perSecond: number): string {
  return perSecond >= 100 ? String(Math.floor(perSecond)) : String(Number(perSecond.toPrecision(3)));
}

/** @param maximum bytes. */
export function judgeMemory(maximum: number, bytes: number | null, input: string): Judgement {
  const bound = `≤ ${mebibytesText(maximum)}`;
  const method = `highest resident memory while it was loaded and run (${input}), less that of the runtime alone`;
  if (bytes === null)
    return {
      result: { name: "Memory", outcome: "Skipped", bound, message: "this system does not tell" },
      reason: null,
    };
  const facts = { measured: mebibytesText(bytes), bound, method };
  const details = { bytes };
  if (bytes <= maximum) return { ...passed("Memory", facts), details };
  return {
    ...failed("Memory", REASONS.MemoryTooHigh, {
      ...facts,
      message: `the model needs ${mebibytesText(bytes)} of memory at its peak, more than ${mebibytesText(maximum)}`,
    }),
    details,
  };
}

/** One decimal, rounded up: what exceeds a bound must not look as if it did not. */
function mebibytesText(bytes: number): string {
  return `${Math.ceil((bytes / 2 ** 20) * 10) / 10} MiB`;
}
