import fc from "fast-check";
import { expect, test } from "vitest";
import {
  budgetsOf,
  createThrottle,
  OPERATION_CLASSES,
  type OperationClass,
  type Shaping,
} from "./throttle.ts";
import { TIERS, type Tier } from "./tier.ts";

function throttleOf(tier: Tier, now: () => number, shaping: Shaping = "refuse") {
  return createThrottle({ tier, units: 1, shaping }, now);
}

test("two bulk requests of fifty pass in a minute of one S1 unit, and the third does not", () => {
  let now = 0;
  const throttle = throttleOf("S1", () => now);
  expect(throttle.take("identity", 50)).toBe(true);
  expect(throttle.take("identity", 50)).toBe(true);
  expect(throttle.take("identity", 50)).toBe(false);
  now += 30_000;
  expect(throttle.take("identity", 50)).toBe(true);
});

test("a budget that was not used for an hour lets no more through than a full one", () => {
  let now = 0;
  const throttle = throttleOf("S1", () => now);
  now += 3_600_000;
  for (let index = 0; index < 20; index++) expect(throttle.take("query", 1)).toBe(true);
  expect(throttle.take("query", 1)).toBe(false);
});

type Row = readonly [row: string, name: OperationClass, per: "second" | "minute", figures: readonly number[]];
const COLUMNS = [
  ["F1", 1],
  ["S1", 1],
  ["B1", 20],
  ["S2", 1],
  ["B2", 20],
  ["S3", 1],
  ["B3", 2],
] as const;

test.each<Row>([
  ["identity registry", "identity", "minute", [100, 100, 2000, 100, 2000, 5000, 10_000]],
  ["new device connections", "connection", "second", [100, 100, 240, 120, 2400, 6000, 12_000]],
  ["D2C sends", "telemetry", "second", [100, 100, 240, 120, 2400, 6000, 12_000]],
  ["queries", "query", "minute", [20, 20, 400, 20, 400, 1000, 2000]],
  ["twin reads", "twinRead", "second", [100, 100, 100, 100, 200, 500, 1000]],
  ["twin updates", "twinWrite", "second", [50, 50, 50, 50, 100, 250, 500]],
  ["direct methods in pieces of 4 KB", "method", "second", [40, 40, 800, 120, 2400, 6144, 12_288]],
  ["jobs: create, update, list, delete", "job", "minute", [100, 100, 2000, 100, 2000, 5000, 10_000]],
  ["jobs: work on devices", "jobDevice", "second", [10, 10, 10, 10, 20, 50, 100]],
  ["configurations and deployments", "configuration", "minute", [20, 20, 400, 20, 400, 20, 40]],
  ["C2D sends", "cloudMessage", "minute", [100, 100, 2000, 100, 2000, 5000, 10_000]],
  [
    "C2D receives over HTTPS",
    "cloudMessageReceive",
    "minute",
    [1000, 1000, 20_000, 1000, 20_000, 50_000, 100_000],
  ],
  ["file upload initiations", "fileUpload", "minute", [100, 100, 2000, 100, 2000, 5000, 10_000]],
])("%s: the table's figures for every tier", (_row, name, per, figures) => {
  const found = COLUMNS.map(([tier, units]) =>
    Math.round(budgetsOf(tier, units)[name].perSecond * (per === "minute" ? 60 : 1)),
  );
  expect(found).toEqual(figures);
});

test("requests beyond a burst wait for their turn one after another, and are refused once the queue is full", () => {
  let now = 0;
  const throttle = throttleOf("S1", () => now, "queue");
  const waits = Array.from({ length: 24 }, () => throttle.reserve("query", 1));
  expect(waits.slice(0, 20)).toEqual(Array(20).fill(0));
  expect(waits.slice(20)).toEqual([3000, 6000, 9000, null]);
  expect(throttle.left().query).toBe(0);
  now += 3000;
  expect(throttle.reserve("query", 1)).toBe(9000);
  now += 60_000;
  expect(throttle.reserve("query", 1)).toBe(0);
});

test("a bulk request beyond a whole budget is refused, not queued for ever", () => {
  const throttle = throttleOf("S1", () => 0, "queue");
  expect(throttle.reserve("identity", 101)).toBe(null);
  expect(throttle.reserve("identity", 100)).toBe(0);
});

test("without a queue there is nothing to wait for", () => {
  const throttle = throttleOf("S1", () => 0);
  for (let index = 0; index < 20; index++) expect(throttle.reserve("query", 1)).toBe(0);
  expect(throttle.reserve("query", 1)).toBe(null);
});

test("over any time no more passes than the burst and the rate allow, and a patient client gets its rate", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...TIERS),
      fc.constantFrom(...OPERATION_CLASSES),
      fc.array(fc.integer({ min: 0, max: 5000 }), { minLength: 1, maxLength: 200 }),
      (tier, operation, pauses) => {
        let now = 0;
        const throttle = throttleOf(tier, () => now);
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
