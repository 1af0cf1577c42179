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

test("a clock that went back reads as no time at all", () => {
  expect(elapsed(instant(10), instant(4))).toBe(0);
});
