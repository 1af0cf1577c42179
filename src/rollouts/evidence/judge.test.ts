import fc from "fast-check";
import { expect, test } from "vitest";
import { objective } from "../../../test/builders/specs.ts";
import { METRICS } from "../../api/inference-deployment.ts";
import { instant, parseTimestamp, seconds, timestampOf } from "../../base/time.ts";
import type { Sample } from "./evidence.ts";
import { type Evidence, judge, judgeObjective, measure } from "./judge.ts";

const NOW = instant(Date.UTC(2026, 0, 1));

function sample(
  device: string,
  more: Partial<Sample["window"]> & { p95?: number; stratum?: string } = {},
): Sample {
  const { p95 = 50, stratum = "a", ...window } = more;
  return {
    device,
    stratum,
    endedAt: parseTimestamp(window.endedAt ?? timestampOf(NOW))!,
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
  return {
    now: NOW,
    exposed: Math.max(1, cohort.length),
    running: cohort.length,
    covering: new Set(cohort.filter(({ window }) => window.inferences > 0).map(({ device }) => device)),
    implausible: [],
    cohort,
    control: [],
    before: [],
    ...more,
  };
}

const fleet = fc.array(
  fc.record({
    p95: fc.integer({ min: 0, max: 500 }),
    inferences: fc.oneof(fc.integer({ min: 0, max: 2000 }), fc.constant(0), fc.integer({ min: 0, max: 5e9 })),
    errors: fc.constant(0),
    framesPerSecond: fc.integer({ min: 0, max: 60 }),
    stratum: fc.constantFrom("a", "b"),
  }),
  { maxLength: 8 },
);

test("nothing passes without the devices and the inferences that it needs", () => {
  const bounds = fc.record({
    metric: fc.constantFrom(...METRICS),
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
      // Doing too little is what frames per second are about: it does not excuse itself.
      if (given.metric !== "framesPerSecond" || result.verdict === "Pass")
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
    "latencyP95Milliseconds requires 3 devices and 100 inferences with the candidate; 0 devices with 0 inferences have reported",
  );
});

test("an objective that says no more than its bound wants one device, one inference and two windows", () => {
  const bare = { metric: "latencyP95Milliseconds", warning: 100 } as Parameters<typeof judgeObjective>[0];
  expect(judgeObjective(bare, evidence([sample("a", { inferences: 1 })])).verdict).toBe("Pass");
  const slow = [sample("a", { p95: 150 })];
  const first = judgeObjective(bare, evidence(slow));
  expect(first).toMatchObject({
    verdict: "Inconclusive",
    message: expect.stringMatching(/; not confirmed yet, which requires 2 consecutive windows$/),
  });
  const later = instant(NOW + seconds(61));
  const next = [sample("a", { p95: 150, endedAt: timestampOf(later) })];
  expect(judgeObjective(bare, evidence(next, { now: later, before: [first] })).verdict).toBe("Warn");
});

test("frames per second of devices that infer nothing are 0, and fail a bound from below", () => {
  const asked = objective({ metric: "framesPerSecond", critical: 5, minimumInferences: 500 });
  const idle = sample("d", { inferences: 0, framesPerSecond: 0 });
  const result = judgeObjective(asked, evidence([idle, sample("e", { inferences: 0, framesPerSecond: 0 })]));
  expect(result).toMatchObject({ verdict: "Fail", value: "0", devices: 2, samples: 0 });
  expect(result.message).toBe(
    "framesPerSecond is 0, below the critical bound 5, over 2 devices and 0 inferences; 2 devices without inferences: d, e",
  );
});

test("most devices of a stratum decide how many frames it does, not the busiest", () => {
  const hung = ["a", "b"].map((name) => sample(name, { inferences: 0, framesPerSecond: 0 }));
  expect(measure("framesPerSecond", [...hung, sample("c")])).toBe(0);
  expect(measure("framesPerSecond", [hung[0]!, sample("c"), sample("d")])).toBe(10);
});

test("devices that infer nothing have no latency and no error rate, and pass nothing", () => {
  const idle = sample("d", { inferences: 0, p95: 0 });
  for (const metric of ["latencyP95Milliseconds", "errorRate"] as const) {
    const result = judgeObjective(objective({ metric, critical: 1, minimumInferences: 1 }), evidence([idle]));
    expect(result).toMatchObject({ verdict: "Inconclusive", devices: 0, samples: 0 });
    expect(result.message).toContain("1 device without inferences: d");
  }
  const { coverage } = judge([objective({ critical: 100 })], evidence([idle, sample("e"), sample("f")]));
  expect(coverage).toEqual({ running: 3, covered: 2, implausible: 0 });
});

test("no model that hangs passes anything, whatever is asked of it", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...METRICS),
      fc.integer({ min: 1, max: 100 }),
      fc.nat(8),
      fc.boolean(),
      (metric, bound, count, hasControl) => {
        const hung = Array.from({ length: count }, (_, n) =>
          sample(`d${n}`, { inferences: 0, framesPerSecond: 0, p95: 0 }),
        );
        const control = hasControl ? [sample("c")] : [];
        for (const bounds of [{ critical: bound }, { warning: bound }, { maximumRatioToStable: bound }]) {
          const asked = objective({ metric, ...bounds, consecutive: 1 });
          const { verdict } = judgeObjective(asked, evidence(hung, { control }));
          expect(["Fail", "Warn", "Inconclusive", "Skipped"]).toContain(verdict);
          if (metric === "framesPerSecond" && count > 0 && "critical" in bounds) expect(verdict).toBe("Fail");
          expect(judge([asked], evidence(hung, { control })).overall).not.toBe("Pass");
          expect(judge([asked], evidence(hung, { control: hung })).overall).not.toBe("Pass");
        }
      },
    ),
  );
});

test("too few inferences are said as they are: what is needed, and what there is", () => {
  const asked = objective({ critical: 100, minimumInferences: 10_000 });
  const six = ["a", "b", "c", "d", "e", "f"].map((name) => sample(name, { inferences: 10 }));
  expect(judgeObjective(asked, evidence(six))).toMatchObject({
    verdict: "Inconclusive",
    message:
      "latencyP95Milliseconds requires 1 device and 10000 inferences with the candidate; 6 devices with 60 inferences have reported",
  });
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

test("a breach of another kind waits again", () => {
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
  expect(result.message).toContain("no device runs the stable release");
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

test("devices that cannot be believed are named, and stop nothing", () => {
  const implausible = [{ device: "z", why: "700 errors of 600 inferences" }];
  const judged = judge([objective({ critical: 200 })], evidence([sample("d")], { implausible, running: 2 }));
  expect(judged).toMatchObject({
    overall: "Pass",
    implausible: ["z"],
    coverage: { running: 2, covered: 1, implausible: 1 },
  });
  expect(judged.results[0]?.message).toContain(
    "1 device excluded because of implausible reports: z (700 errors of 600 inferences)",
  );
});

test("a minimum of devices does not wait for one that is left out", () => {
  const implausible = [{ device: "z", why: "p95 is -1" }];
  const asked = objective({ critical: 200, minimumDevices: 3 });
  const two = [sample("d"), sample("e")];
  expect(judgeObjective(asked, evidence(two, { implausible, exposed: 3 })).verdict).toBe("Pass");
  expect(judgeObjective(asked, evidence(two, { implausible, exposed: 4 })).verdict).toBe("Inconclusive");
});

test("if no device can be believed, that is Inconclusive, with objectives and without", () => {
  const implausible = Array.from({ length: 12 }, (_, n) => ({ device: `d${n}`, why: "p95 is -1" }));
  for (const objectives of [[], [objective({ maximumRatioToStable: 2 })], [objective({ critical: 5 })]]) {
    const judged = judge(objectives, evidence([], { implausible, running: 12, control: [sample("c")] }));
    expect(judged.overall).toBe("Inconclusive");
    expect(judged.message).toContain("d0 (p95 is -1), d1 (p95 is -1), d10 (p95 is -1) and 9 more");
    expect(judged.implausible).toHaveLength(10);
  }
});

test("no message is longer than a status takes", () => {
  const implausible = Array.from({ length: 12 }, (_, n) => ({
    device: `${n}`.repeat(128),
    why: "x".repeat(300),
  }));
  const { results } = judge([objective({ critical: 5 })], evidence([], { implausible }));
  expect(results[0]?.message?.length).toBeLessThanOrEqual(1024);
});

test("an error rate is weighted by inferences", () => {
  const samples = [sample("a", { inferences: 900, errors: 0 }), sample("b", { inferences: 100, errors: 50 })];
  expect(measure("errorRate", samples)).toBe(0.125);
});

test("a device counts for no more than three times the median device", () => {
  // 300 of the 1,000,000 count, beside 100, 100 and 100: half of the errors of half of the weight.
  const loud = sample("a", { inferences: 1_000_000, errors: 500_000 });
  const quiet = ["b", "c", "d"].map((name) => sample(name, { inferences: 100 }));
  expect(measure("errorRate", [loud, ...quiet])).toBe(0.25);
  const asked = objective({ metric: "errorRate", critical: "0.5", minimumInferences: 601 });
  expect(judgeObjective(asked, evidence([loud, ...quiet]))).toMatchObject({
    verdict: "Inconclusive",
    samples: 600,
  });
});

const honest = fc.record({
  p95: fc.integer({ min: 0, max: 500 }),
  inferences: fc.integer({ min: 1, max: 2000 }),
  framesPerSecond: fc.integer({ min: 0, max: 60 }),
  stratum: fc.constantFrom("a", "b"),
});
const everyObjective = METRICS.map((metric) => objective({ metric, critical: 1, minimumInferences: 1 }));

test("beyond the cap, no count of one device changes anything", () => {
  fc.assert(
    fc.property(
      fc.array(honest, { minLength: 4, maxLength: 9 }),
      fc.integer({ min: 0, max: 100 }),
      fc.integer({ min: 1, max: 1000 }),
      (others, percent, factor) => {
        const cohort = others.map((one, n) => sample(`d${n}`, one));
        const most = 3 * Math.max(...others.map(({ inferences }) => inferences));
        const loud = (times: number) =>
          sample("loud", { inferences: most * 100 * times, errors: most * percent * times });
        const judged = (times: number) => judge(everyObjective, evidence([...cohort, loud(times)]));
        expect(judged(factor)).toEqual(judged(1));
      },
    ),
  );
});

test("the order of devices means nothing", () => {
  fc.assert(
    fc.property(
      fc
        .array(honest, { minLength: 1, maxLength: 9 })
        .chain((others) =>
          fc.tuple(
            fc.constant(others.map((one, n) => sample(`d${n}`, one))),
            fc.shuffledSubarray([...others.keys()], { minLength: others.length }),
          ),
        ),
      ([cohort, order]) => {
        const shuffled = order.map((n) => cohort[n]!);
        const control = [sample("c", { inferences: 7, errors: 1 }), sample("e", { p95: 9 })];
        const [a, b] = [cohort, shuffled].map((one) => judge(everyObjective, evidence(one, { control })));
        expect(b?.overall).toBe(a?.overall);
        expect(b?.results.map(({ verdict }) => verdict)).toEqual(a?.results.map(({ verdict }) => verdict));
        for (const [n, result] of (a?.results ?? []).entries())
          expect(Number(b?.results[n]?.value)).toBeCloseTo(Number(result.value), 3);
      },
    ),
  );
});

test("a confirmation takes the median window, and windows of most devices", () => {
  const asked = objective({ warning: 100, consecutive: 2 });
  const first = judgeObjective(asked, evidence(["a", "b", "c"].map((name) => sample(name, { p95: 150 }))));
  const soon = instant(NOW + seconds(61));
  const look = (ends: readonly number[], long = 60) =>
    judgeObjective(
      asked,
      evidence(
        ends.map((ago, n) =>
          sample(`d${n}`, {
            p95: 150,
            endedAt: timestampOf(instant(soon - seconds(ago))),
            seconds: n === 0 ? long : 60,
          }),
        ),
        { now: soon, before: [first] },
      ),
    ).verdict;
  expect(look([0, 61, 61])).toBe("Inconclusive");
  expect(look([0, 0, 61])).toBe("Warn");
  // One device that reports a window of a day does not put the confirmation off for a day.
  expect(look([0, 0, 0], 86_400)).toBe("Warn");
});

test("a percentile is the weighted median of each stratum, and of those the worst", () => {
  const samples = [
    sample("a", { p95: 40, stratum: "north", inferences: 1000 }),
    sample("b", { p95: 400, stratum: "north", inferences: 10 }),
    sample("c", { p95: 70, stratum: "south" }),
    sample("d", { p95: 80, stratum: "south" }),
  ];
  expect(measure("latencyP95Milliseconds", samples)).toBe(80);
  expect(
    measure("framesPerSecond", [
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
