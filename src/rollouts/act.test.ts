import { expect, test } from "vitest";
import { createFakeLog } from "../../test/fakes/fake-log.ts";
import { createFleetWorld } from "../../test/fakes/fleet-world.ts";
import { look, NOW, releaseNamed } from "../../test/stories/seen.ts";
import { type Grant, grantOf, OPEN_GRANT } from "../api/tenancy.ts";
import { actOnRollout } from "./act.ts";
import type { Action } from "./configurations/action.ts";
import { BASE_ID, LABEL } from "./configurations/content.ts";
import { MATCH_NONE } from "./configurations/target.ts";
import { clearedIn, createMemories } from "./memory.ts";
import { fullProblem } from "./preconditions.ts";
import { allDevices } from "./state/exposure.ts";
import type { RolloutState } from "./state/state.ts";
import { referenceOf } from "./verification.ts";

const signal = new AbortController().signal;
type Create = Extract<Action, { readonly kind: "create" }>;

const rollingBack: RolloutState & { readonly phase: "RollingBack" } = {
  quarantined: [],
  handled: { abort: null, promote: null, retry: null },
  history: [],
  phase: "RollingBack",
  stable: null,
  candidate: referenceOf(releaseNamed("v2")),
  exposure: allDevices(1),
  because: { reason: "Aborted", message: "aborted on request", release: "v2", at: NOW },
};

function begin() {
  const world = createFleetWorld();
  const memories = createMemories();
  return { world, memories, act: actOnRollout({ ...world, log: createFakeLog() }, memories) };
}

function createOf(change: Partial<Create> = {}): Create {
  return {
    kind: "create",
    id: "ef-other",
    configurationKind: "edge",
    track: "stable",
    labels: {},
    condition: MATCH_NONE,
    module: { name: "inference" },
    pointer: {
      contract: 1,
      deployment: "plant-a.resnet",
      release: "plant-a.v1",
      name: "resnet50",
      version: "v1",
      variant: "fp32",
      digest: "sha256:0",
      executionProvider: "cpu",
      config: {},
    },
    blob: { container: "models", path: "m.onnx" },
    etag: null,
    expiresAt: NOW,
    above: [],
    ...change,
  };
}

test("a twin that was read while a configuration still targeted it is read again", async () => {
  const { world, memories, act } = begin();
  const seen = look();
  const created = await world.configurations.create(
    {
      id: "ef-late",
      kind: "edge",
      labels: { [LABEL.track]: "candidate" },
      priority: 500,
      targetCondition: "tags.edgefleet.bucket < 5",
      content: {},
    },
    "normal",
    signal,
  );
  expect(created.ok).toBe(true);
  const cleared = clearedIn(memories.of(seen.deployment.key), rollingBack.because);
  cleared.add("cam-0");
  const withdraw: Action = {
    kind: "retarget",
    id: "ef-late",
    condition: MATCH_NONE,
    labels: {},
    lane: "rollback",
  };
  await act(seen, [withdraw], rollingBack, signal);
  expect([...cleared]).toEqual([]);
  // A withdrawal never waits for the hub to be asked about the condition.
  expect(world.calls.made()).toEqual(["configurations.create", "configurations.update"]);
});

test("what exposes fewer devices is not asked about first, what exposes more is", async () => {
  const world = createFleetWorld();
  const act = actOnRollout({ ...world, log: createFakeLog() }, createMemories());
  for (const id of ["ef-narrow", "ef-wide"]) {
    const condition = `tags.edgefleet.bucket < ${id === "ef-narrow" ? 5 : 6}`;
    const one = {
      id,
      kind: "edge" as const,
      labels: {},
      priority: 500,
      targetCondition: condition,
      content: {},
    };
    await world.configurations.create(one, "normal", signal);
  }
  world.calls.clear();
  const retarget = (id: string, bound: number, lane: "rollback" | "normal"): Action => {
    const condition = `tags.edgefleet.bucket < ${bound}`;
    return { kind: "retarget", id, condition, labels: { of: id }, lane };
  };
  await act(look(), [retarget("ef-narrow", 4, "rollback"), retarget("ef-wide", 7, "normal")], null, signal);
  expect(world.calls.made()).toEqual(["configurations.update", "hub.testCondition", "configurations.update"]);
  expect(world.truth.configurations().map(({ labels }) => labels["of"])).toEqual(["ef-narrow", "ef-wide"]);
});

test("devices cleared in one rollback are not cleared in the next", () => {
  const memory = createMemories().of(look().deployment.key);
  clearedIn(memory, rollingBack.because).add("cam-0");
  expect([...clearedIn(memory, rollingBack.because)]).toEqual(["cam-0"]);
  expect([...clearedIn(memory, { ...rollingBack.because, release: "v3" })]).toEqual([]);
});

test("two rollouts that act at once do not choose the same priority", async () => {
  const { world, act } = begin();
  const seen = look();
  const other = createOf({ id: "ef-other" });
  const done = await Promise.all([
    act(seen, [other], null, signal),
    act(seen, [{ ...other, id: "ef-another" }], null, signal),
  ]);
  expect(done.map(({ ok }) => ok)).toEqual([true, true]);
  const priorities = world.truth.configurations().map(({ priority }) => priority);
  expect(new Set(priorities).size).toBe(2);
});

test("the first action that fails is the last that is tried", async () => {
  const { world, act } = begin();
  world.calls.breakAll("configurations.create", { kind: "unavailable", message: "503" });
  const remove: Action = { kind: "remove", id: BASE_ID, lane: "normal" };
  const done = await act(look(), [{ kind: "createBase" }, remove], null, signal);
  expect(done).toEqual({ ok: false, error: { kind: "unavailable", message: "503" } });
  expect(world.calls.made()).toEqual(["configurations.create"]);
});

test.each([
  ["is gone", null, "BlobMissing"],
  ["is another one than was verified", { sizeBytes: 3, etag: "2" }, "BlobReplaced"],
])("no URL is made for a blob that %s, and nothing is created", async (_what, found, reason) => {
  const world = createFleetWorld();
  const signed: unknown[] = [];
  const store = {
    stat: async () => ({ ok: true, value: found }) as const,
    readUrl: async (...asked: readonly unknown[]) => {
      signed.push(asked);
      return { ok: true, value: { url: "https://store.invalid/m", expiresAt: NOW } } as const;
    },
  };
  const act = actOnRollout({ ...world, store, log: createFakeLog() }, createMemories());
  const done = await act(look(), [createOf({ etag: "1" })], null, signal);
  expect(done).toMatchObject({ ok: true, value: { reason } });
  expect(signed).toEqual([]);
  expect(world.truth.configurations()).toEqual([]);
});

test("no URL is made, and nothing is looked at, for a blob that the namespace may not use", async () => {
  const { world, act } = begin();
  const grant = grantOf({ "edgefleet.dev/blob-prefixes": "models/team-a/" });
  const done = await act(look({ grant }), [createOf()], null, signal);
  expect(done).toMatchObject({ ok: true, value: { reason: "NotPermitted" } });
  expect(world.calls.made().filter((call) => call.startsWith("store."))).toEqual([]);
  expect(world.truth.configurations()).toEqual([]);
});

test("who fills the hub is named to its own namespace, and to one tenant alone", () => {
  const full = (grant: Grant) => {
    const others = Array.from({ length: 3 }, (_, index) => ({
      ...{
        id: `other-${index}`,
        kind: "edge" as const,
        priority: index,
        targetCondition: "",
        content: {},
        etag: "1",
      },
      labels: { [LABEL.namespace]: "team-b", [LABEL.name]: "secret-name" },
    }));
    return fullProblem(look({ grant, configurations: others, settings: { hubConfigurationLimit: 3 } }), 1)
      ?.message;
  };
  expect(full(OPEN_GRANT)).toContain("team-b/secret-name (3)");
  expect(full(grantOf({}))).toContain("other namespaces (3)");
  expect(full(grantOf({}))).not.toMatch(/team-b|secret-name/);
});
