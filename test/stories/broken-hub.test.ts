import { expect, test } from "vitest";
import { bucketOf } from "../../src/api/membership.ts";
import { objectKey } from "../../src/api/resource.ts";
import { minutes, seconds } from "../../src/base/time.ts";
import { LABEL } from "../../src/rollouts/configurations/content.ts";
import { type Behaviour, digestNamed, NAMESPACE, SALT, WELL } from "../fakes/fleet-world.ts";
import { createStory, type Story } from "./story.ts";

// What goes on while things are broken: a part of the hub, or an object that has vanished.

const THROTTLED = { kind: "throttled", retryAfter: seconds(20), message: "429" } as const;

async function beginRollout(story: Story, devices = 20): Promise<void> {
  story.fleet(devices);
  await story.install("v1");
  story.release("v2");
  story.edit({ release: { name: "v2" } });
}

function reach(story: Story, step: number): Promise<void> {
  return story.runUntil(({ status }) => status?.step?.index === step, minutes(60));
}

function pointedAt(story: Story, release: string): readonly string[] {
  return [...story.world.truth.pointers()].flatMap(([device, pointer]) =>
    pointer?.release === `${NAMESPACE}.${release}` ? [device] : [],
  );
}

function ownOn(story: Story, track: "stable" | "candidate") {
  return story.world.truth.configurations().filter(({ labels }) => labels[LABEL.track] === track);
}

function targeted(story: Story): readonly string[] {
  return ownOn(story, "candidate").flatMap(({ targetCondition }) =>
    story.world.truth.targeted(targetCondition),
  );
}

function leave(story: Story, device: string): void {
  story.world.devices.edit(objectKey(NAMESPACE, device), { labels: {} });
  story.world.touch();
}

test("while queries fail the exposed devices are still read at the pace of the analysis", async () => {
  const story = createStory();
  await beginRollout(story);
  await reach(story, 1);
  await story.run(minutes(2));
  story.world.failQueries();
  await story.run(seconds(20));
  expect(story.status()?.phase).toBe("Frozen");
  story.world.calls.clear();
  await story.run(minutes(5));
  const reads = story.world.calls.made().filter((name) => name === "fleet.refresh");
  expect(reads.length).toBeGreaterThanOrEqual(9);
  const heard = pointedAt(story, "v2").map(
    (device) => story.world.fleet.get(device)?.slots["inference"]?.heardAt ?? 0,
  );
  expect(heard).toHaveLength(10);
  expect(Math.min(...heard)).toBeGreaterThan(story.world.now() - minutes(2));
});

test("while queries fail a canary that turns sick is taken back", async () => {
  let isSick = false;
  const bad = digestNamed("v2/fp32");
  const behaviour = (_device: string, digest: string): Behaviour =>
    digest === bad && isSick ? { ...WELL, errorRate: 1 } : WELL;
  const story = createStory({ behaviour, evaluationDelay: () => minutes(4) });
  await beginRollout(story);
  await reach(story, 1);
  await story.run(minutes(6));
  story.world.failQueries();
  await story.run(minutes(1));
  expect(story.status()?.phase).toBe("Frozen");
  expect(story.condition("HubReachable")).toMatchObject({
    status: "False",
    message: "queries fail (429); twins can be read",
  });
  isSick = true;
  await story.run(minutes(5));
  expect(story.status()?.rollback?.reason).toBe("ObjectiveBreached");
  expect(pointedAt(story, "v2")).toEqual([]);
});

test("while queries fail, devices that join do not take a canary past its bound", async () => {
  const story = createStory();
  // Few devices, late in the order: the width that exposes half of them covers most of those that join.
  const names = Array.from({ length: 500 }, (_, index) => `cam-${index}`);
  const late = names.filter((name) => bucketOf(SALT, name) > 800_000);
  for (const name of late.slice(0, 4)) story.device(name);
  await story.install("v1");
  story.release("v2");
  story.edit({ release: { name: "v2" } });
  await reach(story, 1);
  await story.run(minutes(1));
  expect(targeted(story)).toHaveLength(2);
  story.world.failQueries();
  await story.run(seconds(30));
  for (let index = 0; index < 100; index += 1) story.device(`new-${index}`);
  await story.run(minutes(1));
  expect(story.status()).toMatchObject({ phase: "Frozen", devices: { matched: 104 } });
  expect(targeted(story).length).toBeLessThanOrEqual(52);
  const condition = ownOn(story, "candidate")[0]?.targetCondition;
  await story.run(minutes(5));
  expect(ownOn(story, "candidate")[0]?.targetCondition).toBe(condition);
});

test("while queries fail an abort brings every exposed device back", async () => {
  const story = createStory({ evaluationDelay: () => minutes(4) });
  await beginRollout(story);
  await reach(story, 1);
  await story.run(minutes(6));
  story.world.failQueries();
  await story.run(seconds(20));
  story.request("abort", "now");
  await story.run(minutes(2));
  expect(pointedAt(story, "v2")).toEqual([]);
  expect(targeted(story)).toEqual([]);
});

test("a rollback is not over while one that has left may be on the candidate unseen", async () => {
  const story = createStory();
  await beginRollout(story);
  await reach(story, 1);
  await story.run(minutes(1));
  const [left = ""] = pointedAt(story, "v2");
  story.world.failQueries();
  leave(story, left);
  // What the view knew of the device is lost, and only a sweep can find it again.
  story.away(minutes(1));
  story.request("abort", "now");
  await story.run(minutes(20));
  expect(pointedAt(story, "v2")).toEqual([left]);
  expect(story.status()?.phase).toBe("RollingBack");
  expect(story.condition("Ready")?.message).toContain("the fleet has to be read from the hub");
  story.world.mendHub();
  await story.run(minutes(2));
  expect(story.status()?.phase).toBe("RolledBack");
  expect(pointedAt(story, "v2")).toEqual([]);
});

test("an operator that starts while queries fail finds its exposed devices by their twins", async () => {
  const story = createStory();
  await beginRollout(story);
  await reach(story, 1);
  await story.run(minutes(1));
  const exposed = pointedAt(story, "v2");
  story.world.failQueries();
  for (const { name } of story.world.devices.list()) story.world.fleet.forget(name);
  await story.run(minutes(3));
  const known = story.world.devices.list().filter(({ name }) => story.world.fleet.get(name) !== undefined);
  expect(known.map(({ name }) => name)).toEqual(exposed);
  expect(pointedAt(story, "v2")).toEqual(exposed);
});

test("a release whose object is deleted in mid-canary still shrinks with its fleet", async () => {
  const story = createStory();
  await beginRollout(story);
  await reach(story, 1);
  await story.run(minutes(1));
  const exposed = new Set(pointedAt(story, "v2"));
  expect(exposed.size).toBe(10);
  story.world.releases.remove(objectKey(NAMESPACE, "v2"));
  for (const { name } of story.world.devices.list()) if (!exposed.has(name)) leave(story, name);
  await story.run(minutes(7));
  expect(story.status()?.devices?.matched).toBe(10);
  // Half of ten.
  expect(targeted(story)).toHaveLength(5);
  expect(pointedAt(story, "v2")).toHaveLength(5);
});

test("what exposes fewer devices does not wait for the writes of others", async () => {
  const story = createStory();
  await beginRollout(story, 4);
  await reach(story, 1);
  await story.run(minutes(1));
  story.world.calls.breakAll("hub.testCondition", THROTTLED);
  for (let index = 0; index < 16; index += 1) {
    story.device(`new-${index}`);
    leave(story, `cam-00${index % 2}`);
  }
  await story.run(minutes(1));
  const matched = story.status()?.devices?.matched ?? 0;
  expect(targeted(story).length).toBeLessThanOrEqual(Math.ceil(matched / 2));
});

test("a stable release that fails verification now is given back to devices that ran it", async () => {
  const story = createStory({ unmatched: "remove" });
  story.fleet(10);
  await story.install("v1");
  story.verify("v1", "Failed");
  await story.run(minutes(1));
  for (const { id } of ownOn(story, "stable")) story.world.truth.editConfiguration(id, null);
  await story.run(minutes(10));
  expect(ownOn(story, "stable")).toHaveLength(1);
  expect(pointedAt(story, "v1")).toHaveLength(10);
  expect(new Set(story.world.truth.running().values())).toEqual(new Set(["plant-a.v1"]));
});

test("a stable release that cannot be given any more is said to be lost", async () => {
  const story = createStory({ unmatched: "remove" });
  story.fleet(10);
  await story.install("v1");
  story.world.releases.remove(objectKey(NAMESPACE, "v1"));
  for (const { id } of ownOn(story, "stable")) story.world.truth.editConfiguration(id, null);
  await story.run(minutes(10));
  expect(story.condition("Ready")).toMatchObject({ status: "False", reason: "StableUnavailable" });
  expect(story.condition("Ready")?.message).toContain("ModelRelease v1 does not exist");
  expect(story.status()?.devices?.onStable).toBe(0);
});

test("a configuration that lost its labels is still ours: no device returns to what was rolled back", async () => {
  const story = createStory();
  await beginRollout(story);
  await reach(story, 1);
  await story.run(minutes(1));
  for (const { id } of story.world.truth.configurations()) {
    story.world.truth.editConfiguration(id, { labels: {} });
  }
  await story.run(minutes(2));
  expect(story.status()).toMatchObject({ phase: "Progressing", step: { index: 1 } });
  story.request("abort", "now");
  await story.run(minutes(20));
  expect(story.status()?.phase).toBe("RolledBack");
  expect(pointedAt(story, "v2")).toEqual([]);
  expect(pointedAt(story, "v1")).toHaveLength(20);
  // Nothing was made a second time beside what had lost its labels.
  const ids = story.world.truth.configurations().map(({ id }) => id.replace(/-[0-9a-f]{12}$/, ""));
  expect(ids.sort()).toEqual(["ef-base", "ef-plant-a-resnet-fp32-stable"]);
});

test("after a change of the salt the devices that are watched are those that the hub targets", async () => {
  const story = createStory({ options: { salt: "another" } });
  await beginRollout(story);
  await reach(story, 0);
  await story.run(minutes(2));
  expect(pointedAt(story, "v2")).toHaveLength(2);
  expect(story.status()?.devices).toMatchObject({ exposed: 2, updated: 2 });
  await story.runUntil(({ status }) => status?.phase === "Completed", minutes(60));
});
