import type { Verification } from "../../api/model-release.ts";
import { REASONS } from "../../api/reasons.ts";
import { numberOf } from "../../base/decimal.ts";
import { millisOf } from "../../base/time.ts";
import { atRate, latencyText, type Timing, timingOf } from "../score/timing.ts";
import { ask } from "./ask.ts";
import { type Asked, childOf, judged, type Run, type Step } from "./check.ts";
import { failed, type Judgement, passed } from "./judgement.ts";

// Latency: percentiles of the time that one run takes.

const PERCENTILES = ["p50", "p95", "p99"] as const;

export async function checkLatency(run: Run, wanted: Asked<"latency">): Promise<Step> {
  const { throughput } = run.request.checks;
  const { warmup, samples, batchSize } = wanted;
  const answered = await ask(run, childOf(run), "Latency", { kind: "latency", warmup, samples, batchSize });
  if (!answered.ok) return answered.error;
  const rate = throughput === undefined ? null : numberOf(throughput.minimumPerSecond);
  return judged(judgeLatency(wanted, answered.value.runs, answered.value.input, rate));
}

/**
 * @param runs milliseconds of each measured run.
 * @param perSecond inferences that the release wants in a second: the full report then has the latencies of a
 * caller that asks at that rate.
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
  const close = bounds.filter(({ low, high, bound }) => low <= bound && bound < high);
  if (broken.length === 0) {
    const message = close
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
