import { expect, test } from "vitest";
import { duration, releaseSpec } from "../../../test/builders/specs.ts";
import type { InferenceReport, UpdateState } from "../../api/device-contract.ts";
import { type Instant, instant, minutes, timestampOf } from "../../base/time.ts";
import type { Member } from "../seen.ts";
import { allDevices } from "../state/exposure.ts";
import { coverageOf, failureBudget, hasArrived } from "./budget.ts";
import { type Cohort, cohortOf } from "./cohort.ts";
import type { CohortRules } from "./standing.ts";

const NOW = instant(Date.UTC(2026, 0, 10));
const STEP = instant(NOW - minutes(60));
const { digest } = releaseSpec("v2").variants[0]!;
const candidate = { release: "v2", digests: [digest] };
const ago = (minute: number): Instant => instant(NOW - minutes(minute));

type Said = {
  /** Minutes since it was heard. */
  readonly heard?: number;
  readonly state?: UpdateState;
  /** Minutes since its update report. */
  readonly updated?: number;
  readonly active?: string;
  /** How far its clock runs ahead, in minutes. */
  readonly ahead?: number;
};

/** A device of the cohort, as it was last heard; `null`: never. */
function member(device: string, said: Said | null, more: Partial<Member> = {}): Member {
  const { heard = 0, state, active, updated = heard, ahead = 0 } = said ?? {};
  const clock = (minute: number) => timestampOf(instant(ago(minute) + minutes(ahead)));
  const release = "plant-a.v2";
  const report: InferenceReport = {
    contract: 1,
    heartbeatAt: clock(heard),
    ...(active === undefined
      ? {}
      : {
          active: {
            release,
            digest: active,
            variant: "fp32",
            executionProvider: "cpu",
            since: clock(updated),
          },
        }),
    ...(state === undefined
      ? {}
      : {
          update: {
            release,
            digest,
            state,
            at: clock(updated),
            ...(state === "Failed"
              ? { error: { code: "LoadFailed", message: "see https://store.invalid/m?sig=secret" } }
              : {}),
          },
        }),
  };
  return {
    device,
    site: undefined,
    deviceClass: "orin",
    iotEdge: true,
    bucket: 1,
    tagged: true,
    namesCluster: true,
    pointer: null,
    report: said === null ? null : report,
    heardAt: said === null ? null : ago(heard),
    enabled: true,
    implausible: null,
    ...more,
  };
}

type Policy = "Skip" | "Wait" | "CountAsFailed";

function rules(policy: Policy = "Skip", more: Partial<CohortRules> = {}): CohortRules {
  return {
    now: NOW,
    namespace: "plant-a",
    candidate,
    release: undefined,
    exposure: allDevices(1),
    previousExposure: [],
    startedAt: STEP,
    stepStarted: STEP,
    hearingSince: instant(0),
    sweepTime: minutes(1),
    isFirst: false,
    offline: { policy, after: duration("30m") },
    deadline: minutes(120),
    stratumOf: ({ site, deviceClass }) => `${site ?? ""}\n${deviceClass}`,
    ...more,
  };
}

const cohort = (members: readonly Member[], how: CohortRules = rules()): Cohort => cohortOf(members, how);
const many = (count: number, of: (index: number) => Member) => Array.from({ length: count }, (_, n) => of(n));
const ran = (device: string) => member(device, { state: "Running", active: digest });
const failed = (device: string) => member(device, { state: "Failed" });
/** It ran the candidate, and was last heard so long ago. */
const fell = (device: string, heard: number, more: Partial<Member> = {}) =>
  member(device, { heard, state: "Running", active: digest }, more);
/** It has not reported anything about the candidate. */
const old = (device: string, heard: number, more: Partial<Member> = {}) =>
  member(device, { heard, active: "sha256:old" }, more);

test("a device runs a release when it says that its digest is active, not when it was pointed at it", () => {
  expect(cohort([member("d", { state: "Running", active: "sha256:other" })]).running).toBe(0);
  expect(cohort([ran("d")])).toMatchObject({ running: 1, waiting: 0 });
});

test("a device that reported a failure has failed although it still runs what it had", () => {
  expect(cohort([member("d", { state: "Failed", active: digest })])).toMatchObject({ failed: 1, running: 0 });
});

test("a failure that was reported before the rollout began is no evidence", () => {
  expect(cohort([member("d", { state: "Failed", updated: 61 })])).toMatchObject({ failed: 0, waiting: 1 });
  expect(cohort([member("d", { state: "Failed", updated: 59 })])).toMatchObject({ failed: 1 });
});

test("a device that fell silent while it took the candidate in an earlier attempt is neither excused nor failed", () => {
  for (const state of ["Downloading", "Checking", "Loading", "Probing"] as const) {
    const gone = member("d", { heard: 200, state, active: "sha256:old" });
    expect(cohort([gone])).toMatchObject({ excused: 0, waiting: 1, failed: 0 });
    expect(cohort([gone], rules("CountAsFailed"))).toMatchObject({ excused: 0, failed: 1 });
  }
  // One that had come to an end with it, or was about another release, was away for reasons of its own.
  const ended = member("d", { heard: 200, state: "Failed", active: "sha256:old" });
  expect(cohort([ended])).toMatchObject({ excused: 1, waiting: 0 });
  const { report } = member("d", { heard: 200, state: "Loading", active: "sha256:old" });
  const update = { ...report!.update!, release: "plant-a.v1", digest: "sha256:old" };
  const other = { ...ended, report: { ...report!, update } };
  expect(cohort([other])).toMatchObject({ excused: 1, waiting: 0 });
});

test("what a device dates by a wrong clock counts by the difference to its heartbeat", () => {
  for (const ahead of [-60 * 24, 60 * 24]) {
    expect(cohort([member("d", { state: "Failed", updated: 61, ahead })])).toMatchObject({ failed: 0 });
    expect(cohort([member("d", { state: "Failed", updated: 59, ahead })])).toMatchObject({ failed: 1 });
  }
});

test("a failure of another release of the same bytes is no failure of this one", () => {
  const other = member("d", { state: "Failed" });
  const { report } = other;
  const update = { ...report!.update!, release: "plant-a.v1" };
  expect(cohort([{ ...other, report: { ...report!, update } }])).toMatchObject({ failed: 0, waiting: 1 });
});

test("a device that ran it and fell silent is quiet first and lost in the end, whatever the policy", () => {
  for (const policy of ["Skip", "Wait", "CountAsFailed"] as const) {
    expect(cohort([fell("d", 4)], rules(policy))).toMatchObject({ running: 1, heard: [{ device: "d" }] });
    expect(cohort([fell("d", 10)], rules(policy))).toMatchObject({ running: 1, heard: [], failed: 0 });
    const lost = cohort([fell("d", 31)], rules(policy));
    expect(lost).toMatchObject({ running: 0, heard: [], failed: 1, lost: 1, offline: 1 });
    expect(lost.examples[0]).toMatch(/^d: stopped reporting after the update, silent since 2026-01-09T23:29/);
  }
});

test("where a sweep of the fleet takes long, reports count for as long as they may go unread", () => {
  const heard = (minute: number, sweep: number) =>
    cohort([fell("d", minute)], rules("Skip", { sweepTime: minutes(sweep) })).heard.length;
  expect([heard(5, 1), heard(6, 1)]).toEqual([1, 0]);
  expect([heard(13, 5), heard(14, 5)]).toEqual([1, 0]);
  // However slow it is, a dead device does not stay alive for it.
  expect([heard(23, 600), heard(24, 600)]).toEqual([1, 0]);
});

test("a device that fell silent while it loaded is lost, too", () => {
  expect(cohort([member("d", { heard: 31, state: "Downloading" })])).toMatchObject({ lost: 1 });
});

test("silence that the stable devices of a stratum share is not the release's doing", () => {
  const how = rules("Skip", { exposure: [{ site: "north", threshold: 10, devices: 1 }] });
  const north = (device: string, heard: number, bucket: number) =>
    heard === 31 && bucket < 10
      ? fell(device, heard, { site: "north", bucket })
      : old(device, heard, { site: "north", bucket });
  const isolated = [north("canary", 31, 1), ...many(9, (n) => north(`stable-${n}`, 1, 20))];
  expect(cohort(isolated, how)).toMatchObject({ lost: 1 });
  const outage = [north("canary", 31, 1), ...many(9, (n) => north(`stable-${n}`, 32, 20))];
  expect(cohort(outage, how)).toMatchObject({ lost: 0, running: 1, heard: [] });
});

test("only who was silent before being exposed is excused", () => {
  expect(cohort([ran("a"), old("d", 90)])).toMatchObject({ excused: 1, waiting: 0, reachable: 1 });
  // It was there when it was exposed, and has not been heard since.
  expect(cohort([ran("a"), old("d", 59)])).toMatchObject({ excused: 0, waiting: 1, missing: ["d"] });
  expect(cohort([ran("a"), old("d", 61)])).toMatchObject({ excused: 0, waiting: 1 });
});

test("the policy decides about those that were offline before", () => {
  expect(cohort([ran("a"), old("d", 90)], rules("Wait"))).toMatchObject({ offline: 1, waiting: 1 });
  expect(cohort([ran("a"), old("d", 90)], rules("CountAsFailed"))).toMatchObject({ failed: 1, tried: 2 });
});

test("a disabled device is neither waited for nor counted, and neither is one that never reported", () => {
  for (const policy of ["Skip", "Wait", "CountAsFailed"] as const) {
    const seen = cohort(
      [ran("a"), { ...old("off", 1), enabled: false }, member("never", null)],
      rules(policy),
    );
    expect(seen).toMatchObject({ excused: 2, waiting: 0, failed: 0, tried: 1 });
  }
});

test("where something ran before, a device that never reported is not waited for", () => {
  const early = rules("Skip", { stepStarted: ago(1) });
  expect(cohort([ran("a"), member("never", null)], early)).toMatchObject({ excused: 1, waiting: 0 });
});

test("where nothing ran before, a device that never reported is waited for until it is offline", () => {
  const early = rules("Skip", { isFirst: true, stepStarted: ago(29) });
  expect(cohort([ran("a"), member("never", null)], early)).toMatchObject({ waiting: 1 });
  const after = rules("Skip", { isFirst: true, stepStarted: ago(31) });
  expect(cohort([ran("a"), member("never", null)], after)).toMatchObject({ excused: 1, waiting: 0 });
  // A deadline that is shorter than offline.after excuses in time.
  const short = rules("Skip", { isFirst: true, stepStarted: ago(11), deadline: minutes(10) });
  expect(cohort([ran("a"), member("never", null)], short)).toMatchObject({ excused: 1, waiting: 0 });
});

test("silence counts from when the hub could be heard", () => {
  const how = rules("Skip", { hearingSince: ago(10) });
  expect(cohort([fell("d", 31)], how)).toMatchObject({ lost: 0, running: 1, offline: 0 });
});

test("an operator that has started waits a few minutes, and then for no device that was gone before", () => {
  const early = rules("Skip", { hearingSince: ago(1) });
  expect(cohort([ran("a"), old("behind", 60 * 24)], early)).toMatchObject({ excused: 0, waiting: 1 });
  const how = rules("Skip", { hearingSince: ago(6) });
  expect(cohort([ran("a"), old("d", 60 * 24)], how)).toMatchObject({ excused: 1, waiting: 0 });
  // And takes nobody's word, or clock, for having failed.
  const strict = rules("CountAsFailed", { hearingSince: ago(1) });
  expect(cohort([ran("a"), old("d", 60 * 24)], strict)).toMatchObject({ failed: 0, waiting: 1 });
});

test("an implausible device is no evidence, and counts as failed when it persists", () => {
  const lying = (since: number) => ({
    ...ran("liar"),
    implausible: { why: "more errors than inferences", since: ago(since) },
  });
  expect(cohort([lying(1)])).toMatchObject({ heard: [], running: 1, failed: 0 });
  const persistent = cohort([lying(6)]);
  expect(persistent).toMatchObject({ heard: [], running: 0, failed: 1 });
  expect(persistent.examples).toEqual(["liar: more errors than inferences"]);
});

test("a step arrives when no device at this width is waited for, and an empty one never does", () => {
  expect(hasArrived(cohort([old("d", 90)]), 2)).toBe(false);
  expect(hasArrived(cohort([ran("a"), old("d", 90)]), 2)).toBe(true);
  expect(hasArrived(cohort([ran("a"), old("d", 1)]), 2)).toBe(false);
});

test("a device that a width passed without is not waited for again, and counts against the budget", () => {
  const how = rules("Skip", { previousExposure: allDevices(200) });
  const fleet = [...many(199, (n) => ran(`ran-${n}`)), old("straggler", 1)];
  expect(cohort(fleet, how)).toMatchObject({ waiting: 0, stragglers: 1, missing: ["straggler"] });
  expect(hasArrived(cohort(fleet, how), 2)).toBe(true);
  expect(hasArrived(cohort([...many(9, (n) => ran(`ran-${n}`)), old("straggler", 1)], how), 2)).toBe(false);
});

test("the failure budget is judged once as many have tried as can be reached", () => {
  const spec = { percent: 2, minimumReported: 20 };
  const done = (bad: number, good: number) =>
    cohort([...many(bad, (n) => failed(`bad-${n}`)), ...many(good, (n) => ran(`good-${n}`))]);
  const few = cohort([failed("bad"), ...many(30, (n) => old(`busy-${n}`, 0))]);
  expect(failureBudget(few, spec, 2).spent).toBe(false);
  expect(failureBudget(done(1, 49), spec, 2).spent).toBe(false);
  expect(failureBudget(done(2, 48), spec, 2).spent).toBe(true);
  // Fewer are exposed than the minimum: all of them are enough.
  expect(failureBudget(done(1, 1), spec, 2).spent).toBe(true);
  expect(failureBudget(done(0, 5), spec, 0).spent).toBe(false);
});

test("one device that is offline does not switch the failure budget off", () => {
  const fleet = [...many(18, (n) => failed(`bad-${n}`)), ran("good"), old("offline", 90)];
  expect(failureBudget(cohort(fleet), undefined, 2).spent).toBe(true);
  expect(failureBudget(cohort(fleet, rules("Wait")), undefined, 2).spent).toBe(false);
  const waiting = rules("Wait", { offline: { policy: "Wait", after: duration("30m") } });
  expect(hasArrived(cohort(fleet, waiting), 2)).toBe(false);
});

test("the budget covers devices that are missing, too", () => {
  const fleet = (missing: number) =>
    cohort([...many(100 - missing, (n) => ran(`a-${n}`)), ...many(missing, (n) => old(`b-${n}`, 0))]);
  expect(failureBudget(fleet(2), undefined, 2).covers).toBe(true);
  expect(failureBudget(fleet(3), undefined, 2).covers).toBe(false);
});

test("coverage is a share of the devices that were there and have not failed", () => {
  const seen = cohort([
    ...many(18, (n) => ran(`a-${n}`)),
    fell("quiet-1", 10),
    fell("quiet-2", 10),
    failed("bad"),
    old("excused", 90),
  ]);
  expect(coverageOf(seen, seen.heard.length, 90, 0)).toMatchObject({ enough: true });
  expect(coverageOf(seen, 17, 90, 0)).toEqual({
    enough: false,
    message: "17 of 20 devices have provided recent evidence, and 18 must",
  });
  expect(coverageOf(seen, 17, 90, 3)).toMatchObject({ enough: true });
  expect(coverageOf(cohort([old("excused", 90)]), 0, 90, 0).enough).toBe(false);
});

test("each stratum that runs the candidate must be heard", () => {
  const north = many(19, (n) => ({ ...ran(`n-${n}`), site: "north" }));
  const seen = cohort([...north, { ...fell("s", 10), site: "south" }]);
  expect(coverageOf(seen, 19, 90, 0)).toEqual({
    enough: false,
    message: "19 of 20 devices have provided recent evidence, and 18 must; none of south / orin",
  });
});

test("examples of failures are few, sorted, and without secrets", () => {
  const { examples } = cohort(many(12, (n) => failed(`cam-${99 - n}`)));
  expect(examples).toHaveLength(10);
  expect(examples[0]).toMatch(/^cam-88: LoadFailed/);
  expect(examples.join()).not.toContain("secret");
});
