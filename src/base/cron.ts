import { Cron } from "croner";
import { err, ok, type Result } from "./result.ts";
import { type Instant, instant } from "./time.ts";

/** When something is due: minutes, hours and days by the calendar of a time zone. */
export type Schedule = Cron;

const FORM =
  'write minute (0-59), hour (0-23), day of the month (1-31), month (1-12 or jan-dec) and day of the week (0-7 or sun-sat), such as "0 14 * * 5"';

/**
 * Five cron fields. Where both kinds of days are restricted, a day of either kind is one.
 * @param timeZone as in the IANA database, such as Europe/Berlin.
 * @returns every mistake, in one sentence.
 */
export function parseSchedule(written: string, timeZone: string): Result<Schedule, string> {
  const zone = isTimeZone(timeZone) ? null : `"${timeZone}" is not a time zone, such as Europe/Berlin`;
  const schedule = cronOf(written, timeZone);
  const pattern = schedule === null ? `"${written}" is not a schedule: ${FORM}` : null;
  if (schedule === null || zone !== null)
    return err([pattern, zone].filter((one) => one !== null).join("; "));
  if (nextTime(schedule, instant(0)) === null) return err(`"${written}" names a day that never comes`);
  return ok(schedule);
}

function cronOf(written: string, timezone: string): Cron | null {
  try {
    // 5/15 is not standard but widely used. Lists of times are fixed times too when clocks change.
    return new Cron(written, {
      ...{ timezone, mode: "5-part", sloppyRanges: true, fixedTimeRule: "no-wildcard", paused: true },
    });
  } catch {
    return null; // its message counts months and days from zero
  }
}

function isTimeZone(written: string): boolean {
  try {
    return new Intl.DateTimeFormat("en", { timeZone: written }) !== null;
  } catch {
    return false;
  }
}

/**
 * The first time after `after`; `null` where there is none. Where clocks are set forward, a fixed time that is left out
 * comes when they have been set; where they are set back, a fixed time that comes twice is its first.
 */
export function nextTime(schedule: Schedule, after: Instant): Instant | null {
  const next = schedule.nextRun(new Date(after));
  return next === null ? null : instant(next.getTime());
}
