import fc from "fast-check";
import { expect, test } from "vitest";
import { millis, seconds } from "../base/time.ts";
import { exponential, pauseAfter } from "./backoff.ts";

test("the back-off doubles from its base up to its cap", () => {
  const longest = exponential(millis(100), seconds(1), () => 1);
  expect([1, 2, 3, 4, 5, 6].map(longest)).toEqual([100, 200, 400, 800, 1000, 1000]);
});

test("jitter takes away at most half, however many failures there were", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 100_000 }),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      (failures, random) => {
        const delay = exponential(millis(100), seconds(60), () => random)(failures);
        const whole = Math.min(60_000, 100 * 2 ** (failures - 1));
        expect(delay).toBeGreaterThanOrEqual(whole / 2);
        expect(delay).toBeLessThanOrEqual(whole);
      },
    ),
  );
});

test("a pause is never shorter than what the fault asks for", () => {
  expect(pauseAfter({ kind: "unavailable" }, seconds(2))).toBe(seconds(2));
  expect(pauseAfter({ kind: "throttled", retryAfter: seconds(1) }, seconds(2))).toBe(seconds(2));
  expect(pauseAfter({ kind: "throttled", retryAfter: seconds(9) }, seconds(2))).toBe(seconds(9));
  expect(pauseAfter({ kind: "broken", retryAfter: null }, seconds(2))).toBe(seconds(2));
});
