import fc from "fast-check";
import { expect, test } from "vitest";
import { objectKey } from "../../src/api/resource.ts";
import { shortHash } from "../../src/base/digest.ts";
import { minutes, seconds } from "../../src/base/time.ts";
import { duration, objective, strategy, variant } from "../builders/specs.ts";
import type { Mishap } from "../fakes/calls.ts";
import { type Behaviour, digestNamed, FAULT_KINDS, LIES, NAMESPACE, WELL } from "../fakes/fleet-world.ts";
import { createStory, type Story } from "./story.ts";

// A thousand fleets, releases, faults, attackers and whims. The promises are checked after every tick (promises.ts); at
// the end the world comes to rest, and an abort always leads back. A failure prints the seed and the smallest case, and
// STORIES_SEED=<seed>/<path> tells it again.

// Without STORIES it is the same thousand every time, so that what fails was broken by the change at hand; `make stories`
// looks for new ones.

const GIVEN = process.env["STORIES"];
const RUNS = Number(GIVEN ?? 1000);
const [SEED = "", PATH = ""] = (process.env["STORIES_SEED"] ?? (GIVEN === undefined ? "20261201" : "")).split(
  "/",
);

const BEHAVIOURS: Readonly<Record<string, Partial<Behaviour>>> = {
  well: {},
  slow: { p95: 300 },
  slowish: { p95: 120 },
  erring: { errorRate: 0.3 },
  failing: { fails: "LoadFailed" },
  "dying while it loads": { dies: "loading" },
  "dying once it runs": { dies: 0 },
  "dying later": { dies: minutes(3) },
  hanging: { hangs: 0 },
  "hanging later": { hangs: minutes(2) },
  flapping: { flaps: { up: minutes(2), down: minutes(4) } },
  "falling back": { fallsBack: minutes(2) },
  never: { takes: minutes(600) },
  tardy: { takes: minutes(3) },
  ...Object.fromEntries(LIES.map((lies) => [`lying (${lies})`, { lies }])),
};
/** Nobody can take these for a release that runs. */
const DEADLY = new Set(["failing", "dying while it loads", "dying once it runs"]);

/** By how much the clock of a device is wrong. */
const CLOCKS: Readonly<Record<string, (now: number) => number>> = {
  right: () => 0,
  ahead: () => minutes(5 * 365 * 24 * 60),
  behind: () => -minutes(24 * 60),
  jumping: (now) => (Math.floor(now / minutes(5)) % 2 === 0 ? 0 : minutes(90)),
};

const mishap: fc.Arbitrary<Mishap> = fc.oneof(
  fc.constantFrom<Mishap>(
    { kind: "crash", when: "before" },
    { kind: "crash", when: "after" },
    { kind: "lost" },
  ),
  fc
    .constantFrom(
      "throttled" as const,
      "unavailable" as const,
      "conflict" as const,
      "denied" as const,
      "rejected" as const,
    )
    .map(
      (kind): Mishap => ({
        kind: "fault",
        fault:
          kind === "throttled" ? { kind, retryAfter: seconds(20), message: "429" } : { kind, message: "no" },
      }),
    ),
);

const whim = fc.record({
  at: fc.integer({ min: 0, max: 24 }),
  what: fc.constantFrom(
    "abort",
    "promote",
    "retry",
    "pause",
    "resume",
    "fail",
    "mend",
    "v1",
    "v2",
    "v3",
    "revoke",
    "join",
    "leave",
    "attack",
  ),
});

/** One kind of operation fails for some minutes; short ones are blips. */
const fault = fc.record({
  at: fc.integer({ min: 0, max: 20 }),
  for: fc.integer({ min: 1, max: 15 }),
  kind: fc.constantFrom(...FAULT_KINDS),
  isThrottled: fc.boolean(),
});
const absence = fc.record({ at: fc.integer({ min: 0, max: 20 }), for: fc.integer({ min: 1, max: 40 }) });

const scenario = fc.record({
  fleet: fc.array(
    fc.record({
      deviceClass: fc.constantFrom("orin", "nano"),
      site: fc.constantFrom(undefined, "north", "south"),
      iotEdge: fc.boolean(),
      is: fc.constantFrom("there", "there", "there", "there", "there", "there", "disabled", "never seen"),
      clock: fc.constantFrom("right", "right", "right", "right", "right", "ahead", "behind", "jumping"),
    }),
    { minLength: 1, maxLength: 16 },
  ),
  isFirst: fc.boolean(),
  hasVariants: fc.boolean(),
  percents: fc.subarray([1, 10, 34, 60]),
  minimumDevices: fc.integer({ min: 1, max: 3 }),
  stratifyBy: fc.subarray(["Site", "DeviceClass"] as const),
  behaviour: fc.constantFrom(...Object.keys(BEHAVIOURS)),
  /** Share of the devices that behave so, in percent. */
  share: fc.constantFrom(100, 100, 40),
  offline: fc.record({
    share: fc.constantFrom(0, 0, 30),
    policy: fc.constantFrom("Skip" as const, "Wait" as const, "CountAsFailed" as const),
  }),
  mode: fc.constantFrom("Automatic" as const, "Automatic" as const, "Hold" as const),
  onDeadline: fc.constantFrom("Rollback" as const, "Hold" as const),
  bake: fc.boolean(),
  ratio: fc.boolean(),
  unmatched: fc.constantFrom("keep" as const, "remove" as const),
  delays: fc.array(fc.integer({ min: 0, max: 300 }), { minLength: 1, maxLength: 4 }),
  mishaps: fc.array(fc.record({ after: fc.integer({ min: 0, max: 30 }), what: mishap }), { maxLength: 5 }),
  whims: fc.array(whim, { maxLength: 5 }),
  faults: fc.array(fault, { maxLength: 3 }),
  absences: fc.array(absence, { maxLength: 2 }),
  hasAttackers: fc.boolean(),
});
type Scenario = typeof scenario extends fc.Arbitrary<infer T> ? T : never;

/** A number of a device, from 0 to 99. */
function lotOf(device: string, what: string): number {
  return Number.parseInt(shortHash(`${what} ${device}`, 4), 16) % 100;
}

function storyOf(given: Scenario): Story {
  const shapeOf = (device: string) => given.fleet[Number(device.replace("cam-", ""))];
  let delay = 0;
  const bad = new Set(["v2/fp32", "v2/gpu"].map(digestNamed) as string[]);
  return createStory({
    tick: seconds(20),
    unmatched: given.unmatched,
    evaluationDelay: () => {
      delay += 1;
      return seconds(given.delays[delay % given.delays.length] ?? 0);
    },
    behaviour: (device, digest) =>
      bad.has(digest) && lotOf(device, "behaviour") < given.share
        ? { ...WELL, ...BEHAVIOURS[given.behaviour] }
        : WELL,
    online: (device, now) =>
      shapeOf(device)?.is !== "never seen" &&
      (lotOf(device, "offline") >= given.offline.share || Math.floor(now / minutes(7)) % 2 === 0),
    clockOffset: (device, now) => CLOCKS[shapeOf(device)?.clock ?? "right"]?.(now) ?? 0,
  });
}

function variantsOf(given: Scenario, name: string) {
  return given.hasVariants
    ? { variants: [variant(name, { name: "gpu", deviceClasses: ["orin"] }), variant(name)] }
    : {};
}

async function play(given: Scenario): Promise<Story> {
  const story = storyOf(given);
  for (const [index, shape] of given.fleet.entries()) {
    const { site, deviceClass, iotEdge, is } = shape;
    const enabled = is !== "disabled";
    story.device(`cam-${index}`, { deviceClass, iotEdge, enabled, ...(site === undefined ? {} : { site }) });
  }
  if (given.hasAttackers) story.attack();
  const spec = {
    strategy: strategy(
      [
        ...given.percents.map((percent) => ({
          percent,
          minimumDevices: given.minimumDevices,
          hold: duration("1m"),
        })),
        { percent: 100 },
      ],
      {
        stratifyBy: given.stratifyBy,
        progressDeadline: duration("12m"),
        onDeadline: given.onDeadline,
        ...(given.bake ? { bake: duration("2m") } : {}),
      },
    ),
    objectives: [
      objective({ warning: 100, critical: 200, ...(given.ratio ? { maximumRatioToStable: "2.0" } : {}) }),
      objective({ metric: "errorRate", critical: "0.05" }),
    ],
    offline: { policy: given.offline.policy, after: duration("3m") },
    rollback: { mode: given.mode },
  };
  for (const name of ["v1", "v2", "v3"]) story.release(name, variantsOf(given, name));
  if (given.isFirst) story.deploy("v2", spec);
  else {
    story.deploy("v1", {
      ...spec,
      strategy: strategy([{ percent: 100 }]),
      offline: { policy: "Skip", after: duration("3m") },
    });
    await story.run(minutes(9));
    story.edit({ ...spec, release: { name: "v2" } });
  }
  const mishaps = [...given.mishaps];
  for (let minute = 0; minute <= 25; minute += 1) {
    for (const [index, { at, what }] of given.whims.entries())
      if (at === minute) indulge(story, what, `${index}`);
    for (const { kind } of given.faults.filter((one) => one.at + one.for === minute))
      story.world.fault(kind, null);
    for (const { kind, isThrottled } of given.faults.filter(({ at }) => at === minute))
      story.world.fault(
        kind,
        isThrottled
          ? { kind: "throttled", retryAfter: seconds(20), message: "429" }
          : { kind: "unavailable", message: "503" },
      );
    for (const { for: length } of given.absences.filter(({ at }) => at === minute))
      story.away(minutes(length));
    for (let part = 0; part < 3; part += 1) {
      if (!story.world.calls.pending()) {
        const next = mishaps.shift();
        if (next !== undefined) story.world.calls.spoil(next.after, next.what);
      }
      await story.step();
    }
  }
  story.world.calls.heal();
  story.world.mendHub();
  for (const kind of FAULT_KINDS) story.world.fault(kind, null);
  return story;
}

function indulge(story: Story, what: Scenario["whims"][number]["what"], token: string): void {
  switch (what) {
    case "abort":
    case "promote":
    case "retry":
      story.request(what, token);
      return;
    case "pause":
      story.edit({ paused: true });
      return;
    case "resume":
      story.edit({ paused: false });
      return;
    case "fail":
      story.world.failHub();
      return;
    case "mend":
      story.world.mendHub();
      return;
    case "v1":
    case "v2":
    case "v3":
      story.edit({ release: { name: what } });
      return;
    case "revoke":
      story.verify("v2", "Failed");
      return;
    case "attack":
      story.attack();
      return;
    case "join":
      story.device(`new-${token}`, { deviceClass: "orin", site: "south" });
      return;
    case "leave": {
      const [first] = story.world.devices.list();
      if (first !== undefined) story.world.devices.edit(objectKey(NAMESPACE, first.name), { labels: {} });
      story.world.touch();
      return;
    }
    default:
      what satisfies never;
  }
}

/** Nothing is wrong with the release, and what is wrong with the world passes. */
function isGood(given: Scenario): boolean {
  const harmless = new Set(["resume", "mend", "join", "leave", "attack", "retry"]);
  return (
    (given.behaviour === "well" || given.behaviour === "tardy") &&
    given.offline.share === 0 &&
    given.fleet.some(({ is }) => is === "there") &&
    given.fleet.every(({ clock }) => clock === "right") &&
    given.whims.every(({ what }) => harmless.has(what))
  );
}

/** The release kills or fails more than half of the devices that could run it. */
function isDeadly(given: Scenario): boolean {
  const unclear = new Set(["promote", "join", "leave"]);
  const able = given.fleet.flatMap(({ is }, index) => (is === "there" ? [`cam-${index}`] : []));
  const struck = able.filter((device) => lotOf(device, "behaviour") < given.share);
  return (
    DEADLY.has(given.behaviour) &&
    given.offline.share === 0 &&
    struck.length > able.length / 2 &&
    !given.whims.some(({ what }) => unclear.has(what))
  );
}

/** A step all of whose enabled devices have never been there proves nothing: it holds until a person decides. */
function isHeldWithoutDevices(given: Scenario, story: Story): boolean {
  const shapeOf = (device: string) =>
    given.fleet.find((_, index) => device === `cam-${index}`)?.is ?? "there";
  const exposed = [...story.world.truth.pointers()].flatMap(([device, pointer]) =>
    pointer?.release === `${NAMESPACE}.v2` && shapeOf(device) !== "disabled" ? [device] : [],
  );
  return (
    story.status()?.phase === "Holding" &&
    exposed.length > 0 &&
    exposed.every((device) => shapeOf(device) === "never seen")
  );
}

/** The last device has left: there is nothing that a release could be tried on. */
function isEmpty(story: Story): boolean {
  return story.world.devices.list().every(({ labels }) => Object.keys(labels).length === 0);
}

/** The world is whole again: everything comes to an end, and then to rest. */
async function end(given: Scenario, story: Story): Promise<void> {
  if (isGood(given)) {
    await story.run(minutes(90));
    if (isEmpty(story)) expect(story.condition("Ready")?.reason).toBe("NoDevices");
    else if (!isHeldWithoutDevices(given, story))
      expect(story.status()).toMatchObject({ phase: "Completed", stable: { release: "v2" } });
  }
  if (isDeadly(given)) {
    await story.run(minutes(20));
    expect(story.status()?.stable?.release).not.toBe("v2");
  }
  const hadCandidate = story.status()?.candidate !== undefined && story.status()?.phase !== "RollingBack";
  if (hadCandidate) {
    const withdrawing = story.status()?.candidate?.release;
    story.request("abort", "the end");
    await story.run(minutes(4));
    const { phase, quarantinedReleases } = story.status() ?? {};
    expect(quarantinedReleases?.map(({ release }) => release)).toContain(withdrawing);
    // Nothing else in spec to go on with: then the abort is the end of it.
    if (story.current()?.spec.release.name === withdrawing) expect(phase).toBe("RolledBack");
  }
  const { phase } = story.status() ?? {};
  if (phase !== "RolledBack" && phase !== "Completed") return;
  await story.run(minutes(13));
  if (story.status()?.phase !== phase) return;
  for (const [device, pointer] of story.world.truth.pointers()) {
    const isMember = story.world.devices.get(objectKey(NAMESPACE, device))?.labels["fleet"] === "cameras";
    const wanted = story.status()?.stable?.release;
    // A release that fails verification now stays where it is, and goes to nobody who comes later.
    const isRevoked = wanted === "v2" && given.whims.some(({ what }) => what === "revoke");
    if (isRevoked && device.startsWith("new-") && pointer === null) continue;
    // Nor to one that it had not reached: that is reported, and the device keeps what it runs.
    if (isRevoked && story.condition("Ready")?.status === "False" && pointer?.release === `${NAMESPACE}.v1`)
      continue;
    expect(pointer?.release ?? null, device).toBe(
      isMember && wanted !== undefined ? `${NAMESPACE}.${wanted}` : null,
    );
  }
  if (given.offline.share > 0 || given.behaviour === "flapping") return;
  story.world.calls.clear();
  await story.run(minutes(12));
  expect(story.writes()).toEqual([]);
}

test(
  "whatever happens, the promises hold, the world comes to rest, and an abort leads back",
  async () => {
    const ends = new Map<string, number>();
    const property = fc.asyncProperty(scenario, async (given) => {
      const story = await play(given);
      await end(given, story);
      const phase = String(story.status()?.phase);
      ends.set(phase, (ends.get(phase) ?? 0) + 1);
    });
    const summary = await fc.check(property, {
      numRuns: RUNS,
      ...(SEED === "" ? {} : { seed: Number(SEED) }),
      ...(PATH === "" ? {} : { path: PATH }),
    });
    if (summary.failed) {
      const again = `STORIES_SEED=${summary.seed}/${summary.counterexamplePath}`;
      throw new Error(`${fc.defaultReportMessage(summary)}\nThe same story again: ${again}`, {
        cause: summary.errorInstance,
      });
    }
    // A property that never gets anywhere proves nothing.
    if (RUNS >= 1000 && PATH === "")
      expect([...ends.keys()].sort()).toEqual(expect.arrayContaining(["Completed", "RolledBack"]));
  },
  Math.max(300_000, RUNS * 2000),
); // virtual time: only a story without an end takes so long, also on a busy machine
