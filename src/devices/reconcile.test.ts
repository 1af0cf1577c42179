import { expect, test } from "vitest";
import { deploymentSpec, deviceSpec, inferenceReport, rollingStatus } from "../../test/builders/fleet.ts";
import { type Calls, Crash, createCalls, type Mishap } from "../../test/fakes/calls.ts";
import { createFakeClock } from "../../test/fakes/fake-clock.ts";
import { createFakeEventRecorder } from "../../test/fakes/fake-event-recorder.ts";
import { createFakeLog } from "../../test/fakes/fake-log.ts";
import { createFakeRegistry } from "../../test/fakes/fake-registry.ts";
import { createFakeResources } from "../../test/fakes/fake-resources.ts";
import { createFakeSecrets } from "../../test/fakes/fake-secrets.ts";
import { type Condition, findCondition } from "../api/condition.ts";
import type { EdgeDeviceSpec, EdgeDeviceStatus } from "../api/edge-device.ts";
import type { InferenceDeploymentSpec, InferenceDeploymentStatus } from "../api/inference-deployment.ts";
import { FINALIZER, type ObjectKey, objectKey } from "../api/resource.ts";
import { type Grant, OPEN_GRANT } from "../api/tenancy.ts";
import { digestOf } from "../base/digest.ts";
import type { Fault } from "../base/fault.ts";
import { millis, minutes, seconds } from "../base/time.ts";
import type { Outcome } from "../runtime/outcome.ts";
import { createDepartures } from "./departures.ts";
import { reconcileDevice } from "./reconcile.ts";

const CAM = objectKey("plant-a", "cam-1");
const DEVICE = { device: "cam-1", module: null };
const MODULE = { device: "cam-1", module: "inference" };
const POINTER = {
  contract: 1,
  deployment: "plant-a.resnet50",
  release: "plant-a.resnet50-2.0.0",
  digest: digestOf("2.0.0"),
  url: "https://store.test/m",
};
const signal = new AbortController().signal;

function createWorld(calls: Calls = createCalls()) {
  const clock = createFakeClock();
  const devices = createFakeResources<EdgeDeviceSpec, EdgeDeviceStatus>("devices", calls);
  const deployments = createFakeResources<InferenceDeploymentSpec, InferenceDeploymentStatus>(
    "deployments",
    calls,
  );
  const registry = createFakeRegistry("hub.test", clock.now(), calls);
  const secrets = createFakeSecrets(calls);
  const recorder = createFakeEventRecorder();
  const log = createFakeLog();
  const { hub, fleet } = registry;
  const granted = new Map<string, Grant>();
  const reconcile = reconcileDevice({
    devices,
    deployments,
    hub,
    fleet,
    secrets,
    recorder,
    log,
    clock,
    salt: "edgefleet",
    grants: (namespace) => granted.get(namespace) ?? OPEN_GRANT,
    departures: createDepartures({ list: devices.list, onChange: devices.onChange }, () => OPEN_GRANT, 20),
    clusterId: "c1",
  });

  /** Passes until nothing is called any more, as the queue would do it: a crash is a restart. */
  async function settle(key: ObjectKey = CAM): Promise<Outcome> {
    for (let passes = 0; passes < 20; passes += 1) {
      calls.clear();
      // Some things only a sweep tells, such as whether an identity is enabled.
      if (passes > 4) registry.sweep();
      try {
        const outcome = await reconcile(key, signal);
        if (calls.made().length === 0) return outcome;
      } catch (error) {
        if (!(error instanceof Crash)) throw error;
        registry.sweep(); // A new process reads the fleet anew.
      }
    }
    throw new Error(`does not settle: ${calls.made().join(", ")}`);
  }
  const status = (key = CAM) => devices.get(key)?.status ?? {};
  const condition = (type: string, key = CAM): Condition | undefined =>
    findCondition(status(key).conditions, type);
  const summary = (key = CAM) =>
    Object.fromEntries(
      (status(key).conditions ?? []).map(({ type, status: is, reason }) => [type, `${is} ${reason}`]),
    );
  /** The device reports, and the view reads it. */
  function report(change: Parameters<typeof inferenceReport>[1] = {}) {
    registry.write(MODULE, { reported: { inference: inferenceReport(clock.now(), change) } });
    registry.sweep();
  }
  const pass = (key = CAM) => reconcile(key, signal);
  return {
    calls,
    clock,
    devices,
    deployments,
    registry,
    granted,
    secrets,
    recorder,
    log,
    pass,
    settle,
    status,
    condition,
    summary,
    report,
  };
}

function createDevice(
  world: ReturnType<typeof createWorld>,
  change: Partial<EdgeDeviceSpec> = {},
  name = "cam-1",
) {
  return world.devices.create({ name, spec: deviceSpec(change), labels: { line: "7" } });
}

function createDeployment(world: ReturnType<typeof createWorld>, name = "resnet50", threshold = 0) {
  return world.deployments.create({ name, spec: deploymentSpec(), status: rollingStatus(threshold) });
}

test("a new device is registered and tagged with two writes to the API server", async () => {
  const world = createWorld();
  createDeployment(world);
  createDevice(world, { tags: { line: "7" } });
  await world.pass();
  expect(world.calls.made()).toEqual([
    "hub.getIdentity",
    "devices.setFinalizer",
    "hub.createIdentity",
    "hub.getTwin",
    "hub.patchTwin",
    "devices.writeStatus",
  ]);
  expect(world.registry.identity("cam-1")).toMatchObject({ iotEdge: true, enabled: true });
  expect(world.registry.twin(DEVICE)?.tags).toMatchObject({
    line: "7",
    edgefleet: { device: "cam-1", adopted: false, deployments: { inference: "plant-a.resnet50" } },
  });
  expect(world.devices.get(CAM)?.finalizers).toEqual([FINALIZER]);
  expect(world.status()).toMatchObject({
    observedGeneration: 1,
    hub: { host: "hub.test", deviceId: "cam-1", adopted: false },
    placement: { deployment: "resnet50", module: "inference", release: "resnet50-2.0.0", track: "Stable" },
  });
  expect(world.status().bucket).toBe(world.registry.twin(DEVICE)?.tags["edgefleet"]?.["bucket" as never]);
  expect(world.summary()).toEqual({
    Registered: "True Registered",
    Online: "Unknown NeverSeen",
    ModelInSync: "Unknown NeverSeen",
    Ready: "True DeviceReady",
  });
  expect(world.recorder.drafts()).toEqual([]);
  world.calls.clear();
  await world.pass();
  expect(world.calls.made()).toEqual([]);
});

test("a lost answer costs one more look, and no more", async () => {
  const world = createWorld();
  createDevice(world);
  world.calls.spoil(4, { kind: "lost" });
  expect(await world.pass()).toMatchObject({ kind: "retry" });
  expect(world.calls.made()[4]).toBe("hub.patchTwin");
  await world.pass();
  world.calls.clear();
  await world.pass();
  expect(world.calls.made()).toEqual([]);
});

test("pointers go only once no configuration selects the device any more: the hub would put them back", async () => {
  const world = createWorld();
  createDeployment(world);
  createDevice(world, { deletionPolicy: "Retain" });
  await world.settle();
  world.registry.write(MODULE, { desired: { model: POINTER } });
  world.registry.sweep();
  world.devices.remove(CAM);
  world.calls.clear();
  world.calls.spoil(2, { kind: "crash", when: "before" });
  await expect(world.pass()).rejects.toThrow(Crash);
  expect(world.calls.made()).toEqual(["hub.getTwin", "hub.patchTwin", "hub.getTwin"]);
  expect(world.registry.twin(DEVICE)?.tags).toMatchObject({ edgefleet: { deployments: { inference: "" } } });
  expect(world.registry.twin(MODULE)?.desired).toEqual({ model: POINTER });
  await world.settle();
  expect(world.registry.twin(DEVICE)?.tags).toEqual({});
  expect(world.registry.twin(MODULE)?.desired).toEqual({});
});

test("a device that reports what it is meant to run is ready, and from then on costs nothing", async () => {
  const world = createWorld();
  createDeployment(world);
  createDevice(world);
  await world.settle();
  world.report();
  await world.settle();
  expect(world.summary()).toEqual({
    Registered: "True Registered",
    Online: "True Heartbeat",
    ModelInSync: "True InSync",
    Ready: "True DeviceReady",
  });
  expect(world.status().model).toMatchObject({
    release: "resnet50-2.0.0",
    digest: digestOf("2.0.0"),
    state: "Running",
  });
  const before = world.devices.get(CAM)?.resourceVersion;
  world.calls.clear();
  for (let beat = 0; beat < 10; beat += 1) {
    await world.clock.advance(seconds(60));
    world.report();
    expect(await world.pass()).toMatchObject({ kind: "wakeAfter" });
  }
  expect(world.calls.made()).toEqual([]);
  expect(world.devices.get(CAM)?.resourceVersion).toBe(before);
});

test("a device wakes its reconcile when its heartbeat is due, and goes offline only then", async () => {
  const world = createWorld();
  createDevice(world);
  await world.settle();
  world.report();
  const outcome = await world.settle();
  expect(outcome.kind).toBe("wakeAfter");
  const delay = outcome.kind === "wakeAfter" ? outcome.delay : millis(0);
  expect(delay).toBeGreaterThanOrEqual(minutes(5));
  expect(delay).toBeLessThan(minutes(5) + seconds(10));
  await world.clock.advance(delay);
  const offline = await world.settle();
  expect(world.condition("Online")).toMatchObject({ status: "False", reason: "HeartbeatMissing" });
  expect(world.condition("Ready")).toMatchObject({ status: "True", reason: "DeviceReady" });
  expect(offline).toMatchObject({ kind: "wakeAfter" });
  const soon = offline.kind === "wakeAfter" ? offline.delay : minutes(9);
  expect(soon).toBeLessThanOrEqual(seconds(40));
  world.report();
  await world.settle();
  expect(world.condition("Online")?.status).toBe("True");
  expect(world.recorder.drafts().map(({ type, reason }) => `${type} ${reason}`)).toEqual([
    "Warning HeartbeatMissing",
    "Normal Heartbeat",
  ]);
});

test("a silent hub makes silence say nothing", async () => {
  const world = createWorld();
  createDevice(world);
  await world.settle();
  world.report();
  await world.settle();
  world.registry.setReachable(false, world.clock.now());
  await world.clock.advance(minutes(20));
  await world.settle();
  expect(world.summary()).toMatchObject({ Registered: "True Registered", Online: "Unknown HubUnavailable" });
  expect(world.status().model?.release).toBe("resnet50-2.0.0");
});

test("an identity that exists is adopted: nothing that others wrote is changed, and it is retained in the end", async () => {
  const world = createWorld();
  world.registry.enroll("cam-1", { tags: { theirs: "x" } });
  world.registry.write(DEVICE, { desired: { interval: 5 } });
  createDeployment(world);
  createDevice(world, { tags: { line: "7" } });
  await world.settle();
  expect(world.status().hub).toMatchObject({ adopted: true });
  expect(world.condition("Registered")).toMatchObject({ status: "True", reason: "Adopted" });
  expect(world.recorder.drafts()).toMatchObject([{ type: "Normal", reason: "Adopted" }]);
  expect(world.registry.twin(DEVICE)).toMatchObject({
    tags: { theirs: "x", line: "7" },
    desired: { interval: 5 },
  });
  world.registry.write(MODULE, { desired: { model: POINTER, other: 1 } });
  world.registry.sweep();
  world.devices.remove(CAM);
  await world.settle();
  expect(world.devices.get(CAM)).toBeUndefined();
  expect(world.registry.identity("cam-1")).toBeDefined();
  expect(world.registry.twin(DEVICE)).toMatchObject({ tags: { theirs: "x" }, desired: { interval: 5 } });
  expect(world.registry.twin(DEVICE)?.tags).toEqual({ theirs: "x" });
  expect(world.registry.twin(MODULE)?.desired).toEqual({ other: 1 });
  expect(world.registry.fleet.get("cam-1")).toBeUndefined();
});

test("a device without IoT Edge is retained without the pointer in its own twin", async () => {
  const world = createWorld();
  createDevice(world, { iotEdge: false, deletionPolicy: "Retain" });
  await world.settle();
  world.registry.write(DEVICE, { desired: { model: POINTER, other: 1 } });
  world.registry.sweep();
  world.devices.remove(CAM);
  await world.settle();
  expect(world.registry.twin(DEVICE)).toMatchObject({ tags: {}, desired: { other: 1 } });
});

test("a pointer that no deployment of this namespace wrote is retained, too", async () => {
  const world = createWorld();
  createDevice(world, { iotEdge: false, deletionPolicy: "Retain" });
  await world.settle();
  const foreign = { ...POINTER, deployment: "plant-b.resnet50" };
  world.registry.write(DEVICE, { desired: { model: foreign } });
  world.registry.sweep();
  world.devices.remove(CAM);
  await world.settle();
  expect(world.registry.twin(DEVICE)).toMatchObject({ tags: {}, desired: { model: foreign } });
});

test("an identity that we created goes with its object", async () => {
  const world = createWorld();
  createDevice(world);
  await world.settle();
  world.devices.remove(CAM);
  await world.settle();
  expect(world.devices.get(CAM)).toBeUndefined();
  expect(world.registry.identity("cam-1")).toBeUndefined();
  expect(world.registry.fleet.get("cam-1")).toBeUndefined();
});

test.each(["Delete", "Retain"] as const)(
  "%s with an unreachable hub keeps the finalizer and says why",
  async (deletionPolicy) => {
    const world = createWorld();
    createDevice(world, { deletionPolicy });
    await world.settle();
    world.devices.remove(CAM);
    const away: Fault = { kind: "unavailable", message: "connect ECONNREFUSED" };
    for (const call of ["hub.removeIdentity", "hub.getTwin"]) world.calls.breakAll(call, away);
    expect(await world.pass()).toMatchObject({ kind: "retry" });
    expect(world.devices.get(CAM)?.finalizers).toEqual([FINALIZER]);
    expect(world.condition("Ready")).toMatchObject({ status: "False", reason: "HubUnavailable" });
    expect(world.condition("Ready")?.message).toMatch(
      /deletion is waiting for the hub: .*ECONNREFUSED.*remove the finalizer/,
    );
    expect(world.condition("Reconciling")).toMatchObject({ status: "True", reason: "Deleting" });
    expect(world.recorder.drafts()).toMatchObject([{ type: "Warning", reason: "HubUnavailable" }]);
    const before = world.devices.get(CAM)?.resourceVersion;
    await world.pass();
    expect(world.devices.get(CAM)?.resourceVersion).toBe(before);
    world.calls.heal();
    await world.settle();
    expect(world.devices.get(CAM)).toBeUndefined();
  },
);

test("the second EdgeDevice of one identity reports whose it is, and leaves it alone to the end", async () => {
  const world = createWorld();
  createDevice(world);
  await world.settle();
  const picture = world.registry.picture();
  const second = createDevice(
    world,
    { deviceId: "cam-1", site: "elsewhere", deletionPolicy: "Delete" },
    "copy",
  );
  expect(await world.settle(second.key)).toMatchObject({ kind: "wakeAfter" });
  expect(world.summary(second.key)).toEqual({
    Registered: "False OwnedByAnother",
    Ready: "False OwnedByAnother",
    Stalled: "True OwnedByAnother",
  });
  expect(world.condition("Ready", second.key)?.message).toContain("plant-a/cam-1");
  world.registry.sweep();
  await world.settle(second.key);
  world.devices.remove(second.key);
  await world.settle(second.key);
  expect(world.devices.get(second.key)).toBeUndefined();
  expect(world.registry.picture()).toEqual(picture);
});

const CONTRARY = { deviceId: "cam-1", deviceClass: "orin", enabled: false };

test.each([
  ["another object of the namespace", { namespace: "plant-a", device: "cam-0", cluster: "c1" }],
  ["another namespace", { namespace: "plant-b", device: "cam-1", cluster: "c1" }],
  ["another cluster", { namespace: "plant-a", device: "cam-1", cluster: "c2" }],
])("whatever an object says, an identity of %s is not written to", async (_, owner) => {
  const world = createWorld();
  const tags = { edgefleet: { managed: true, ...owner, bucket: 7, iotEdge: true } };
  world.registry.enroll("cam-1", { tags });
  world.devices.create({ name: "cam-0", spec: deviceSpec({ deviceId: "cam-1" }), finalizers: [FINALIZER] });
  const device = createDevice(world, { ...CONTRARY, connectionSecret: { name: "keys" } });
  world.registry.sweep();
  const picture = world.registry.picture();
  await world.settle();
  expect(world.summary()["Stalled"]).toBe("True OwnedByAnother");
  expect(world.status().bucket).toBeUndefined();
  expect(world.secrets.read("plant-a", "keys")?.data).toBeUndefined();
  world.devices.remove(device.key);
  await world.settle();
  expect(world.registry.picture()).toEqual(picture);
});

test("an identity of another cluster says which, and how one cluster replaces another", async () => {
  const world = createWorld();
  const edgefleet = { managed: true, cluster: "c2", namespace: "plant-a", device: "cam-1" };
  world.registry.enroll("cam-1", { tags: { edgefleet } });
  createDevice(world);
  await world.settle();
  expect(world.condition("Ready")?.message).toMatch(/of cluster c2 .*this cluster is c1.*--cluster-id c2/);
});

test("tags without a cluster are ours, and are given one by the next write and not before", async () => {
  const world = createWorld();
  const device = createDevice(world);
  await world.settle();
  world.registry.write(DEVICE, { tags: { edgefleet: { cluster: null } } });
  world.registry.sweep();
  await world.settle();
  const own = () => world.registry.twin(DEVICE)?.tags["edgefleet"];
  expect(own()).not.toHaveProperty("cluster");
  world.devices.edit(device.key, { spec: deviceSpec({ site: "plant-b" }) });
  await world.settle();
  expect(own()).toMatchObject({ site: "plant-b", cluster: "c1" });
});

test.each(["the identity's status", "the tags"])(
  "an identity that was given to another since the view saw it keeps %s",
  async (what) => {
    const world = createWorld();
    const device = createDevice(world);
    await world.settle();
    world.registry.sweep();
    world.registry.write(DEVICE, { tags: { edgefleet: { namespace: "plant-b", device: "theirs" } } });
    const picture = world.registry.picture();
    const change = what === "the tags" ? { site: "other" } : { enabled: false };
    world.devices.edit(device.key, { spec: deviceSpec(change) });
    await world.settle();
    expect(world.registry.picture()).toEqual(picture);
    expect(world.summary()["Stalled"]).toBe("True OwnedByAnother");
  },
);

test("tags that another wrote between our creation and our tags stay", async () => {
  const calls = createCalls();
  const theirs = { edgefleet: { managed: true, namespace: "plant-b", device: "theirs" } };
  let written = false;
  const world: ReturnType<typeof createWorld> = createWorld({
    ...calls,
    run: (name, effect) => {
      if (name === "hub.getTwin" && !written) {
        written = true;
        world.registry.write(DEVICE, { tags: theirs });
      }
      return calls.run(name, effect);
    },
  });
  createDevice(world);
  await world.settle();
  expect(world.registry.twin(DEVICE)?.tags).toEqual(theirs);
  expect(world.summary()["Stalled"]).toBe("True OwnedByAnother");
});

test.each([undefined, "Delete"] as const)(
  "a renamed object keeps identity, keys, bucket and model (deletionPolicy of the old one: %s)",
  async (deletionPolicy) => {
    const world = createWorld();
    createDeployment(world);
    createDevice(world, deletionPolicy === undefined ? {} : { deletionPolicy });
    await world.settle();
    world.registry.write(DEVICE, { tags: { edgefleet: { bucket: 77 } } });
    world.registry.write(MODULE, { desired: { model: POINTER } });
    world.registry.sweep();
    const life = world.registry.identity("cam-1");
    const keys = world.registry.secrets();
    const renamed = createDevice(world, { deviceId: "cam-1" }, "cam-0042");
    await world.settle(renamed.key);
    world.devices.remove(CAM);
    await world.settle();
    await world.settle(renamed.key);
    await world.settle();
    expect(world.devices.get(CAM)).toBeUndefined();
    expect(world.registry.identity("cam-1")).toEqual(life);
    expect(world.registry.secrets()).toEqual(keys);
    expect(world.registry.twin(DEVICE)?.tags["edgefleet"]).toMatchObject({
      device: "cam-0042",
      bucket: 77,
      adopted: false,
      deployments: { inference: "plant-a.resnet50" },
    });
    expect(world.registry.twin(MODULE)?.desired).toEqual({ model: POINTER });
    expect(world.status(renamed.key)).toMatchObject({ bucket: 77, hub: { adopted: false } });
    expect(world.summary(renamed.key)).toMatchObject({ Registered: "True Registered" });
    // It is the new one's now, to the end.
    world.devices.remove(renamed.key);
    await world.settle(renamed.key);
    expect(world.registry.identity("cam-1")).toBeUndefined();
  },
);

test("an identity is not left to a successor that is deleted in the same moment", async () => {
  const world = createWorld();
  createDevice(world);
  await world.settle();
  const renamed = createDevice(world, { deviceId: "cam-1" }, "cam-0042");
  await world.settle(renamed.key);
  world.devices.remove(CAM);
  // It lets go while the tags still name the old object, which has looked before that.
  let isGone = false;
  const { patchTwin } = world.registry.hub;
  Object.assign(world.registry.hub, {
    patchTwin: async (...args: Parameters<typeof patchTwin>) => {
      if (!isGone) {
        isGone = true;
        world.devices.remove(renamed.key);
        await world.settle(renamed.key);
      }
      return await patchTwin(...args);
    },
  });
  await world.settle();
  expect(world.devices.get(renamed.key)).toBeUndefined();
  expect(world.devices.get(CAM)).toBeUndefined();
  expect(world.registry.identity("cam-1")).toBeUndefined();
});

test.each([
  ["the owner first", true],
  ["the other first", false],
])(
  "two objects of one identity that are deleted together leave nothing behind: %s",
  async (_, isOwnerFirst) => {
    const world = createWorld();
    createDevice(world);
    await world.settle();
    const other = createDevice(world, { deviceId: "cam-1" }, "cam-0042");
    await world.settle(other.key);
    world.devices.remove(CAM);
    world.devices.remove(other.key);
    for (const key of isOwnerFirst ? [CAM, other.key] : [other.key, CAM]) await world.settle(key);
    expect(world.devices.get(other.key)).toBeUndefined();
    expect(world.devices.get(CAM)).toBeUndefined();
    expect(world.registry.identity("cam-1")).toBeUndefined();
  },
);

test("an object whose predecessor is gone without a word takes the identity over, in its own namespace only", async () => {
  for (const [namespace, expected] of [
    ["plant-a", "copy"],
    ["plant-b", "cam-1"],
  ] as const) {
    const world = createWorld();
    const first = createDevice(world);
    await world.settle();
    const second = world.devices.create({ namespace, name: "copy", spec: deviceSpec({ deviceId: "cam-1" }) });
    await world.settle(second.key);
    expect(world.summary(second.key)["Stalled"]).toBe("True OwnedByAnother");
    // A person takes the finalizer off.
    world.devices.remove(first.key);
    await world.devices.setFinalizer(world.devices.get(first.key)!, "remove", signal);
    world.registry.sweep();
    await world.settle(second.key);
    expect(world.registry.twin(DEVICE)?.tags).toMatchObject({ edgefleet: { device: expected } });
  }
});

test("an object that wants another kind of identity under the same id does not keep the old one alive", async () => {
  const world = createWorld();
  createDevice(world);
  await world.settle();
  const second = createDevice(world, { deviceId: "cam-1", iotEdge: false }, "copy");
  await world.settle(second.key);
  world.devices.remove(CAM);
  await world.settle();
  await world.settle(second.key);
  expect(world.registry.identity("cam-1")).toMatchObject({ iotEdge: false });
});

test("keys that were regenerated at the hub reach the Secret with the next sweep, and cost nothing otherwise", async () => {
  const calls = createCalls();
  const world = createWorld(calls);
  createDevice(world, { connectionSecret: { name: "keys" } });
  await world.settle();
  world.registry.sweep();
  await world.settle();
  const before = world.secrets.read("plant-a", "keys")?.data;
  world.registry.sweep();
  calls.clear();
  await world.pass();
  expect(calls.made()).toEqual([]);
  world.registry.regenerateKeys("cam-1");
  world.registry.sweep();
  await world.settle();
  const after = world.secrets.read("plant-a", "keys")?.data;
  expect(after?.["primaryKey"]).toBe(world.registry.secrets()[0]);
  expect(after).not.toEqual(before);
  expect(world.condition("ConnectionSecret")).toMatchObject({ status: "True", reason: "SecretWritten" });
});

test("a device without IoT Edge that two deployments want, whatever their modules, stays with the one it has", async () => {
  const world = createWorld();
  createDeployment(world);
  createDevice(world, { iotEdge: false });
  await world.settle();
  const other = { ...deploymentSpec(), module: { name: "audio" } };
  world.deployments.create({ name: "mobilenet", spec: other, status: rollingStatus(0) });
  await world.settle();
  expect(world.registry.twin(DEVICE)?.tags["edgefleet"]).toMatchObject({
    deployments: { inference: "plant-a.resnet50" },
  });
  expect(world.registry.twin(DEVICE)?.tags["edgefleet"]).not.toHaveProperty("deployments.audio");
  expect(world.condition("Conflict")).toMatchObject({ status: "True", reason: "SelectedTwice" });
  expect(world.condition("Conflict")?.message).toBe(
    "mobilenet and resnet50 select this device, which can run only one model without IoT Edge; the device keeps what it runs; change the selectors so that only one matches",
  );
});

test("where an older version let two deployments into one slot, the one that the device obeys stays", async () => {
  const world = createWorld();
  createDeployment(world);
  createDevice(world, { iotEdge: false });
  await world.settle();
  const other = { ...deploymentSpec(), module: { name: "audio" } };
  world.deployments.create({ name: "mobilenet", spec: other, status: rollingStatus(0) });
  world.registry.write(DEVICE, {
    tags: { edgefleet: { deployments: { audio: "plant-a.mobilenet", inference: "plant-a.resnet50" } } },
    desired: { model: { ...POINTER, deployment: "plant-a.resnet50" } },
  });
  world.registry.sweep();
  await world.settle();
  expect(world.registry.twin(DEVICE)?.tags["edgefleet"]).toMatchObject({
    deployments: { inference: "plant-a.resnet50" },
  });
  expect(world.registry.twin(DEVICE)?.tags["edgefleet"]).not.toHaveProperty("deployments.audio");
});

test("a device that is disabled is not on its way to anything: it says that it cannot be updated", async () => {
  const world = createWorld();
  createDeployment(world, "resnet50", 1_000_000);
  createDevice(world, { enabled: false });
  await world.settle();
  world.report();
  await world.settle();
  expect(world.summary()).toEqual({
    Registered: "True Registered",
    Online: "False Disabled",
    ModelInSync: "Unknown Disabled",
    Ready: "True DeviceReady",
  });
});

test("once the first is gone the second takes the identity over", async () => {
  const world = createWorld();
  createDevice(world);
  await world.settle();
  const second = createDevice(world, { deviceId: "cam-1" }, "copy");
  await world.settle(second.key);
  world.devices.remove(CAM);
  await world.settle();
  await world.settle(second.key);
  expect(world.summary(second.key)).toMatchObject({ Registered: "True Registered" });
  expect(world.summary(second.key)["Stalled"]).toBeUndefined();
  expect(world.registry.twin(DEVICE)?.tags).toMatchObject({ edgefleet: { device: "copy" } });
});

test("two EdgeDevices that come to a fresh identity at once do not both get it", async () => {
  const world = createWorld();
  world.registry.enroll("cam-1");
  createDevice(world);
  const second = createDevice(world, { deviceId: "cam-1" }, "copy");
  // Both have read the untagged twin when the first writes its tags.
  const [one, two] = await Promise.all([world.pass(), world.pass(second.key)]);
  expect([one.kind, two.kind].sort()).toEqual(["retry", "wakeAfter"]);
  await world.settle();
  await world.settle(second.key);
  expect([world.summary()["Registered"], world.summary(second.key)["Registered"]].sort()).toEqual([
    "False OwnedByAnother",
    "True Adopted",
  ]);
});

test("an identity whose iotEdge cannot be made right stalls with what to do", async () => {
  const world = createWorld();
  world.registry.enroll("cam-1", { iotEdge: false });
  createDevice(world);
  expect(await world.pass()).toMatchObject({ kind: "stalled" });
  expect(world.condition("Registered")).toMatchObject({ status: "False", reason: "HubRejected" });
  expect(world.condition("Registered")?.message).toContain("recreate this EdgeDevice with iotEdge: false");
  expect(world.devices.get(CAM)?.finalizers).toEqual([]);
  expect(world.registry.twin(DEVICE)?.tags).toEqual({});
});

test("what the view only guesses of iotEdge is asked of the hub before it is held against the spec", async () => {
  const world = createWorld();
  createDevice(world, { iotEdge: false });
  await world.settle();
  const twin = world.registry.twin(DEVICE)!;
  world.registry.fleet.forget("cam-1");
  const { iotEdge: _, ...guessed } = { ...(twin.tags["edgefleet"] as object), iotEdge: true };
  world.registry.fleet.note({ ...twin, tags: { edgefleet: { ...guessed, iotEdge: true } } });
  await world.pass();
  expect(world.summary()).toMatchObject({ Registered: "True Registered" });
});

test("spec.enabled is carried to the identity once", async () => {
  const world = createWorld();
  createDevice(world);
  await world.settle();
  world.devices.edit(CAM, { spec: deviceSpec({ enabled: false }) });
  await world.pass();
  expect(world.registry.identity("cam-1")?.enabled).toBe(false);
  // The view still says the old thing until its next sweep.
  world.calls.clear();
  await world.pass();
  expect(world.calls.made()).not.toContain("hub.setEnabled");
  world.registry.sweep();
  await world.settle();
  expect(world.summary()).toMatchObject({ Online: "False Disabled", Ready: "True DeviceReady" });
});

test("a device that two deployments want stays where it is, and says which two", async () => {
  const world = createWorld();
  createDeployment(world);
  createDevice(world);
  await world.settle();
  world.report();
  await world.settle();
  const tags = world.registry.twin(DEVICE)?.tags;
  createDeployment(world, "mobilenet");
  await world.settle();
  expect(world.registry.twin(DEVICE)?.tags).toEqual(tags);
  expect(world.summary()).toMatchObject({
    Conflict: "True SelectedTwice",
    Ready: "False SelectedTwice",
    Stalled: "True SelectedTwice",
  });
  expect(world.condition("Conflict")?.message).toContain(
    "mobilenet and resnet50 select this device for module inference",
  );
  expect(world.status().placement?.deployment).toBe("resnet50");
  world.deployments.remove(objectKey("plant-a", "resnet50"));
  await world.settle();
  expect(world.summary()["Conflict"]).toBeUndefined();
  expect(world.registry.twin(DEVICE)?.tags).toMatchObject({
    edgefleet: { deployments: { inference: "plant-a.mobilenet" } },
  });
  expect(world.recorder.drafts().map(({ reason }) => reason)).toEqual(["SelectedTwice", "NoConflict"]);
});

test("an exposed device is followed through its update", async () => {
  const world = createWorld();
  createDeployment(world, "resnet50", 1_000_000);
  createDevice(world);
  await world.settle();
  const update = { release: "plant-a.resnet50-2.1.0", digest: digestOf("2.1.0"), at: "2026-01-01T00:00:00Z" };
  world.report({ update: { ...update, state: "Loading" } });
  await world.settle();
  expect(world.status()).toMatchObject({
    placement: { track: "Candidate", release: "resnet50-2.1.0" },
    model: { state: "Loading" },
  });
  expect(world.summary()).toMatchObject({
    ModelInSync: "False Updating",
    Ready: "True DeviceReady",
  });
  expect(world.condition("Reconciling")).toBeUndefined();
  world.report({ update: { ...update, state: "Failed", error: { code: "Load", message: "bad opset" } } });
  await world.settle();
  expect(world.summary()).toMatchObject({ ModelInSync: "False UpdateFailed" });
  expect(world.condition("ModelInSync")?.message).toContain("Load: bad opset");
  expect(world.recorder.drafts().map(({ reason }) => reason)).toEqual(["UpdateFailed"]);
});

test("tags and an identity that were removed outside of the operator come back", async () => {
  const world = createWorld();
  createDevice(world);
  await world.settle();
  world.registry.write(DEVICE, { tags: { edgefleet: null } });
  world.registry.sweep();
  await world.settle();
  expect(world.registry.twin(DEVICE)?.tags).toMatchObject({ edgefleet: { device: "cam-1", adopted: false } });
  const life = world.status().hub?.generationId;
  world.registry.drop("cam-1");
  world.registry.sweep();
  await world.settle();
  expect(world.status().hub?.generationId).toBe(world.registry.identity("cam-1")?.generationId);
  expect(world.status().hub?.generationId).not.toBe(life);
  const told = world.recorder.drafts().filter(({ reason }) => reason === "IdentityRecreated");
  expect(told).toMatchObject([
    {
      type: "Warning",
      reason: "IdentityRecreated",
      message:
        "cam-1 no longer existed on hub.test and has been recreated with new keys; the device cannot connect until it has them",
    },
  ]);
});

test("an object that comes back from a backup without its status finds everything again", async () => {
  const world = createWorld();
  world.registry.enroll("cam-1");
  createDevice(world);
  await world.settle();
  const before = world.status();
  world.devices.setStatus(CAM, null);
  world.registry.sweep();
  await world.settle();
  expect({ ...world.status(), conditions: [] }).toEqual({ ...before, conditions: [] });
  expect(world.status().hub?.adopted).toBe(true);
});

test("another writer's tags make our patch a conflict, and the next pass decides on what is there", async () => {
  const world = createWorld();
  createDevice(world);
  await world.settle();
  world.registry.write(DEVICE, { desired: { model: POINTER } }); // the view has the old etag
  world.devices.edit(CAM, { spec: deviceSpec({ site: "plant-b" }) });
  expect(await world.pass()).toMatchObject({ kind: "retry" });
  expect(world.summary()).toMatchObject({ Registered: "True Registered" });
  await world.pass();
  expect(world.registry.twin(DEVICE)).toMatchObject({
    tags: { edgefleet: { site: "plant-b" } },
    desired: { model: POINTER },
  });
});

test("a connection Secret is written once and again for the next life of the identity", async () => {
  const world = createWorld();
  createDevice(world, { connectionSecret: { name: "cam-1-hub" } });
  await world.settle();
  const [key] = world.registry.secrets();
  expect(world.secrets.read("plant-a", "cam-1-hub")).toEqual({
    namespace: "plant-a",
    name: "cam-1-hub",
    ownerUid: "uid-of-plant-a/cam-1",
    data: {
      hostName: "hub.test",
      deviceId: "cam-1",
      primaryKey: key,
      secondaryKey: `${key}-secondary`,
      connectionString: `HostName=hub.test;DeviceId=cam-1;SharedAccessKey=${key}`,
    },
  });
  expect(world.summary()).toMatchObject({ ConnectionSecret: "True SecretWritten" });
  world.registry.drop("cam-1");
  world.registry.enroll("cam-1");
  world.registry.sweep();
  await world.settle();
  expect(world.secrets.read("plant-a", "cam-1-hub")?.data["primaryKey"]).toBe(world.registry.secrets()[0]);
});

test("a Secret is looked at again for a new generation, even where the first look did not come to it", async () => {
  const world = createWorld();
  createDevice(world, { connectionSecret: { name: "cam-1-hub" } });
  await world.settle();
  world.devices.edit(CAM, { spec: deviceSpec({ connectionSecret: { name: "cam-1-hub" }, site: "plant-b" }) });
  world.calls.breakAll("hub.patchTwin", { kind: "throttled", retryAfter: seconds(7), message: "slow" });
  await world.pass();
  expect(world.summary()).toMatchObject({ ConnectionSecret: "Unknown HubThrottled" });
  world.calls.heal();
  world.calls.clear();
  await world.pass();
  expect(world.calls.made()).toContain("secrets.get");
  expect(world.calls.made()).not.toContain("secrets.apply"); // it holds what it should
  expect(world.summary()).toMatchObject({ ConnectionSecret: "True SecretWritten" });
});

test.each(["Delete", "Retain"] as const)(
  "an identity that another EdgeDevice got meanwhile is left to it (%s)",
  async (deletionPolicy) => {
    const world = createWorld();
    createDevice(world, { deletionPolicy });
    await world.settle();
    world.registry.write(DEVICE, { tags: { edgefleet: { namespace: "plant-b" } } }); // the view does not know yet
    world.devices.remove(CAM);
    await world.settle();
    expect(world.devices.get(CAM)).toBeUndefined();
    expect(world.registry.twin(DEVICE)?.tags).toMatchObject({
      edgefleet: { namespace: "plant-b", managed: true },
    });
  },
);

test("a Secret of another owner is never overwritten", async () => {
  const world = createWorld();
  const theirs = { namespace: "plant-a", name: "cam-1-hub", data: { a: "b" }, ownerUid: null };
  world.secrets.put(theirs);
  createDevice(world, { connectionSecret: { name: "cam-1-hub" } });
  await world.pass();
  await world.pass();
  expect(world.secrets.read("plant-a", "cam-1-hub")).toEqual(theirs);
  expect(world.summary()).toMatchObject({
    Registered: "True Registered",
    ConnectionSecret: "False SecretConflict",
    Ready: "False SecretConflict",
    Stalled: "True SecretConflict",
  });
});

test("an identity without symmetric keys has nothing to put into a Secret", async () => {
  const world = createWorld();
  world.registry.enroll("cam-1", { keyless: true });
  createDevice(world, { connectionSecret: { name: "cam-1-hub" } });
  await world.pass();
  expect(world.secrets.all()).toEqual([]);
  expect(world.condition("ConnectionSecret")).toMatchObject({ status: "False", reason: "HubRejected" });
  expect(world.condition("Stalled")).toMatchObject({ status: "True", reason: "HubRejected" });
});

test("keys appear in the Secret and nowhere else", async () => {
  const world = createWorld();
  createDeployment(world);
  createDevice(world, { connectionSecret: { name: "cam-1-hub" } });
  await world.settle();
  const [key = ""] = world.registry.secrets();
  const words: Fault = { kind: "unavailable", message: `HostName=hub.test;SharedAccessKey=${key}` };
  world.registry.fleet.forget("cam-1");
  world.calls.breakAll("hub.getIdentity", words);
  await world.pass();
  const told = JSON.stringify([
    world.devices.list(),
    world.recorder.drafts(),
    world.log.lines(),
    world.registry.picture(),
  ]);
  expect(key).not.toBe("");
  expect(told).toContain("HubUnavailable");
  expect(told).not.toContain(key);
});

const FAULTS: readonly (readonly [Fault, string, string, Outcome["kind"]])[] = [
  [{ kind: "throttled", retryAfter: seconds(7), message: "slow" }, "HubThrottled", "Reconciling", "retry"],
  [{ kind: "unavailable", message: "away" }, "HubUnavailable", "Reconciling", "retry"],
  [{ kind: "denied", message: "no right" }, "HubDenied", "Stalled", "retry"],
  [{ kind: "rejected", message: "bad name" }, "HubRejected", "Stalled", "stalled"],
];
const CALLS = ["hub.getIdentity", "hub.createIdentity", "hub.getTwin", "hub.patchTwin"];

test.each(FAULTS.flatMap((fault) => CALLS.map((call) => [fault[0].kind, call, fault] as const)))(
  "%s at %s has its own reason, and is made good",
  async (_, call, [fault, reason, progress, outcome]) => {
    const world = createWorld();
    createDevice(world);
    world.calls.breakAll(call, fault);
    expect((await world.pass()).kind).toBe(outcome);
    expect(world.condition("Ready")).toMatchObject({ status: "False", reason });
    expect(world.condition(progress)).toMatchObject({ status: "True", reason });
    await world.pass();
    const version = world.devices.get(CAM)?.resourceVersion;
    world.calls.breakAll(call, { ...fault, message: `${fault.message} (another tracking id)` });
    await world.pass();
    expect(world.devices.get(CAM)?.resourceVersion).toBe(version);
    world.calls.heal();
    await world.settle();
    expect(world.summary()).toMatchObject({ Registered: "True Registered", Ready: "True DeviceReady" });
    expect(world.status().hub?.adopted).toBe(false);
  },
);

test("the hub's own message is reported when it refuses", async () => {
  const world = createWorld();
  createDevice(world);
  world.calls.breakAll("hub.createIdentity", { kind: "rejected", message: "quota of devices reached" });
  await world.pass();
  expect(world.condition("Registered")?.message).toContain("quota of devices reached");
});

test("a device stays registered while the hub has no budget for its new tags", async () => {
  const world = createWorld();
  createDevice(world);
  await world.settle();
  world.devices.edit(CAM, { spec: deviceSpec({ site: "plant-b" }) });
  world.calls.breakAll("hub.patchTwin", { kind: "throttled", retryAfter: seconds(7), message: "slow" });
  expect(await world.pass()).toEqual({ kind: "retry", cause: "slow", atLeast: seconds(7) });
  expect(world.summary()).toMatchObject({ Registered: "True Registered", Ready: "False HubThrottled" });
});

// Every story is told once without a mishap, and then once for each call and each thing that can happen to it: all ends
// must be the same.

type Story = {
  readonly name: string;
  readonly tell: (world: ReturnType<typeof createWorld>, arm: () => void) => Promise<void>;
};

const STORIES: readonly Story[] = [
  {
    name: "a device is created",
    tell: async (world, arm) => {
      createDeployment(world);
      createDevice(world, { connectionSecret: { name: "s" }, tags: { line: "7" } });
      arm();
      await world.settle();
    },
  },
  {
    name: "a device is adopted",
    tell: async (world, arm) => {
      world.registry.enroll("cam-1", { tags: { theirs: "x" }, enabled: false });
      createDeployment(world);
      createDevice(world, { connectionSecret: { name: "s" } });
      arm();
      await world.settle();
    },
  },
  {
    name: "a device changes its class, tags and deployment",
    tell: async (world, arm) => {
      createDeployment(world);
      createDevice(world, { tags: { line: "7", zone: "b" } });
      await world.settle();
      world.devices.edit(CAM, {
        spec: deviceSpec({ deviceClass: "jetson-orin", enabled: false, tags: { line: "8" } }),
        labels: {},
      });
      arm();
      await world.settle();
    },
  },
  {
    name: "a device that we created is deleted",
    tell: async (world, arm) => {
      createDevice(world);
      await world.settle();
      world.devices.remove(CAM);
      arm();
      await world.settle();
    },
  },
  {
    name: "a device that we adopted is deleted",
    tell: async (world, arm) => {
      world.registry.enroll("cam-1", { tags: { theirs: "x" } });
      createDeployment(world);
      createDevice(world, { tags: { line: "7" } });
      await world.settle();
      world.registry.write(MODULE, { desired: { model: POINTER, other: 1 } });
      world.registry.sweep();
      world.devices.remove(CAM);
      arm();
      await world.settle();
    },
  },
];

const MISHAPS: readonly Mishap[] = [
  { kind: "crash", when: "before" },
  { kind: "crash", when: "after" },
  { kind: "lost" },
  { kind: "fault", fault: { kind: "unavailable", message: "away" } },
  { kind: "fault", fault: { kind: "throttled", retryAfter: seconds(1), message: "slow" } },
  { kind: "fault", fault: { kind: "conflict", message: "changed" } },
];

async function endOf(story: Story, mishap: Mishap | null, at: number) {
  const calls = createCalls();
  const world = createWorld(calls);
  await story.tell(world, () => {
    if (mishap !== null) calls.spoil(at, mishap);
  });
  const spoiled = !calls.pending();
  // What a sweep would bring is a part of the end.
  world.registry.sweep();
  await world.settle();
  const objects = world.devices.list().map(({ finalizers, status }) => ({
    finalizers,
    status: { ...status, conditions: status?.conditions?.map(({ lastTransitionTime: _, ...rest }) => rest) },
  }));
  const secrets = world.secrets.all().map(({ name, data }) => ({ name, keys: Object.keys(data) }));
  return { spoiled, end: normalised({ objects, secrets, hub: world.registry.picture() }) };
}

/** Lives of identities are numbered by a counter that counts retries, too. */
function normalised(end: unknown): unknown {
  return JSON.parse(JSON.stringify(end).replaceAll(/life-\d+/g, "life"));
}

test.each(STORIES)("$name: whatever call goes wrong however, the end is the same", async (story) => {
  const { end } = await endOf(story, null, 0);
  for (const mishap of MISHAPS) {
    let at = 0;
    for (; at < 30; at += 1) {
      const told = await endOf(story, mishap, at);
      expect(told.end, `${JSON.stringify(mishap)} at call ${at}`).toEqual(end);
      if (!told.spoiled) break;
    }
    expect(at).toBeGreaterThan(1);
    expect(at).toBeLessThan(30);
  }
});
