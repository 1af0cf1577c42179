import type { Verification } from "../../api/model-release.ts";
import { REASONS } from "../../api/reasons.ts";
import { numberOf } from "../../base/decimal.ts";
import { millisOf } from "../../base/time.ts";
import { latencyText } from "../score/timing.ts";
import { ask } from "./ask.ts";
import { type Asked, childOf, judged, type Run, type Step, threadsOf } from "./check.ts";
import { failed, type Judgement, passed } from "./judgement.ts";

// Throughput: inferences in a second, one run after the other.

export async function checkThroughput(run: Run, wanted: Asked<"throughput">): Promise<Step> {
  const answered = await ask(run, childOf(run), "Throughput", {
    kind: "throughput",
    milliseconds: millisOf(wanted.duration),
    batchSize: wanted.batchSize,
  });
  if (!answered.ok) return answered.error;
  return judged(judgeThroughput(wanted, answered.value, threadsOf(run.request)));
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
      message: `the model runs ${rateText(rate)} inferences per second on the verifier's CPU, fewer than ${rateText(bound)}`,
    }),
    details,
  };
}

function rateText(perSecond: number): string {
  return perSecond >= 100 ? String(Math.floor(perSecond)) : String(Number(perSecond.toPrecision(3)));
}
