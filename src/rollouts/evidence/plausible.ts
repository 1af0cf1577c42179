import type { InferenceReport } from "../../api/device-contract.ts";
import { decimalText } from "../../base/decimal.ts";
import {
  durationText,
  type Instant,
  type Millis,
  millis,
  minutes,
  parseTimestamp,
  seconds,
  TIMESTAMP_FORM,
  timestampOf,
} from "../../base/time.ts";
import type { Member } from "../seen.ts";

// Which reports are plausible. A device may be slow, idle, offline, or behind with its clock, and its report is still
// evidence; a report that contradicts itself, time or arithmetic is none.

type Window = NonNullable<InferenceReport["window"]>;

/** How far a device's clock may run ahead of ours, and a report be dated after itself. */
export const CLOCK_SKEW = minutes(5);
/** More inferences (or frames) in a second than any device makes; today's fastest make some thousands. */
export const MOST_PER_SECOND = 100_000;
/** A device that was offline for longer reports what happened meanwhile in more than one window. */
export const LONGEST_WINDOW = minutes(24 * 60);
/** No inference takes longer. */
export const LONGEST_LATENCY = minutes(60);
/** A window of what runs is older than this only where the device's clock or its report is wrong. */
export const OLDEST_WINDOW = minutes(30 * 24 * 60);
/** Windows and times of start are rounded, and clocks are set while they are measured. */
const SLACK = minutes(1);

export type Circumstances = {
  /** When the report was heard, by our clock. */
  readonly heardAt: Instant;
  /** The window that the device reported before this one; `null`: none is known. */
  readonly previous: Window | null;
};

/** Why a report cannot be true, human-readable; `null`: it can. What was not reported is never held against a device. */
export function implausibleBecause(report: InferenceReport, given: Circumstances): string | null {
  const heartbeat = parseTimestamp(report.heartbeatAt);
  if (heartbeat === null) return `its heartbeat is not ${TIMESTAMP_FORM}`;
  if (heartbeat > given.heardAt + CLOCK_SKEW) {
    return `its heartbeat is dated ${timestampOf(heartbeat)}, which is in the future`;
  }
  const { window } = report;
  if (window === undefined) return null;
  return impossibleNumber(window) ?? impossibleTime(window, report, heartbeat, given.previous);
}

const NUMBERS: readonly (readonly [string, (window: Window) => number])[] = [
  ["inferences", ({ inferences }) => inferences],
  ["errors", ({ errors }) => errors],
  ["framesPerSecond", ({ framesPerSecond }) => framesPerSecond],
  ["p50", ({ latencyMilliseconds }) => latencyMilliseconds.p50],
  ["p95", ({ latencyMilliseconds }) => latencyMilliseconds.p95],
  ["p99", ({ latencyMilliseconds }) => latencyMilliseconds.p99],
  ["its length", ({ seconds: length }) => length],
];

function impossibleNumber(window: Window): string | null {
  const { seconds: length, inferences, errors, framesPerSecond } = window;
  const { p50, p95, p99 } = window.latencyMilliseconds;
  for (const [name, read] of NUMBERS) {
    const value = read(window);
    if (!(value >= 0 && value < Number.POSITIVE_INFINITY)) return `${name} is ${value}`;
  }
  if (!Number.isInteger(inferences) || !Number.isInteger(errors)) return "its counts are not whole numbers";
  if (errors > inferences) return `${errors} errors of ${inferences} inferences`;
  if (p50 > p95 || p95 > p99) {
    return `its percentiles are out of order: p50 ${decimalText(p50)}, p95 ${decimalText(p95)}, p99 ${decimalText(p99)}`;
  }
  if (p99 > LONGEST_LATENCY) return `a latency of ${decimalText(p99)} ms`;
  if (seconds(length) > LONGEST_WINDOW) return `a window of ${decimalText(length)} s`;
  if (inferences > MOST_PER_SECOND * Math.max(1, length)) {
    return `${inferences} inferences in ${decimalText(length)} s`;
  }
  return framesPerSecond > MOST_PER_SECOND ? `${decimalText(framesPerSecond)} frames per second` : null;
}

function impossibleTime(
  window: Window,
  { active, heartbeatAt }: InferenceReport,
  heartbeat: Instant,
  previous: Window | null,
): string | null {
  // Mostly the same text, and reading dates of a hundred thousand devices takes its time.
  const ended = window.endedAt === heartbeatAt ? heartbeat : parseTimestamp(window.endedAt);
  if (ended === null) return `its window has no end: endedAt is not ${TIMESTAMP_FORM}`;
  if (ended > heartbeat + CLOCK_SKEW) {
    return `its window ends at ${timestampOf(ended)}, after the heartbeat that came with it`;
  }
  const length = seconds(window.seconds);
  if (active !== undefined && active.release === window.release) {
    if (heartbeat - ended > OLDEST_WINDOW) {
      return `its window ended at ${timestampOf(ended)}, ${durationText(millis(heartbeat - ended))} before its heartbeat`;
    }
    const since = parseTimestamp(active.since);
    // A window from before a restart may still be there: it says nothing about the time since.
    if (since !== null && since <= ended && length > ended - since + SLACK) {
      return `a window of ${decimalText(window.seconds)} s, ${durationText(millis(ended - since))} after the release started to run`;
    }
  }
  return previous === null ? null : overlap(window, ended, length, previous);
}

/** Windows follow each other: one that reaches back into the one before counts the same inferences twice. */
function overlap(window: Window, ended: Instant, length: Millis, previous: Window): string | null {
  if (previous.release !== window.release) return null;
  const before = parseTimestamp(previous.endedAt);
  // A clock that was set back says nothing about lengths.
  if (before === null || ended <= before) return null;
  if (length <= ended - before + SLACK) return null;
  return `a window of ${decimalText(window.seconds)} s, ${durationText(millis(ended - before))} after the previous one`;
}

/** The last report of a device, and whether it was plausible. */
export type Heard = {
  readonly report: InferenceReport;
  readonly heardAt: Instant;
  /** The window before the one in `report`. */
  readonly previous: Window | null;
  readonly implausible: Member["implausible"];
};

/** What to remember of a device after another report. Without `had` only the comparison with the previous window is missing. */
export function hear(had: Heard | undefined, report: InferenceReport, heardAt: Instant, now: Instant): Heard {
  if (had !== undefined && had.report === report && had.heardAt === heardAt) return had;
  const last = had?.report.window ?? null;
  const isSame = last === null || report.window === undefined || last.endedAt === report.window.endedAt;
  const previous = isSame ? (had?.previous ?? null) : last;
  const why = implausibleBecause(report, { heardAt, previous });
  const since = had?.implausible?.since ?? now;
  return { report, heardAt, previous, implausible: why === null ? null : { why, since } };
}
