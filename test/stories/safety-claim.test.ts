import { expect, test } from "vitest";
import { bucketOf } from "../../src/api/membership.ts";
import { objectKey } from "../../src/api/resource.ts";
import type { Fault } from "../../src/base/fault.ts";
import { minutes, seconds } from "../../src/base/time.ts";
import { LABEL } from "../../src/rollouts/configurations/content.ts";
import { deviceSpec, duration, objective, STEPS, strategy } from "../builders/specs.ts";
import { type Behaviour, digestNamed, LIES, NAMESPACE, SALT, WELL } from "../fakes/fleet-world.ts";
import { createStory, type Story } from "./story.ts";

// Attacks on the safety claim: a bad release does not go out, and a good one is not thrown back. Silence is no success,
// one device is not the fleet, and what cannot be seen is not good.

const CANDIDATE = digestNamed("v2/fp32");
const HOURS = 60;
const THROTTLED: Fault = { kind: "throttled", retryAfter: seconds(20), message: "429 too many requests" };

/** How chosen devices behave with the candidate; everything else goes well. */
function acts(how: Partial<Behaviour>, who: (device: string) => boolean = () => true) {
  return (device: string, digest: string): Behaviour =>
    digest === CANDIDATE && who(device) ? { ...WELL, ...how } : WELL;
}

/** Names of a fleet, those that are exposed first at the front. */
function byBucket(count: number): readonly string[] {
  return Array.from({ length: count }, (_, index) => `cam-${String(index).padStart(3, "0")}`).sort(
    (a, b) => bucketOf(SALT, a) - bucketOf(SALT, b),
  );
}

type Change = Parameters<Story["edit"]>[0];

async function begin(story: Story, devices: number, change: Change = {}): Promise<void> {
  story.fleet(devices);
  await story.install("v1", change);
  story.release("v2");
  story.edit({ ...change, release: { name: "v2" } });
}

/** Runs for so long and sees that v2 is never the end of it. */
async function neverCompletes(story: Story, length: number): Promise<void> {
  const end = story.world.now() + length;
  while (story.world.now() < end) {
    await story.step();
    expect(story.status()?.stable?.release).not.toBe("v2");
    if (story.status()?.phase !== "Pending" && story.status()?.candidate?.release === "v2")
      expect(story.condition("Ready")?.status).not.toBe("True");
  }
}

const phaseIs =
  (phase: string) =>
  ({ status }: { readonly status: ReturnType<Story["status"]> }) =>
    status?.phase === phase;

const stepIs =
  (index: number) =>
  ({ status }: { readonly status: ReturnType<Story["status"]> }) =>
    status?.phase === "Progressing" && status.step?.index === index;

const isCompleted = ({ status }: { readonly status: ReturnType<Story["status"]> }) =>
  status?.phase === "Completed" && status.stable?.release === "v2";

/** Devices that the hub gives the candidate to. */
function targeted(story: Story): number {
  const candidates = story.world.truth
    .configurations()
    .filter(({ labels }) => labels[LABEL.track] === "candidate");
  return new Set(candidates.flatMap(({ targetCondition }) => story.world.truth.targeted(targetCondition)))
    .size;
}

// ── what counts as evidence

for (const policy of ["Skip", "Wait", "CountAsFailed"] as const) {
  for (const [how, dies] of [
    ["while it loads", "loading"],
    ["once it has said that it runs", 0],
    ["after two minutes", minutes(2)],
  ] as const) {
    test(`a release that kills 19 of 20 devices ${how} is taken back (offline.policy ${policy})`, async () => {
      const [spared] = byBucket(20);
      const story = createStory({
        behaviour: acts({ dies }, (device) => device !== spared),
        tick: seconds(20),
      });
      await begin(story, 20, { offline: { policy, after: duration("10m") } });
      await neverCompletes(story, minutes(4 * HOURS));
      expect(story.status()?.phase).toBe("RolledBack");
      expect(story.world.truth.running().get(byBucket(20)[19] ?? "")).toBe(`${NAMESPACE}.v1`);
    });
  }
}

test("a release that kills every device four minutes after it runs is not Completed, without a single objective", async () => {
  const story = createStory({ behaviour: acts({ dies: minutes(4) }), tick: seconds(20) });
  await begin(story, 20, { objectives: [], offline: { policy: "Skip", after: duration("10m") } });
  await neverCompletes(story, minutes(3 * HOURS));
  expect(story.status()?.phase).toBe("RolledBack");
});

test("patience leads to Holding: a canary that fell silent is waited for, and its return lets the rollout go on", async () => {
  const [, second] = byBucket(20);
  let isAway = false;
  const story = createStory({ online: (device) => !isAway || device !== second });
  await begin(story, 20, {
    rollback: { mode: "Hold" },
    offline: { policy: "Skip", after: duration("6h") },
    // A report counts for about five minutes: the hold is longer.
    strategy: strategy([{ percent: 10, hold: duration("10m") }, { percent: 100 }], {
      progressDeadline: duration("12h"),
    }),
  });
  await story.run(minutes(3));
  expect([...story.world.truth.running().values()].filter((name) => name === `${NAMESPACE}.v2`)).toHaveLength(
    2,
  );
  isAway = true;
  await story.run(minutes(60));
  expect(story.status()).toMatchObject({ phase: "Holding", step: { index: 0 } });
  isAway = false;
  await story.run(minutes(30));
  expect(story.status()?.step?.index ?? 3).toBeGreaterThan(0);
});

for (const [how, hangs] of [
  ["at once", 0],
  ["after three minutes", minutes(3)],
] as const) {
  test(`a model that hangs ${how} does not pass an objective that asks for at least so many frames`, async () => {
    const story = createStory({ behaviour: acts({ hangs }) });
    await begin(story, 20, {
      objectives: [objective({ metric: "framesPerSecond", direction: "AtLeast", critical: 5 })],
    });
    await neverCompletes(story, minutes(3 * HOURS));
    expect(story.status()?.phase).toBe("RolledBack");
  });
}

test("one device that is offline does not switch the failure budget off", async () => {
  const [runs, offline] = byBucket(20);
  let isAway = false;
  const story = createStory({
    behaviour: acts({ fails: "LoadFailed" }, (device) => device !== runs),
    online: (device) => !isAway || device !== offline,
  });
  const change = {
    strategy: strategy([{ percent: 100, hold: duration("2m") }]),
    offline: { policy: "Skip" as const, after: duration("5m") },
  };
  story.fleet(20);
  await story.install("v1", change);
  isAway = true;
  await story.run(minutes(10));
  story.release("v2");
  story.edit({ release: { name: "v2" } });
  await neverCompletes(story, minutes(60));
  expect(story.status()).toMatchObject({ phase: "RolledBack", rollback: { reason: "FailureBudgetSpent" } });
});

for (const lies of LIES) {
  test(`one of 20 devices that lies (${lies}) does not stop a good release, and is named`, async () => {
    const [liar = ""] = byBucket(20);
    const story = createStory({
      behaviour: acts({ lies, p95: 900, errorRate: 1 }, (device) => device === liar),
    });
    await begin(story, 20, {
      strategy: strategy([{ percent: 100, hold: duration("5m") }]),
      failureBudget: { percent: "10", minimumReported: 20 },
    });
    let named = false;
    const end = story.world.now() + minutes(3 * HOURS);
    while (story.world.now() < end && !isCompleted({ status: story.status() })) {
      await story.step();
      named ||= JSON.stringify(story.status()).includes(liar);
    }
    expect(story.status()).toMatchObject({ phase: "Completed", stable: { release: "v2" } });
    // A window of long ago and a clock that is wrong are no windows; they make nothing worse than it is.
    if (lies !== "old" && lies !== "future") expect(named).toBe(true);
  });

  test(`one of 20 devices that lies (${lies}) does not save a bad release`, async () => {
    const [liar] = byBucket(20);
    const story = createStory({
      behaviour: (device, digest) => {
        if (digest !== CANDIDATE) return WELL;
        return device === liar ? { ...WELL, lies } : { ...WELL, p95: 500, errorRate: 0.5 };
      },
    });
    await begin(story, 20, { strategy: strategy([{ percent: 100, hold: duration("5m") }]) });
    await neverCompletes(story, minutes(60));
    expect(story.status()?.phase).toBe("RolledBack");
  });
}

test("a retry is not judged by the failures that were reported before it", async () => {
  let isMended = false;
  const story = createStory({
    behaviour: (_device, digest) =>
      digest === CANDIDATE && !isMended ? { ...WELL, fails: "LoadFailed" } : WELL,
  });
  await begin(story, 20);
  await story.runUntil(phaseIs("RolledBack"), minutes(60));
  isMended = true;
  await story.run(minutes(10));
  story.phases.length = 0;
  story.request("retry", "1");
  await story.runUntil(isCompleted, minutes(2 * HOURS));
  expect(story.phases).not.toContain("RollingBack");
});

test("a retry does not excuse the devices that the release killed while they loaded it", async () => {
  const killed = new Set(byBucket(5).slice(0, 3));
  const story = createStory({
    behaviour: acts({ dies: "loading" }, (device) => killed.has(device)),
    tick: seconds(20),
  });
  await begin(story, 5, {
    strategy: strategy([{ percent: 100 }], { progressDeadline: duration("30m") }),
    offline: { policy: "Skip", after: duration("3m") },
  });
  await story.runUntil(phaseIs("RolledBack"), minutes(30));
  await story.run(minutes(6));
  story.request("retry", "1");
  await story.runUntil(phaseIs("Progressing"), minutes(2));
  await neverCompletes(story, minutes(2 * HOURS));
  expect(story.status()).toMatchObject({ phase: "RolledBack", rollback: { reason: "DeadlineExceeded" } });
});

test("a retry after a restart is not judged by the failures that were reported before it", async () => {
  let isMended = false;
  const story = createStory({
    behaviour: (_device, digest) =>
      digest === CANDIDATE && !isMended ? { ...WELL, fails: "OutOfMemory" } : WELL,
  });
  await begin(story, 20);
  await story.runUntil(phaseIs("RolledBack"), minutes(60));
  isMended = true;
  story.away(minutes(5));
  story.request("retry", "1");
  await story.runUntil(isCompleted, minutes(2 * HOURS));
});

test("199 of 200 devices run it, and the one that lives and does not update is named and stops nothing", async () => {
  const straggler = byBucket(200)[199] ?? "";
  const story = createStory({
    behaviour: acts({ takes: minutes(10_000) }, (device) => device === straggler),
    tick: seconds(20),
  });
  await begin(story, 200, { strategy: strategy(STEPS, { progressDeadline: duration("30m") }) });
  let named = false;
  const end = story.world.now() + minutes(3 * HOURS);
  while (story.world.now() < end && !isCompleted({ status: story.status() })) {
    await story.step();
    named ||= JSON.stringify(story.status()).includes(straggler);
  }
  expect(story.status()).toMatchObject({ phase: "Completed", stable: { release: "v2" } });
  expect(named).toBe(true);
});

test("a deadline takes a release back when more devices than the budget are missing", async () => {
  const stragglers = new Set(byBucket(200).slice(190));
  const story = createStory({
    behaviour: acts({ takes: minutes(10_000) }, (device) => stragglers.has(device)),
    tick: seconds(20),
  });
  await begin(story, 200, { strategy: strategy(STEPS, { progressDeadline: duration("30m") }) });
  await neverCompletes(story, minutes(3 * HOURS));
  expect(story.status()?.phase).toBe("RolledBack");
});

test("canaries that fall back to the old release after they ran the new one are counted, named and end it", async () => {
  const story = createStory({ behaviour: acts({ fallsBack: minutes(3) }) });
  await begin(story, 20, {
    strategy: strategy([{ percent: 50, hold: duration("10m") }, { percent: 100 }], {
      progressDeadline: duration("20m"),
    }),
  });
  await neverCompletes(story, minutes(45));
  expect(story.status()?.phase).toBe("RolledBack");
  const fellBack = byBucket(20).slice(0, 10);
  expect(fellBack.some((device) => JSON.stringify(story.status()).includes(device))).toBe(true);
});

test("the only canary, which falls back within a hold of seconds, is named and taken back at the deadline", async () => {
  const [canary = ""] = byBucket(2);
  const story = createStory({ behaviour: acts({ fallsBack: seconds(24) }), tick: seconds(3) });
  await begin(story, 2, {
    strategy: strategy([{ percent: 50, hold: duration("40s") }, { percent: 100 }], {
      progressDeadline: duration("3m"),
    }),
    objectives: [objective({ consecutive: 1, warning: 100, critical: 200 })],
  });
  let named = false;
  const end = story.world.now() + minutes(9);
  while (story.world.now() < end && !phaseIs("RolledBack")({ status: story.status() })) {
    await story.step();
    expect(targeted(story)).toBeLessThanOrEqual(1);
    const { phase } = story.status() ?? {};
    named ||= phase !== "Pending" && JSON.stringify(story.status()).includes(canary);
  }
  expect(story.status()?.phase).toBe("RolledBack");
  expect(named).toBe(true);
});

test("a device that falls back within the failure budget is named, and the rollout goes on without it", async () => {
  const [canary = ""] = byBucket(200);
  const story = createStory({
    behaviour: acts({ fallsBack: minutes(3) }, (device) => device === canary),
    tick: seconds(20),
  });
  // One of the 20 that are exposed first: 5 %.
  await begin(story, 200, {
    strategy: strategy(STEPS, { progressDeadline: duration("30m") }),
    failureBudget: { percent: 10, minimumReported: 20 },
  });
  let named = false;
  const end = story.world.now() + minutes(4 * HOURS);
  while (story.world.now() < end && !isCompleted({ status: story.status() })) {
    await story.step();
    named ||= JSON.stringify(story.status()).includes(canary);
  }
  expect(story.status()).toMatchObject({ phase: "Completed", stable: { release: "v2" } });
  expect(named).toBe(true);
});

test("a fleet that falls back at full width does not complete", async () => {
  const story = createStory({ behaviour: acts({ fallsBack: minutes(6) }) });
  await begin(story, 20, {
    strategy: strategy([{ percent: 100, hold: duration("10m") }], { progressDeadline: duration("20m") }),
  });
  await neverCompletes(story, minutes(60));
  expect(story.status()?.phase).toBe("RolledBack");
});

test("a device whose clock is wrong does not stop a good release", async () => {
  const [ahead, behind] = byBucket(40);
  const day = minutes(24 * HOURS);
  const offsets = new Map([
    [ahead, 5 * 365 * day],
    [behind, -day],
  ]);
  const story = createStory({ clockOffset: (device) => offsets.get(device) ?? 0 });
  await begin(story, 40, {
    strategy: strategy([{ percent: 100, hold: duration("5m") }]),
    offline: { policy: "CountAsFailed", after: duration("10m") },
    failureBudget: { percent: "10", minimumReported: 20 },
  });
  await story.runUntil(isCompleted, minutes(3 * HOURS));
  expect(story.phases).not.toContain("RollingBack");
});

test("a heartbeat of 2031 keeps nothing alive: a release that kills is taken back under that clock, too", async () => {
  let isAhead = false;
  const story = createStory({
    behaviour: acts({ dies: 0 }),
    clockOffset: () => (isAhead ? minutes(5 * 365 * 24 * HOURS) : 0),
    tick: seconds(20),
  });
  story.fleet(20);
  const change = { objectives: [], offline: { policy: "Skip" as const, after: duration("10m") } };
  await story.install("v1", change);
  isAhead = true;
  story.release("v2");
  story.edit({ release: { name: "v2" } });
  await neverCompletes(story, minutes(4 * HOURS));
  expect(story.status()?.phase).toBe("RolledBack");
});

// ── the operator's own absence

test("an operator that was away for most of a hold does not promote at its first look", async () => {
  const story = createStory({ tick: seconds(20) });
  await begin(story, 20, {
    strategy: strategy([{ percent: 10, hold: duration("60m") }, { percent: 100 }], {
      progressDeadline: duration("12h"),
    }),
  });
  await story.runUntil(({ status }) => status?.step?.passingSince !== undefined, minutes(20));
  await story.run(minutes(1));
  story.away(minutes(61));
  await story.run(minutes(10));
  expect(story.status()?.step?.index).toBe(0);
  await story.run(minutes(40));
  expect(story.status()?.step?.index).toBe(0);
  await story.runUntil(isCompleted, minutes(60));
});

test("a release that never reached the hub is not taken back for the time that the operator was away", async () => {
  const story = createStory({ tick: seconds(20) });
  const change = { strategy: strategy(STEPS, { progressDeadline: duration("20m") }) };
  story.fleet(20);
  await story.install("v1", change);
  story.release("v2");
  story.world.fault("configurationWrites", { kind: "unavailable", message: "503" });
  story.edit({ ...change, release: { name: "v2" } });
  await story.runUntil(phaseIs("Progressing"), minutes(5));
  story.away(minutes(25));
  story.world.fault("configurationWrites", null);
  story.phases.length = 0;
  await story.runUntil(isCompleted, minutes(2 * HOURS));
  expect(story.phases).not.toContain("RollingBack");
});

test("a canary that turns sick while the operator is away is taken back at once", async () => {
  let isSick = false;
  const story = createStory({
    behaviour: (_device, digest) => (digest === CANDIDATE && isSick ? { ...WELL, errorRate: 0.5 } : WELL),
  });
  await begin(story, 20);
  await story.runUntil(stepIs(0), minutes(10));
  await story.run(minutes(2));
  isSick = true;
  story.away(minutes(40));
  await story.runUntil(phaseIs("RolledBack"), minutes(20));
});

test("a canary is made of devices that are enabled: one that is disabled takes no place in it", async () => {
  const [first = "", second = ""] = byBucket(20);
  const story = createStory();
  story.fleet(20);
  story.world.devices.edit(objectKey(NAMESPACE, first), { spec: deviceSpec({ enabled: false }) });
  await story.install("v1");
  story.release("v2");
  story.edit({
    release: { name: "v2" },
    strategy: strategy([{ percent: 5, hold: duration("5m") }, { percent: 100 }]),
  });
  await story.runUntil(stepIs(0), minutes(10));
  await story.run(minutes(2));
  expect(story.world.truth.running().get(second)).toBe(`${NAMESPACE}.v2`);
  await story.runUntil(isCompleted, minutes(60));
});

test("devices that are enabled in the middle of a canary do not take it past its bound", async () => {
  const names = byBucket(20);
  const story = createStory();
  story.fleet(20);
  const enable = (enabled: boolean) => {
    for (const name of names.slice(0, 9))
      story.world.devices.edit(objectKey(NAMESPACE, name), { spec: deviceSpec({ enabled }) });
    story.world.touch();
  };
  enable(false);
  await story.install("v1");
  story.release("v2");
  story.edit({
    release: { name: "v2" },
    strategy: strategy([{ percent: 10, hold: duration("1h") }, { percent: 100 }]),
  });
  await story.runUntil(stepIs(0), minutes(10));
  await story.run(minutes(2));
  // Two of the eleven that are enabled; the nine before them in the order are not there.
  expect(targeted(story)).toBe(11);
  enable(true);
  await story.run(minutes(2));
  expect(targeted(story)).toBe(2);
});

// ── what goes on when things are broken

test("queries that are throttled for two hours do not keep a release that only fails", async () => {
  let isSick = false;
  const story = createStory({
    behaviour: (_device, digest) => (digest === CANDIDATE && isSick ? { ...WELL, errorRate: 1 } : WELL),
  });
  await begin(story, 20);
  await story.runUntil(stepIs(0), minutes(10));
  story.world.fault("queries", THROTTLED);
  await story.run(minutes(3));
  isSick = true;
  await story.run(minutes(20));
  expect(story.status()).toMatchObject({ phase: "RolledBack", rollback: { reason: "ObjectiveBreached" } });
  expect([...story.world.truth.pointers().values()].map((pointer) => pointer?.release)).not.toContain(
    `${NAMESPACE}.v2`,
  );
  await story.run(minutes(90));
  expect(story.status()?.phase).toBe("RolledBack");
});

test("queries that are throttled widen nothing", async () => {
  const story = createStory();
  await begin(story, 20);
  await story.runUntil(stepIs(0), minutes(10));
  const before = targeted(story);
  story.world.fault("queries", THROTTLED);
  await story.run(minutes(2 * HOURS));
  expect(targeted(story)).toBe(before);
  story.world.fault("queries", null);
  await story.runUntil(isCompleted, minutes(2 * HOURS));
});

test("24 hours of blips shorter than the hold neither keep it at its first step nor fill the history", async () => {
  const story = createStory({ tick: seconds(20) });
  await begin(story, 20, {
    strategy: strategy(
      [{ percent: 10, hold: duration("60m") }, { percent: 50, hold: duration("60m") }, { percent: 100 }],
      {
        progressDeadline: duration("6h"),
      },
    ),
  });
  await story.runUntil(stepIs(0), minutes(10));
  const history: string[] = [];
  for (let blip = 0; blip < 72; blip += 1) {
    await story.run(minutes(18));
    story.world.failHub();
    await story.run(minutes(2));
    story.world.mendHub();
    const messages = story.status()?.history?.map(({ message }) => message) ?? [];
    history.splice(0, history.length, ...messages);
    if (isCompleted({ status: story.status() })) break;
  }
  expect(story.status()).toMatchObject({ phase: "Completed", stable: { release: "v2" } });
  expect(history.some((message) => message.includes("starts with 10 %"))).toBe(true);
});

test("devices that join while nothing can be seen do not take the canary past its bound", async () => {
  const story = createStory({ tick: seconds(10) });
  // Four devices of late buckets: the threshold of their canary covers most of those that come.
  const late = Array.from({ length: 200 }, (_, index) => `late-${index}`).filter(
    (name) => bucketOf(SALT, name) > 800_000,
  );
  for (const name of late.slice(0, 4)) story.device(name);
  const change = {
    strategy: strategy([{ percent: 25, hold: duration("60m") }, { percent: 100 }], {
      progressDeadline: duration("6h"),
    }),
  };
  await story.install("v1", change);
  story.release("v2");
  story.edit({ ...change, release: { name: "v2" } });
  await story.runUntil(stepIs(0), minutes(10));
  await story.run(minutes(2));
  story.world.fault("queries", THROTTLED);
  await story.run(minutes(3));
  for (let index = 0; index < 100; index += 1) story.device(`new-${index}`);
  await story.run(minutes(5));
  expect(targeted(story)).toBeLessThanOrEqual(26);
});

test("rollback.mode Hold holds when verification fails, too", async () => {
  const story = createStory();
  await begin(story, 20, { rollback: { mode: "Hold" } });
  await story.runUntil(stepIs(1), minutes(60));
  await story.run(minutes(1));
  const before = targeted(story);
  story.verify("v2", "Failed");
  await story.run(minutes(60));
  expect(story.status()).toMatchObject({ phase: "Holding", step: { index: 1 } });
  expect(targeted(story)).toBe(before);
  story.request("abort", "1");
  await story.runUntil(phaseIs("RolledBack"), minutes(20));
});

// ── who is who

test("a device that is disabled and one that was never seen keep a good release from nothing", async () => {
  const names = byBucket(12);
  const [disabled = "", never = ""] = [names[0], names[11]];
  const story = createStory({ online: (device) => device !== never });
  story.fleet(12, (index) => (disabled.endsWith(String(index).padStart(3, "0")) ? { enabled: false } : {}));
  const change = {
    strategy: strategy(STEPS, { progressDeadline: duration("20m") }),
    offline: { policy: "Skip" as const, after: duration("10m") },
  };
  await story.install("v1", change);
  story.release("v2");
  story.edit({ ...change, offline: { policy: "Skip", after: duration("30m") }, release: { name: "v2" } });
  await story.runUntil(isCompleted, minutes(2 * HOURS));
  expect(story.phases).not.toContain("RollingBack");
  expect(story.status()?.quarantinedReleases).toBeUndefined();
});

test("a promotion past the deadline at full width needs no second one", async () => {
  const missing = new Set(byBucket(20).slice(15));
  const story = createStory({
    behaviour: acts({ takes: minutes(10_000) }, (device) => missing.has(device)),
    tick: seconds(20),
  });
  await begin(story, 20, {
    strategy: strategy([{ percent: 100 }], {
      progressDeadline: duration("20m"),
      onDeadline: "Hold",
      bake: duration("10m"),
    }),
  });
  await story.runUntil(phaseIs("Holding"), minutes(60));
  story.request("promote", "1");
  await story.runUntil(isCompleted, minutes(60));
});

test("Ready is not True while devices are not back yet after a release was withdrawn", async () => {
  let isSlow = false;
  const story = createStory({
    behaviour: (_device, digest) => (digest !== CANDIDATE && isSlow ? { ...WELL, takes: minutes(20) } : WELL),
  });
  await begin(story, 12);
  await story.runUntil(stepIs(1), minutes(60));
  await story.run(minutes(2));
  isSlow = true;
  story.edit({ release: { name: "v1" } });
  const away = () => [...story.world.truth.running().values()].filter((name) => name !== `${NAMESPACE}.v1`);
  expect(away()).toHaveLength(6);
  const end = story.world.now() + minutes(40);
  while (story.world.now() < end) {
    const before = away().length;
    await story.step();
    if (before > 1 && away().length > 1)
      expect(story.condition("Ready")?.status, `${before} devices are not back`).not.toBe("True");
  }
  expect(story.condition("Ready")?.status).toBe("True");
});

test("a finished step that is deleted from spec neither widens the rollout nor shortens a hold of a day", async () => {
  const story = createStory({ tick: seconds(60) });
  const day = { percent: 50, hold: duration("24h") };
  const deadline = { progressDeadline: duration("48h") };
  await begin(story, 20, {
    strategy: strategy([{ percent: 10, hold: duration("5m") }, day, { percent: 100 }], deadline),
  });
  await story.runUntil(stepIs(1), minutes(60));
  await story.run(minutes(30));
  story.edit({ strategy: strategy([day, { percent: 100 }], deadline) });
  const end = story.world.now() + minutes(23 * HOURS);
  while (story.world.now() < end) {
    await story.step();
    expect(targeted(story)).toBe(10);
  }
  await story.runUntil(isCompleted, minutes(3 * HOURS));
});

test("steps that are rewritten in the middle are held as they are written", async () => {
  const story = createStory();
  const minute = duration("1m");
  const five = [5, 25, 50, 75].map((percent) => ({ percent, minimumDevices: 1, hold: minute }));
  await begin(story, 40, { strategy: strategy([...five, { percent: 100 }]) });
  await story.runUntil(stepIs(1), minutes(60));
  await story.run(seconds(30));
  story.edit({
    strategy: strategy([
      { percent: 50, hold: duration("10m") },
      { percent: 100, hold: duration("10m") },
    ]),
  });
  const end = story.world.now() + minutes(10);
  while (story.world.now() < end) {
    await story.step();
    expect(targeted(story)).toBeLessThanOrEqual(20);
  }
  await story.runUntil(isCompleted, minutes(60));
});
