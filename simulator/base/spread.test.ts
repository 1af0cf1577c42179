import fc from "fast-check";
import { expect, test } from "vitest";
import { createRandom } from "./random.ts";
import { drawSpread } from "./spread.ts";

test("a plain number is drawn without chance", () => {
  const never = () => {
    throw new Error("nothing is left to chance");
  };
  expect(drawSpread(20, never)).toBe(20);
});

test("draws of percentiles have those percentiles", () => {
  const random = createRandom(3);
  const spread = { p50: 100, p95: 400, p99: 2000 };
  const drawn = Array.from({ length: 20_000 }, () => drawSpread(spread, random)).sort((a, b) => a - b);
  const at = (share: number) => drawn[Math.floor(share * drawn.length)]!;
  expect(at(0.5)).toBeGreaterThan(95);
  expect(at(0.5)).toBeLessThan(105);
  expect(at(0.95)).toBeGreaterThan(370);
  expect(at(0.95)).toBeLessThan(480);
  expect(at(0.995)).toBe(2000);
});

test("a draw between two bounds never leaves them", () => {
  fc.assert(
    fc.property(fc.nat(10_000), fc.nat(10_000), fc.nat(), (min, more, seed) => {
      const drawn = drawSpread({ min, max: min + more }, createRandom(seed));
      expect(drawn).toBeGreaterThanOrEqual(min);
      expect(drawn).toBeLessThanOrEqual(min + more);
    }),
  );
});
