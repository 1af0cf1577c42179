import fc from "fast-check";
import { expect, test } from "vitest";
import { budgetsOf, createThrottle, OPERATION_CLASSES, TIERS } from "./throttle.ts";

test("two bulk requests of fifty pass in a minute of one S1 unit, and the third does not", () => {
  let now = 0;
  const throttle = createThrottle("S1", 1, () => now);
  expect(throttle.take("identity", 50)).toBe(true);
  expect(throttle.take("identity", 50)).toBe(true);
  expect(throttle.take("identity", 50)).toBe(false);
  now += 30_000;
  expect(throttle.take("identity", 50)).toBe(true);
});

test("a budget that nobody used for an hour lets no more through than a full one", () => {
  let now = 0;
  const throttle = createThrottle("S1", 1, () => now);
  now += 3_600_000;
  for (let index = 0; index < 20; index++) expect(throttle.take("query", 1)).toBe(true);
  expect(throttle.take("query", 1)).toBe(false);
});

test.each([
  ["S1", 1, { identity: 100, query: 20, configuration: 20, twinRead: 100, twinWrite: 50 }],
  ["S1", 5, { identity: 500, query: 100, configuration: 100, twinRead: 100, twinWrite: 50 }],
  ["S2", 20, { identity: 2000, query: 400, configuration: 400, twinRead: 200, twinWrite: 100 }],
  ["S3", 2, { identity: 10_000, query: 2000, configuration: 40, twinRead: 1000, twinWrite: 500 }],
] as const)("%s with %i units has the budgets of the table", (tier, units, wanted) => {
  const budgets = budgetsOf(tier, units);
  expect(budgets.identity.perSecond * 60).toBeCloseTo(wanted.identity);
  expect(budgets.query.perSecond * 60).toBeCloseTo(wanted.query);
  expect(budgets.configuration.perSecond * 60).toBeCloseTo(wanted.configuration);
  expect(budgets.twinRead.perSecond).toBe(wanted.twinRead);
  expect(budgets.twinWrite.perSecond).toBe(wanted.twinWrite);
});

test("over any time no more passes than the burst and the rate allow, and a patient client gets its rate", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...TIERS),
      fc.constantFrom(...OPERATION_CLASSES),
      fc.array(fc.integer({ min: 0, max: 5000 }), { minLength: 1, maxLength: 200 }),
      (tier, operation, pauses) => {
        let now = 0;
        const throttle = createThrottle(tier, 1, () => now);
        const { perSecond, capacity } = budgetsOf(tier, 1)[operation];
        let passed = 0;
        for (const pause of pauses) {
          now += pause;
          while (passed < 100_000 && throttle.take(operation, 1)) passed += 1;
        }
        const allowed = capacity + (now / 1000) * perSecond;
        expect(passed).toBeLessThanOrEqual(allowed + 1e-3);
        expect(passed).toBeGreaterThanOrEqual(Math.min(100_000, capacity) - 1e-3);
      },
    ),
    { numRuns: 30 },
  );
});
