import { expect, test } from "vitest";
import { duration, releaseSpec } from "../../test/stories/story.ts";
import type { InferenceReport } from "../api/device-contract.ts";
import { instant, minutes, parseTimestamp, timestampOf } from "../base/time.ts";
import { cohortOf, failureBudget, isConverged, isOffline, type Silence } from "./cohort.ts";
import { everybody } from "./exposure.ts";
import type { Member } from "./seen.ts";

const NOW = instant(Date.UTC(2026, 0, 10));
const { digest } = releaseSpec("v2").variants[0]!;
const reference = { release: "v2", digests: [digest] };

type Said = {
  readonly beat?: number;
  readonly state?: "Running" | "Failed" | "Downloading";
  readonly active?: string;
};

/** A device that last reported so many minutes ago; `null`: never. */
function member(device: string, said: Said | null): Member {
  const { beat = 0, state, active } = said ?? {};
  const at = timestampOf(instant(NOW - minutes(beat)));
  const report: InferenceReport = {
    contract: 1,
    heartbeatAt: at,
    ...(active === undefined
      ? {}
      : {
          active: {
            release: "plant-a.v2",
            digest: active,
            variant: "fp32",
            executionProvider: "cpu",
            since: at,
          },
        }),
    ...(state === undefined
      ? {}
      : {
          update: {
            release: "plant-a.v2",
            digest,
            state,
            at,
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
    pointer: null,
    report: said === null ? null : report,
    heardAt: said === null ? null : parseTimestamp(report.heartbeatAt),
    enabled: true,
  };
}

function silence(policy: "Skip" | "Wait" | "CountAsFailed" = "Skip", more: Partial<Silence> = {}): Silence {
  return {
    now: NOW,
    stepStarted: instant(NOW - minutes(60)),
    hearingSince: instant(0),
    offline: { policy, after: duration("30m") },
    ...more,
  };
}

const cohort = (members: readonly Member[], how: Silence = silence()) =>
  cohortOf(members, everybody(members.length), reference, undefined, how);

const ran = member("ran", { state: "Running", active: digest });
const gone = member("gone", { beat: 31, state: "Downloading" });
const never = member("never", null);
const failed = member("failed", { state: "Failed" });
const busy = member("busy", { state: "Downloading" });

test("a device runs a release when it says that its digest is active, not when it was told to", () => {
  expect(cohort([member("told", { state: "Running", active: "sha256:other" })]).running).toBe(0);
  expect(cohort([ran]).running).toBe(1);
});

test("a device that failed counts as failed although it still runs what it had", () => {
  expect(cohort([member("d", { state: "Failed", active: digest })])).toMatchObject({ failed: 1, running: 0 });
});

test("the policy says what a silent device is", () => {
  expect(cohort([ran, gone, never])).toMatchObject({
    running: 1,
    offline: 2,
    waiting: 0,
    tried: 1,
    failed: 0,
  });
  expect(cohort([ran, gone], silence("Wait"))).toMatchObject({ offline: 1, waiting: 1 });
  expect(cohort([ran, gone], silence("CountAsFailed"))).toMatchObject({ offline: 1, failed: 1, tried: 2 });
});

test("a step in which nobody runs the candidate has not converged, whoever is excused", () => {
  expect(isConverged(cohort([gone, never]))).toBe(false);
  expect(isConverged(cohort([ran, gone]))).toBe(true);
  expect(isConverged(cohort([ran, busy]))).toBe(false);
});

test("silence counts from when the hub could be heard, and a clock that runs ahead is not believed", () => {
  expect(isOffline(gone, silence())).toBe(true);
  expect(isOffline(gone, silence("Skip", { hearingSince: instant(NOW - minutes(10)) }))).toBe(false);
  expect(isOffline(never, silence("Skip", { stepStarted: instant(NOW - minutes(5)) }))).toBe(false);
  expect(isOffline(member("ahead", { beat: -600 }), silence())).toBe(false);
});

test("the failure budget is judged once enough devices have tried", () => {
  const few = cohort([
    failed,
    ...Array.from({ length: 30 }, (_, index) => member(`busy-${index}`, { state: "Downloading" })),
  ]);
  const spec = { percent: 2, minimumExecuted: 20 };
  expect(failureBudget(few, spec, 2).spent).toBe(false);
  const done = (bad: number, good: number) =>
    cohort([
      ...Array.from({ length: bad }, (_, index) => ({ ...failed, device: `bad-${index}` })),
      ...Array.from({ length: good }, (_, index) => ({ ...ran, device: `good-${index}` })),
    ]);
  expect(failureBudget(done(1, 49), spec, 2).spent).toBe(false);
  expect(failureBudget(done(2, 48), spec, 2).spent).toBe(true);
  // Fewer are exposed than the minimum: all of them are enough.
  expect(failureBudget(done(1, 1), spec, 2).spent).toBe(true);
  expect(failureBudget(done(0, 5), spec, 0).spent).toBe(false);
});

test("examples of failures are few, sorted, and without secrets", () => {
  const many = cohort(
    Array.from({ length: 12 }, (_, index) => ({ ...failed, device: `cam-${String(99 - index)}` })),
  );
  expect(many.examples).toHaveLength(10);
  expect(many.examples[0]).toBe("cam-88: LoadFailed see https://store.invalid/m?…");
});
