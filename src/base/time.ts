import type { Brand } from "./brand.ts";
import { own } from "./lookup.ts";
import { err, ok, type Result } from "./result.ts";

/** A length of time in milliseconds. */
export type Millis = Brand<number, "Millis">;
/** A point in time, in milliseconds since the Unix epoch. */
export type Instant = Brand<number, "Instant">;
/** How a length of time is written in a resource: Go style, `90s`, `10m`, `1h30m`, `250ms`. */
export type Duration = Brand<string, "Duration">;
/** How a point in time is written in a resource: RFC 3339 in UTC with seconds or milliseconds. */
export type Timestamp = Brand<string, "Timestamp">;

/** Time as it is handed to code: only `runtime/clock.ts` reads the machine's. */
export type Clock = {
  readonly now: () => Instant;
  /** Resolves after `delay`, or at once when `signal` aborts; it never rejects. */
  readonly sleep: (delay: Millis, signal: AbortSignal) => Promise<void>;
};

export const DURATION_PATTERN = "^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$";
const UNIT: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

export function millis(n: number): Millis {
  return n as Millis;
}

export function seconds(n: number): Millis {
  return (n * 1000) as Millis;
}

export function minutes(n: number): Millis {
  return (n * 60_000) as Millis;
}

export function instant(epochMilliseconds: number): Instant {
  return epochMilliseconds as Instant;
}

export function later(at: Instant, by: Millis): Instant {
  return (at + by) as Instant;
}

/** Never negative: a clock that went back reads as no time at all. */
export function elapsed(from: Instant, to: Instant): Millis {
  return Math.max(0, to - from) as Millis;
}

export function parseDuration(written: string): Result<Millis, string> {
  if (!new RegExp(DURATION_PATTERN).test(written))
    return err(`"${written}" is not a duration; write it like 90s, 10m or 1h30m`);
  let total = 0;
  for (const [, amount = "0", unit = "ms"] of written.matchAll(/([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)/g))
    total += Number(amount) * (own(UNIT, unit) ?? 0);
  return ok(total as Millis);
}

/** For durations that a schema has already checked; anything else is a bug and throws. */
export function millisOf(written: Duration): Millis {
  const parsed = parseDuration(written);
  if (!parsed.ok) throw new Error(parsed.error);
  return parsed.value;
}

/** `1h30m`, `45s`, `250ms`: the largest units first, nothing below a second once there are minutes. */
export function durationText(length: Millis): string {
  if (length < 1000) return `${Math.round(length)}ms`;
  const total = Math.round(length / 1000);
  const parts: readonly (readonly [number, string])[] = [
    [Math.floor(total / 3600), "h"],
    [Math.floor((total % 3600) / 60), "m"],
    [total % 60, "s"],
  ];
  return parts
    .filter(([amount]) => amount > 0)
    .map(([amount, unit]) => `${amount}${unit}`)
    .join("");
}

/** What to write where `parseTimestamp` finds no time. */
export const TIMESTAMP_FORM = "a time with its zone, such as 2026-12-01T10:00:00Z";
const TIMESTAMP = /^(\d{4})-(\d\d)-(\d\d)T(?:[01]\d|2[0-3]):\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/i;

/**
 * A point in time of RFC 3339, whose seconds may be left out; `null` for any other text. Without a time zone it is no
 * point in time: it would be another one on a machine in another zone. The date must be one of the calendar.
 */
export function parseTimestamp(written: string): Instant | null {
  const [, year, month, day] = TIMESTAMP.exec(written) ?? [];
  // A day that its month does not have would be one of the next month.
  const last = new Date(Date.UTC(Number(year), Number(month), 0)).getUTCDate();
  return Number(day) <= last ? readDate(written) : null;
}

/** A date of an HTTP header; `null` for any other text. */
export function parseHttpDate(written: string): Instant | null {
  return / GMT$/.test(written) ? readDate(written) : null;
}

function readDate(written: string): Instant | null {
  const at = Date.parse(written);
  return Number.isNaN(at) ? null : (at as Instant);
}

/** For timestamps that we wrote ourselves; anything else is a bug and throws. */
export function instantOf(written: Timestamp): Instant {
  const at = parseTimestamp(written);
  if (at === null) throw new Error(`not a timestamp: ${written}`);
  return at;
}

export function timestampOf(at: Instant): Timestamp {
  return new Date(at).toISOString() as Timestamp;
}
