import { describe, expect, test } from "vitest";
import { minutes, seconds } from "../../src/base/time.ts";
import { duration, objective, strategy } from "../builders/specs.ts";
import { type Behaviour, digestNamed, WELL } from "../fakes/fleet-world.ts";
import { createStory, type Story } from "./story.ts";

// What is evidence and what is not, in whole rollouts: devices that say nothing, and devices that say what cannot be.

const BAD = digestNamed("v2/fp32");
const all = () => true;

function behaves(how: Partial<Behaviour>, who: (device: string) => boolean) {
  return (device: string, running: string): Behaviour =>
    running === BAD && who(device) ? { ...WELL, ...how } : WELL;
}

async function beginRollout(story: Story, change: Parameters<Story["edit"]>[0] = {}): Promise<void> {
  story.fleet(20);
  await story.install("v1");
  story.release("v2");
  story.edit({ release: { name: "v2" }, ...change });
}

const frames = objective({ metric: "framesPerSecond", critical: 5 });
const { direction: _, ...framesAlone } = frames;

test("a model that hangs is taken back by a bound on frames per second, although no device reports any", async () => {
  const story = createStory({ behaviour: behaves({ hangs: 0 }, all) });
  await beginRollout(story, { objectives: [framesAlone] });
  await story.runUntil(({ status }) => status?.phase === "RolledBack", minutes(60));
  const { rollback } = story.status() ?? {};
  expect(rollback?.reason).toBe("ObjectiveBreached");
  expect(rollback?.message).toContain("framesPerSecond is 0, below the critical bound 5, over 2 devices");
});

test("a model that hangs completes by no other objective either", async () => {
  const story = createStory({ behaviour: behaves({ hangs: 0 }, all) });
  await beginRollout(story);
  await story.run(minutes(240));
  expect(story.phases).not.toContain("Completed");
  expect(story.status()?.analysis?.[0]).toMatchObject({ verdict: "Inconclusive", devices: 0 });
  expect(story.status()?.analysis?.[0]?.message).toContain("2 devices without inferences: cam-001, cam-003");
});

test("one device whose report cannot be true neither decides nor stops the others", async () => {
  const story = createStory({
    behaviour: behaves({ lies: "errors", p95: 1 }, (device) => device === "cam-001"),
  });
  await beginRollout(story, {
    strategy: strategy([{ percent: 50 }, { percent: 100 }]),
    failureBudget: { percent: 20, minimumReported: 5 },
  });
  await story.runUntil(({ status }) => status?.step?.index === 1, minutes(60));
  const [latency] = story.status()?.analysis ?? [];
  expect(latency?.message).toContain(
    "1 device excluded because of implausible reports: cam-001 (601 errors of 600",
  );
  await story.runUntil(({ status }) => status?.phase === "Completed", minutes(60));
  expect(story.status()?.stable?.release).toBe("v2");
});

test("a release about which no device can be believed never completes", async () => {
  for (const objectives of [[], [objective({ critical: 200 })]]) {
    const story = createStory({ behaviour: behaves({ lies: "errors" }, all) });
    await beginRollout(story, { objectives });
    await story.run(minutes(240));
    expect(story.phases).not.toContain("Completed");
  }
});

describe.each([9, 10, 11])("a restart %d minutes into a step of 12", (minute) => {
  const change = {
    // The one device of the first step is cam-003.
    strategy: strategy([{ percent: 10, hold: duration("1m") }, { percent: 100 }], {
      stratifyBy: [],
      progressDeadline: duration("12m"),
    }),
    offline: { policy: "Skip" as const, after: duration("3m") },
  };

  async function restartInStep(story: Story): Promise<void> {
    await story.run(minutes(minute));
    expect(story.world.truth.pointers().get("cam-003")?.release).toBe("plant-a.v2");
    story.away(minutes(1));
    await story.run(minutes(30));
    expect(story.phases).not.toContain("RolledBack");
  }

  test("does not make a device missing that was never switched on", async () => {
    const story = createStory({ tick: seconds(20), online: (device) => device !== "cam-003" });
    story.fleet(4);
    story.release("v2");
    story.deploy("v2", change);
    await restartInStep(story);
    expect(story.status()?.phase).toBe("Holding");
  });

  test("does not make a device missing that was switched off before the step", async () => {
    let isOff = false;
    const story = createStory({ tick: seconds(20), online: (device) => !isOff || device !== "cam-003" });
    story.fleet(4);
    await story.install("v1", change);
    isOff = true;
    await story.run(minutes(30));
    story.release("v2");
    story.edit({ release: { name: "v2" } });
    await restartInStep(story);
  });
});
