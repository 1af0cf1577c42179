import fc from "fast-check";
import { expect, test } from "vitest";
import { look, memberAt, NOW, releaseNamed, running } from "../../test/stories/seen.ts";
import {
  deploymentSpec,
  objective,
  releaseSpec,
  strategy,
  duration as text,
} from "../../test/stories/story.ts";
import { requestAnnotation } from "../api/inference-deployment.ts";
import { instant, minutes } from "../base/time.ts";
import { advance } from "./advance.ts";
import { decideRollout } from "./decide.ts";
import { boundOf, countExposed, everybody, expose } from "./exposure.ts";
import { factsOf } from "./facts.ts";
import { referenceOf } from "./plan.ts";
import type { Seen } from "./seen.ts";
import {
  type Exposed,
  exposureOf,
  fieldsOf,
  isUnderWay,
  type ReleaseRef,
  type RolloutState,
} from "./state.ts";

// The state machine, step by step: whatever state a rollout is in, and whatever the world looks like.

const kept = { quarantined: [], handled: { abort: null, promote: null, retry: null }, history: [] };
const v1: ReleaseRef = referenceOf(releaseNamed("v1"));
const v2: ReleaseRef = referenceOf(releaseNamed("v2"));
const members = look().members;

function exposed(index = 0): Exposed {
  const step = look().deployment.spec.strategy!.steps[index]!;
  return {
    ...kept,
    stable: v1,
    candidate: v2,
    step: { index, percent: step.percent, startedAt: NOW, convergedAt: null, passingSince: null },
    exposure: step.percent >= 100 ? everybody(20) : expose(members, [], boundOf(step, members.length), []),
  };
}

const because = { reason: "ObjectiveBreached", message: "slow", release: "v2", at: NOW } as const;
const STATES: readonly RolloutState[] = [
  { ...kept, phase: "Pending", stable: v1, candidate: v2 },
  { ...exposed(), phase: "Progressing" },
  { ...exposed(1), phase: "Progressing" },
  { ...exposed(1), phase: "Holding", heldBecause: "Paused", bakingSince: null, breach: null },
  { ...exposed(1), phase: "Holding", heldBecause: "ObjectiveBreached", bakingSince: null, breach: because },
  { ...exposed(1), phase: "Frozen", frozenSince: NOW, bakingSince: null, breach: null },
  { ...exposed(2), phase: "Baking", bakingSince: NOW },
];

function next(state: RolloutState, seen: Seen): RolloutState {
  return advance(state, factsOf(seen, state));
}

test("abort wins from every state that has a candidate, whatever the world looks like", () => {
  const world = fc.record({
    state: fc.constantFrom(...STATES),
    reachable: fc.boolean(),
    paused: fc.boolean(),
    p95: fc.constantFrom(40, 150, 400),
    verdict: fc.constantFrom("Passed" as const, "Pending" as const, "Failed" as const),
    isGone: fc.boolean(),
    release: fc.constantFrom("v1", "v2", "v3"),
    mode: fc.constantFrom("Automatic" as const, "Hold" as const),
    hasMembers: fc.boolean(),
    after: fc.integer({ min: 0, max: 600 }),
  });
  fc.assert(
    fc.property(
      world,
      ({ state, reachable, paused, p95, verdict, isGone, release, mode, hasMembers, after }) => {
        const now = instant(NOW + minutes(after));
        const seen = look({
          now,
          reachable,
          release,
          spec: { paused, rollback: { mode } },
          annotations: { [requestAnnotation("abort")]: "token" },
          members: hasMembers ? members.map((member) => running(member, "v2", p95, now)) : [],
          releases: [
            releaseNamed("v1"),
            releaseNamed("v3"),
            ...(isGone ? [] : [releaseNamed("v2", verdict)]),
          ],
        });
        const aborted = next(state, seen);
        expect(aborted).toMatchObject({
          phase: "RollingBack",
          because: { reason: "Aborted", release: "v2" },
          handled: { abort: "token" },
          stable: v1,
        });
        // The token is served once.
        const read = new Set(members.map(({ device }) => device));
        const done = next(aborted, { ...look({ release: "v2" }), now, cleared: read });
        expect(done).toMatchObject({
          phase: "RolledBack",
          quarantined: [{ release: "v2", reason: "Aborted" }],
        });
        expect(
          next(done, {
            ...seen,
            releases: look().releases,
            deployment: { ...seen.deployment, spec: deploymentSpec("v2") },
          }).phase,
        ).toBe("RolledBack");
      },
    ),
    { numRuns: 1000 },
  );
});

test("one step never exposes more than its bound, and none while frozen, paused, held or unverified", () => {
  const world = fc.record({
    state: fc.constantFrom(...STATES),
    reachable: fc.boolean(),
    paused: fc.boolean(),
    count: fc.integer({ min: 0, max: 40 }),
    p95: fc.constantFrom(40, 150, 400),
    verdict: fc.constantFrom("Passed" as const, "Pending" as const),
    after: fc.integer({ min: 0, max: 100 }),
  });
  fc.assert(
    fc.property(world, ({ state, reachable, paused, count, p95, verdict, after }) => {
      const now = instant(NOW + minutes(after));
      const devices = Array.from({ length: count }, (_, index) => running(memberAt(index), "v2", p95, now));
      const seen = look({
        now,
        reachable,
        spec: { paused },
        members: devices,
        releases: [releaseNamed("v1"), releaseNamed("v2", verdict)],
      });
      const then = next(state, seen);
      if (!isUnderWay(then)) return;
      const step = seen.deployment.spec.strategy!.steps[then.step.index]!;
      const was = countExposed(exposureOf(state), devices);
      const is = countExposed(then.exposure, devices);
      // A thaw looks first; what has shrunk meanwhile is the next step's.
      if (then.phase !== "Frozen" && state.phase !== "Frozen")
        expect(is).toBeLessThanOrEqual(boundOf(step, count));
      const isSick = p95 > 40 && state.phase !== "Pending";
      if (!reachable || paused || verdict !== "Passed" || isSick) expect(is).toBeLessThanOrEqual(was);
      if (!reachable) expect(then.phase === "Frozen" || then.phase === "Baking").toBe(true);
    }),
    { numRuns: 1000 },
  );
});

test("without fresh windows no step is passed, however long it takes", () => {
  const silent = members.map((member) => {
    const { report } = running(member, "v2", 40);
    const { window: _window, ...rest } = report!;
    return { ...member, report: rest };
  });
  let state: RolloutState = { ...exposed(), phase: "Progressing" };
  for (let minute = 0; minute < 300; minute += 1) {
    state = next(state, look({ now: instant(NOW + minutes(minute)), members: silent }));
    expect(state).toMatchObject({ step: { index: 0 } });
  }
  expect(state).toMatchObject({ phase: "Holding", heldBecause: "Inconclusive" });
});

test("a hold begins anew when the analysis stopped passing", () => {
  const at = (minute: number) => instant(NOW + minutes(minute));
  const spec = {
    strategy: strategy([{ percent: 10, hold: text("10m") }, { percent: 100 }]),
    objectives: [objective({ warning: 100, consecutive: 1 })],
  };
  let state: RolloutState = { ...exposed(), phase: "Progressing" };
  const pass = (n: number, p95: number) => {
    state = next(
      state,
      look({ now: at(n), spec, members: members.map((member) => running(member, "v2", p95, at(n))) }),
    );
  };
  pass(0, 40);
  pass(9, 40);
  pass(9.5, 120);
  expect(state.phase).toBe("Holding");
  pass(10, 40);
  pass(19, 40);
  expect(state).toMatchObject({ phase: "Progressing", step: { index: 0 } });
  pass(20, 40);
  expect(state).toMatchObject({ step: { index: 1 } });
});

test("time spent frozen moves the beginning of the step and of the bake", () => {
  const started = instant(NOW - minutes(10));
  const frozen: RolloutState = {
    ...exposed(2),
    step: { ...exposed(2).step, startedAt: started },
    phase: "Frozen",
    frozenSince: instant(NOW - minutes(5)),
    bakingSince: instant(NOW - minutes(7)),
    breach: null,
  };
  expect(next(frozen, look())).toMatchObject({
    phase: "Baking",
    bakingSince: instant(NOW - minutes(2)),
    step: { startedAt: instant(NOW - minutes(5)) },
  });
});

test("requests that find nothing to do are served, and strike no later rollout", () => {
  const completed: RolloutState = { ...kept, phase: "Completed", stable: v1 };
  const annotations = { [requestAnnotation("abort")]: "old" };
  const served = next(completed, look({ release: "v1", annotations }));
  expect(served).toMatchObject({ phase: "Completed", handled: { abort: "old" } });
  const started = next(served, look({ annotations }));
  expect(next(started, look({ annotations })).phase).toBe("Progressing");
});

test("nothing begins before the hub was asked about the conditions", () => {
  const pending = STATES[0]!;
  expect(next(pending, look()).phase).toBe("Progressing");
  expect(next(pending, { ...look(), tested: {} }).phase).toBe("Pending");
});

test("a quarantined release in spec rests until it is retried", () => {
  const quarantined = [{ release: "v2", reason: "ObjectiveBreached", at: NOW }];
  const completed: RolloutState = { ...kept, quarantined, phase: "Completed", stable: v1 };
  const resting = next(completed, look());
  expect(resting).toMatchObject({
    phase: "RolledBack",
    because: { reason: "ObjectiveBreached", release: "v2" },
  });
  expect(next(resting, look())).toBe(resting);
  const retried = next(resting, look({ annotations: { [requestAnnotation("retry")]: "1" } }));
  expect(retried).toMatchObject({
    phase: "Pending",
    candidate: v2,
    quarantined: [],
    handled: { retry: "1" },
  });
});

test("a release that was replaced by other bytes under its name is taken back", () => {
  const other = { ...releaseNamed("v2"), spec: releaseSpec("v2-other") };
  const state: RolloutState = { ...exposed(), phase: "Progressing" };
  expect(next(state, look({ releases: [releaseNamed("v1"), { ...other, status: null }] }))).toMatchObject({
    phase: "RollingBack",
    because: { reason: "VerificationFailed" },
  });
});

test("a deadline that was met once is not missed later", () => {
  const late = instant(NOW + minutes(200));
  const converged: RolloutState = {
    ...exposed(2),
    step: { ...exposed(2).step, convergedAt: instant(NOW + minutes(5)) },
    phase: "Progressing",
  };
  const joiner = memberAt(99, { report: null });
  const seen = look({
    now: late,
    members: [...members.map((member) => running(member, "v2", 40, late)), joiner],
    spec: { offline: { policy: "Wait", after: text("10m") } },
  });
  expect(next(converged, seen).phase).toBe("Progressing");
  const never = { ...converged, step: { ...converged.step, convergedAt: null } };
  expect(next(never, seen)).toMatchObject({ phase: "RollingBack", because: { reason: "DeadlineExceeded" } });
});

test("deciding again on what was just decided changes nothing in the state", () => {
  for (const state of STATES) {
    const seen = look();
    const status = fieldsOf(state);
    const first = decideRollout({ ...seen, deployment: { ...seen.deployment, status } });
    if (first.kind !== "live") throw new Error(first.kind);
    const second = decideRollout({
      ...seen,
      deployment: { ...seen.deployment, status: fieldsOf(first.state) },
    });
    if (second.kind !== "live") throw new Error(second.kind);
    if (first.state.phase === state.phase) expect(second.changed).toBe(false);
  }
});

test("a lost status waits for the hub, and then begins at the first step", () => {
  const unknown = decideRollout({ ...look(), configurations: null });
  expect(unknown.kind).toBe("unknown");
  const known = decideRollout(look());
  expect(known).toMatchObject({ kind: "live", state: { phase: "Pending", stable: null } });
});

test("a plan for ten thousand devices exposes exactly its share", () => {
  const crowd = Array.from({ length: 10_000 }, (_, index) => memberAt(index, { site: `site-${index % 40}` }));
  const seen = look({ members: crowd });
  const first = decideRollout({
    ...seen,
    deployment: {
      ...seen.deployment,
      status: fieldsOf({ ...kept, phase: "Pending", stable: v1, candidate: v2 }),
    },
  });
  expect(first).toMatchObject({ kind: "live", state: { phase: "Progressing" } });
  if (first.kind === "live") expect(countExposed(exposureOf(first.state), crowd)).toBe(1000);
});
