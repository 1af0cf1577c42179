import { expect, test } from "vitest";
import { createQuota, dailyQuotaOf, messagesOf, type QuotaOptions } from "./quota.ts";

const NOON = Date.parse("2026-03-01T12:00:00Z");
const HOUR = 3_600_000;

function quotaOf(given: Partial<QuotaOptions> = {}) {
  const clock = { now: NOON };
  const options: QuotaOptions = { tier: "S1", units: 1, dailyQuota: null, limited: true, ...given };
  return { clock, quota: createQuota(options, () => clock.now) };
}

test.each([
  ["F1", 1, 8000],
  ["S1", 2, 800_000],
  ["B1", 1, 400_000],
  ["S2", 3, 18_000_000],
  ["B2", 1, 6_000_000],
  ["S3", 10, 3_000_000_000],
] as const)("%s with %i units has %i messages a day", (tier, units, wanted) => {
  expect(dailyQuotaOf(tier, units)).toBe(wanted);
});

test("a message is a piece of 4 KB, of half a KB in the free tier, and never nothing", () => {
  expect([0, 1, 4096, 4097, 8192].map((bytes) => messagesOf("S1", bytes))).toEqual([1, 1, 1, 2, 2]);
  expect([0, 512, 513, 4096].map((bytes) => messagesOf("F1", bytes))).toEqual([1, 1, 2, 8]);
});

test("the quota is spent by class, and whole again at midnight UTC", () => {
  const { clock, quota } = quotaOf({ dailyQuota: 3 });
  quota.charge("query", 5000);
  expect(quota.spent()).toBe(false);
  quota.charge("twinRead", 5000);
  expect(quota.spent()).toBe(true);
  expect(quota.report()).toMatchObject({
    day: "2026-03-01",
    limit: 3,
    messages: 4,
    left: 0,
    classes: { query: 2, twinRead: 2, twinWrite: 0 },
  });
  clock.now += 12 * HOUR - 1;
  expect(quota.spent()).toBe(true);
  clock.now += 1;
  expect(quota.spent()).toBe(false);
  expect(quota.report()).toMatchObject({ day: "2026-03-02", messages: 0, left: 3 });
});

test("without a limit messages are counted all the same", () => {
  const { quota } = quotaOf({ limited: false, dailyQuota: 1 });
  for (let index = 0; index < 5; index++) quota.charge("telemetry", 1);
  expect(quota.spent()).toBe(false);
  expect(quota.report()).toMatchObject({ limit: null, left: null, messages: 5 });
});
