import fc from "fast-check";
import { expect, test } from "vitest";
import { nextTime, parseSchedule, type Schedule } from "./cron.ts";
import { instant } from "./time.ts";

const at = (written: string) => instant(Date.parse(written));

function scheduleOf(written: string, timeZone = "UTC"): Schedule {
  const parsed = parseSchedule(written, timeZone);
  if (!parsed.ok) throw new Error(parsed.error);
  return parsed.value;
}

function next(written: string, after: string, timeZone = "UTC"): string {
  const found = nextTime(scheduleOf(written, timeZone), at(after));
  return found === null ? "never" : new Date(found).toISOString().replace(":00.000Z", "Z");
}

test.each([
  ["0 14 * * 5", "2026-01-01T00:00Z", "2026-01-02T14:00Z"],
  ["0 14 * * 5", "2026-01-02T14:00Z", "2026-01-09T14:00Z"],
  ["0 14 * * fri", "2026-01-01T00:00Z", "2026-01-02T14:00Z"],
  ["0 0 * * 7", "2026-01-01T00:00Z", "2026-01-04T00:00Z"],
  ["0 0 * * 0", "2026-01-01T00:00Z", "2026-01-04T00:00Z"],
  ["*/15 * * * *", "2026-01-01T00:01Z", "2026-01-01T00:15Z"],
  ["5/20 * * * *", "2026-01-01T00:06Z", "2026-01-01T00:25Z"],
  ["0 8-16/4 * * MON-FRI", "2026-01-02T16:00Z", "2026-01-05T08:00Z"],
  ["30 3 1,15 * *", "2026-01-01T03:30Z", "2026-01-15T03:30Z"],
  ["0 0 29 feb *", "2026-01-01T00:00Z", "2028-02-29T00:00Z"],
  ["0 0 29 2 *", "2096-03-01T00:00Z", "2104-02-29T00:00Z"],
  // Both kinds of days: either will do.
  ["0 0 13 * 5", "2026-01-03T00:00Z", "2026-01-09T00:00Z"],
  ["0 0 13 * 5", "2026-01-09T00:00Z", "2026-01-13T00:00Z"],
])("%s after %s is %s", (written, after, expected) => {
  expect(next(written, after)).toBe(expected);
});

test.each([
  // Clocks go from 2 to 3: half past two is left out, and comes at three.
  ["30 2 * * *", "2026-03-28T12:00Z", "Europe/Berlin", "2026-03-29T01:00Z"],
  ["30 2 * * *", "2026-03-29T01:00Z", "Europe/Berlin", "2026-03-30T00:30Z"],
  ["30 2,3 * * *", "2026-03-28T12:00Z", "Europe/Berlin", "2026-03-29T01:00Z"],
  ["0,30 2,3 * * *", "2026-03-28T12:00Z", "Europe/Berlin", "2026-03-29T01:00Z"],
  // They go back from 3 to 2: half past two comes twice, and counts once.
  ["30 2 * * *", "2026-10-24T12:00Z", "Europe/Berlin", "2026-10-25T00:30Z"],
  ["30 2 * * *", "2026-10-25T00:30Z", "Europe/Berlin", "2026-10-26T01:30Z"],
  // Half an hour only, and the other hemisphere.
  ["15 2 * * *", "2026-10-03T00:00Z", "Australia/Lord_Howe", "2026-10-03T15:30Z"],
  // Midnight itself is left out.
  ["0 0 * * *", "2026-09-05T12:00Z", "America/Santiago", "2026-09-06T04:00Z"],
  // What comes every hour or minute comes in both of the hours that clocks show alike.
  ["*/30 * * * *", "2026-10-25T00:30Z", "Europe/Berlin", "2026-10-25T01:00Z"],
  ["0 9 * * *", "2026-07-01T00:00Z", "Asia/Kolkata", "2026-07-01T03:30Z"],
])("%s after %s in %s is %s", (written, after, timeZone, expected) => {
  expect(next(written, after, timeZone)).toBe(expected);
});

test.each([
  ["0 14 * *", "UTC", /"0 14 \* \*" is not a schedule: write minute \(0-59\).* such as "0 14 \* \* 5"/],
  ["0 0 0 1 1 *", "UTC", /is not a schedule/],
  ["60 14 * * *", "UTC", /is not a schedule/],
  ["0 24 * * *", "UTC", /is not a schedule/],
  ["0 0 0 * *", "UTC", /is not a schedule/],
  ["0 0 * 13 *", "UTC", /is not a schedule/],
  ["0 0 * * 8", "UTC", /is not a schedule/],
  ["0 0 * foo *", "UTC", /is not a schedule/],
  ["0 5-3 * * *", "UTC", /is not a schedule/],
  ["*/0 * * * *", "UTC", /is not a schedule/],
  ["1, * * * *", "UTC", /is not a schedule/],
  ["0 0 30 2 *", "UTC", /a day that never comes/],
  ["0 0 * * *", "Mars/Olympus", /^"Mars\/Olympus" is not a time zone/],
  ["0 0 * *", "Mars/Olympus", /is not a schedule.*; "Mars\/Olympus" is not a time zone/],
])("%s in %s is refused", (written, timeZone, message) => {
  const parsed = parseSchedule(written, timeZone);
  expect(parsed.ok ? "" : parsed.error).toMatch(message);
});

const ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"];
const list = (least: number, most: number) =>
  fc.oneof(
    fc.constant("*"),
    fc.integer({ min: 2, max: Math.min(20, most - least) }).map((step) => `*/${step}`),
    fc.uniqueArray(fc.integer({ min: least, max: most }), { minLength: 1, maxLength: 3 }).map(String),
  );

/** What a clock on the wall shows, by another way than that of the code. */
const walls = new Map(
  ZONES.map((timeZone) => [
    timeZone,
    new Intl.DateTimeFormat("sv-SE", { timeZone, dateStyle: "short", timeStyle: "short" }),
  ]),
);
function wallOf(moment: number, timeZone: string): string {
  return walls.get(timeZone)?.format(moment) ?? "";
}

function minutesOf(wall: string): number {
  return Date.parse(`${wall.replace(" ", "T")}Z`) / 60_000;
}

function matches(wall: string, written: string): boolean {
  const [minute = "", hour = "", day = "", month = "", week = ""] = written.split(" ");
  const [date = "", time = ""] = wall.split(" ");
  const within = (field: string, value: number, least: number) =>
    field === "*" ||
    (field.startsWith("*/")
      ? (value - least) % Number(field.slice(2)) === 0
      : field.split(",").includes(String(value)));
  const byMonth = within(day, Number(date.slice(8)), 1);
  const byWeek = within(week, new Date(`${date}T00:00Z`).getUTCDay(), 0);
  const days = day === "*" || week === "*" ? byMonth && byWeek : byMonth || byWeek;
  return (
    within(minute, Number(time.slice(3)), 0) &&
    within(hour, Number(time.slice(0, 2)), 0) &&
    within(month, Number(date.slice(5, 7)), 1) &&
    days
  );
}

test("the next time is the first minute whose clock on the wall fits, save where clocks are set", () => {
  const cases = fc.record({
    written: fc
      .tuple(list(0, 59), list(0, 23), list(1, 28), fc.constantFrom("*", "3,4,10,11", "*/2"), list(0, 6))
      .map((fields) => fields.join(" ")),
    timeZone: fc.constantFrom(...ZONES),
    // Around the nights in which Europe, America and Australia set their clocks, and any other.
    start: fc.oneof(
      fc
        .constantFrom(...["2026-03-29", "2026-10-25", "2026-03-08", "2026-11-01", "2026-04-05"])
        .map(Date.parse),
      fc.integer({ min: Date.parse("2025-01-01"), max: Date.parse("2030-01-01") }),
    ),
    shift: fc.integer({ min: -36 * 60, max: 12 * 60 }),
  });
  fc.assert(
    fc.property(cases, ({ written, timeZone, start, shift }) => {
      const after = instant(start + shift * 60_000);
      const found = nextTime(scheduleOf(written, timeZone), after);
      if (found === null) throw new Error("never");
      expect(found).toBeGreaterThan(after);
      const minute = 60_000;
      const first = Math.floor(after / minute) * minute + minute;
      const until = Math.min(found, first + 30 * 60 * minute);
      for (let moment = first; moment < until; moment += minute) {
        const wall = wallOf(moment, timeZone);
        if (!matches(wall, written)) continue;
        // It fits and was passed over: then the same clock has been seen within the last hours.
        const before = [30, 60].map((minutes) => wallOf(moment - minutes * minute, timeZone));
        expect(before, `${written} ${timeZone} passes over ${wall}`).toContain(wall);
      }
      const shown = wallOf(found, timeZone);
      // What no clock shows comes when they have been set.
      if (!matches(shown, written))
        expect(minutesOf(shown) - minutesOf(wallOf(found - minute, timeZone))).toBeGreaterThan(1);
    }),
    { numRuns: 100 },
  );
});

test("times are always later than what they are asked for, one after the other", () => {
  fc.assert(
    fc.property(list(0, 59), list(0, 23), fc.constantFrom(...ZONES), (minute, hour, timeZone) => {
      const schedule = scheduleOf(`${minute} ${hour} * * *`, timeZone);
      let last = at("2026-03-27T00:00Z");
      for (let count = 0; count < 30; count += 1) {
        const following = nextTime(schedule, last);
        expect(following).toBeGreaterThan(last);
        last = following ?? last;
      }
    }),
    { numRuns: 40 },
  );
});
