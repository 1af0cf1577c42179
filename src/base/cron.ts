import { err, ok, type Result } from "./result.ts";
import { type Instant, instant } from "./time.ts";

/** When something is due: minutes, hours and days by the calendar of a time zone. */
export type Schedule = {
  readonly minutes: readonly number[];
  readonly hours: readonly number[];
  readonly daysOfMonth: ReadonlySet<number>;
  readonly months: ReadonlySet<number>;
  /** 0 is Sunday. */
  readonly daysOfWeek: ReadonlySet<number>;
  /** POSIX: where both kinds of days are restricted, a day of either kind is one. */
  readonly either: boolean;
  readonly timeZone: string;
};

type Field = {
  readonly name: string;
  readonly least: number;
  readonly most: number;
  readonly words: readonly string[];
};

const MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: readonly Field[] = [
  { name: "minute", least: 0, most: 59, words: [] },
  { name: "hour", least: 0, most: 23, words: [] },
  { name: "day of the month", least: 1, most: 31, words: [] },
  { name: "month", least: 1, most: 12, words: MONTHS },
  { name: "day of the week", least: 0, most: 7, words: DAYS },
];

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
/** 29 February comes within eight years, even around 1900 and 2100. */
const SEARCH_DAYS = 8 * 366;

/**
 * Five cron fields: numbers, names of months and days (`fri`), `*`, ranges, steps and lists of them.
 * @param timeZone as in the IANA database, such as Europe/Berlin.
 * @returns every mistake, in one sentence.
 */
export function parseSchedule(written: string, timeZone: string): Result<Schedule, string> {
  const texts = written.trim().split(/\s+/);
  if (texts.length !== FIELDS.length)
    return err(`"${written}" has ${texts.length} fields; write five, such as "0 14 * * 5"`);
  const mistakes: string[] = [];
  const values = FIELDS.map((field, index) => valuesOf(field, texts[index] ?? "", mistakes));
  if (formatterOf(timeZone) === null) mistakes.push(`"${timeZone}" is no time zone, such as Europe/Berlin`);
  const [minutes = [], hours = [], daysOfMonth = [], months = [], daysOfWeek = []] = values;
  if (mistakes.length > 0) return err(mistakes.join("; "));
  const restricted = [texts[2], texts[4]].map((text) => text?.startsWith("*") === false);
  const schedule: Schedule = {
    minutes,
    hours,
    daysOfMonth: new Set(daysOfMonth),
    months: new Set(months),
    daysOfWeek: new Set(daysOfWeek.map((day) => day % 7)),
    either: restricted.every((one) => one),
    timeZone,
  };
  if (nextTime(schedule, instant(0)) === null) return err(`"${written}" names a day that never comes`);
  return ok(schedule);
}

function valuesOf(field: Field, text: string, mistakes: string[]): readonly number[] {
  const values = new Set<number>();
  for (const part of text.split(",")) {
    const range = rangeOf(field, part);
    if (range === null) {
      const words = field.words.length === 0 ? "" : ` or ${field.words[0]} to ${field.words.at(-1)}`;
      mistakes.push(`${field.name}: "${part}" is not within ${field.least} to ${field.most}${words}`);
    } else for (let value = range.from; value <= range.to; value += range.step) values.add(value);
  }
  return [...values].sort((a, b) => a - b);
}

function rangeOf(
  field: Field,
  part: string,
): { readonly from: number; readonly to: number; readonly step: number } | null {
  const [, first = "", last, stepText] = /^([^-/]+)(?:-([^-/]+))?(?:\/([0-9]{1,2}))?$/.exec(part) ?? [];
  const step = stepText === undefined ? 1 : Number(stepText);
  if (first === "" || step < 1) return null;
  if (first === "*") return last === undefined ? { from: field.least, to: field.most, step } : null;
  const from = numberIn(field, first);
  // A step after a single value goes on to the end, as in 5/15.
  const open = stepText === undefined ? from : field.most;
  const to = last === undefined ? open : numberIn(field, last);
  return from === null || to === null || to < from ? null : { from, to, step };
}

function numberIn(field: Field, text: string): number | null {
  const word = field.words.indexOf(text.toLowerCase());
  if (word >= 0) return word + field.least;
  const value = /^[0-9]{1,2}$/.test(text) ? Number(text) : Number.NaN;
  return value >= field.least && value <= field.most ? value : null;
}

/**
 * The first time after `after`; `null` where there is none within eight years. Where clocks are set forward, a time that
 * is left out comes as much later as they are set; where they are set back, a time that comes twice is its first.
 */
export function nextTime(schedule: Schedule, after: Instant): Instant | null {
  const format = formatterOf(schedule.timeZone);
  if (format === null) return null;
  const here = after + offsetAt(format, after);
  // Where clocks were set lately, what was left out of yesterday may come today.
  const from = offsetAt(format, after - 2 * DAY) === here - after ? here : here - DAY;
  const firstDay = Math.floor(from / DAY) * DAY;
  let best: number | null = null;
  for (let day = firstDay; day <= firstDay + SEARCH_DAYS * DAY; day += DAY) {
    if (best !== null && day > best + offsetAt(format, best)) break;
    if (!isDay(schedule, new Date(day))) continue;
    for (const local of timesOf(schedule, day)) {
      if (local < from) continue;
      const { at, leftOut } = instantAt(format, local);
      if (at <= after || (best !== null && at >= best)) continue;
      best = at;
      if (!leftOut) break;
    }
  }
  return best === null ? null : instant(best);
}

/** @param day midnight, as if the time zone were UTC. */
function isDay({ daysOfMonth, months, daysOfWeek, either }: Schedule, day: Date): boolean {
  if (!months.has(day.getUTCMonth() + 1)) return false;
  const byMonth = daysOfMonth.has(day.getUTCDate());
  const byWeek = daysOfWeek.has(day.getUTCDay());
  return either ? byMonth || byWeek : byMonth && byWeek;
}

function* timesOf({ hours, minutes }: Schedule, day: number): Generator<number> {
  for (const hour of hours) for (const minute of minutes) yield day + hour * HOUR + minute * MINUTE;
}

/** When a clock on the wall shows `local`, written as if the time zone were UTC. */
function instantAt(
  format: Intl.DateTimeFormat,
  local: number,
): { readonly at: number; readonly leftOut: boolean } {
  const before = offsetAt(format, local - DAY);
  const after = offsetAt(format, local + DAY);
  const times = [local - before, local - after].filter((at) => at + offsetAt(format, at) === local);
  return times.length > 0
    ? { at: Math.min(...times), leftOut: false }
    : { at: local - before, leftOut: true };
}

/** How far clocks are ahead of UTC, in milliseconds. */
function offsetAt(format: Intl.DateTimeFormat, at: number): number {
  const parts = Object.fromEntries(format.formatToParts(at).map(({ type, value }) => [type, Number(value)]));
  const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = parts;
  return Date.UTC(year, month - 1, day, hour, minute, second) - Math.floor(at / 1000) * 1000;
}

const formatters = new Map<string, Intl.DateTimeFormat | null>();

/** `null`: there is no such time zone. Making one takes long enough to keep it. */
function formatterOf(timeZone: string): Intl.DateTimeFormat | null {
  const had = formatters.get(timeZone);
  if (had !== undefined) return had;
  const made = makeFormatter(timeZone);
  if (formatters.size < 600) formatters.set(timeZone, made);
  return made;
}

function makeFormatter(timeZone: string): Intl.DateTimeFormat | null {
  try {
    const numeric = "numeric" as const;
    return new Intl.DateTimeFormat("en-US", {
      ...{ timeZone, hourCycle: "h23", calendar: "gregory" },
      ...{ year: numeric, month: numeric, day: numeric, hour: numeric, minute: numeric, second: numeric },
    });
  } catch {
    return null;
  }
}
