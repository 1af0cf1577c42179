import { expect, test } from "vitest";
import { releaseSpec } from "../../../test/builders/specs.ts";
import { look, memberAt, NOW, releaseNamed, running, stepNow } from "../../../test/stories/seen.ts";
import type { ModelPointer } from "../../api/device-contract.ts";
import { instant, minutes } from "../../base/time.ts";
import type { Configuration } from "../../hub/hub.ts";
import { factsOf } from "../facts.ts";
import type { Member, RolloutSeen, Track } from "../seen.ts";
import { allDevices } from "../state/exposure.ts";
import type { RolloutState } from "../state/state.ts";
import { referenceOf } from "../verification.ts";
import type { Action } from "./action.ts";
import { actionsFor } from "./actions.ts";
import {
  BASE_CONDITION,
  BASE_CONTENT,
  BASE_ID,
  contentHash,
  contentOf,
  LABEL,
  pointerDraft,
} from "./content.ts";
import { MATCH_NONE } from "./target.ts";

// State minus world, one difference at a time.

const kept = { quarantined: [], handled: { abort: null, promote: null, retry: null }, history: [] };
const v1 = referenceOf(releaseNamed("v1"));
const v2 = referenceOf(releaseNamed("v2"));
const OURS = "tags.edgefleet.deployments.inference = 'plant-a.resnet' AND tags.edgefleet.iotEdge = true";
const DAY = minutes(60 * 24);

const base: Configuration = {
  id: BASE_ID,
  kind: "edge",
  labels: { [LABEL.base]: "true" },
  priority: 0,
  targetCondition: BASE_CONDITION,
  content: BASE_CONTENT,
  etag: "1",
};

function layer(
  id: string,
  release: string,
  track: Track,
  more: Partial<Configuration> & { left?: number } = {},
): Configuration {
  const { left = DAY, ...rest } = more;
  const { deployment } = look();
  const object = releaseNamed(release);
  const draft = pointerDraft(deployment, object, object.spec.variants[0]!);
  const pointer: ModelPointer = { ...draft, sizeBytes: 1, url: `https://store.invalid/${id}` };
  return {
    id,
    kind: "edge",
    labels: {
      [LABEL.namespace]: "plant-a",
      [LABEL.name]: "resnet",
      [LABEL.track]: track,
      [LABEL.release]: release,
      [LABEL.variant]: "fp32",
      [LABEL.kind]: "edge",
      [LABEL.contentHash]: contentHash("edge", deployment.spec.module, draft),
      [LABEL.urlExpires]: String((NOW + left) / 1000),
    },
    priority: track === "stable" ? 100 : 500,
    targetCondition: OURS,
    content: contentOf("edge", deployment.spec.module, pointer),
    etag: "1",
    ...rest,
  };
}

const completed: RolloutState = { ...kept, phase: "Completed", stable: v1 };
const completedSecond: RolloutState = { ...kept, phase: "Completed", stable: v2 };
const because = { reason: "ObjectiveBreached", message: "slow", release: "v2", at: NOW } as const;
const rollingBack: RolloutState = {
  ...kept,
  phase: "RollingBack",
  stable: v1,
  candidate: v2,
  exposure: allDevices(2),
  because,
};
const atFull = {
  ...kept,
  phase: "Progressing",
  stable: v1,
  candidate: v2,
  startedAt: NOW,
  previousExposure: [],
  configuredAt: null,
  step: stepNow(0, 100),
  exposure: allDevices(2),
} as const satisfies RolloutState;

const two = [running(memberAt(0), "v1", 40), running(memberAt(1), "v1", 40)];
const pointed = (member: Member, release: string): Member => ({
  ...member,
  pointer: {
    deployment: "plant-a.resnet",
    release: `plant-a.${release}`,
    digest: releaseSpec(release).variants[0]!.digest,
  },
});

function todo(state: RolloutState, seen: RolloutSeen): readonly string[] {
  return actionsFor(state, factsOf(seen, state)).actions.map(said);
}

function said(action: Action): string {
  switch (action.kind) {
    case "create":
      return `create ${action.track} ${action.labels[LABEL.release]}`;
    case "createBase":
      return "create base";
    case "retarget":
      return `retarget ${action.id} ${action.condition === MATCH_NONE ? "no device" : action.condition} ${action.lane}`;
    case "remove":
      return `remove ${action.id}`;
    case "restore":
      return `restore ${action.device} to ${action.to?.release ?? "nothing"} ${action.lane}`;
    case "retain":
      return `retain ${action.device}`;
    default:
      return action satisfies never;
  }
}

test("a world that is as the state says costs nothing", () => {
  const configurations = [base, layer("s1", "v1", "stable")];
  expect(todo(completed, look({ release: "v1", members: two, configurations }))).toEqual([]);
});

test("while frozen nothing is done, whatever differs", () => {
  const frozen: RolloutState = {
    ...atFull,
    phase: "Frozen",
    frozenSince: NOW,
    bakingSince: null,
    breach: null,
  };
  const { pointer } = pointed(memberAt(9), "v1");
  const left = {
    device: "cam-9",
    deviceClass: null,
    iotEdge: true,
    tagged: false,
    pointer,
    namesCluster: false,
    leaving: false,
    heirs: [],
  };
  expect(todo(frozen, { ...look({ members: two, configurations: [] }), staleDevices: [left] })).toEqual([]);
});

const below = (bound: number): string => `${OURS} AND tags.edgefleet.bucket < ${bound}`;

test("what the hub targets beyond the exposure is withdrawn first, in the lane with the reserve", () => {
  const exposure = [{ threshold: 500, devices: 1 }];
  const state: RolloutState = { ...atFull, exposure };
  const configurations = [
    base,
    layer("s1", "v1", "stable", { targetCondition: `${OURS} AND tags.edgefleet.site = 'x'` }),
    layer("c2", "v2", "candidate", { targetCondition: below(2000) }),
    layer("c3", "v3", "candidate", { targetCondition: below(9) }),
  ];
  expect(todo(state, look({ members: two, configurations }))).toEqual([
    `retarget c2 ${below(500)} rollback`,
    "remove c3",
    `retarget s1 ${OURS} normal`,
  ]);
  // What exposes more waits for everything else.
  const wider = [
    base,
    layer("s1", "v1", "stable"),
    layer("c2", "v2", "candidate", { targetCondition: below(9) }),
  ];
  expect(todo(state, look({ members: two, configurations: wider }))).toEqual([
    `retarget c2 ${below(500)} normal`,
  ]);
});

test("a width that moves to other devices is narrowed first, and widened after", () => {
  const state: RolloutState = { ...atFull, exposure: [{ site: "b", threshold: 900, devices: 1 }] };
  const had = `${OURS} AND ((tags.edgefleet.site = 'a' AND tags.edgefleet.bucket < 70) OR (tags.edgefleet.site = 'b' AND tags.edgefleet.bucket < 5))`;
  const configurations = [
    base,
    layer("s1", "v1", "stable"),
    layer("c2", "v2", "candidate", { targetCondition: had }),
  ];
  const members = two.map((member) => ({ ...member, site: "b" }));
  expect(todo(state, look({ members, configurations }))).toEqual([
    `retarget c2 ${OURS} AND tags.edgefleet.site = 'b' AND tags.edgefleet.bucket < 5 rollback`,
    `retarget c2 ${OURS} AND tags.edgefleet.site = 'b' AND tags.edgefleet.bucket < 900 normal`,
  ]);
});

test("while frozen, and without the object of the candidate, a width still becomes smaller, and never larger", () => {
  const frozen = (threshold: number): RolloutState => ({
    ...atFull,
    exposure: [{ threshold, devices: 1 }],
    phase: "Frozen",
    frozenSince: NOW,
    bakingSince: null,
    breach: null,
  });
  const configurations = [
    base,
    layer("s1", "v1", "stable"),
    layer("c2", "v2", "candidate", { targetCondition: below(2000) }),
  ];
  for (const releases of [[releaseNamed("v1"), releaseNamed("v2")], [releaseNamed("v1")]]) {
    const seen = look({ members: two, configurations, releases, reachable: false });
    expect(todo(frozen(500), seen)).toEqual([`retarget c2 ${below(500)} rollback`]);
    expect(todo(frozen(2000), seen)).toEqual([]);
    expect(todo(frozen(9000), seen)).toEqual([]);
  }
});

test("a former candidate stays while there is nothing to fall back to", () => {
  const pending: RolloutState = { ...kept, phase: "Pending", stable: v1, candidate: null };
  const left = layer("c2", "v2", "candidate");
  const todoWith = (configurations: readonly Configuration[]) =>
    todo(pending, look({ members: two, configurations: [base, ...configurations] }));
  expect(todoWith([left])).toEqual(["create stable v1"]);
  expect(todoWith([left, layer("s1", "v1", "stable")])).toEqual(["remove c2"]);
});

test("before the twins of contested devices have been read nothing is moved that could move them", () => {
  const contested = [
    {
      device: "cam-7",
      deviceClass: "orin",
      iotEdge: true,
      tagged: false,
      namesCluster: false,
      isKnown: false,
      pointer: null,
      otherDeployments: ["x"],
    },
  ];
  const configurations = [
    base,
    layer("s1", "v1", "stable", { targetCondition: `${OURS} AND deviceId != 'cam-7'` }),
  ];
  const seen = { ...look({ release: "v1", members: two, configurations, reachable: false }), contested };
  expect(todo(completed, seen)).toEqual([]);
});

test("the fallback is created before the candidate", () => {
  expect(todo(atFull, look({ members: two, configurations: [] }))).toEqual([
    "create base",
    "create stable v1",
    "create candidate v2",
  ]);
});

test("a completed release stands as stable before its candidate goes", () => {
  const configurations = [base, layer("s1", "v1", "stable"), layer("c2", "v2", "candidate")];
  expect(todo(completedSecond, look({ members: two, configurations }))).toEqual([
    "create stable v2",
    "remove s1",
    "remove c2",
  ]);
});

test("where the new stable cannot be created, what devices run stays", () => {
  const configurations = [base, layer("s1", "v1", "stable"), layer("c2", "v2", "candidate")];
  const releases = [releaseNamed("v1"), releaseNamed("v2", "Pending")];
  expect(todo(completedSecond, look({ members: two, configurations, releases }))).toEqual([]);
  expect(todo(completedSecond, look({ members: two, configurations, releases: [] }))).toEqual([]);
});

test("no device is exposed while there is no way back", () => {
  const releases = [releaseNamed("v1", "Pending"), releaseNamed("v2")];
  // Of v1 there is what edge devices get; devices without it never got it.
  const members = [memberAt(0, { iotEdge: false }), memberAt(1, { iotEdge: false })];
  const configurations = [base, layer("s1", "v1", "stable")];
  expect(todo(atFull, look({ members, configurations, releases }))).toEqual([]);
});

test("what is not verified (any more) is given to no further device", () => {
  const configurations = [base, layer("s1", "v1", "stable")];
  const releases = [releaseNamed("v1"), releaseNamed("v2", "Pending")];
  expect(todo(atFull, look({ members: two, configurations, releases }))).toEqual([]);
});

test("a rollback withdraws first, then brings back those that were exposed", () => {
  const configurations = [base, layer("s1", "v1", "stable"), layer("c2", "v2", "candidate")];
  const members = [pointed(memberAt(0), "v2"), memberAt(1)];
  expect(todo(rollingBack, look({ members, configurations }))).toEqual([
    "retarget c2 no device rollback",
    "restore cam-0 to plant-a.v1 rollback",
    "restore cam-1 to plant-a.v1 rollback",
  ]);
});

test("a rollback reads no more twins at a time than it may, those on the candidate first", () => {
  const configurations = [
    base,
    layer("s1", "v1", "stable"),
    layer("c2", "v2", "candidate", { targetCondition: MATCH_NONE }),
  ];
  const members = [memberAt(0), memberAt(1), pointed(memberAt(2), "v2")];
  const settings = { fastPathLimit: 2 };
  expect(todo(rollingBack, look({ members, configurations, settings }))).toEqual([
    "restore cam-2 to plant-a.v1 rollback",
    "restore cam-0 to plant-a.v1 rollback",
  ]);
});

test("beyond that, a rollback is over only once the sweeps have seen every device", () => {
  const configurations = [base, layer("s1", "v1", "stable")];
  const seen = look({ members: [memberAt(0), memberAt(1)], configurations, settings: { fastPathLimit: 1 } });
  const read = { ...seen, cleared: new Set(["cam-0"]) };
  expect(factsOf(read, rollingBack).rollback.done).toBe(false);
  expect(factsOf({ ...read, now: instant(NOW + minutes(10)) }, rollingBack).rollback.done).toBe(true);
  const late = {
    ...read,
    now: instant(NOW + minutes(10)),
    members: [memberAt(0), pointed(memberAt(1), "v2")],
  };
  expect(factsOf(late, rollingBack).rollback.done).toBe(false);
});

test("beyond that, a rollback is not over while queries fail: nothing is swept", () => {
  const configurations = [base, layer("s1", "v1", "stable")];
  const seen = look({ members: [memberAt(0), memberAt(1)], configurations, settings: { fastPathLimit: 1 } });
  const late = { ...seen, cleared: new Set(["cam-0"]), now: instant(NOW + minutes(30)) };
  const done = (reachable: boolean, since: number): boolean =>
    factsOf({ ...late, hub: { ...seen.hub, reachable, since: instant(since) } }, rollingBack).rollback.done;
  expect(done(false, NOW)).toBe(false);
  expect(done(true, NOW + minutes(25))).toBe(false);
  expect(done(true, NOW + minutes(20))).toBe(true);
});

test("no device stays on what is taken back, contested or not", () => {
  const configurations = [base, layer("s1", "v1", "stable", { targetCondition: OURS })];
  const { device, deviceClass, iotEdge, tagged, pointer } = pointed(memberAt(7), "v2");
  const contested = [
    {
      device,
      deviceClass,
      iotEdge,
      tagged,
      pointer,
      namesCluster: false,
      isKnown: true,
      otherDeployments: ["x"],
    },
  ];
  const seen = { ...look({ members: two, configurations }), contested, cleared: new Set(["cam-0", "cam-1"]) };
  const restored = "restore cam-7 to plant-a.v1 rollback";
  expect(factsOf(seen, rollingBack).rollback.done).toBe(false);
  expect(todo(rollingBack, seen)).toEqual([restored]);
  expect(todo({ ...kept, phase: "RolledBack", stable: v1, because }, seen)).toEqual([restored]);
});

test("a stable configuration that is missing is created before devices are brought back to it", () => {
  const configurations = [base, layer("c2", "v2", "candidate")];
  expect(todo(rollingBack, look({ members: [pointed(memberAt(0), "v2")], configurations }))).toEqual([
    "retarget c2 no device rollback",
    "create stable v1",
  ]);
});

test("of two configurations with the same content the one that lives longer stays", () => {
  const configurations = [
    base,
    layer("s1", "v1", "stable"),
    layer("s2", "v1", "stable", { left: minutes(DAY * 2), priority: 101 }),
  ];
  expect(todo(completed, look({ release: "v1", members: two, configurations }))).toEqual(["remove s1"]);
});

test("a URL near its end is renewed for devices that still wait", () => {
  const configurations = [base, layer("s1", "v1", "stable", { left: minutes(60) })];
  expect(todo(completed, look({ release: "v1", members: two, configurations }))).toEqual([]);
  const waiting = [two[0]!, memberAt(1)];
  expect(todo(completed, look({ release: "v1", members: waiting, configurations }))).toEqual([
    "create stable v1",
  ]);
});

test("a hub without room gets nothing new, and loses nothing", () => {
  const configurations = [base, layer("s1", "v1", "stable"), layer("c2", "v2", "candidate")];
  const seen = look({ members: two, configurations, settings: { hubConfigurationLimit: 3 } });
  const { actions, problem } = actionsFor(completedSecond, factsOf(seen, completedSecond));
  expect(actions).toEqual([]);
  expect(problem).toMatchObject({ reason: "HubFull" });
  expect(problem?.message).toContain("plant-a/resnet (2), the base deployment (1)");
});

test("an outdated base is replaced by the new one, which stands first", () => {
  const old = { ...base, id: "ef-base-old" };
  const stable = layer("s1", "v1", "stable");
  expect(todo(completed, look({ release: "v1", members: two, configurations: [old, stable] }))).toEqual([
    "create base",
  ]);
  expect(todo(completed, look({ release: "v1", members: two, configurations: [old, base, stable] }))).toEqual(
    ["remove ef-base-old"],
  );
  const external = { baseDeployment: "external" as const };
  expect(
    todo(completed, look({ release: "v1", members: two, configurations: [stable], settings: external })),
  ).toEqual([]);
});

test("a device that left and lost its tag loses its pointer", () => {
  const configurations = [base, layer("s1", "v1", "stable")];
  const seen = look({ release: "v1", members: two, configurations });
  const { pointer } = pointed(memberAt(9), "v1");
  const staleDevice = {
    device: "cam-9",
    deviceClass: null,
    iotEdge: true,
    namesCluster: false,
    pointer,
    leaving: false,
    heirs: [],
  };
  expect(todo(completed, { ...seen, staleDevices: [{ ...staleDevice, tagged: true }] })).toEqual([]);
  expect(todo(completed, { ...seen, staleDevices: [{ ...staleDevice, tagged: false }] })).toEqual([
    "restore cam-9 to nothing normal",
  ]);
  const moved = { ...staleDevice, tagged: false, heirs: ["other"] };
  expect(todo(completed, { ...seen, staleDevices: [moved] })).toEqual([]);
});

test("a device that is on its way to another deployment is not moved by a canary of this one", () => {
  const seen = look({ members: two, configurations: [base, layer("s1", "v1", "stable")] });
  const { pointer } = pointed(memberAt(9), "v1");
  const staleDevice = {
    device: "cam-9",
    deviceClass: null,
    iotEdge: true,
    namesCluster: false,
    pointer,
    leaving: false,
  };
  const moving = { ...seen, staleDevices: [{ ...staleDevice, tagged: true, heirs: ["other"] }] };
  const created = actionsFor(atFull, factsOf(moving, atFull)).actions.filter(({ kind }) => kind === "create");
  expect(created).toMatchObject([{ condition: expect.stringContaining("deviceId != 'cam-9'") }]);
});
