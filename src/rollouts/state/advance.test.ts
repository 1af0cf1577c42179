import fc from "fast-check";
import { expect, test } from "vitest";
import {
  deploymentSpec,
  objective,
  releaseSpec,
  strategy,
  duration as text,
} from "../../../test/builders/specs.ts";
import { NAMESPACE } from "../../../test/fakes/fleet-world.ts";
import { look, memberAt, NOW, releaseNamed, running, stepNow } from "../../../test/stories/seen.ts";
import { QUARANTINE_LIMIT, requestAnnotation } from "../../api/inference-deployment.ts";
import { dictionary } from "../../base/lookup.ts";
import { type Instant, instant, minutes } from "../../base/time.ts";
import type { Configuration } from "../../hub/hub.ts";
import { LABEL } from "../configurations/content.ts";
import { decideRollout } from "../decide.ts";
import { factsOf } from "../facts.ts";
import type { RolloutSeen } from "../seen.ts";
import { referenceOf } from "../verification.ts";
import { advance } from "./advance.ts";
import { allDevices, boundOf, countExposed, expose } from "./exposure.ts";
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
    startedAt: NOW,
    previousExposure: [],
    configuredAt: null,
    step: stepNow(index, step.percent),
    exposure: step.percent >= 100 ? allDevices(20) : expose(members, [], boundOf(step, members.length), []),
  };
}

const because = { reason: "ObjectiveBreached", message: "slow", release: "v2", at: NOW } as const;
const STATES: readonly RolloutState[] = [
  { ...kept, phase: "Pending", stable: v1, candidate: v2 },
  { ...exposed(), phase: "Progressing" },
  { ...exposed(1), phase: "Progressing" },
  { ...exposed(1), phase: "Holding", holdReason: "Paused", bakingSince: null, breach: null },
  { ...exposed(1), phase: "Holding", holdReason: "ObjectiveBreached", bakingSince: null, breach: because },
  { ...exposed(1), phase: "Frozen", frozenSince: NOW, bakingSince: null, breach: null },
  { ...exposed(2), phase: "Baking", bakingSince: NOW },
];

function candidateConfiguration(release: string): Configuration {
  return {
    id: "c",
    kind: "edge",
    labels: {
      [LABEL.namespace]: NAMESPACE,
      [LABEL.name]: "resnet",
      [LABEL.track]: "candidate",
      [LABEL.release]: release,
    },
    priority: 500,
    targetCondition: "tags.edgefleet.bucket < 1",
    content: {},
    etag: "1",
  };
}

/** The next look of an operator that has looked all the time. */
function next(state: RolloutState, seen: RolloutSeen): RolloutState {
  return lookAgain(
    isUnderWay(state) ? { ...state, step: { ...state.step, lastObservedAt: seen.now } } : state,
    seen,
  );
}

function lookAgain(state: RolloutState, seen: RolloutSeen): RolloutState {
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
  let state: RolloutState = { ...exposed(), phase: "Progressing" };
  for (let minute = 0; minute < 300; minute += 1) {
    const now = instant(NOW + minutes(minute));
    const windowless = members.map((member) => {
      const { window: _window, ...rest } = running(member, "v2", 40, now).report!;
      return { ...member, heardAt: now, report: rest };
    });
    state = next(state, look({ now, members: windowless }));
    expect(state).toMatchObject({ step: { index: 0 } });
  }
  expect(state).toMatchObject({ phase: "Holding", holdReason: "Inconclusive" });
});

test("devices that ran it and fell silent pass no step, and take the release back in the end", () => {
  const ran = members.map((member) => running(member, "v2", 40, NOW));
  const others = (at: Instant) => members.slice(2).map((member) => running(member, "v1", 40, at));
  let state: RolloutState = { ...exposed(), phase: "Progressing" };
  for (let minute = 6; minute < 30; minute += 1) {
    const now = instant(NOW + minutes(minute));
    state = next(
      state,
      look({ now, members: [...ran.slice(0, 2), ...others(now)], spec: { objectives: [] } }),
    );
    expect(state).toMatchObject({ step: { index: 0 } });
  }
  expect(state).toMatchObject({ phase: "Holding", holdReason: "Inconclusive" });
  const end = instant(NOW + minutes(31));
  const seen = look({ now: end, members: [...ran.slice(0, 2), ...others(end)], spec: { objectives: [] } });
  expect(next(state, seen)).toMatchObject({
    phase: "RollingBack",
    because: {
      reason: "FailureBudgetSpent",
      message: expect.stringContaining("cam-0: stopped reporting after the update"),
    },
  });
});

test("a hold starts over when the analysis stopped passing", () => {
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

test("time without an operator is no time: neither a hold nor a deadline nor a bake counts it", () => {
  const now = instant(NOW + minutes(61));
  const spec = { strategy: strategy([{ percent: 10, hold: text("62m") }, { percent: 100 }]) };
  const seen = look({ now, spec, members: members.map((member) => running(member, "v2", 40, now)) });
  const held: RolloutState = {
    ...exposed(),
    step: { ...stepNow(0, 10), convergedAt: NOW, passingSince: NOW },
    phase: "Progressing",
  };
  const moved = lookAgain(held, seen);
  expect(moved).toMatchObject({ step: { startedAt: now, passingSince: now, lastObservedAt: now, index: 0 } });
  expect(moved.history.at(-1)?.message).toBe("not observed for 1h1m; that time does not count");
  const soon = lookAgain(moved, { ...seen, now: instant(now + minutes(3)) });
  expect(soon).toMatchObject({ step: { index: 0, passingSince: now } });

  const late = instant(NOW + minutes(150));
  const untouched = look({ now: late, members: members.map((member) => running(member, "v1", 40, late)) });
  const waiting: RolloutState = { ...exposed(), phase: "Progressing" };
  expect(lookAgain(lookAgain(waiting, untouched), untouched).phase).toBe("Progressing");

  const baking: RolloutState = { ...exposed(2), phase: "Baking", bakingSince: NOW };
  expect(lookAgain(baking, seen)).toMatchObject({ phase: "Baking", bakingSince: now });
});

test("looks a minute apart are no absence, and write the time at most once a minute", () => {
  let state: RolloutState = { ...exposed(), phase: "Progressing" };
  const marks = new Set<Instant>();
  for (let half = 1; half <= 20; half += 1) {
    const now = instant(NOW + minutes(half / 2));
    state = lookAgain(state, look({ now, members: members.map((member) => running(member, "v1", 40, now)) }));
    marks.add((state as Exposed).step.lastObservedAt);
  }
  expect(state).toMatchObject({ step: { startedAt: NOW } });
  expect(marks.size).toBe(11);
});

test("a blip of the hub pauses a hold, fills no history, and ends it no later than the blip was long", () => {
  const spec = { strategy: strategy([{ percent: 10, hold: text("60m") }, { percent: 100 }]) };
  let state: RolloutState = { ...exposed(), phase: "Progressing" };
  let passed: number | null = null;
  for (let minute = 0; minute < 100 && passed === null; minute += 1) {
    const now = instant(NOW + minutes(minute));
    const reachable = minute % 10 !== 9;
    const devices = members.map((member) => running(member, "v2", 40, now));
    state = next(state, look({ now, spec, reachable, members: devices }));
    if ((state as Exposed).step?.index === 1) passed = minute;
  }
  expect(passed).toBe(66);
  expect(state.history.filter(({ phase }) => phase === "Frozen")).toHaveLength(1);
});

test("a request that was served during an outage stays in the history through the next one", () => {
  const annotations = { [requestAnnotation("retry")]: "1" };
  let state: RolloutState = { ...exposed(), phase: "Progressing" };
  for (const [minute, reachable] of [false, false, true, false].entries()) {
    const now = instant(NOW + minutes(minute));
    const devices = members.map((member) => running(member, "v2", 40, now));
    state = next(state, look({ now, reachable, members: devices, ...(minute === 0 ? {} : { annotations }) }));
  }
  expect(state.history.map(({ message }) => message)).toContain(
    "edgefleet.dev/retry had no effect: the release is already being rolled out",
  );
});

test("without evidence for a while a hold is paused, and starts over on evidence against the release", () => {
  const spec = {
    strategy: strategy([{ percent: 10, hold: text("10m") }, { percent: 100 }]),
    objectives: [objective({ warning: 100, consecutive: 1 })],
  };
  let state: RolloutState = { ...exposed(), phase: "Progressing" };
  const pass = (minute: number, measured: boolean) => {
    const now = instant(NOW + minutes(minute));
    const devices = members.map((member) => {
      const fresh = running(member, "v2", 40, now);
      const { window: _window, ...rest } = fresh.report!;
      return measured ? fresh : { ...fresh, report: rest };
    });
    state = next(state, look({ now, spec, members: devices }));
  };
  pass(0, true);
  pass(8, true);
  pass(9, false);
  pass(12, false);
  pass(13, true);
  expect(state).toMatchObject({ step: { index: 0 } });
  pass(14, true);
  expect(state).toMatchObject({ step: { index: 1 } });
});

test("what the exposed devices show takes a release back while the fleet cannot be queried, and widens nothing", () => {
  const frozen: RolloutState = { ...exposed(), phase: "Progressing" };
  const at = (p95: number, canReadTwins: boolean) => {
    const seen = look({ members: members.map((member) => running(member, "v2", p95)) });
    return { ...seen, hub: { ...seen.hub, reachable: false, canReadTwins } };
  };
  expect(next(frozen, at(400, true))).toMatchObject({ phase: "RollingBack" });
  expect(next(frozen, at(400, false))).toMatchObject({ phase: "Frozen" });
  expect(next(next(frozen, at(40, true)), at(400, true))).toMatchObject({ phase: "RollingBack" });
  // Devices that join while it is frozen do not go past the bound.
  const joined = Array.from({ length: 30 }, (_, index) => memberAt(index, { bucket: index }));
  const seen = look({ members: joined });
  const wide = { ...exposed(), exposure: [{ threshold: 30, devices: 2 }] };
  const narrowed = next(
    { ...wide, phase: "Progressing" },
    { ...seen, hub: { ...seen.hub, reachable: false } },
  );
  expect(countExposed(exposureOf(narrowed), joined)).toBe(2);
});

test("rollback.mode Hold holds a failed verification, too", () => {
  const seen = look({
    spec: { rollback: { mode: "Hold" } },
    releases: [releaseNamed("v1"), releaseNamed("v2", "Failed")],
  });
  expect(next({ ...exposed(), phase: "Progressing" }, seen)).toMatchObject({
    phase: "Holding",
    holdReason: "VerificationFailed",
    breach: { reason: "VerificationFailed" },
  });
});

test("a straggler is waited for until the deadline, and takes the release back only past the budget", () => {
  const pointer = { deployment: "plant-a.resnet", release: "plant-a.v2", digest: v2.digests[0]! };
  const fleet = (count: number, missing: number, now: Instant) =>
    Array.from({ length: count }, (_, n) => ({
      ...running(memberAt(n), n < missing ? "v1" : "v2", 40, now),
      pointer,
    }));
  const start: RolloutState = { ...exposed(2), exposure: allDevices(200), phase: "Progressing" };
  const passes = (missing: number, minute: number) => {
    const now = instant(NOW + minutes(minute));
    return next(start, look({ now, members: fleet(200, missing, now) }));
  };
  expect(passes(1, 119).phase).toBe("Progressing");
  const done = next(
    passes(1, 121),
    look({ now: instant(NOW + minutes(121)), members: fleet(200, 1, instant(NOW + minutes(121))) }),
  );
  expect(done.phase).toBe("Completed");
  expect(passes(5, 121)).toMatchObject({
    phase: "RollingBack",
    because: {
      reason: "DeadlineExceeded",
      message: expect.stringContaining("5 missing, such as cam-0, cam-1, cam-2"),
    },
  });
});

test("devices that the hub points at the candidate after the deadline have their time from there", () => {
  const pointer = { deployment: "plant-a.resnet", release: "plant-a.v2", digest: v2.digests[0]! };
  const at = (minute: number, isPlaced: boolean) => {
    const now = instant(NOW + minutes(minute));
    const devices = members.map((member) => ({
      ...running(member, "v1", 40, now),
      ...(isPlaced ? { pointer } : {}),
    }));
    return look({ now, members: devices });
  };
  let state: RolloutState = { ...exposed(), phase: "Progressing" };
  for (let minute = 0; minute <= 130; minute += 1) state = next(state, at(minute, false));
  expect(state).toMatchObject({ phase: "Holding", holdReason: "DeadlineExceeded" });
  for (let minute = 131; minute < 249; minute += 1) state = next(state, at(minute, true));
  expect(state.phase).toBe("Holding");
  expect(next(state, at(251, true))).toMatchObject({
    phase: "RollingBack",
    because: { reason: "DeadlineExceeded" },
  });
});

test("a release that the hub has not brought to its devices is held at the deadline, and not quarantined", () => {
  const now = instant(NOW + minutes(121));
  const seen = look({ now, members: members.map((member) => running(member, "v1", 40, now)) });
  const held = next({ ...exposed(), phase: "Progressing" }, seen);
  expect(held).toMatchObject({ phase: "Holding", holdReason: "DeadlineExceeded" });
  expect(held.history.at(-1)?.message).toContain(
    "2 missing, such as cam-0, cam-1, 2 of which have not been assigned",
  );
});

test("time for which too few devices were heard does not count towards a hold", () => {
  const spec = { objectives: [], strategy: strategy([{ percent: 10, hold: text("10m") }, { percent: 100 }]) };
  let state: RolloutState = { ...exposed(), phase: "Progressing" };
  const at = (minute: number, heard: number) => {
    const now = instant(NOW + minutes(minute));
    const devices = members.map((member) => ({
      ...running(member, "v2", 40, now),
      heardAt: instant(NOW + minutes(heard)),
    }));
    state = next(state, look({ now, spec, members: devices }));
  };
  for (const minute of [0, 1, 2]) at(minute, minute);
  for (let minute = 8; minute < 20; minute += 1) at(minute, 2);
  at(20, 20);
  expect(state).toMatchObject({ step: { index: 0 } });
  at(21, 21);
  expect(state).toMatchObject({ step: { index: 0 } });
  at(28, 28);
  expect(state).toMatchObject({ step: { index: 1 } });
});

test("a straggler that a width went on without is not waited for at the next one", () => {
  const pointer = { deployment: "plant-a.resnet", release: "plant-a.v2", digest: v2.digests[0]! };
  const spec = {
    strategy: strategy([{ percent: 50 }, { percent: 100 }]),
    failureBudget: { percent: 5, minimumReported: 20 },
  };
  const at = (minute: number) => {
    const now = instant(NOW + minutes(minute));
    const devices = Array.from({ length: 40 }, (_, n) => ({
      ...running(memberAt(n), n === 0 ? "v1" : "v2", 40, now),
      pointer,
    }));
    return look({ now, spec, members: devices });
  };
  let state: RolloutState = {
    ...exposed(),
    step: stepNow(0, 50),
    exposure: [{ threshold: 20_000, devices: 20 }],
    phase: "Progressing",
  };
  state = next(state, at(119));
  expect(state).toMatchObject({ phase: "Progressing", step: { index: 0 } });
  state = next(state, at(121));
  expect(state).toMatchObject({ step: { index: 1 }, previousExposure: [{ threshold: 20_000 }] });
  expect(next(state, at(122)).phase).toBe("Completed");
});

test("promoting past a deadline at the last width bakes once, and completes without those that were missing", () => {
  const out = candidateConfiguration("v2");
  const spec = {
    strategy: strategy([{ percent: 100 }], { onDeadline: "Hold", bake: text("10m") }),
    annotations: {},
  };
  const at = (minute: number) => {
    const now = instant(NOW + minutes(minute));
    return look({
      now,
      spec: { strategy: spec.strategy },
      configurations: [out],
      members: Array.from({ length: 20 }, (_, n) => running(memberAt(n), n < 6 ? "v1" : "v2", 40, now)),
    });
  };
  let state: RolloutState = { ...exposed(2), step: stepNow(0, 100), phase: "Progressing" };
  state = next(state, at(121));
  expect(state).toMatchObject({ phase: "Holding", holdReason: "DeadlineExceeded" });
  const promoted = at(122);
  state = next(state, {
    ...promoted,
    deployment: { ...promoted.deployment, annotations: { [requestAnnotation("promote")]: "1" } },
  });
  expect(state).toMatchObject({ phase: "Baking", step: { acceptedMissing: 6 } });
  const watched = (minute: number) => {
    const seen = at(minute);
    return {
      ...seen,
      deployment: { ...seen.deployment, annotations: { [requestAnnotation("promote")]: "1" } },
    };
  };
  state = next(state, watched(127));
  expect(state.phase).toBe("Baking");
  state = next(state, watched(133));
  expect(state.phase).toBe("Completed");
});

test("nothing is promoted before the hub has been given the candidate", () => {
  const seen = look({
    annotations: { [requestAnnotation("promote")]: "1" },
    members: members.map((member) => running(member, "v1", 40)),
  });
  const refused = next({ ...exposed(), phase: "Progressing" }, seen);
  expect(refused).toMatchObject({ phase: "Progressing", step: { index: 0 }, handled: { promote: "1" } });
  expect(refused.history.at(-1)?.message).toContain(
    "promote rejected: v2 has not been configured on the hub yet",
  );
});

test("a step is found by its width, whatever has become of the list", () => {
  const run = (steps: Parameters<typeof strategy>[0], from: RolloutState, minute: number) => {
    const now = instant(NOW + minutes(minute));
    const seen = look({
      now,
      spec: { strategy: strategy(steps) },
      members: Array.from({ length: 40 }, (_, n) => running(memberAt(n), "v2", 40, now)),
    });
    return next(from, seen);
  };
  const at25: RolloutState = {
    ...exposed(),
    step: { ...stepNow(1, 25), convergedAt: NOW, passingSince: NOW },
    exposure: [{ threshold: 10_000, devices: 10 }],
    phase: "Progressing",
  };
  // The finished step was deleted: the hold of this one stands.
  const same = run([{ percent: 25, hold: text("24h") }, { percent: 100 }], at25, 60);
  expect(same).toMatchObject({ step: { index: 0, percent: 25 }, phase: "Progressing" });
  expect(exposureOf(same)).toEqual(exposureOf(at25));
  // The width is gone: the next wider one follows, with its own hold.
  const wider = run(
    [
      { percent: 50, hold: text("10m") },
      { percent: 100, hold: text("10m") },
    ],
    at25,
    60,
  );
  expect(wider).toMatchObject({ step: { index: 0, percent: 50 } });
  expect(run([{ percent: 50, hold: text("10m") }, { percent: 100 }], wider, 65)).toMatchObject({
    step: { percent: 50 },
  });
  // Rewritten to be narrower, it narrows; a step put in before it changes nothing.
  expect(run([{ percent: 5 }, { percent: 10, hold: text("1h") }, { percent: 100 }], at25, 1)).toMatchObject({
    step: { index: 1, percent: 10 },
  });
  expect(
    run([{ percent: 2 }, { percent: 5 }, { percent: 25, hold: text("1h") }, { percent: 100 }], at25, 1),
  ).toMatchObject({ step: { index: 2, percent: 25 }, exposure: [{ threshold: 10_000 }] });
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
  expect(next(pending, { ...look(), tested: dictionary([]) }).phase).toBe("Pending");
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

test("a full quarantine forgets its oldest entry and says so, but never what spec or stable name", () => {
  const old = (name: string) => ({ release: name, reason: "ObjectiveBreached", at: NOW });
  const others = Array.from({ length: QUARANTINE_LIMIT - 2 }, (_, index) => old(`old-${index}`));
  const full: RolloutState = {
    ...kept,
    quarantined: [old("v3"), old("v1"), ...others],
    phase: "RollingBack",
    stable: v1,
    candidate: v2,
    exposure: [],
    because,
  };
  const seen = look({ release: "v3", releases: ["v1", "v2", "v3"].map((name) => releaseNamed(name)) });
  const facts = factsOf(seen, full);
  const done = advance(full, { ...facts, rollback: { ...facts.rollback, done: true } });
  const names = done.quarantined.map(({ release }) => release);
  expect(names).toHaveLength(QUARANTINE_LIMIT);
  expect(names.slice(0, 3)).toEqual(["v3", "v1", "old-1"]);
  expect(names.at(-1)).toBe("v2");
  expect(done.history.at(-1)?.message).toContain(
    "old-0 is no longer quarantined, because at most 100 releases are remembered",
  );
});

test("a quarantine with room forgets nothing, and says nothing about it", () => {
  const rolling: RolloutState = {
    ...kept,
    phase: "RollingBack",
    stable: v1,
    candidate: v2,
    exposure: [],
    because,
  };
  const facts = factsOf(look(), rolling);
  const done = advance(rolling, { ...facts, rollback: { ...facts.rollback, done: true } });
  expect(done.history.at(-1)?.message).toBe("rolled back to v1; v2 is quarantined");
});

test("a release that was replaced by other bytes under its name is taken back", () => {
  const other = { ...releaseNamed("v2"), spec: releaseSpec("v2-other") };
  const state: RolloutState = { ...exposed(), phase: "Progressing" };
  expect(next(state, look({ releases: [releaseNamed("v1"), { ...other, status: null }] }))).toMatchObject({
    phase: "RollingBack",
    because: { reason: "VerificationFailed" },
  });
});

test("the time for which a step was converged does not count towards its deadline", () => {
  const pointer = { deployment: "plant-a.resnet", release: "plant-a.v2", digest: v2.digests[0]! };
  const late = instant(NOW + minutes(200));
  const converged: RolloutState = {
    ...exposed(2),
    step: { ...stepNow(2, 100), convergedAt: instant(NOW + minutes(5)), lastObservedAt: late },
    phase: "Progressing",
  };
  const joiner = { ...running(memberAt(99), "v1", 40, late), pointer };
  const seen = look({
    now: late,
    members: [...members.map((member) => running(member, "v2", 40, late)), joiner],
  });
  const waiting = next(converged, seen);
  expect(waiting).toMatchObject({ phase: "Progressing", step: { convergedAt: null } });
  // Five minutes of the two hours were spent before; the rest is left.
  const at = (minute: number) => {
    const now = instant(late + minutes(minute));
    return look({
      now,
      members: [
        ...members.map((member) => running(member, "v2", 40, now)),
        { ...running(memberAt(99), "v1", 40, now), pointer },
      ],
    });
  };
  const watchedUntil = (minute: number) => {
    const now = instant(late + minutes(minute - 1));
    return { ...waiting, step: { ...(waiting as Exposed).step, lastObservedAt: now } } as RolloutState;
  };
  expect(next(watchedUntil(114), at(114)).phase).toBe("Progressing");
  expect(next(watchedUntil(116), at(116))).toMatchObject({
    phase: "RollingBack",
    because: { reason: "DeadlineExceeded" },
  });
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
