import fc from "fast-check";
import { expect, test } from "vitest";
import { seededRandom } from "../../../test/builders/verifier/onnx-model.ts";
import { atRate, nearestRank, timingOf } from "./timing.ts";

test("a percentile is the nearest rank", () => {
  const sorted = Array.from({ length: 20 }, (_, index) => index + 1);
  expect([0.5, 0.95, 0.99, 1].map((share) => nearestRank(sorted, share))).toEqual([10, 19, 20, 20]);
  expect(nearestRank([7], 0.01)).toBe(7);
});

test("a nearest rank is a sample that at least that share does not exceed (property)", () => {
  fc.assert(
    fc.property(
      fc.array(fc.nat(), { minLength: 1 }),
      fc.double({ min: 0.01, max: 1, noNaN: true }),
      (values, share) => {
        const sorted = values.sort((a, b) => a - b);
        const value = nearestRank(sorted, share);
        expect(sorted).toContain(value);
        expect(sorted.filter((one) => one <= value).length).toBeGreaterThanOrEqual(share * sorted.length);
        expect(sorted.filter((one) => one < value).length).toBeLessThan(share * sorted.length);
      },
    ),
  );
});

test("of a hundred runs the percentiles have the bounds of the binomial distribution", () => {
  const runs = Array.from({ length: 100 }, (_, index) => 100 - index);
  expect(timingOf(runs)).toMatchObject({
    runs: 100,
    mean: 50.5,
    least: 1,
    p50: { value: 50, low: 40, high: 61 },
    p95: { value: 95, low: 90, high: 100 },
    most: { value: 100, run: 0 },
    outliers: 0,
  });
});

test("a percentile lies between its bounds (property)", () => {
  const series = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: 50 });
  fc.assert(
    fc.property(series, (runs) => {
      for (const { low, value, high } of [timingOf(runs).p50, timingOf(runs).p95, timingOf(runs).p99]) {
        expect(low).toBeLessThanOrEqual(value);
        expect(high).toBeGreaterThanOrEqual(value);
      }
    }),
  );
});

test("the bounds hold the true percentile 95 of 100 times, and are no wider than that", () => {
  // The median of a uniform distribution is known.
  const random = seededRandom(1);
  const missed = Array.from({ length: 1000 }, () => {
    const { low, high } = timingOf(Float64Array.from({ length: 50 }, random)).p50;
    return low > 0.5 || high < 0.5;
  }).filter((miss) => miss).length;
  expect(missed).toBeLessThanOrEqual(50);
  expect(missed).toBeGreaterThan(0);
});

test("an outlier is counted and kept", () => {
  const runs = [1, 1.1, 0.9, 1, 1.05, 0.95, 1, 1, 50];
  expect(timingOf(runs)).toMatchObject({ outliers: 1, most: { value: 50, run: 8 } });
});

test("a run that takes long delays those behind it for a caller that asks at a fixed rate", () => {
  // One stall of 100 ms in runs of 1 ms, asked for every 10 ms: nine more wait for it.
  const runs = [1, 100, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];
  expect([...atRate(runs, 10)]).toEqual([1, 100, 91, 82, 73, 64, 55, 46, 37, 28, 19, 10, 1]);
});

test("who asks slowly enough sees the runs as they are (property)", () => {
  fc.assert(
    fc.property(fc.array(fc.double({ min: 0, max: 9, noNaN: true })), (runs) => {
      const seen = atRate(runs, 10);
      for (const [index, run] of runs.entries()) expect(seen[index]).toBeCloseTo(run, 9);
    }),
  );
});
