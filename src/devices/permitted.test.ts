import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { deviceSpec } from "../../test/builders/fleet.ts";
import { Crash, createCalls } from "../../test/fakes/calls.ts";
import { createFakeClock } from "../../test/fakes/fake-clock.ts";
import { createFakeEventRecorder } from "../../test/fakes/fake-event-recorder.ts";
import { createFakeLog } from "../../test/fakes/fake-log.ts";
import { createFakeRegistry } from "../../test/fakes/fake-registry.ts";
import { createFakeResources } from "../../test/fakes/fake-resources.ts";
import { createFakeSecrets } from "../../test/fakes/fake-secrets.ts";
import { findCondition } from "../api/condition.ts";
import type { EdgeDeviceSpec, EdgeDeviceStatus } from "../api/edge-device.ts";
import type { InferenceDeploymentSpec, InferenceDeploymentStatus } from "../api/inference-deployment.ts";
import { FINALIZER, objectKey } from "../api/resource.ts";
import {
  ADOPT_ANNOTATION,
  ALLOW_DELETIONS_ANNOTATION,
  DEVICES_ANNOTATION,
  type Grant,
  grantOf,
  OPEN_GRANT,
} from "../api/tenancy.ts";
import { instant, minutes } from "../base/time.ts";
import { createDepartures } from "./departures.ts";
import { reconcileDevice } from "./reconcile.ts";

// One tenant attacks what is another's, or nobody's; and a person deletes more than was meant.

const signal = new AbortController().signal;
const SECRET = { connectionSecret: { name: "keys" } };
const TEAM_A = { [DEVICES_ANNOTATION]: "team-a-*" };

function createWorld(limit = 20) {
  const calls = createCalls();
  const clock = createFakeClock();
  const devices = createFakeResources<EdgeDeviceSpec, EdgeDeviceStatus>("devices", calls);
  const deployments = createFakeResources<InferenceDeploymentSpec, InferenceDeploymentStatus>(
    "deployments",
    calls,
  );
  const registry = createFakeRegistry("hub.test", clock.now(), calls);
  const secrets = createFakeSecrets(calls);
  const recorder = createFakeEventRecorder();
  const granted = new Map<string, Grant>();
  const grants = (namespace: string) => granted.get(namespace) ?? OPEN_GRANT;
  const start = () =>
    reconcileDevice({
      ...{ devices, deployments, secrets, recorder, clock, grants, log: createFakeLog() },
      ...{ hub: registry.hub, fleet: registry.fleet, salt: "edgefleet", clusterId: "c1" },
      departures: createDepartures(devices, grants, limit),
    });
  let reconcile = start();
  const settle = async (namespace: string, name: string) => {
    for (let passes = 0; passes < 20; passes += 1) {
      calls.clear();
      if (passes > 4) registry.sweep();
      try {
        await reconcile(objectKey(namespace, name), signal);
        if (calls.made().length === 0) return;
      } catch (error) {
        if (!(error instanceof Crash)) throw error;
        reconcile = start();
      }
    }
  };
  const condition = (namespace: string, name: string, type = "Ready") =>
    findCondition(devices.get(objectKey(namespace, name))?.status?.conditions, type);
  const restart = () => {
    reconcile = start();
  };
  return { calls, clock, devices, registry, secrets, recorder, granted, settle, condition, restart };
}

describe("a device id that the namespace was not granted", () => {
  test.each([
    ["nobody's", null],
    ["an identity that nobody manages", {}],
    ["another tenant's", { edgefleet: { managed: true, namespace: "team-a", device: "team-a-1" } }],
  ])("is neither touched nor looked at, and reads the same: %s", async (_what, tags) => {
    const world = createWorld();
    world.granted.set("team-b", grantOf({ [DEVICES_ANNOTATION]: "team-b-*" }));
    if (tags !== null) world.registry.enroll("team-a-1", { tags });
    const before = JSON.stringify(world.registry.picture());
    const spec = deviceSpec({ deviceId: "team-a-1", enabled: false, deletionPolicy: "Delete", ...SECRET });
    world.devices.create({ namespace: "team-b", name: "x", spec });
    await world.settle("team-b", "x");
    expect(world.condition("team-b", "x")).toMatchObject({
      status: "False",
      reason: "NotPermitted",
      message:
        "namespace team-b is not permitted to use device id team-a-1: ask its administrator to add a pattern that matches it to its annotation edgefleet.dev/device-ids",
    });
    const { status, finalizers } = world.devices.get(objectKey("team-b", "x"))!;
    expect(status?.hub).toBeUndefined();
    expect(finalizers).toEqual([]);
    world.devices.remove(objectKey("team-b", "x"));
    await world.settle("team-b", "x");
    expect(JSON.stringify(world.registry.picture())).toBe(before);
  });

  test("is not asked about on the hub", async () => {
    const world = createWorld();
    world.granted.set("team-b", grantOf({}));
    world.devices.create({ namespace: "team-b", name: "x", spec: deviceSpec() });
    await world.settle("team-b", "x");
    world.calls.clear();
    world.devices.setStatus(objectKey("team-b", "x"), null);
    await world.settle("team-b", "x");
    expect(world.calls.made().filter((call) => call.startsWith("hub."))).toEqual([]);
  });
});

describe("an identity that exists and was not made for the object", () => {
  test("is left alone, and its keys with it, until its adoption is granted", async () => {
    const world = createWorld();
    world.granted.set("team-a", grantOf(TEAM_A));
    world.registry.enroll("team-a-1");
    const before = JSON.stringify(world.registry.picture());
    const spec = deviceSpec({ deviceId: "team-a-1", enabled: false, ...SECRET });
    world.devices.create({ namespace: "team-a", name: "x", spec });
    await world.settle("team-a", "x");
    expect(world.condition("team-a", "x")).toMatchObject({ reason: "NotPermitted" });
    expect(world.condition("team-a", "x")?.message).toContain(ADOPT_ANNOTATION);
    expect(JSON.stringify(world.registry.picture())).toBe(before);
    expect((await world.secrets.get("team-a", "keys", signal)).ok).toBe(true);
    expect(await world.secrets.get("team-a", "keys", signal)).toMatchObject({ value: null });

    world.granted.set("team-a", grantOf({ ...TEAM_A, [ADOPT_ANNOTATION]: "true" }));
    await world.settle("team-a", "x");
    expect(world.condition("team-a", "x", "Registered")).toMatchObject({ reason: "Adopted" });
    expect(world.registry.identity("team-a-1")?.enabled).toBe(false);
  });

  test.each([
    ["with a grant", grantOf(TEAM_A)],
    ["with a single tenant", OPEN_GRANT],
  ])("is not removed by an object that came with our finalizer, %s", async (_what, grant) => {
    const world = createWorld();
    world.granted.set("team-a", grant);
    world.registry.enroll("team-a-1");
    const before = JSON.stringify(world.registry.picture());
    const spec = deviceSpec({ deviceId: "team-a-1", enabled: false, deletionPolicy: "Delete" });
    world.devices.create({ namespace: "team-a", name: "x", spec, finalizers: [FINALIZER] });
    world.devices.remove(objectKey("team-a", "x"));
    await world.settle("team-a", "x");
    expect(world.devices.get(objectKey("team-a", "x"))).toBeUndefined();
    expect(JSON.stringify(world.registry.picture())).toBe(before);
  });

  test("is not ours because a manifest brings our finalizer", async () => {
    const world = createWorld();
    world.granted.set("team-a", grantOf(TEAM_A));
    world.registry.enroll("team-a-1");
    const spec = deviceSpec({ deviceId: "team-a-1" });
    world.devices.create({ namespace: "team-a", name: "x", spec, finalizers: [FINALIZER] });
    await world.settle("team-a", "x");
    expect(world.condition("team-a", "x")).toMatchObject({ reason: "NotPermitted" });
    expect(world.registry.twin({ device: "team-a-1", module: null })?.tags).toEqual({});
  });

  test("that lost its tags between the look and the removal is not removed", async () => {
    const world = createWorld();
    const key = objectKey("team-a", "x");
    world.devices.create({ namespace: "team-a", name: "x", spec: deviceSpec({ deletionPolicy: "Delete" }) });
    await world.settle("team-a", "x");
    // Behind the view: the identity is another one now, of nobody.
    world.registry.drop("x");
    world.registry.enroll("x");
    world.devices.remove(key);
    await world.settle("team-a", "x");
    expect(world.registry.identity("x")).toBeDefined();
  });
});

test("a crash right after the creation leaves no doubt whose the identity is", async () => {
  const world = createWorld();
  world.granted.set("team-a", grantOf(TEAM_A));
  world.devices.create({ namespace: "team-a", name: "team-a-1", spec: deviceSpec() });
  world.calls.spoil(3, { kind: "crash", when: "after" });
  await world.settle("team-a", "team-a-1");
  expect(world.condition("team-a", "team-a-1", "Registered")).toMatchObject({ reason: "Registered" });
  world.devices.remove(objectKey("team-a", "team-a-1"));
  await world.settle("team-a", "team-a-1");
  expect(world.registry.identity("team-a-1")).toBeUndefined();
});

test("what another namespace calls its object is not disclosed", async () => {
  const world = createWorld();
  world.granted.set("team-b", grantOf({ [DEVICES_ANNOTATION]: "*" }));
  const tags = { edgefleet: { managed: true, namespace: "team-a", device: "secret-name" } };
  world.registry.enroll("cam-1", { tags });
  world.devices.create({ namespace: "team-b", name: "cam-1", spec: deviceSpec() });
  await world.settle("team-b", "cam-1");
  const { message } = world.condition("team-b", "cam-1")!;
  expect(message).toContain("an EdgeDevice of another namespace");
  expect(message).not.toMatch(/team-a|secret-name/);
});

test("a grant that is taken away leaves everything as it is, and deletion waits for it", async () => {
  const world = createWorld();
  const key = objectKey("team-a", "team-a-1");
  world.granted.set("team-a", grantOf(TEAM_A));
  world.devices.create({ namespace: "team-a", name: "team-a-1", spec: deviceSpec() });
  await world.settle("team-a", "team-a-1");
  const before = JSON.stringify(world.registry.picture());
  world.granted.set("team-a", grantOf({}));
  world.devices.edit(key, { spec: deviceSpec({ enabled: false }) });
  await world.settle("team-a", "team-a-1");
  expect(world.condition("team-a", "team-a-1")).toMatchObject({ reason: "NotPermitted" });
  world.devices.remove(key);
  await world.settle("team-a", "team-a-1");
  expect(JSON.stringify(world.registry.picture())).toBe(before);
  expect(world.condition("team-a", "team-a-1")).toMatchObject({ reason: "NotPermitted" });
  world.granted.set("team-a", grantOf(TEAM_A));
  await world.settle("team-a", "team-a-1");
  expect(world.registry.identity("team-a-1")).toBeUndefined();
  expect(world.devices.get(key)).toBeUndefined();
});

test("whatever a tenant applies and deletes, nothing of another tenant or without an owner changes", async () => {
  const pool = ["team-a-1", "team-a-2", "stray-1", "team-b-1", "team-b-2", "team-ab-1"];
  const step = fc.record({
    kind: fc.constantFrom("apply", "delete", "sweep"),
    name: fc.constantFrom("one", "two", "team-a-1"),
    id: fc.constantFrom(...pool),
    enabled: fc.boolean(),
    iotEdge: fc.boolean(),
    finalizer: fc.boolean(),
    policy: fc.constantFrom("Delete" as const, "Retain" as const, undefined),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 1, maxLength: 8 }),
      fc.boolean(),
      async (steps, isMarked) => {
        const world = createWorld();
        world.granted.set("team-b", grantOf({ [DEVICES_ANNOTATION]: "team-b-*" }));
        const theirs = { edgefleet: { managed: true, namespace: "team-a", device: "one" } };
        world.registry.enroll("team-a-1", { tags: theirs });
        for (const id of ["team-a-2", "stray-1", "team-ab-1"]) world.registry.enroll(id);
        // In the tenant's range, and not its own: of nobody, or of another namespace.
        world.registry.enroll("team-b-2", { tags: isMarked ? theirs : {} });
        const protectedOnes = () =>
          pool
            .filter((id) => id !== "team-b-1")
            .map((id) => {
              const identity = world.registry.identity(id);
              return [
                id,
                identity?.enabled,
                identity?.etag,
                world.registry.twin({ device: id, module: null }),
              ];
            });
        const before = JSON.stringify(protectedOnes());
        for (const { kind, name, id, enabled, iotEdge, finalizer, policy } of steps) {
          const key = objectKey("team-b", name);
          const had = world.devices.get(key);
          if (kind === "apply" && had === undefined) {
            const spec = deviceSpec({ deviceId: id, enabled, iotEdge, ...SECRET });
            world.devices.create({
              ...{ namespace: "team-b", name, finalizers: finalizer ? [FINALIZER] : [] },
              spec: policy === undefined ? spec : { ...spec, deletionPolicy: policy },
            });
          }
          if (kind === "delete" && had !== undefined) world.devices.remove(key);
          if (kind === "sweep") world.registry.sweep();
          await world.settle("team-b", name);
          expect(JSON.stringify(protectedOnes())).toBe(before);
          const loot = await world.secrets.get("team-b", "keys", signal);
          const holder = loot.ok ? loot.value?.data["deviceId"] : undefined;
          expect([undefined, "team-b-1"]).toContain(holder);
        }
      },
    ),
    { numRuns: 200 },
  );
});

describe("the brake", () => {
  async function withDevices(count: number, limit = 20) {
    const world = createWorld(limit);
    const names = Array.from({ length: count }, (_, index) => `cam-${index}`);
    for (const name of names) {
      world.devices.create({ name, spec: deviceSpec() });
      await world.settle("plant-a", name);
    }
    const removeAll = () => {
      for (const name of names) world.devices.remove(objectKey("plant-a", name));
    };
    const settleAll = async () => {
      for (const name of names) await world.settle("plant-a", name);
    };
    const left = () => names.filter((name) => world.registry.identity(name) !== undefined);
    return { ...world, names, removeAll, settleAll, left };
  }

  test("is not felt where a few devices leave", async () => {
    const world = await withDevices(20);
    world.removeAll();
    await world.settleAll();
    expect(world.left()).toEqual([]);
    expect(world.devices.list()).toEqual([]);
  });

  test("stops a deletion of everything before the first identity is gone, and says what to type", async () => {
    const world = await withDevices(25);
    world.removeAll();
    await world.settleAll();
    expect(world.left()).toHaveLength(25);
    expect(world.condition("plant-a", "cam-0")).toMatchObject({ status: "False", reason: "DeletionsPaused" });
    expect(world.condition("plant-a", "cam-0")?.message).toContain(ALLOW_DELETIONS_ANNOTATION);
    expect(world.condition("plant-a", "cam-0", "Stalled")).toMatchObject({ status: "True" });
    expect(world.recorder.drafts().filter(({ reason }) => reason === "DeletionsPaused")).toHaveLength(25);
    world.calls.clear();
    await world.settleAll();
    expect(world.calls.made()).toEqual([]);
  });

  test("stops one that comes one by one after so many", async () => {
    const world = await withDevices(25);
    for (const name of world.names) {
      world.devices.remove(objectKey("plant-a", name));
      await world.settle("plant-a", name);
    }
    expect(world.left()).toHaveLength(5);
  });

  test("holds over a restart, and over time, until a person releases it", async () => {
    const world = await withDevices(25);
    world.removeAll();
    await world.settle("plant-a", "cam-0");
    world.restart();
    await world.clock.advance(minutes(60));
    await world.settleAll();
    expect(world.left()).toHaveLength(25);
  });

  test("is released for a namespace by its annotation, until the time that it says", async () => {
    const world = await withDevices(25);
    world.removeAll();
    await world.settleAll();
    const until = new Date(world.clock.now() + minutes(10)).toISOString();
    world.granted.set("plant-a", { ...OPEN_GRANT, ...allowing(until) });
    await world.settleAll();
    expect(world.left()).toEqual([]);

    const late = await withDevices(25);
    late.granted.set("plant-a", { ...OPEN_GRANT, ...allowing(new Date(late.clock.now()).toISOString()) });
    late.removeAll();
    await late.settleAll();
    expect(late.left()).toHaveLength(25);
  });

  test("is released for one device by an annotation of its own", async () => {
    const world = await withDevices(25);
    world.removeAll();
    await world.settleAll();
    const until = new Date(world.clock.now() + minutes(10)).toISOString();
    world.devices.edit(objectKey("plant-a", "cam-3"), {
      annotations: { [ALLOW_DELETIONS_ANNOTATION]: until },
    });
    await world.settleAll();
    expect(world.left()).toHaveLength(24);
    expect(world.left()).not.toContain("cam-3");
  });

  test("does not hold what stays on the hub", async () => {
    const world = await withDevices(25);
    world.removeAll();
    await world.settleAll();
    for (const name of world.names)
      world.devices.edit(objectKey("plant-a", name), { spec: deviceSpec({ deletionPolicy: "Retain" }) });
    await world.settleAll();
    expect(world.devices.list()).toEqual([]);
    expect(world.left()).toHaveLength(25);
  });

  test("of 0 is none", async () => {
    const world = await withDevices(25, 0);
    world.removeAll();
    await world.settleAll();
    expect(world.left()).toEqual([]);
  });
});

function allowing(until: string): Pick<Grant, "allowDeletionsUntil"> {
  return { allowDeletionsUntil: instant(Date.parse(until)) };
}
