import { expect, test } from "vitest";
import { deploymentSpec, deviceSpec } from "../../test/builders/fleet.ts";
import { createFakeClock } from "../../test/fakes/fake-clock.ts";
import { createFakeLog } from "../../test/fakes/fake-log.ts";
import { createFakeRegistry } from "../../test/fakes/fake-registry.ts";
import { createFakeResources } from "../../test/fakes/fake-resources.ts";
import { look, memberAt, releaseNamed } from "../../test/stories/seen.ts";
import type { EdgeDeviceSpec, EdgeDeviceStatus } from "../api/edge-device.ts";
import type { InferenceDeploymentSpec, InferenceDeploymentStatus } from "../api/inference-deployment.ts";
import type { ModelReleaseSpec, ModelReleaseStatus } from "../api/model-release.ts";
import { FINALIZER, objectKey } from "../api/resource.ts";
import { OPEN_GRANT } from "../api/tenancy.ts";
import { ok } from "../base/result.ts";
import { minutes, seconds } from "../base/time.ts";
import { slotsOf } from "./configurations/slots.ts";
import { candidateCondition, MATCH_NONE, stableCondition } from "./configurations/target.ts";
import { createMemories } from "./memory.ts";
import { observeRollout } from "./observe.ts";
import type { RolloutSeen } from "./seen.ts";

// Whose devices a rollout may move: what the tags say, whatever objects say.

function createWorld() {
  const clock = createFakeClock();
  const registry = createFakeRegistry("hub.test", clock.now());
  const devices = createFakeResources<EdgeDeviceSpec, EdgeDeviceStatus>("devices");
  const deployments = createFakeResources<InferenceDeploymentSpec, InferenceDeploymentStatus>("deployments");
  const observe = observeRollout(
    {
      deployments,
      devices,
      releases: createFakeResources<ModelReleaseSpec, ModelReleaseStatus>("releases"),
      fleet: registry.fleet,
      configurations: { list: () => [], onChange: () => undefined, create: no, update: no, remove: no },
      hub: { testCondition: async () => ok(null) },
      clock,
      log: createFakeLog(),
      salt: "edgefleet",
      grants: () => OPEN_GRANT,
      namespaces: null,
      settings: {
        clusterId: "c1",
        analysisInterval: seconds(30),
        sasLifetime: minutes(60),
        fastPathLimit: 100,
        hubConfigurationLimit: 100,
        baseDeployment: "managed",
        ownerlessAfter: minutes(60),
      },
    },
    createMemories(),
  );
  deployments.create({ name: "resnet50", spec: deploymentSpec() });
  async function seen(name = "resnet50", namespace = "plant-a"): Promise<RolloutSeen> {
    registry.sweep();
    const looked = await observe(objectKey(namespace, name), new AbortController().signal);
    if (!looked.ok || looked.value === null) throw new Error("nothing was seen");
    return looked.value;
  }
  const create = (name: string, spec: Partial<EdgeDeviceSpec> = {}, namespace = "plant-a") =>
    devices.create({
      namespace,
      name,
      spec: deviceSpec(spec),
      labels: { line: "7" },
      finalizers: [FINALIZER],
    });
  /** An identity whose tags name an owner, and the deployment that it is given to. */
  const enroll = (id: string, owner: Readonly<Record<string, string>>, iotEdge = true) =>
    registry.enroll(id, {
      iotEdge,
      tags: {
        edgefleet: {
          managed: true,
          cluster: "c1",
          namespace: "plant-a",
          device: id,
          class: "jetson-nano",
          site: "plant-a",
          bucket: 7,
          iotEdge,
          deployments: { inference: "plant-a.resnet50" },
          ...owner,
        },
      },
    });
  return { registry, devices, deployments, seen, create, enroll };
}

function no(): Promise<never> {
  throw new Error("a look writes nothing");
}

test("of two objects with one deviceId the owner by tags is the member, with its class and its site", async () => {
  const world = createWorld();
  world.create("a-copy", { deviceId: "cam-1", deviceClass: "orin", site: "plant-z" });
  world.create("cam-1");
  expect((await world.seen()).members).toHaveLength(1);
  world.enroll("cam-1", { device: "cam-1" });
  expect((await world.seen()).members).toMatchObject([
    { device: "cam-1", deviceClass: "jetson-nano", site: "plant-a", tagged: true },
  ]);
});

test("an object that is blocked brings no device into a rollout, and contests none", async () => {
  const world = createWorld();
  world.create("cam-1", {}, "plant-b");
  world.create("copy", { deviceId: "cam-1" });
  world.enroll("cam-1", { namespace: "plant-b", deployments: "" });
  world.deployments.create({ name: "rival", spec: deploymentSpec() });
  expect(await world.seen()).toMatchObject({ members: [], contested: [], staleDevices: [] });
});

test("an object whose identity another cluster has brings no device into a rollout", async () => {
  const world = createWorld();
  world.create("cam-1");
  world.enroll("cam-1", { cluster: "c2" });
  expect(await world.seen()).toMatchObject({ members: [], contested: [], staleDevices: [] });
});

test("a device of another cluster is no leftover, although a deployment of the same name placed it", async () => {
  const world = createWorld();
  world.enroll("theirs", { cluster: "c2" });
  world.enroll("ours", {});
  expect((await world.seen()).staleDevices.map(({ device }) => device)).toEqual(["ours"]);
});

test("tags that an older version wrote, without a cluster, are this cluster's", async () => {
  const world = createWorld();
  world.create("cam-1");
  world.enroll("cam-1", {});
  world.registry.write({ device: "cam-1", module: null }, { tags: { edgefleet: { cluster: null } } });
  expect((await world.seen()).members).toMatchObject([
    { device: "cam-1", tagged: true, namesCluster: false },
  ]);
});

test("while an object is renamed its device stays a member", async () => {
  const world = createWorld();
  world.create("cam-1");
  world.create("renamed", { deviceId: "cam-1" });
  world.enroll("cam-1", {});
  world.devices.remove(objectKey("plant-a", "cam-1"));
  expect((await world.seen()).members).toMatchObject([{ device: "cam-1", tagged: true }]);
});

test("two deployments with two modules contend for a device without IoT Edge, and for no other", async () => {
  const world = createWorld();
  world.create("cam-1", { iotEdge: false });
  world.create("cam-2");
  world.enroll("cam-1", {}, false);
  world.enroll("cam-2", {});
  world.deployments.create({ name: "audio", spec: deploymentSpec({ module: { name: "audio" } }) });
  for (const [name, other, tagged] of [
    ["resnet50", "audio", true],
    ["audio", "resnet50", false],
  ] as const) {
    const { members, contested } = await world.seen(name);
    expect(members.map(({ device }) => device)).toEqual(["cam-2"]);
    expect(contested).toMatchObject([{ device: "cam-1", tagged, otherDeployments: [other] }]);
  }
});

test("conditions name the cluster as soon as all tags of the deployment do", () => {
  const conditions = (named: readonly boolean[]) => {
    const members = named.map((namesCluster, index) => memberAt(index, { namesCluster }));
    const [slot] = slotsOf(look({ members }), releaseNamed("v2"));
    if (slot === undefined) throw new Error("no slot");
    return [stableCondition(slot.target), candidateCondition(slot.target, [{ threshold: 9, devices: 1 }])];
  };
  for (const condition of conditions([true, true]))
    expect(condition).toContain("tags.edgefleet.cluster = 'c1'");
  for (const condition of conditions([true, false])) expect(condition).not.toContain("cluster");
  for (const condition of conditions([true, true])) expect(condition).not.toBe(MATCH_NONE);
});

test("conditions name no cluster while a device that is to keep its model has a tag without it", () => {
  const members = [memberAt(0, { namesCluster: true })];
  const { device, deviceClass, iotEdge, pointer } = memberAt(1, {});
  const staying = { device, deviceClass, iotEdge, pointer, tagged: true, namesCluster: false };
  const contested = [{ ...staying, isKnown: true, otherDeployments: ["other"] }];
  const staleDevice = { ...staying, leaving: false, heirs: ["other"] };
  const clusterIn = (more: Partial<RolloutSeen>) =>
    slotsOf({ ...look({ members }), ...more }, releaseNamed("v2"))[0]?.target.clusterId;
  expect(clusterIn({})).toBe("c1");
  expect(clusterIn({ contested })).toBeNull();
  expect(clusterIn({ staleDevices: [staleDevice] })).toBeNull();
  // One that nobody else wants is withdrawn anyway.
  expect(clusterIn({ staleDevices: [{ ...staleDevice, heirs: [] }] })).toBe("c1");
});
