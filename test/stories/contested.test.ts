import { describe, expect, test } from "vitest";
import { objectKey } from "../../src/api/resource.ts";
import { minutes } from "../../src/base/time.ts";
import { deploymentSpec } from "../builders/specs.ts";
import { type Behaviour, digestNamed, NAMESPACE, WELL } from "../fakes/fleet-world.ts";
import { createStory, type Story } from "./story.ts";

// Devices that two deployments select: neither moves them, whatever becomes of its rollout.

const CONTESTED = ["cam-004", "cam-005", "cam-006"];

function contest(story: Story, devices: readonly string[] = CONTESTED): void {
  story.world.deployments.create({
    name: "other",
    spec: deploymentSpec("v1", { selector: { matchLabels: { rival: "yes" } } }),
  });
  for (const device of devices) {
    story.world.devices.edit(objectKey(NAMESPACE, device), { labels: { fleet: "cameras", rival: "yes" } });
  }
  story.world.touch();
}

function release(story: Story): void {
  for (const device of CONTESTED) {
    story.world.devices.edit(objectKey(NAMESPACE, device), { labels: { fleet: "cameras" } });
  }
  story.world.touch();
}

function onRelease(story: Story, name: string): readonly string[] {
  return [...story.world.truth.pointers()]
    .flatMap(([device, pointer]) => (pointer?.release === `${NAMESPACE}.${name}` ? [device] : []))
    .sort();
}

async function contestedRollout(unmatched: "keep" | "remove", bad = false): Promise<Story> {
  const v3 = digestNamed("v3/fp32");
  const behaviour = (_device: string, digest: string): Behaviour =>
    bad && digest === v3 ? { ...WELL, p95: 500 } : WELL;
  const story = createStory({ unmatched, behaviour });
  story.fleet(20);
  await story.install("v1");
  contest(story);
  story.release("v2");
  story.edit({ release: { name: "v2" } });
  return story;
}

describe.each(["keep", "remove"] as const)("on a hub where a layer that is gone is %s", (unmatched) => {
  test("what they run stays when a release completes beside them", async () => {
    const story = await contestedRollout(unmatched);
    await story.runUntil(({ status }) => status?.stable?.release === "v2", minutes(60));
    await story.run(minutes(15));
    expect(onRelease(story, "v1")).toEqual(CONTESTED);
    expect(onRelease(story, "v2")).toHaveLength(17);
    story.world.calls.clear();
    await story.run(minutes(30));
    expect(story.writes()).toEqual([]);
    release(story);
    await story.run(minutes(10));
    expect(onRelease(story, "v2")).toHaveLength(20);
    expect(story.world.truth.configurations()).toHaveLength(2);
  });

  test("what they run stays when the next release is rolled back", async () => {
    const story = await contestedRollout(unmatched, true);
    await story.runUntil(({ status }) => status?.stable?.release === "v2", minutes(60));
    await story.run(minutes(6));
    story.release("v3");
    story.edit({ release: { name: "v3" } });
    await story.runUntil(({ status }) => status?.phase === "RolledBack", minutes(60));
    await story.run(minutes(15));
    expect(onRelease(story, "v1")).toEqual(CONTESTED);
    expect(onRelease(story, "v2")).toHaveLength(17);
  });

  test("one that is under trial leaves the trial, where it would not be watched", async () => {
    const story = createStory({ unmatched });
    story.fleet(20);
    await story.install("v1");
    story.release("v2");
    story.edit({ release: { name: "v2" } });
    await story.runUntil(({ status }) => status?.step?.index === 0, minutes(60));
    await story.run(minutes(2));
    const exposed = onRelease(story, "v2");
    expect(exposed).toHaveLength(2);
    contest(story, exposed.slice(0, 1));
    await story.run(minutes(2));
    expect(onRelease(story, "v1")).toContain(exposed[0]);
    expect(onRelease(story, "v2").length).toBeLessThanOrEqual(2);
    story.request("abort", "1");
    await story.run(minutes(2));
    expect(onRelease(story, "v1")).toHaveLength(20);
  });
});
