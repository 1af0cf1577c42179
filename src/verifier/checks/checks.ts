import type { Tensor, Verification } from "../../api/model-release.ts";
import { REASONS } from "../../api/reasons.ts";
import { numberOf } from "../../base/decimal.ts";
import { millisOf } from "../../base/time.ts";
import { type Signature, sideText, type TensorInfo, tensorText } from "../onnx/tensor.ts";
import { type Comparison, numberText } from "../score/comparison.ts";
import { atRate, latencyText, type Timing, timingOf } from "../score/timing.ts";
import { exampleOf } from "./differences.ts";
import { failed, type Judgement, passed } from "./judgement.ts";

// What the checks find, from what was measured: pure.

export type Bytes = { readonly what: string; readonly expected: string; readonly got: string };

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
  if (ours.length !== theirs.length || !ours.every((name) => theirs.includes(name)))
    return `the inputs differ: it takes ${ours.join(", ")}, the other one ${theirs.join(", ")}`;
  const differing = model.inputs.flatMap((input) => {
    const same = other.inputs.find(({ name }) => name === input.name) ?? input;
    return takesTheSame(input, same) ? [] : [`${sideText([input])} here, ${sideText([same])} there`];
  });
  return differing.length === 0 ? null : `the inputs differ: ${differing.join("; ")}`;
}

/** Whether something can be of both types and shapes: a free axis may have any size. */
function takesTheSame(one: TensorInfo, other: TensorInfo): boolean {
  const isFree = (axis: number | string | undefined) => typeof axis === "string";
  return (
    one.type === other.type &&
    one.shape.length === other.shape.length &&
    one.shape.every(
      (axis, index) => isFree(axis) || isFree(other.shape[index]) || axis === other.shape[index],
    )
  );
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
  const example = exampleOf(worst);
  return {
    ...failed("Determinism", REASONS.NotDeterministic, {
      ...facts,
      worst: example,
      message: `the same input gave other outputs: run ${worst.index} answered ${worst.got} in output "${worst.output}", element ${worst.place}, the first run ${worst.expected}`,
    }),
    details: comparison,
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
