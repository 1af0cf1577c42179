import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { objective } from "../../../test/builders/specs.ts";
import { memberAt, NOW, releaseNamed, running } from "../../../test/stories/seen.ts";
import { METRICS } from "../../api/inference-deployment.ts";
import { instant, minutes, seconds, timestampOf } from "../../base/time.ts";
import type { Member } from "../seen.ts";
import { type Collected, type EvidenceRules, evidenceOf, isFresh, lengthOf } from "./evidence.ts";
import { judge } from "./judge.ts";
import { implausibleBecause } from "./plausible.ts";

const digests = (name: string) => releaseNamed(name).spec.variants.map(({ digest }) => digest);
const EXPOSED = 10;
/** The first ten of twenty devices are exposed to v2. */
const given: EvidenceRules = {
  now: NOW,
  namespace: "plant-a",
  exposure: [{ threshold: EXPOSED * 1000, devices: EXPOSED }],
  stratifyBy: ["Site"],
  stepStarted: instant(NOW - minutes(30)),
  sweepTime: seconds(30),
  candidate: { release: "v2", digests: digests("v2") },
  stable: { release: "v1", digests: digests("v1") },
  releases: { v1: releaseNamed("v1"), v2: releaseNamed("v2") },
};

type Report = NonNullable<Member["report"]>;
type Said = Partial<Report> & { readonly ago?: number; readonly ran?: number };

/** A device that has run a release for half an hour, and what is different about it. */
function member(index: number, release: string, { ago = 0, ran = minutes(30), ...more }: Said = {}): Member {
  const base = running(memberAt(index), release, 50);
  const report = base.report!;
  const since = timestampOf(instant(NOW - ran));
  return {
    ...base,
    heardAt: instant(NOW - ago),
    report: { ...report, active: { ...report.active!, since }, ...more },
  };
}

function without(index: number, release: string, more: Said = {}): Member {
  const { report, ...base } = member(index, release, more);
  const { window: _, ...rest } = report!;
  return { ...base, report: rest };
}

/** As observe.ts does it. */
function checked(members: readonly Member[]): readonly Member[] {
  return members.map((one) => {
    if (one.report === null || one.heardAt === null) return one;
    const why = implausibleBecause(one.report, { heardAt: one.heardAt, previous: null });
    return why === null ? one : { ...one, implausible: { why, since: NOW } };
  });
}

const collect = (members: readonly Member[], more: Partial<EvidenceRules> = {}) => {
  const found = evidenceOf(checked(members), { ...given, ...more });
  return { ...found, covered: found.covering.size };
};
const named = ({ cohort }: Pick<Collected, "cohort">) => cohort.map(({ device }) => device);
const framesOf = ({ cohort }: Collected) => cohort.map(({ window }) => window.framesPerSecond);

describe("whose windows count", () => {
  test("exposed devices on the candidate, beside others of their strata on stable", () => {
    const found = collect([
      member(1, "v2"),
      member(2, "v1"),
      member(11, "v1"),
      member(12, "v2"),
      { ...member(13, "v1"), site: "elsewhere" },
      memberAt(3),
    ]);
    expect(named(found)).toEqual(["cam-1"]);
    expect(found.control.map(({ device }) => device)).toEqual(["cam-11"]);
    expect(found).toMatchObject({ running: 1, covered: 1, implausible: [] });
  });

  test("a device whose clock is a year behind, by its own clock until its heartbeat and by ours since", () => {
    const then = instant(NOW - minutes(365 * 24 * 60));
    const past = (ago: number) => timestampOf(instant(then - ago));
    const report = member(1, "v2").report!;
    const behind: Report = {
      ...report,
      active: { ...report.active!, since: past(minutes(60)) },
      window: { ...report.window!, endedAt: past(seconds(30)) },
      heartbeatAt: past(0),
    };
    const heard = (ago: number) =>
      collect([{ ...member(1, "v2"), report: behind, heardAt: instant(NOW - ago) }]);
    expect(heard(seconds(60)).covered).toBe(1);
    expect(heard(seconds(60)).cohort[0]?.endedAt).toBe(NOW - seconds(90));
    expect(heard(seconds(301)).covered).toBe(0);
  });

  test("not what a device said before it fell silent", () => {
    expect(collect([member(1, "v2", { ago: seconds(301) })])).toMatchObject({
      running: 1,
      covered: 0,
      cohort: [],
    });
    expect(collect([member(1, "v2", { ago: seconds(300) })]).covered).toBe(1);
  });

  test("not a release that is named like what every object inherits", () => {
    const candidate = { release: "constructor", digests: digests("v2") };
    expect(collect([member(1, "v2")], { candidate }).running).toBe(1);
  });
});

describe("silence of a device that runs", () => {
  test("is no frames per second, once it has run for longer than a window stays fresh", () => {
    expect(framesOf(collect([without(1, "v2")]))).toEqual([0]);
    expect(framesOf(collect([without(1, "v2", { ran: seconds(180) })]))).toEqual([]);
    expect(framesOf(collect([without(1, "v2", { ran: seconds(181) })]))).toEqual([0]);
  });

  test("is not what a report is that we read late", () => {
    const { window } = member(1, "v2").report!;
    const ended = { ...window!, endedAt: timestampOf(instant(NOW - seconds(170))) };
    const late = member(1, "v2", { window: ended, ago: seconds(290) });
    expect(framesOf(collect([late]))).toEqual([10]);
    const ago = minutes(15);
    const sent = timestampOf(instant(NOW - ago));
    const later = member(1, "v2", { ago, heartbeatAt: sent, window: { ...window!, endedAt: sent } });
    expect(framesOf(collect([later]))).toEqual([]);
    expect(framesOf(collect([later], { sweepTime: minutes(8) }))).toEqual([10]);
    expect(framesOf(collect([without(1, "v2", { ran: seconds(180), ago: seconds(290) })]))).toEqual([]);
  });

  test("is the same when an old window still stands in its twin, of this release or another", () => {
    const old = timestampOf(instant(NOW - minutes(20)));
    const { window } = member(1, "v2").report!;
    for (const release of ["plant-a.v1", "plant-a.v2"]) {
      const found = collect([member(1, "v2", { window: { ...window!, release, endedAt: old } })]);
      expect(found).toMatchObject({ running: 1, covered: 0 });
      expect(framesOf(found)).toEqual([0]);
    }
  });

  test("is measured by the device's own clock, which may be a year behind", () => {
    const then = (ago: number) => timestampOf(instant(NOW - minutes(365 * 24 * 60) - ago));
    const { report, ...base } = without(1, "v2");
    const since = (ago: number) => ({ ...report!.active!, since: then(ago) });
    const behind = (ago: number) => ({
      ...base,
      report: { ...report!, active: since(ago), heartbeatAt: then(0) },
    });
    expect(framesOf(collect([behind(seconds(60))]))).toEqual([]);
    expect(framesOf(collect([behind(minutes(10))]))).toEqual([0]);
  });

  test("is not judged while the device itself is silent", () => {
    expect(collect([without(1, "v2", { ago: seconds(301) })])).toMatchObject({
      running: 1,
      covered: 0,
      cohort: [],
    });
  });

  test("is measured from the step where the device's start makes no sense", () => {
    for (const ran of [-minutes(600), Number.NaN]) {
      const since = Number.isNaN(ran) ? "?" : timestampOf(instant(NOW - ran));
      const { report, ...base } = without(1, "v2");
      const odd = { ...base, report: { ...report!, active: { ...report!.active!, since } } };
      expect(framesOf(collect([odd]))).toEqual([0]);
      expect(framesOf(collect([odd], { stepStarted: instant(NOW - seconds(60)) }))).toEqual([]);
    }
  });

  test("is no evidence that a device covers the candidate, and a model that hangs fails a bound from below", () => {
    const hung = Array.from({ length: 4 }, (_, index) => without(index, "v2"));
    const judged = judge([objective({ metric: "framesPerSecond", critical: 5 })], {
      ...collect(hung),
      now: NOW,
      exposed: 4,
      before: [],
    });
    expect(judged).toMatchObject({ overall: "Fail", coverage: { running: 4, covered: 0 } });
  });

  test("counts beside as well: stable that idles is no reason against the candidate", () => {
    const asked = objective({ metric: "framesPerSecond", maximumRatioToStable: 2, consecutive: 1 });
    const found = collect([member(1, "v2"), without(11, "v1"), without(12, "v1"), member(13, "v1")]);
    expect(found.control.map(({ window }) => window.framesPerSecond)).toEqual([0, 0, 10]);
    expect(judge([asked], { ...found, now: NOW, exposed: 1, before: [] }).overall).toBe("Pass");
  });
});

test("a window is fresh for three of its lengths, of which a short one is a minute and a long one a quarter of an hour", () => {
  const long = (length: number) => ({ ...member(1, "v2").report!.window!, seconds: length });
  expect(isFresh(long(60), seconds(180))).toBe(true);
  expect(isFresh(long(60), seconds(181))).toBe(false);
  expect(isFresh(long(5), seconds(180))).toBe(true);
  expect(isFresh(long(900), minutes(45))).toBe(true);
  expect(isFresh(long(86_400), minutes(46))).toBe(false);
  expect([0, 5, 60, 86_400].map((length) => lengthOf(long(length)))).toEqual([60_000, 5000, 60_000, 900_000]);
});

// ── one device is not the fleet

const lie = fc.constantFrom<(report: Report) => Report>(
  (report) => ({ ...report, window: { ...report.window!, inferences: 5e12 } }),
  (report) => ({ ...report, window: { ...report.window!, errors: 601 } }),
  (report) => ({ ...report, window: { ...report.window!, seconds: 1e9 } }),
  (report) => ({ ...report, window: { ...report.window!, framesPerSecond: 1e12 } }),
  (report) => ({
    ...report,
    window: { ...report.window!, latencyMilliseconds: { p50: -1, p95: -1, p99: -1 } },
  }),
  (report) => ({ ...report, window: { ...report.window!, latencyMilliseconds: { p50: 9, p95: 1, p99: 1 } } }),
  (report) => ({
    ...report,
    window: { ...report.window!, latencyMilliseconds: { p50: 1, p95: Number.NaN, p99: 1 } },
  }),
  (report) => ({ ...report, window: { ...report.window!, endedAt: "2025-01-01T00:00:00Z" } }),
  (report) => ({ ...report, heartbeatAt: "2031-01-01T00:00:00Z" }),
);

const fleet = fc.array(
  fc.record({
    inferences: fc.integer({ min: 0, max: 2000 }),
    p95: fc.integer({ min: 0, max: 500 }),
    framesPerSecond: fc.integer({ min: 0, max: 60 }),
    site: fc.constantFrom("north", "south"),
  }),
  { minLength: 4, maxLength: 9 },
);

test("one device that lies is left out and named, and changes no verdict of the others", () => {
  const objectives = METRICS.flatMap((metric) => [
    objective({
      metric,
      warning: metric === "framesPerSecond" ? 20 : 1,
      minimumInferences: 50,
      consecutive: 1,
    }),
  ]);
  fc.assert(
    fc.property(fleet, lie, fc.boolean(), fc.nat(9), (others, distort, isExposed, place) => {
      const honest = others.map(({ inferences, p95, framesPerSecond, site }, index) => {
        const { report, ...one } = member(index, "v2");
        const latencyMilliseconds = { p50: p95, p95, p99: p95 };
        const window = { ...report!.window!, inferences, framesPerSecond, latencyMilliseconds };
        return { ...one, site, report: { ...report!, window } };
      });
      const devious = member(isExposed ? 9 : 11, isExposed ? "v2" : "v1");
      const hostile = { ...devious, site: "north", report: distort(devious.report!) };
      const all = [...honest.slice(0, place), hostile, ...honest.slice(place)];
      const stable = member(12, "v1");
      const look = (members: readonly Member[]) =>
        judge(objectives, {
          ...collect([...members, { ...stable, site: "north" }]),
          now: NOW,
          exposed: 10,
          before: [],
        });
      const [alone, together] = [look(honest), look(all)];
      const plain = (judgement: typeof alone) => judgement.results.map(({ message: _, ...result }) => result);
      expect(together.overall).toBe(alone.overall);
      expect(plain(together)).toEqual(plain(alone));
      expect(together.implausible).toEqual(isExposed ? ["cam-9"] : []);
      expect(together.coverage.covered).toBe(alone.coverage.covered);
    }),
    { numRuns: 500 },
  );
});
