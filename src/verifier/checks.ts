import type { CheckResult, Tensor, Verification } from "../api/model-release.ts";
import { REASONS, type Reason } from "../api/reasons.ts";
import { decimalText, numberOf } from "../base/decimal.ts";
import { millisOf } from "../base/time.ts";
import {
  elementCount,
  float16,
  isNumericType,
  numberAt,
  type Signature,
  type TensorInfo,
  type TensorValue,
  tensorText,
} from "./tensor.ts";

// What the checks find, from what was measured: pure.

export type CheckName = CheckResult["name"];

/** A check's result, and why the model is refused where it is. */
export type Judgement = { readonly result: CheckResult; readonly reason: Reason | null };

export type Bytes = { readonly what: string; readonly expected: string; readonly got: string };

/** A sample that was classified wrongly; the worst is the one that the model was surest about. */
export type Misclassified = { readonly index: number; readonly expected: number; readonly got: number };
export type Accuracy = {
  readonly output: string;
  readonly samples: number;
  readonly correct: number;
  readonly worst: (Misclassified & { readonly margin: number }) | null;
};
/** The largest difference; `index` counts samples, `element` within the sample. */
export type LargestError = {
  readonly error: number;
  readonly output: string;
  readonly index: number;
  readonly element: number;
  readonly expected: number;
  readonly got: number;
};
export type GoldenMeasured = {
  readonly accuracy: Accuracy | null;
  readonly largestError: LargestError | null;
};

const LONGEST_VALUE = 256;
const LONGEST_MESSAGE = 2048;

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
  return clean.length > longest ? `${clean.slice(0, longest - 1)}…` : clean;
}

function clipped(result: CheckResult): CheckResult {
  return {
    ...result,
    ...(result.measured === undefined ? {} : { measured: printable(result.measured, LONGEST_VALUE) }),
    ...(result.bound === undefined ? {} : { bound: printable(result.bound, LONGEST_VALUE) }),
    ...(result.message === undefined ? {} : { message: printable(result.message) }),
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

export function sideText(infos: readonly Pick<TensorInfo, "name" | "type" | "shape">[]): string {
  return infos.map((info) => `${info.name} ${tensorText(info)}`).join(", ");
}

/**
 * The first output that has one score for each class: after the axis of the samples, exactly one axis is longer than 1.
 * @param batchSize samples in this run; `stacked`: the outputs have no axis for them.
 */
export function scoresOutput(
  outputs: ReadonlyMap<string, TensorValue>,
  batchSize: number,
): { readonly output: string; readonly classes: number } | null {
  for (const [output, tensor] of outputs) {
    const long = tensor.shape.filter((size) => size !== 1);
    const total = elementCount(tensor.shape);
    const classes = total / batchSize;
    const along = tensor.shape[0] === batchSize && tensor.shape.slice(1).some((size) => size === classes);
    const alone = batchSize === 1 && long.length === 1;
    if (Number.isInteger(classes) && classes > 1 && (along || alone)) return { output, classes };
  }
  return null;
}

/** Adds one run: `scores` has `classes` numbers for each of `labels`; NaN is never the largest. */
export function countCorrect(had: Accuracy, scores: TensorValue, labels: readonly number[]): Accuracy {
  const classes = scores.data.length / labels.length;
  let { correct, worst } = had;
  for (const [row, expected] of labels.entries()) {
    const got = largestOf(scores, row * classes, classes);
    if (got === expected) {
      correct += 1;
      continue;
    }
    const start = row * classes;
    const certain = got < 0 ? Number.POSITIVE_INFINITY : numberAt(scores, start + got);
    const difference = certain - numberAt(scores, start + expected);
    const margin = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
    if (worst === null || margin > worst.margin) worst = { index: had.samples + row, expected, got, margin };
  }
  return { ...had, samples: had.samples + labels.length, correct, worst };
}

/** Place of the first largest number; -1 where all are NaN. */
function largestOf(tensor: TensorValue, start: number, count: number): number {
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

/**
 * Adds one run of one output. NaN where NaN is expected and infinity where the same infinity is expected are equal;
 * where only one of the two is not finite, the error is infinite.
 * @param from number of the run's first sample.
 */
export function widenError(
  had: LargestError | null,
  output: string,
  pair: { readonly expected: TensorValue; readonly got: TensorValue },
  from: number,
): LargestError {
  const { expected, got } = pair;
  const perSample = expected.data.length / Math.max(1, expected.shape[0] ?? 1);
  let largest = had ?? { error: 0, output, index: from, element: 0, expected: 0, got: 0 };
  for (let place = 0; place < expected.data.length; place += 1) {
    const error = errorAt(expected, got, place);
    if (error <= largest.error) continue;
    largest = {
      error,
      output,
      index: from + Math.floor(place / perSample),
      element: place % perSample,
      expected: numberAt(expected, place),
      got: numberAt(got, place),
    };
  }
  return largest;
}

function errorAt(expected: TensorValue, got: TensorValue, place: number): number {
  const a = expected.data[place];
  const b = got.data[place];
  if (typeof a === "bigint" && typeof b === "bigint") return Number(a > b ? a - b : b - a);
  const wanted = expected.type === "float16" ? float16(Number(a)) : Number(a);
  const has = got.type === "float16" ? float16(Number(b)) : Number(b);
  if (Object.is(wanted, has) || wanted === has) return 0;
  const error = Math.abs(wanted - has);
  return Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
}

type GoldenBounds = Pick<NonNullable<Verification["golden"]>, "minimumAccuracy" | "maximumAbsoluteError">;

export function judgeGolden(bounds: GoldenBounds, measured: GoldenMeasured): Judgement {
  const found = [
    bounds.minimumAccuracy === undefined || measured.accuracy === null
      ? null
      : judgeAccuracy(numberOf(bounds.minimumAccuracy), measured.accuracy),
    bounds.maximumAbsoluteError === undefined || measured.largestError === null
      ? null
      : judgeError(numberOf(bounds.maximumAbsoluteError), measured.largestError),
  ].filter((one) => one !== null);
  const facts = {
    measured: found.map((one) => one.measured).join(", "),
    bound: found.map((one) => one.bound).join(", "),
  };
  const refused = found.filter((one) => one.reason !== null);
  const message = found
    .map((one) => one.message)
    .filter((text) => text !== "")
    .join("; ");
  const reason = refused[0]?.reason ?? null;
  if (reason !== null) return failed("Golden", reason, { ...facts, message });
  return passed("Golden", message === "" ? facts : { ...facts, message });
}

type Half = {
  readonly measured: string;
  readonly bound: string;
  readonly message: string;
  readonly reason: Reason | null;
};

function judgeAccuracy(bound: number, { samples, correct, worst, output }: Accuracy): Half {
  const share = correct / samples;
  const good = share >= bound;
  const example =
    worst === null
      ? ""
      : `; the surest mistake is sample ${worst.index}: expected class ${worst.expected}, got ${worst.got < 0 ? "only NaN" : worst.got}`;
  return {
    measured: `accuracy ${decimalText(share)} (${correct} of ${samples})`,
    bound: `accuracy ≥ ${decimalText(bound)}`,
    message: good
      ? ""
      : `${correct} of ${samples} samples are classified rightly by output "${output}", which is ${shareText(share, bound)}${example}`,
    reason: good ? null : REASONS.AccuracyTooLow,
  };
}

/** Two shares that differ must not look the same. */
function shareText(share: number, bound: number): string {
  const [a, b] = [decimalText(share), decimalText(bound)];
  return a === b ? `${share}, less than ${bound}` : `${a}, less than ${b}`;
}

function judgeError(bound: number, largest: LargestError): Half {
  const good = largest.error <= bound;
  const { output, index, element, expected, got } = largest;
  return {
    measured: `maximum absolute error ${numberText(largest.error)}`,
    bound: `maximum absolute error ≤ ${numberText(bound)}`,
    message: good
      ? ""
      : `output "${output}" differs by up to ${numberText(largest.error)}, more than ${numberText(bound)}: sample ${index}, element ${element}: expected ${numberText(expected)}, got ${numberText(got)}`,
    reason: good ? null : REASONS.OutputsDiffer,
  };
}

function numberText(value: number): string {
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)));
}

const PERCENTILES = [
  { name: "p50", share: 0.5 },
  { name: "p95", share: 0.95 },
  { name: "p99", share: 0.99 },
] as const;

/** @param runs milliseconds of each measured run. */
export function judgeLatency(
  wanted: NonNullable<Verification["latency"]>,
  runs: ArrayLike<number>,
  input: string,
): Judgement {
  const sorted = Float64Array.from(runs).sort();
  const bounds = PERCENTILES.flatMap(({ name, share }) => {
    const bound = wanted[name];
    return bound === undefined
      ? []
      : [{ name, bound: millisOf(bound), measured: nearestRank(sorted, share) }];
  });
  const measured = PERCENTILES.map(({ name, share }) => `${name} ${latencyText(nearestRank(sorted, share))}`);
  const threads = `${wanted.threads} thread${wanted.threads === 1 ? "" : "s"}`;
  const facts = {
    measured: `${measured.join(", ")} (${sorted.length} runs, ${input}, ${threads})`,
    bound: bounds.map(({ name, bound }) => `${name} ≤ ${latencyText(bound)}`).join(", "),
  };
  const broken = bounds.filter(({ measured: value, bound }) => !(value <= bound));
  if (broken.length === 0) return passed("Latency", facts);
  return failed("Latency", REASONS.LatencyTooHigh, {
    ...facts,
    message: broken
      .map(
        ({ name, measured: value, bound }) =>
          `${name.slice(1)} of 100 runs take up to ${latencyText(value)} on the verifier's CPU, more than ${latencyText(bound)}`,
      )
      .join("; "),
  });
}

/** The smallest value that at least `share` of all values do not exceed; NaN where there are none. */
export function nearestRank(sorted: ArrayLike<number>, share: number): number {
  const rank = Math.max(1, Math.ceil(share * sorted.length));
  return sorted[rank - 1] ?? Number.NaN;
}

function latencyText(milliseconds: number): string {
  return `${Number(milliseconds.toPrecision(3))} ms`;
}

/** Outputs that ONNX Runtime for Node can hand out; asking it for others fails, and 4-bit integers abort the process. */
export function fetchableOutputs(model: Signature): readonly string[] {
  return model.outputs
    .filter(({ type }) => isNumericType(type) || type === "string")
    .map((output) => output.name);
}
