import {
  type AnalysisResult,
  DIRECTIONS,
  type Direction,
  type Metric,
  OBJECTIVE_DEFAULTS,
  type Objective,
} from "../../api/inference-deployment.ts";
import { type Decimal, decimalText, numberOf } from "../../base/decimal.ts";
import { unreachable } from "../../base/result.ts";
import {
  elapsed,
  type Instant,
  type Millis,
  millis,
  minutes,
  parseTimestamp,
  timestampOf,
} from "../../base/time.ts";
import { devices } from "../text.ts";
import { type Collected, lengthOf, type Sample } from "./evidence.ts";

// From what devices measured to a verdict. No evidence is Inconclusive: never Pass and never Fail.

export type Verdict = AnalysisResult["verdict"];

export type Judgement = {
  readonly results: readonly AnalysisResult[];
  /** Fail if one fails; Pass only if every objective passes or is skipped, or if there are none. */
  readonly overall: Exclude<Verdict, "Skipped">;
  /** Why the verdict is not Pass, human-readable; empty where it is. */
  readonly message: string;
  /** How many of the exposed devices that say they run the candidate have fresh windows in which they inferred something. */
  readonly coverage: {
    readonly running: number;
    readonly covered: number;
    /** How many were left out, because what they report cannot be true. */
    readonly implausible: number;
  };
  /** Names of devices that were left out: sorted, at most ten. */
  readonly implausible: readonly string[];
  /** The median length of the cohort's windows: a confirmation takes as many of it as it wants windows. */
  readonly windowLength: Millis;
};

export type Evidence = Collected & {
  readonly now: Instant;
  /** How many devices are exposed: a minimum of devices is never more than these. */
  readonly exposed: number;
  /** Results of the look before: a confirmation takes time, which is remembered there. */
  readonly before: readonly AnalysisResult[];
};

/** A device never counts for more than so many times the median device of its cohort. */
const HEAVIEST = 3;
const NAMED = 10;
/** Names in a sentence; the judgement has more. */
const LISTED = 3;

export function judge(objectives: readonly Objective[], evidence: Evidence): Judgement {
  const results = objectives.map((objective) => judgeObjective(objective, evidence));
  const { running, covering, implausible } = evidence;
  const judged = {
    results,
    coverage: { running, covered: covering.size, implausible: implausible.length },
    implausible: implausible
      .map(({ device }) => device)
      .sort()
      .slice(0, NAMED),
    windowLength: windowLengthOf(evidence.cohort),
  };
  for (const verdict of ["Fail", "Warn", "Inconclusive"] as const) {
    const found = results.find((result) => result.verdict === verdict);
    if (found !== undefined) return { ...judged, overall: verdict, message: found.message ?? verdict };
  }
  // Without objectives too: no device can be believed, so nothing has passed.
  if (implausible.length > 0 && evidence.cohort.length === 0) {
    const message = `all devices that report the candidate are implausible; ${leftOutText(evidence)}`;
    return { ...judged, overall: "Inconclusive", message };
  }
  return { ...judged, overall: "Pass", message: "" };
}

export function judgeObjective(objective: Objective, evidence: Evidence): AnalysisResult {
  const cohort = evidence.cohort.filter((sample) => hasValue(objective.metric, sample));
  const samples = inferencesOf(cohort);
  const before = evidence.before.find(({ metric }) => metric === objective.metric);
  const had = before?.breachedSince === undefined ? null : parseTimestamp(before.breachedSince);
  const facts = { metric: objective.metric, devices: cohort.length, samples };
  const resultOf = (result: Omit<AnalysisResult, keyof typeof facts | "message">, message: string) => ({
    ...facts,
    ...result,
    message: [message, idleText(evidence), leftOutText(evidence)]
      .filter((part) => part !== "")
      .join("; ")
      .slice(0, 1000),
  });

  // A minimum is held against what there can be: a device that is left out does not stop the others.
  const reachable = evidence.exposed - evidence.implausible.length;
  const missing = missingText(objective, cohort.length, samples, reachable);
  const isMeasured = missing === null || (isWorkRate(objective.metric) && missing.kind === "inferences");
  if (!isMeasured) {
    const waits =
      had === null || before?.bound === undefined
        ? {}
        : { bound: before.bound, breachedSince: timestampOf(had) };
    return resultOf({ verdict: "Inconclusive", ...waits }, missing.message);
  }

  const value = measure(objective.metric, cohort);
  const control = evidence.control.filter((sample) => hasValue(objective.metric, sample));
  const reference = control.length === 0 ? null : measure(objective.metric, control);
  const measured = {
    value: decimalText(value),
    ...(reference === null ? {} : { control: decimalText(reference) }),
  };
  const from = `over ${devices(cohort.length)} and ${samples} inferences`;
  const says = (than: string): string => `${objective.metric} is ${decimalText(value)}, ${than}, ${from}`;

  if (objective.critical !== undefined && isPast(objective, value, numberOf(objective.critical))) {
    const bound = `critical ${objective.critical}`;
    return resultOf(
      { ...measured, verdict: "Fail", bound },
      says(`${beyond(objective)} the critical bound ${objective.critical}`),
    );
  }

  const ratio = judgeRatio(objective, value, reference, control);
  const breach = ratio.breach ?? warningBreach(objective, value);
  if (breach !== null) {
    // Another bound than before is another breach, and waits again for its confirmation.
    const since = had !== null && before?.bound === breach.bound ? had : evidence.now;
    const confirmed = isConfirmed(objective, since, cohort, evidence.now);
    return resultOf(
      {
        ...measured,
        verdict: confirmed ? breach.verdict : "Inconclusive",
        bound: breach.bound,
        breachedSince: timestampOf(since),
      },
      confirmed
        ? says(breach.than)
        : `${says(breach.than)}; not confirmed yet, which requires ${windowsOf(objective)} consecutive windows`,
    );
  }

  const bound = boundText(objective);
  if (missing !== null) return resultOf({ ...measured, verdict: "Inconclusive", bound }, missing.message);
  const absolute = objective.critical !== undefined || objective.warning !== undefined;
  if (!absolute && ratio.skipped !== null)
    return resultOf({ ...measured, verdict: "Skipped", bound }, `${objective.metric}: ${ratio.skipped}`);
  const within = says("within its bounds");
  return resultOf(
    { ...measured, verdict: "Pass", bound },
    ratio.skipped === null ? within : `${within}; ${ratio.skipped}`,
  );
}

/** Work in a time has a value where nothing was done; a share of inferences, or how long they took, has none. */
function isWorkRate(metric: Metric): boolean {
  return metric === "framesPerSecond";
}

function hasValue(metric: Metric, { window }: Sample): boolean {
  return isWorkRate(metric) || window.inferences > 0;
}

/** What a verdict still needs; `null`: nothing. */
function missingText(
  objective: Objective,
  reported: number,
  samples: number,
  reachable: number,
): { readonly kind: "devices" | "inferences"; readonly message: string } | null {
  const needed = Math.min(
    objective.minimumDevices ?? OBJECTIVE_DEFAULTS.minimumDevices,
    Math.max(1, reachable),
  );
  const inferences = objective.minimumInferences ?? OBJECTIVE_DEFAULTS.minimumInferences;
  if (reported >= needed && samples >= inferences) return null;
  return {
    kind: reported < needed ? "devices" : "inferences",
    message: `${objective.metric} requires ${devices(needed)} and ${inferences} inferences with the candidate; ${devices(reported)} with ${samples} inferences have reported`,
  };
}

function idleText({ cohort }: Evidence): string {
  const idle = cohort.filter(({ window }) => window.inferences === 0).map(({ device }) => device);
  return idle.length === 0 ? "" : `${devices(idle.length)} without inferences: ${namesText(idle)}`;
}

function leftOutText({ implausible }: Evidence): string {
  if (implausible.length === 0) return "";
  const named = implausible.map(({ device, why }) => `${device} (${why})`);
  return `${devices(implausible.length)} excluded because of implausible reports: ${namesText(named)}`;
}

function namesText(names: readonly string[]): string {
  const first = [...names].sort().slice(0, LISTED).join(", ");
  return names.length > LISTED ? `${first} and ${names.length - LISTED} more` : first;
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
    return {
      breach: null,
      skipped: "the ratio to stable is skipped, because no device runs the stable release",
    };
  const factor = numberOf(objective.maximumRatioToStable);
  // A control without a single error is as good as its number of inferences can prove, not infinitely good.
  const floor = objective.metric === "errorRate" ? 1 / Math.max(1, inferencesOf(control)) : 0;
  const compared = Math.max(reference, floor);
  if (compared <= 0)
    return { breach: null, skipped: "the ratio to stable is skipped, because the value of stable is 0" };
  const limit = isAtLeast(objective) ? compared / factor : compared * factor;
  if (!isPast(objective, value, limit)) return { breach: null, skipped: null };
  const times = isAtLeast(objective) ? compared / value : value / compared;
  const worse = Number.isFinite(times) ? `${decimalText(times)} times worse than` : "far worse than";
  return {
    breach: {
      verdict: "Fail",
      bound: `${objective.maximumRatioToStable} x stable`,
      than: `${worse} the ${decimalText(reference)} of the ${devices(control.length)} on stable (at most ${objective.maximumRatioToStable} times is allowed)`,
    },
    skipped: null,
  };
}

function warningBreach(objective: Objective, value: number): Breach | null {
  const { warning } = objective;
  if (warning === undefined || !isPast(objective, value, numberOf(warning))) return null;
  return {
    verdict: "Warn",
    bound: `warning ${warning}`,
    than: `${beyond(objective)} the warning bound ${warning}`,
  };
}

/** Enough time for so many windows, and most of the devices have a window that ended after the breach was first seen. */
function isConfirmed(objective: Objective, since: Instant, cohort: readonly Sample[], now: Instant): boolean {
  const windows = windowsOf(objective);
  if (windows <= 1) return true;
  if (elapsed(since, now) < (windows - 1) * windowLengthOf(cohort)) return false;
  return lowerMedian(cohort.map(({ endedAt }) => endedAt)) > since;
}

function windowLengthOf(cohort: readonly Sample[]): Millis {
  if (cohort.length === 0) return minutes(1);
  return millis(lowerMedian(cohort.map(({ window }) => lengthOf(window))));
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
 * One value for a metric. A rate of errors is weighted by inferences; percentiles cannot be averaged, so they are the
 * median device of each stratum, weighted by inferences, and then the worst stratum. Frames per second are the same
 * without weights: a device that does less is no less a device.
 */
export function measure(metric: Metric, samples: readonly Sample[]): number {
  const weighted = weigh(samples);
  if (metric === "errorRate") {
    const errors = weighted.reduce(
      (sum, { window, weight }) => sum + weight * (window.errors / Math.max(1, window.inferences)),
      0,
    );
    return errors / weighted.reduce((sum, { weight }) => sum + weight, 0);
  }
  const strata = new Map<string, Weighted[]>();
  for (const { stratum, window, weight } of weighted) {
    const values = strata.get(stratum) ?? [];
    values.push({ value: valueIn(metric, window), weight: isWorkRate(metric) ? 1 : weight });
    strata.set(stratum, values);
  }
  const medians = [...strata.values()].map((values) => weightedMedian(values, DIRECTIONS[metric]));
  return DIRECTIONS[metric] === "AtLeast" ? Math.min(...medians) : Math.max(...medians);
}

/** Inferences of each device, as far as they count: one device is not the fleet. */
function weigh(samples: readonly Sample[]): readonly (Sample & { readonly weight: number })[] {
  const counts = samples.map(({ window }) => window.inferences).filter((count) => count > 0);
  const most = counts.length === 0 ? 0 : HEAVIEST * lowerMedian(counts);
  return samples.map((sample) => ({ ...sample, weight: Math.min(most, sample.window.inferences) }));
}

function inferencesOf(samples: readonly Sample[]): number {
  return weigh(samples).reduce((sum, { weight }) => sum + weight, 0);
}

/** The smaller of the two in the middle: with an even number of devices no single one can raise it without end. */
function lowerMedian(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? Number.NaN;
}

type Weighted = { readonly value: number; readonly weight: number };

/** Where the weight is split evenly between two values, the worse one. */
function weightedMedian(values: readonly Weighted[], direction: Direction): number {
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

/** The metric says which values are bad; the API server refuses a direction that says otherwise. */
function isAtLeast({ metric }: Objective): boolean {
  return DIRECTIONS[metric] === "AtLeast";
}

function beyond(objective: Objective): string {
  return isAtLeast(objective) ? "below" : "above";
}

function isPast(objective: Objective, value: number, bound: number): boolean {
  return isAtLeast(objective) ? value < bound : value > bound;
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
