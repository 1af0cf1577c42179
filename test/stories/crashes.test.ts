import { expect, test } from "vitest";
import { minutes, seconds } from "../../src/base/time.ts";
import { duration, strategy } from "../builders/specs.ts";
import type { Mishap } from "../fakes/calls.ts";
import { type Behaviour, digestNamed, WELL } from "../fakes/fleet-world.ts";
import { createStory, type Story } from "./story.ts";

// The process may die before or after any call that leaves it, and any answer may be lost: what comes of it in the end
// is what would have come of it anyway.

const QUICK = strategy([{ percent: 25, hold: duration("1m") }, { percent: 100 }]);

type Tale = {
  readonly how?: Partial<Behaviour>;
  readonly isFirst?: boolean;
  readonly tell: (story: Story) => Promise<void>;
  readonly end: string;
};

const TALES: Readonly<Record<string, Tale>> = {
  "a good rollout": { end: "Completed", tell: async (story) => await story.run(minutes(14)) },
  "a rollback": { end: "RolledBack", how: { p95: 300 }, tell: async (story) => await story.run(minutes(9)) },
  "a first installation that fails": {
    end: "RolledBack",
    isFirst: true,
    how: { fails: "LoadFailed" },
    tell: async (story) => await story.run(minutes(9)),
  },
  "a withdrawal": {
    end: "Completed",
    tell: async (story) => {
      await story.run(minutes(2));
      story.edit({ release: { name: "v1" } });
      await story.run(minutes(9));
    },
  },
  "a third release": {
    end: "Completed",
    tell: async (story) => {
      await story.run(minutes(2));
      story.edit({ release: { name: "v3" } });
      await story.run(minutes(15));
    },
  },
  "an abort": {
    end: "RolledBack",
    tell: async (story) => {
      await story.run(minutes(2));
      story.request("abort", "1");
      await story.run(minutes(9));
    },
  },
};

const MISHAPS: Readonly<Record<string, Mishap>> = {
  "a crash before": { kind: "crash", when: "before" },
  "a crash after": { kind: "crash", when: "after" },
  "a lost answer to": { kind: "lost" },
  "a conflict in": { kind: "fault", fault: { kind: "conflict", message: "412" } },
};

async function play(tale: Tale, mishap: { readonly at: number; readonly what: Mishap } | null) {
  const story = createStory({
    tick: seconds(20),
    behaviour: (_device, digest) => (digest === digestNamed("v2/fp32") ? { ...WELL, ...tale.how } : WELL),
  });
  story.fleet(6, (index) => ({ iotEdge: index !== 0 }));
  story.release("v2");
  story.release("v3");
  if (tale.isFirst === true) story.deploy("v2", { strategy: QUICK });
  else {
    await story.install("v1", { strategy: QUICK });
    story.edit({ release: { name: "v2" } });
  }
  story.world.calls.clear();
  if (mishap !== null) story.world.calls.spoil(mishap.at, mishap.what);
  await tale.tell(story);
  return {
    outcome: story.outcome(),
    calls: story.world.calls.made(),
    isSpoiled: !story.world.calls.pending(),
  };
}

for (const [name, tale] of Object.entries(TALES)) {
  test(`${name} ends the same wherever it is struck`, async () => {
    const undisturbed = await play(tale, null);
    expect(undisturbed.outcome.phase).toBe(tale.end);
    for (const [at, call] of undisturbed.calls.entries()) {
      for (const [kind, what] of Object.entries(MISHAPS)) {
        const struck = await play(tale, { at, what });
        expect(struck.isSpoiled).toBe(true);
        expect(struck.outcome, `${kind} call ${at}, ${call}`).toEqual(undisturbed.outcome);
      }
    }
  });
}
