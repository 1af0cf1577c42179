import fc from "fast-check";
import { expect, test } from "vitest";
import { objective } from "../../test/stories/story.ts";
import { METRICS } from "../api/inference-deployment.ts";
import { instant, seconds, timestampOf } from "../base/time.ts";
import { type Evidence, isFresh, judge, judgeObjective, measure, type Sample } from "./judge.ts";

const NOW = instant(Date.UTC(2026, 0, 1));

function sample(
  device: string,
  more: Partial<Sample["window"]> & { p95?: number; stratum?: string } = {},
): Sample {
  const { p95 = 50, stratum = "a", ...window } = more;
  return {
    device,
    stratum,
    window: {
      release: "plant-a.v2",
      seconds: 60,
      inferences: 600,
      errors: 0,
      framesPerSecond: 10,
      latencyMilliseconds: { p50: p95 / 2, p95, p99: p95 * 2 },
      endedAt: timestampOf(NOW),
      ...window,
    },
  };
}

function evidence(cohort: readonly Sample[], more: Partial<Evidence> = {}): Evidence {
  return { now: NOW, exposed: Math.max(1, cohort.length), cohort, control: [], before: [], ...more };
}

const fleet = fc.array(
  fc.record({
    p95: fc.oneof(fc.double(), fc.integer({ min: 0, max: 500 })),
    inferences: fc.oneof(fc.integer({ min: -5, max: 2000 }), fc.constant(Number.NaN)),
    errors: fc.integer({ min: -1, max: 100 }),
    framesPerSecond: fc.oneof(fc.double(), fc.integer({ min: 0, max: 60 })),
    stratum: fc.constantFrom("a", "b"),
  }),
  { maxLength: 8 },
);

test("nothing passes without the devices and the inferences that it needs", () => {
  const bounds = fc.record({
    metric: fc.constantFrom(...METRICS),
    direction: fc.constantFrom("AtMost" as const, "AtLeast" as const),
    warning: fc.option(fc.integer({ min: 0, max: 300 }), { nil: undefined }),
    critical: fc.option(fc.integer({ min: 0, max: 300 }), { nil: undefined }),
    maximumRatioToStable: fc.constantFrom(undefined, "2.0"),
    minimumInferences: fc.integer({ min: 1, max: 3000 }),
    minimumDevices: fc.integer({ min: 1, max: 6 }),
    consecutive: fc.integer({ min: 1, max: 3 }),
  });
  fc.assert(
    fc.property(bounds, fleet, fleet, fc.nat(8), (given, cohort, control, exposed) => {
      const { warning, critical, maximumRatioToStable, ...rest } = given;
      const asked = objective({
        ...rest,
        ...(warning === undefined ? {} : { warning }),
        ...(critical === undefined ? {} : { critical }),
        ...(maximumRatioToStable === undefined ? {} : { maximumRatioToStable }),
      });
      const samples = cohort.map((one, index) => sample(`d${index}`, one));
      const result = judgeObjective(
        asked,
        evidence(samples, { exposed, control: control.map((one, index) => sample(`c${index}`, one)) }),
      );
      if (result.verdict !== "Pass" && result.verdict !== "Fail" && result.verdict !== "Warn") return;
      expect(result.devices).toBeGreaterThanOrEqual(Math.min(given.minimumDevices, Math.max(1, exposed)));
      expect(result.devices).toBeGreaterThan(0);
      expect(result.samples).toBeGreaterThanOrEqual(given.minimumInferences);
      expect(Number.isFinite(Number(result.value))).toBe(true);
    }),
    { numRuns: 3000 },
  );
});

test("no windows are Inconclusive, and the message says what is missing", () => {
  const result = judgeObjective(
    objective({ critical: 100, minimumDevices: 3 }),
    evidence([], { exposed: 5 }),
  );
  expect(result.verdict).toBe("Inconclusive");
  expect(result.message).toBe(
    "latencyP95Milliseconds: 0 of 3 devices and 0 of 100 inferences reported with the candidate",
  );
});

test("an objective that says no more than its bound wants one device, one inference and two windows", () => {
  const bare = { metric: "latencyP95Milliseconds", warning: 100 } as Parameters<typeof judgeObjective>[0];
  expect(judgeObjective(bare, evidence([sample("a", { inferences: 1 })])).verdict).toBe("Pass");
  const slow = [sample("a", { p95: 150 })];
  const first = judgeObjective(bare, evidence(slow));
  expect(first).toMatchObject({
    verdict: "Inconclusive",
    message: expect.stringContaining("2 windows in a row"),
  });
  const later = instant(NOW + seconds(61));
  const next = [sample("a", { p95: 150, endedAt: timestampOf(later) })];
  expect(judgeObjective(bare, evidence(next, { now: later, before: [first] })).verdict).toBe("Warn");
});

test("an idle camera is no evidence", () => {
  const idle = sample("d", { inferences: 0, framesPerSecond: 0 });
  const asked = objective({
    metric: "framesPerSecond",
    direction: "AtLeast",
    critical: 5,
    minimumInferences: 1,
  });
  expect(judgeObjective(asked, evidence([idle])).verdict).toBe("Inconclusive");
});

test("an absolute critical bound acts at once", () => {
  expect(judgeObjective(objective({ critical: 200 }), evidence([sample("d", { p95: 201 })])).verdict).toBe(
    "Fail",
  );
  expect(judgeObjective(objective({ critical: 200 }), evidence([sample("d", { p95: 200 })])).verdict).toBe(
    "Pass",
  );
});

test("a warning waits for its confirmation by a later window, and forgets a breach that ended", () => {
  const asked = objective({ warning: 100, consecutive: 2 });
  const first = judgeObjective(asked, evidence([sample("d", { p95: 120 })]));
  expect(first).toMatchObject({
    verdict: "Inconclusive",
    breachedSince: timestampOf(NOW),
    bound: "warning 100",
  });

  const soon = instant(NOW + seconds(60));
  const stale = judgeObjective(asked, evidence([sample("d", { p95: 120 })], { now: soon, before: [first] }));
  expect(stale.verdict).toBe("Inconclusive");

  const again = sample("d", { p95: 120, endedAt: timestampOf(soon) });
  expect(judgeObjective(asked, evidence([again], { now: soon, before: [first] })).verdict).toBe("Warn");

  const well = judgeObjective(
    asked,
    evidence([sample("d", { p95: 90, endedAt: timestampOf(soon) })], { now: soon, before: [first] }),
  );
  expect(well).toMatchObject({ verdict: "Pass" });
  expect(well.breachedSince).toBeUndefined();
});

test("a breach of another kind waits anew", () => {
  const asked = objective({ warning: 100, maximumRatioToStable: "2.0", consecutive: 2 });
  const before = { ...judgeObjective(asked, evidence([sample("d", { p95: 120 })])) };
  const later = instant(NOW + seconds(600));
  const endedAt = timestampOf(later);
  const result = judgeObjective(
    asked,
    evidence([sample("d", { p95: 150, endedAt })], {
      now: later,
      before: [before],
      control: [sample("c", { p95: 50, endedAt })],
    }),
  );
  expect(result).toMatchObject({ verdict: "Inconclusive", bound: "2.0 x stable", breachedSince: endedAt });
});

test("a ratio without a control is skipped, and says so", () => {
  const result = judgeObjective(objective({ maximumRatioToStable: "2.0" }), evidence([sample("d")]));
  expect(result).toMatchObject({ verdict: "Skipped" });
  expect(result.message).toContain("no device runs stable beside it");
  expect(judge([objective({ maximumRatioToStable: "2.0" })], evidence([sample("d")])).overall).toBe("Pass");
});

test("an unhealthy stable does not stand in the way of its fix", () => {
  const asked = objective({ warning: 100, critical: 200, maximumRatioToStable: "2.0" });
  const control = [sample("c", { p95: 900 })];
  expect(judgeObjective(asked, evidence([sample("d", { p95: 60 })], { control })).verdict).toBe("Pass");
});

test("a control without errors is as good as its number of inferences proves", () => {
  const asked = objective({ metric: "errorRate", maximumRatioToStable: "2.0", consecutive: 1 });
  const control = [sample("c", { inferences: 1000, errors: 0 })];
  const rated = (errors: number) =>
    judgeObjective(asked, evidence([sample("d", { inferences: 1000, errors })], { control }));
  expect(rated(2).verdict).toBe("Pass");
  expect(rated(30).verdict).toBe("Fail");
});

test("numbers that cannot be are an error of measurement, not a verdict", () => {
  for (const window of [
    { p95: Number.NaN },
    { errors: 700 },
    { framesPerSecond: -1 },
    { inferences: Number.POSITIVE_INFINITY },
  ]) {
    const result = judgeObjective(objective({ critical: 200 }), evidence([sample("d", window), sample("e")]));
    expect(result.verdict).toBe("Error");
    expect(result.message).toContain("d reports values that cannot be");
  }
});

test("an error rate is weighted by inferences", () => {
  const samples = [sample("a", { inferences: 900, errors: 0 }), sample("b", { inferences: 100, errors: 50 })];
  expect(measure("errorRate", "AtMost", samples)).toBe(0.05);
});

test("a percentile is the weighted median of each stratum, and of those the worst", () => {
  const samples = [
    sample("a", { p95: 40, stratum: "north", inferences: 1000 }),
    sample("b", { p95: 400, stratum: "north", inferences: 10 }),
    sample("c", { p95: 70, stratum: "south" }),
    sample("d", { p95: 80, stratum: "south" }),
  ];
  expect(measure("latencyP95Milliseconds", "AtMost", samples)).toBe(80);
  expect(
    measure("framesPerSecond", "AtLeast", [
      sample("a", { framesPerSecond: 30 }),
      sample("b", { stratum: "x", framesPerSecond: 5 }),
    ]),
  ).toBe(5);
});

test("the worst verdict is the verdict", () => {
  const both = [objective({ critical: 10 }), objective({ metric: "errorRate", critical: "0.5" })];
  expect(judge(both, evidence([sample("d")])).overall).toBe("Fail");
  expect(judge([], evidence([])).overall).toBe("Pass");
  expect(judge(both, evidence([])).overall).toBe("Inconclusive");
});

test("a window is fresh for three of its lengths, and a clock that runs ahead counts as now", () => {
  const ended = (ago: number) => sample("d", { endedAt: timestampOf(instant(NOW - ago)) }).window;
  expect(isFresh(ended(seconds(180)), NOW)).toBe(true);
  expect(isFresh(ended(seconds(181)), NOW)).toBe(false);
  expect(isFresh(ended(-seconds(3600)), NOW)).toBe(true);
  expect(isFresh({ ...ended(0), endedAt: "never" }, NOW)).toBe(false);
});
