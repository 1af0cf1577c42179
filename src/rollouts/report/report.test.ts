import { expect, test } from "vitest";
import { NAMESPACE } from "../../../test/fakes/fleet-world.ts";
import { look, memberAt, NOW, releaseNamed, running, stepNow } from "../../../test/stories/seen.ts";
import type { InferenceDeploymentSpec } from "../../api/inference-deployment.ts";
import { instant, minutes } from "../../base/time.ts";
import type { Configuration } from "../../hub/hub.ts";
import { LABEL } from "../configurations/content.ts";
import { decideRollout } from "../decide.ts";
import type { Member, RolloutSeen } from "../seen.ts";
import { allDevices } from "../state/exposure.ts";
import { fieldsOf, type RolloutState } from "../state/state.ts";
import { referenceOf } from "../verification.ts";
import { statusOf } from "./report.ts";

// What a person reads in the conditions: only what devices show.

const kept = { quarantined: [], handled: { abort: null, promote: null, retry: null }, history: [] };
const v1 = referenceOf(releaseNamed("v1"));
const completed: RolloutState = { ...kept, phase: "Completed", stable: v1 };
const first: RolloutState = {
  ...kept,
  phase: "Progressing",
  stable: null,
  candidate: v1,
  startedAt: NOW,
  step: stepNow(0, 100),
  exposure: allDevices(20),
  previousExposure: [],
  configuredAt: null,
};

function conditionOf(type: string, state: RolloutState, seen: RolloutSeen): string {
  const decided = decideRollout({ ...seen, deployment: { ...seen.deployment, status: fieldsOf(state) } });
  if (decided.kind !== "live") throw new Error(decided.kind);
  const found = statusOf(decided, { problem: decided.problem }, null).conditions?.find(
    (condition) => condition.type === type,
  );
  return `${found?.status} ${found?.reason}: ${found?.message}`;
}

const ready = (members: readonly Member[], more: Partial<RolloutSeen> = {}) =>
  conditionOf("Ready", completed, { ...look({ release: "v1", members }), ...more });
const fleet = (count: number, release: string) =>
  Array.from({ length: count }, (_, n) => running(memberAt(n), release, 40));

test("a completed deployment is ready when its devices report the release, and says which do not", () => {
  expect(ready(fleet(12, "v1"))).toBe("True Completed: 12 of 12 devices report v1");
  const half = [...fleet(6, "v1"), ...fleet(12, "v2").slice(6)];
  expect(ready(half)).toBe(
    "False Updating: 6 of 12 devices report v1; 6 devices not yet (cam-10, cam-11, cam-6 and 3 more)",
  );
});

test("a straggler that the failure budget covers is named, and does not make it unready", () => {
  const most = [...fleet(199, "v1"), running(memberAt(199), "v2", 40)];
  expect(ready(most)).toBe("True Completed: 199 of 200 devices report v1; 1 device not yet (cam-199)");
});

test("devices that are off do not make it unready, and are counted", () => {
  const dead = { ...running(memberAt(20), "v2", 40), heardAt: instant(NOW - minutes(31)) };
  const disabled = { ...running(memberAt(21), "v2", 40), enabled: false };
  expect(ready([...fleet(2, "v1"), dead, disabled, memberAt(22)])).toBe(
    "True Completed: 2 of 5 devices report v1; 3 devices disabled or not reporting",
  );
});

test("a completed deployment whose ModelRelease is gone says so", () => {
  const stable: Configuration = {
    id: "s",
    kind: "edge",
    labels: {
      [LABEL.namespace]: NAMESPACE,
      [LABEL.name]: "resnet",
      [LABEL.track]: "stable",
      [LABEL.release]: "v1",
    },
    priority: 500,
    targetCondition: "tags.edgefleet.deployments.inference = 'plant-a.resnet'",
    content: {},
    etag: "1",
  };
  const { releases, configurations, own } = look({ releases: [], configurations: [stable] });
  const gone = { releases, configurations, own };
  expect(ready(fleet(2, "v1"), gone)).toMatch(
    /^False ReleaseMissing: devices run v1, but ModelRelease v1 no longer exists/,
  );
});

test("a candidate whose bytes run already is no contradiction before the hub was given it", () => {
  const members = fleet(20, "v1");
  const same: RolloutState = { ...first, step: { ...stepNow(0, 100), convergedAt: NOW } };
  expect(conditionOf("Ready", same, look({ release: "v1", members }))).not.toContain("StateContradicted");
  expect(conditionOf("Ready", { ...same, configuredAt: NOW }, look({ release: "v1", members }))).toContain(
    "StateContradicted",
  );
});

test("a module that neither the deployment nor another brings to the devices is said at once", () => {
  const missing =
    "no device has reported from module inference, and no deployment on the hub deploys it; set spec.module.image, or deploy the module";
  const says = (
    content: Configuration["content"],
    more: { readonly members?: readonly Member[]; readonly spec?: Partial<InferenceDeploymentSpec> } = {},
  ) => {
    const foreign: Configuration = {
      id: "theirs",
      kind: "edge",
      labels: {},
      priority: 1,
      targetCondition: "",
      content,
      etag: "1",
    };
    return conditionOf("Progressing", first, look({ release: "v1", configurations: [foreign], ...more }));
  };
  const other = { $edgeAgent: { "properties.desired.modules.other": {} } };
  expect(says(other)).toContain(missing);
  expect(says({ $edgeAgent: { "properties.desired.modules.inference": {} } })).not.toContain(missing);
  const whole = { $edgeAgent: { "properties.desired": { modules: { inference: {} } } } };
  expect(says(whole)).not.toContain(missing);
  expect(says(other, { spec: { module: { name: "inference", image: "r/i@sha256:0" } } })).not.toContain(
    missing,
  );
  expect(says(other, { members: [memberAt(0), running(memberAt(1), "v2", 40)] })).not.toContain(missing);
  expect(says(other, { members: [memberAt(0, { iotEdge: false })] })).not.toContain(missing);
});
