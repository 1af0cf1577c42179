import type { InferenceReport } from "../api/device-contract.ts";
import {
  type AnalysisResult,
  type Metric,
  OBJECTIVE_DEFAULTS,
  type Objective,
} from "../api/inference-deployment.ts";
import { type Decimal, decimalText, numberOf } from "../base/decimal.ts";
import { unreachable } from "../base/result.ts";
import { elapsed, type Instant, parseTimestamp, timestampOf } from "../base/time.ts";

// From what devices measured to a verdict. No evidence is Inconclusive: never Pass and never Fail.

export type Sample = {
  readonly device: string;
  readonly stratum: string;
  readonly window: NonNullable<InferenceReport["window"]>;
};
export type Verdict = AnalysisResult["verdict"];

export type Judgement = {
  readonly results: readonly AnalysisResult[];
  /** Fail if one fails; Pass only if every objective passes or is skipped, or if there are none. */
  readonly overall: Exclude<Verdict, "Skipped">;
  /** What stands in the way of Pass, for people; empty when nothing does. */
  readonly message: string;
};

export type Evidence = {
  readonly now: Instant;
  /** How many devices are exposed: a minimum of devices is never more than these. */
  readonly exposed: number;
  /** Fresh windows of exposed devices that ran the candidate. */
  readonly cohort: readonly Sample[];
  /** Fresh windows of devices of the same strata that ran stable. */
  readonly control: readonly Sample[];
  /** Results of the look before: a confirmation takes time, which is remembered there. */
  readonly before: readonly AnalysisResult[];
};

/** A window counts for this many of its own lengths. */
const FRESH_WINDOWS = 3;

export function judge(objectives: readonly Objective[], evidence: Evidence): Judgement {
  const results = objectives.map((objective) => judgeObjective(objective, evidence));
  const worst = (verdict: Verdict): AnalysisResult | undefined =>
    results.find((result) => result.verdict === verdict);
  for (const verdict of ["Fail", "Warn", "Error", "Inconclusive"] as const) {
    const found = worst(verdict);
    if (found !== undefined) return { results, overall: verdict, message: found.message ?? verdict };
  }
  return { results, overall: "Pass", message: "" };
}

/** A window that ended too long ago says nothing about now. Device clocks that run ahead count as now. */
export function isFresh(window: Sample["window"], now: Instant): boolean {
  const ended = endOf(window, now);
  return ended !== null && elapsed(ended, now) <= FRESH_WINDOWS * lengthOf(window);
}

export function judgeObjective(objective: Objective, evidence: Evidence): AnalysisResult {
  const cohort = evidence.cohort.filter(({ window }) => window.inferences !== 0);
  const control = evidence.control.filter(({ window }) => window.inferences !== 0 && isPlausible(window));
  const samples = inferencesOf(cohort);
  const before = evidence.before.find(({ metric }) => metric === objective.metric);
  const had = before?.breachedSince === undefined ? null : parseTimestamp(before.breachedSince);
  const facts = {
    metric: objective.metric,
    devices: cohort.length,
    samples: Number.isFinite(samples) ? samples : 0,
  };

  const liar = cohort.find(({ window }) => !isPlausible(window));
  if (liar !== undefined) {
    return {
      ...facts,
      samples: 0,
      verdict: "Error",
      message: `${objective.metric}: ${liar.device} reports values that cannot be (not finite, negative, or more errors than inferences)`,
    };
  }
  const needed = Math.min(
    objective.minimumDevices ?? OBJECTIVE_DEFAULTS.minimumDevices,
    Math.max(1, evidence.exposed),
  );
  const inferences = objective.minimumInferences ?? OBJECTIVE_DEFAULTS.minimumInferences;
  if (cohort.length < needed || samples < inferences) {
    return {
      ...facts,
      verdict: "Inconclusive",
      message: `${objective.metric}: ${cohort.length} of ${needed} devices and ${samples} of ${inferences} inferences reported with the candidate`,
      ...(had === null || before?.bound === undefined
        ? {}
        : { bound: before.bound, breachedSince: timestampOf(had) }),
    };
  }

  const value = measure(objective.metric, objective.direction, cohort);
  const reference = control.length === 0 ? null : measure(objective.metric, objective.direction, control);
  const measured = {
    ...facts,
    value: decimalText(value),
    ...(reference === null ? {} : { control: decimalText(reference) }),
  };
  const from = `over ${cohort.length === 1 ? "1 device" : `${cohort.length} devices`} and ${samples} inferences`;
  const says = (than: string): string => `${objective.metric} is ${decimalText(value)}, ${than}, ${from}`;
  const beyond = objective.direction === "AtLeast" ? "below" : "above";

  if (objective.critical !== undefined && isPast(objective, value, numberOf(objective.critical))) {
    const bound = `critical ${objective.critical}`;
    return {
      ...measured,
      verdict: "Fail",
      bound,
      message: says(`${beyond} the critical bound ${objective.critical}`),
    };
  }

  const ratio = judgeRatio(objective, value, reference, control);
  const breach = ratio.breach ?? warningBreach(objective, value, beyond);
  if (breach !== null) {
    // Another bound than before is another breach, and waits anew for its confirmation.
    const since = had !== null && before?.bound === breach.bound ? had : evidence.now;
    const confirmed = isConfirmed(objective, since, cohort, evidence.now);
    const message = says(breach.than);
    return {
      ...measured,
      verdict: confirmed ? breach.verdict : "Inconclusive",
      bound: breach.bound,
      breachedSince: timestampOf(since),
      message: confirmed ? message : `${message}; ${windowsOf(objective)} windows in a row confirm it`,
    };
  }

  const bound = boundText(objective);
  const absolute = objective.critical !== undefined || objective.warning !== undefined;
  if (!absolute && ratio.skipped !== null) {
    return { ...measured, verdict: "Skipped", bound, message: `${objective.metric}: ${ratio.skipped}` };
  }
  return {
    ...measured,
    verdict: "Pass",
    bound,
    message:
      ratio.skipped === null ? says("within its bounds") : `${says("within its bounds")}; ${ratio.skipped}`,
  };
}

type Breach = { readonly verdict: "Fail" | "Warn"; readonly bound: string; readonly than: string };

function judgeRatio(
  objective: Objective,
  value: number,
  reference: number | null,
  control: readonly Sample[],
): { readonly breach: Breach | null; readonly skipped: string | null } {
  if (objective.maximumRatioToStable === undefined) return { breach: null, skipped: null };
  if (reference === null)
    return { breach: null, skipped: "the ratio to stable is skipped, no device runs stable beside it" };
  const factor = numberOf(objective.maximumRatioToStable);
  // A control without a single error is as good as its number of inferences can prove, not infinitely good.
  const floor = objective.metric === "errorRate" ? 1 / Math.max(1, inferencesOf(control)) : 0;
  const compared = Math.max(reference, floor);
  if (compared <= 0) return { breach: null, skipped: "the ratio to stable is skipped, stable measures 0" };
  const limit = objective.direction === "AtLeast" ? compared / factor : compared * factor;
  if (!isPast(objective, value, limit)) return { breach: null, skipped: null };
  const times = objective.direction === "AtLeast" ? compared / value : value / compared;
  const worse = Number.isFinite(times) ? `${decimalText(times)} times worse than` : "nothing beside";
  return {
    breach: {
      verdict: "Fail",
      bound: `${objective.maximumRatioToStable} x stable`,
      than: `${worse} the ${decimalText(reference)} of the ${control.length === 1 ? "1 device" : `${control.length} devices`} on stable (at most ${objective.maximumRatioToStable} times is allowed)`,
    },
    skipped: null,
  };
}

function warningBreach(objective: Objective, value: number, beyond: string): Breach | null {
  const { warning } = objective;
  if (warning === undefined || !isPast(objective, value, numberOf(warning))) return null;
  return { verdict: "Warn", bound: `warning ${warning}`, than: `${beyond} the warning bound ${warning}` };
}

/** Enough time for so many windows, and a window that ended after the breach was first seen. */
function isConfirmed(objective: Objective, since: Instant, cohort: readonly Sample[], now: Instant): boolean {
  const windows = windowsOf(objective);
  if (windows <= 1) return true;
  const length = Math.max(...cohort.map(({ window }) => lengthOf(window)));
  if (elapsed(since, now) < (windows - 1) * length) return false;
  return cohort.some(({ window }) => (endOf(window, now) ?? since) > since);
}

/** How long an unconfirmed breach still has to wait, in milliseconds; `null` where there is none. */
export function confirmationDue(
  objectives: readonly Objective[],
  results: readonly AnalysisResult[],
  windowLength: number,
  now: Instant,
): number | null {
  const waits = results.flatMap((result) => {
    const objective = objectives.find(({ metric }) => metric === result.metric);
    const since = result.breachedSince === undefined ? null : parseTimestamp(result.breachedSince);
    if (objective === undefined || since === null || result.verdict !== "Inconclusive") return [];
    return [Math.max(0, (windowsOf(objective) - 1) * windowLength - elapsed(since, now))];
  });
  return waits.length === 0 ? null : Math.min(...waits);
}

/**
 * One value for a metric. A rate is weighted by inferences; percentiles (and frames per second) cannot be averaged, so
 * they are the median device of each stratum, weighted by inferences, and then the worst stratum.
 */
export function measure(
  metric: Metric,
  direction: Objective["direction"],
  samples: readonly Sample[],
): number {
  if (metric === "errorRate") {
    return samples.reduce((sum, { window }) => sum + window.errors, 0) / inferencesOf(samples);
  }
  const strata = new Map<string, Sample[]>();
  for (const sample of samples) {
    const stratum = strata.get(sample.stratum) ?? [];
    stratum.push(sample);
    strata.set(sample.stratum, stratum);
  }
  const medians = [...strata.values()].map((stratum) =>
    weightedMedian(
      stratum.map(({ window }) => ({ value: valueIn(metric, window), weight: window.inferences })),
      direction,
    ),
  );
  return direction === "AtLeast" ? Math.min(...medians) : Math.max(...medians);
}

type Weighted = { readonly value: number; readonly weight: number };

/** Where the weight is split evenly between two values, the worse one. */
function weightedMedian(values: readonly Weighted[], direction: Objective["direction"]): number {
  // From worst to best: the first value at which half of the weight is reached.
  const sorted = [...values].sort((a, b) =>
    direction === "AtLeast" ? a.value - b.value : b.value - a.value,
  );
  const half = sorted.reduce((sum, { weight }) => sum + weight, 0) / 2;
  let reached = 0;
  for (const { value, weight } of sorted) {
    reached += weight;
    if (reached >= half) return value;
  }
  return Number.NaN;
}

function valueIn(metric: Exclude<Metric, "errorRate">, window: Sample["window"]): number {
  switch (metric) {
    case "latencyP50Milliseconds":
      return window.latencyMilliseconds.p50;
    case "latencyP95Milliseconds":
      return window.latencyMilliseconds.p95;
    case "latencyP99Milliseconds":
      return window.latencyMilliseconds.p99;
    case "framesPerSecond":
      return window.framesPerSecond;
    default:
      return unreachable(metric);
  }
}

function windowsOf(objective: Objective): number {
  return objective.consecutive ?? OBJECTIVE_DEFAULTS.consecutive;
}

function isPast(objective: Objective, value: number, bound: number): boolean {
  return objective.direction === "AtLeast" ? value < bound : value > bound;
}

function isPlausible(window: Sample["window"]): boolean {
  const { inferences, errors, framesPerSecond, latencyMilliseconds } = window;
  const numbers: readonly unknown[] = [
    inferences,
    errors,
    framesPerSecond,
    latencyMilliseconds?.p50,
    latencyMilliseconds?.p95,
    latencyMilliseconds?.p99,
  ];
  return (
    numbers.every((number) => typeof number === "number" && Number.isFinite(number) && number >= 0) &&
    errors <= inferences
  );
}

function inferencesOf(samples: readonly Sample[]): number {
  return samples.reduce((sum, { window }) => sum + window.inferences, 0);
}

function boundText({ critical, warning, maximumRatioToStable }: Objective): string {
  const parts: readonly (readonly [string, Decimal | undefined])[] = [
    ["warning", warning],
    ["critical", critical],
  ];
  return [
    ...parts.flatMap(([name, bound]) => (bound === undefined ? [] : [`${name} ${bound}`])),
    ...(maximumRatioToStable === undefined ? [] : [`${maximumRatioToStable} x stable`]),
  ].join(", ");
}

function lengthOf(window: Sample["window"]): number {
  return Number.isFinite(window.seconds) && window.seconds > 0 ? window.seconds * 1000 : 60_000;
}

function endOf(window: Sample["window"], now: Instant): Instant | null {
  const ended = parseTimestamp(window.endedAt);
  return ended === null ? null : (Math.min(ended, now) as Instant);
}
