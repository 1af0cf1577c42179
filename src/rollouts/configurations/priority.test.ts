import fc from "fast-check";
import { expect, test } from "vitest";
import { BANDS, priorityFor } from "./priority.ts";

test("a priority is free, in its band, and above those it must outrank while there is room", () => {
  const used = fc.uniqueArray(fc.integer({ min: 90, max: 130 }), { maxLength: 40 });
  const band = { from: 100, to: 120 };
  fc.assert(
    fc.property(used, fc.nat(40), (taken, count) => {
      const outranked = taken.slice(0, count);
      const priority = priorityFor(band, taken, outranked);
      const free = Array.from({ length: 21 }, (_, index) => 100 + index).filter(
        (one) => !taken.includes(one),
      );
      if (free.length === 0) return expect(priority).toBeNull();
      expect(free).toContain(priority);
      const highest = Math.max(0, ...outranked.filter((one) => one >= 100 && one <= 120));
      if (free.some((one) => one > highest)) expect(priority).toBeGreaterThan(highest);
      return undefined;
    }),
  );
});

test("stable is below the candidate, and the base is below both", () => {
  expect(BANDS.base.to).toBeLessThan(BANDS.stable.from);
  expect(BANDS.stable.to).toBeLessThan(BANDS.candidate.from);
  expect(priorityFor(BANDS.candidate, [500, 501, 7], [500])).toBe(502);
});
