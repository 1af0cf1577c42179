import { expect, test } from "vitest";
import { minutes } from "../../src/base/time.ts";
import { LABEL } from "../../src/rollouts/configurations/content.ts";
import { duration, STEPS, strategy } from "../builders/specs.ts";
import { NAMESPACE } from "../fakes/fleet-world.ts";
import { KEY } from "./operator.ts";
import { createStory, type Story } from "./story.ts";

// A status that is lost, or older than the hub, as after a restore from a backup.

type Snapshot = Pick<NonNullable<ReturnType<Story["current"]>>, "spec" | "status">;

function snapshot(story: Story): Snapshot {
  const { spec, status } = story.current()!;
  return structuredClone({ spec, status });
}

function restore(story: Story, { spec, status }: Snapshot): void {
  story.edit(spec);
  story.world.deployments.setStatus(KEY, status);
  story.world.touch();
}

function releases(story: Story): readonly (string | undefined)[] {
  return [...story.world.truth.pointers().values()].map((pointer) =>
    pointer?.release.slice(NAMESPACE.length + 1),
  );
}

async function beginRollout(story: Story): Promise<void> {
  story.fleet(20);
  await story.install("v1");
  story.release("v2");
  story.edit({ release: { name: "v2" } });
}

/** v2 is everywhere, and the status is that of its first step. */
async function restoredFromFirstStep(): Promise<Story> {
  const story = createStory();
  await beginRollout(story);
  await story.runUntil(({ status }) => status?.step?.index === 0, minutes(10));
  await story.run(minutes(2));
  const old = snapshot(story);
  await story.runUntil(({ status }) => status?.phase === "Completed", minutes(60));
  await story.run(minutes(10));
  expect(new Set(releases(story))).toEqual(new Set(["v2"]));
  restore(story, old);
  await story.run(minutes(30));
  return story;
}

test("an old status moves no device, and is reported", async () => {
  const story = await restoredFromFirstStep();
  expect(new Set(releases(story))).toEqual(new Set(["v2"]));
  expect(story.condition("Ready")).toMatchObject({ status: "False", reason: "StateContradicted" });
  expect(story.condition("Stalled")).toMatchObject({ status: "True", reason: "StateContradicted" });
  expect(story.condition("Ready")?.message).toContain("The hub has stable v2 (20 devices)");
  story.world.calls.clear();
  await story.run(minutes(30));
  expect(story.writes()).toEqual([]);
});

test("a retry goes on from what the hub has", async () => {
  const story = await restoredFromFirstStep();
  story.request("retry", "1");
  await story.run(minutes(10));
  expect(story.status()).toMatchObject({ phase: "Completed", stable: { release: "v2" } });
  expect(story.condition("Ready")).toMatchObject({ status: "True", reason: "Completed" });
  expect(new Set(releases(story))).toEqual(new Set(["v2"]));
});

test("a promote goes on from the status", async () => {
  const story = await restoredFromFirstStep();
  story.request("promote", "1");
  await story.run(minutes(1));
  expect(story.status()).toMatchObject({ phase: "Progressing", stable: { release: "v1" } });
  expect(releases(story).filter((name) => name === "v2").length).toBeLessThanOrEqual(10);
  await story.runUntil(({ status }) => status?.phase === "Completed", minutes(60));
  await story.run(minutes(10));
  expect(new Set(releases(story))).toEqual(new Set(["v2"]));
});

test("a status from before the rollout takes nothing back", async () => {
  const story = createStory();
  story.fleet(20);
  await story.install("v1");
  const old = snapshot(story);
  story.release("v2");
  story.edit({ release: { name: "v2" } });
  await story.runUntil(({ status }) => status?.step?.index === 1, minutes(60));
  await story.run(minutes(2));
  restore(story, old);
  await story.run(minutes(30));
  expect(releases(story).filter((name) => name === "v2")).toHaveLength(10);
  expect(story.condition("Ready")).toMatchObject({ status: "False", reason: "StateContradicted" });
  // An abort is about what the hub has: the candidate that is out there.
  story.request("abort", "1");
  await story.run(minutes(10));
  expect(story.status()?.quarantinedReleases).toMatchObject([{ release: "v2" }]);
  expect(new Set(releases(story))).toEqual(new Set(["v1"]));
});

test("a status from an earlier step takes no width back", async () => {
  // The hub has more than the status says, and that is not held against it here.
  const story = createStory();
  await beginRollout(story);
  story.edit({ strategy: strategy(STEPS, { bake: duration("9h") }) });
  await story.runUntil(({ status }) => status?.step?.index === 1, minutes(60));
  await story.run(minutes(2));
  const old = snapshot(story);
  await story.runUntil(({ status }) => status?.phase === "Baking", minutes(60));
  await story.run(minutes(6));
  restore(story, old);
  await story.run(minutes(30));
  expect(new Set(releases(story))).toEqual(new Set(["v2"]));
  expect(story.condition("Ready")).toMatchObject({ status: "False", reason: "StateContradicted" });
});

test("a status of a rollout that was taken back since exposes no device again", async () => {
  const story = createStory();
  await beginRollout(story);
  await story.runUntil(({ status }) => status?.step?.index === 1, minutes(60));
  await story.run(minutes(2));
  const old = snapshot(story);
  story.request("abort", "1");
  await story.run(minutes(20));
  expect(story.status()?.phase).toBe("RolledBack");
  restore(story, old);
  story.world.deployments.edit(KEY, { annotations: {} });
  await story.run(minutes(30));
  expect(new Set(releases(story))).toEqual(new Set(["v1"]));
  expect(story.condition("Ready")).toMatchObject({ status: "False", reason: "StateContradicted" });
});

test("a status that is lost while the first release bakes takes the model from no device", async () => {
  const story = createStory({ unmatched: "remove" });
  story.fleet(20);
  story.release("v1");
  story.deploy("v1", { strategy: strategy(STEPS, { bake: duration("1h") }) });
  await story.runUntil(({ status }) => status?.phase === "Baking", minutes(60));
  await story.run(minutes(6));
  story.world.deployments.setStatus(KEY, null);
  story.world.touch();
  for (let minute = 0; minute < 30; minute += 1) {
    await story.run(minutes(1));
    expect(new Set(releases(story))).toEqual(new Set(["v1"]));
  }
  await story.runUntil(({ status }) => status?.phase === "Completed", minutes(120));
});

test("a status that is lost in a canary moves no device, and the canary goes on at its width", async () => {
  const story = createStory();
  await beginRollout(story);
  await story.runUntil(({ status }) => status?.step?.index === 1, minutes(60));
  await story.run(minutes(2));
  const before = releases(story);
  story.world.deployments.setStatus(KEY, null);
  story.world.touch();
  await story.run(minutes(2));
  expect(releases(story)).toEqual(before);
  expect(story.status()).toMatchObject({ phase: "Progressing", step: { index: 1, percent: 50 } });
  const conditions = story.world.truth
    .configurations()
    .filter(({ labels }) => labels[LABEL.track] === "candidate");
  expect(conditions.flatMap((one) => story.world.truth.targeted(one.targetCondition))).toHaveLength(10);
});
