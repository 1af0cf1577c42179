import fc from "fast-check";
import { expect, test } from "vitest";
import {
  type Duration,
  durationText,
  elapsed,
  instant,
  millis,
  millisOf,
  parseDuration,
  parseHttpDate,
  parseTimestamp,
  timestampOf,
} from "./time.ts";

test.each([
  ["90s", 90_000],
  ["10m", 600_000],
  ["1h30m", 5_400_000],
  ["250ms", 250],
  ["1.5h", 5_400_000],
  ["0s", 0],
])("%s is %d milliseconds", (written, expected) => {
  expect(parseDuration(written)).toEqual({ ok: true, value: expected });
});

test.each(["", "10", "m", "10 m", "-5s", "1d", "5m!"])(
  "%j is refused with an example of what is right",
  (written) => {
    const parsed = parseDuration(written);
    expect(!parsed.ok && parsed.error).toContain("write it like 90s");
  },
);

test("a length of whole seconds reads back as what it was written from", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 10_000_000 }), (seconds) => {
      expect(millisOf(durationText(millis(seconds * 1000)) as Duration)).toBe(seconds * 1000);
    }),
  );
});

test("a moment reads back as what it was written from", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 4_000_000_000_000 }), (at) => {
      expect(parseTimestamp(timestampOf(instant(at)))).toBe(at);
    }),
  );
});

test.each([
  ["2026-03-01T12:00:00Z", "2026-03-01T12:00:00.000Z"],
  ["2026-03-01T12:00Z", "2026-03-01T12:00:00.000Z"],
  ["2026-03-01t12:00:00z", "2026-03-01T12:00:00.000Z"],
  ["2026-03-01T12:00:00.1234567+00:00", "2026-03-01T12:00:00.123Z"],
  ["2026-03-01T12:00:00-05:30", "2026-03-01T17:30:00.000Z"],
  ["2028-02-29T23:59:59Z", "2028-02-29T23:59:59.000Z"],
  ["2026-12-31T23:30:00-01:00", "2027-01-01T00:30:00.000Z"],
])("%s is a moment", (written, expected) => {
  expect(timestampOf(parseTimestamp(written)!)).toBe(expected);
});

test.each([
  "2026-03-01T12:00:00",
  "2026-03-01 12:00:00",
  "2026-03-01 12:00:00Z",
  "2026-03-01",
  "Sun, 01 Mar 2026 12:00:00 GMT",
  "March 1, 2026",
  "1772366400000",
  "2026-13-01T12:00:00Z",
  "2026-02-29T12:00:00Z",
  "2026-02-30T12:00:00Z",
  "2100-02-29T12:00:00+01:00",
  "2026-04-31T12:00:00Z",
  "2026-04-00T12:00:00Z",
  "2026-00-01T12:00:00Z",
  "2026-03-01T24:00:00Z",
  "",
])("%j is no moment: it has no time zone, or is not RFC 3339", (written) => {
  expect(parseTimestamp(written)).toBeNull();
});

test.each([
  ["Sun, 01 Mar 2026 12:00:00 GMT", 1_772_366_400_000],
  ["Sun, 01 Mar 2026 12:00:00", null],
  ["soon GMT", null],
])("%j as a date of HTTP", (written, expected) => {
  expect(parseHttpDate(written)).toBe(expected);
});

test("a clock that went back reads as no time at all", () => {
  expect(elapsed(instant(10), instant(4))).toBe(0);
});
