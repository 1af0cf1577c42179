import { expect, test } from "vitest";
import type { EdgeDevice } from "./api/edge-device.ts";
import type { InferenceDeployment, Selector } from "./api/inference-deployment.ts";
import type { ModelRelease } from "./api/model-release.ts";
import { type ObjectKey, objectKey } from "./api/resource.ts";
import type { Configuration, ConfigurationView, FleetView } from "./hub/hub.ts";
import { createReverifySlots } from "./releases/reverify-slots.ts";
import { LABEL } from "./rollouts/configurations/content.ts";
import { grantTrigger, indexDevices, releaseTriggers, rolloutTriggers } from "./triggers.ts";

type Listener<T> = (before: T | undefined, after: T | undefined) => void;

function cacheOf<T extends { readonly key: string; readonly namespace: string }>() {
  const objects = new Map<string, T>();
  const listeners: Listener<T>[] = [];
  return {
    synced: () => Promise.resolve(),
    get: (key: string) => objects.get(key),
    list: (namespace?: string) =>
      [...objects.values()].filter((one) => namespace === undefined || one.namespace === namespace),
    onChange: (listener: Listener<T>) => void listeners.push(listener),
    put: (object: T) => {
      const before = objects.get(object.key);
      objects.set(object.key, object);
      for (const listener of listeners) listener(before, object);
    },
    remove: (object: T) => {
      objects.delete(object.key);
      for (const listener of listeners) listener(object, undefined);
    },
  };
}

function watched(ownerless: readonly ObjectKey[] = []) {
  const deployments = cacheOf<InferenceDeployment>();
  const caches = { deployments, devices: cacheOf<EdgeDevice>(), releases: cacheOf<ModelRelease>() };
  const fleet: Parameters<FleetView["onChange"]>[0][] = [];
  const configurations: Parameters<ConfigurationView["onChange"]>[0][] = [];
  const views = {
    fleet: { onChange: (listener: (typeof fleet)[0]) => void fleet.push(listener), onHealth: () => {} },
    configurations: {
      onChange: (listener: (typeof configurations)[0]) => void configurations.push(listener),
    },
    byId: indexDevices(caches.devices),
  };
  const keys = new Set<string>();
  for (const trigger of rolloutTriggers(caches, views, () => ownerless))
    trigger.attach((key) => void keys.add(key));
  const woken = () => {
    const sorted = [...keys].sort();
    keys.clear();
    return sorted;
  };
  return {
    ...caches,
    woken,
    fleetChanges: (id: string, ...named: readonly string[]) => {
      for (const listener of fleet) listener(id, named);
    },
    configurationsChange: (changed: readonly Configuration[] | null) => {
      for (const listener of configurations) listener(changed);
    },
  };
}

function deployment(name: string, more: { readonly line?: string; readonly module?: string } = {}) {
  const { line = "1", module = "inference" } = more;
  const selector: Selector = { matchLabels: { line } };
  return {
    key: objectKey("plant-a", name),
    namespace: "plant-a",
    name,
    deleting: false,
    spec: { release: { name: "v1" }, selector, module: { name: module } },
    status: null,
  } as unknown as InferenceDeployment;
}

function device(name: string, line: string, id = name, namespace = "plant-a") {
  const spec = { deviceId: id, deviceClass: "orin" };
  return {
    key: objectKey(namespace, name),
    namespace,
    name,
    labels: { line },
    spec,
  } as unknown as EdgeDevice;
}

function configuration(labels: Readonly<Record<string, string>>): Configuration {
  return { labels } as unknown as Configuration;
}

function release(name: string, comparedWith?: string, namespace = "plant-a") {
  const parity = comparedWith === undefined ? {} : { parity: { with: comparedWith } };
  const spec = { verification: { timeout: "5m", ...parity } };
  return { key: objectKey(namespace, name), namespace, name, spec } as unknown as ModelRelease;
}

test("a release that is added or removed wakes those that are compared with it, and a free slot wakes its release", () => {
  const releases = cacheOf<ModelRelease>();
  const reverifySlots = createReverifySlots();
  const keys: string[] = [];
  for (const trigger of releaseTriggers({ releases }, reverifySlots))
    trigger.attach((key) => void keys.push(key));
  const woken = () => [...new Set(keys.splice(0))].sort();
  for (const one of [release("b", "a"), release("c"), release("d", "a", "plant-b")]) releases.put(one);
  woken();
  const a = release("a");
  releases.put(a);
  expect(woken()).toEqual(["plant-a/a", "plant-a/b"]);
  releases.put(a);
  expect(woken()).toEqual(["plant-a/a"]);
  releases.remove(a);
  expect(woken()).toEqual(["plant-a/a", "plant-a/b"]);
  expect(reverifySlots.acquire(objectKey("plant-a", "a"), "fp32", false)).toBe(true);
  expect(reverifySlots.acquire(objectKey("plant-a", "c"), "fp32", false)).toBe(false);
  reverifySlots.release(objectKey("plant-a", "a"), "fp32");
  expect(woken()).toEqual(["plant-a/c"]);
});

test("what a deployment selects wakes the others of its namespace, what it reports wakes itself", () => {
  const { deployments, woken } = watched();
  const [a, b] = [deployment("a"), deployment("b")];
  deployments.put(a);
  deployments.put(deployment("other", { module: "audio" }));
  woken();
  deployments.put(b);
  expect(woken()).toEqual(["plant-a/a", "plant-a/b", "plant-a/other"]);
  deployments.put({ ...b, status: { phase: "Completed" } });
  expect(woken()).toEqual(["plant-a/b"]);
  const moved = deployment("b", { line: "2" });
  deployments.put(moved);
  expect(woken()).toEqual(["plant-a/a", "plant-a/b", "plant-a/other"]);
  deployments.put({ ...moved, deleting: true });
  expect(woken()).toEqual(["plant-a/a", "plant-a/b", "plant-a/other"]);
  deployments.remove(moved);
  expect(woken()).toEqual(["plant-a/a", "plant-a/b", "plant-a/other"]);
});

test("a changed grant wakes all objects of its namespace, and none of other namespaces", () => {
  const devices = cacheOf<EdgeDevice>();
  devices.put({ key: objectKey("team-a", "cam-1"), namespace: "team-a" } as EdgeDevice);
  devices.put({ key: objectKey("team-b", "cam-1"), namespace: "team-b" } as EdgeDevice);
  const listeners: ((namespace: string) => void)[] = [];
  const trigger = grantTrigger(devices, { onChange: (listener) => void listeners.push(listener) });
  const woken: string[] = [];
  trigger.attach((key) => void woken.push(key));
  for (const listener of listeners) listener("team-a");
  expect(woken).toEqual(["team-a/cam-1"]);
  grantTrigger(devices, null).attach(() => expect.unreachable());
});

test("configurations without a deployment wake the key of their deployment, at the start and when they change", () => {
  const { woken, configurationsChange } = watched([objectKey("plant-a", "gone")]);
  expect(woken()).toEqual(["plant-a/gone"]);
  configurationsChange(null);
  expect(woken()).toEqual(["plant-a/gone"]);
  configurationsChange([configuration({ [LABEL.namespace]: "plant-a", [LABEL.name]: "gone" })]);
  expect(woken()).toEqual(["plant-a/gone"]);
  configurationsChange([configuration({ [LABEL.namespace]: "plant-a", [LABEL.name]: "other" })]);
  expect(woken()).toEqual([]);
});

test("a device on the hub wakes the deployments that select it or that it names, and no other", () => {
  const { deployments, devices, woken, fleetChanges } = watched();
  for (const [name, line] of [
    ["a", "1"],
    ["b", "2"],
    ["c", "3"],
  ] as const)
    deployments.put(deployment(name, { line, module: name }));
  devices.put(device("cam", "1"));
  devices.put(device("renamed", "2", "cam-of-another-name"));
  woken();
  fleetChanges("cam");
  expect(woken()).toEqual(["plant-a/a"]);
  fleetChanges("cam-of-another-name");
  expect(woken()).toEqual(["plant-a/b"]);
  // What it names is what its tags and pointers said before, or say now.
  fleetChanges("cam", "plant-a.c", "plant-a.a");
  expect(woken()).toEqual(["plant-a/a", "plant-a/c"]);
  fleetChanges("unknown", "plant-a.gone", "malformed", ".", "plant-b.a");
  expect(woken()).toEqual([]);
  devices.remove(device("cam", "1"));
  woken();
  fleetChanges("cam");
  expect(woken()).toEqual([]);
});

test("two objects with one device id both find their deployments, in their own namespaces", () => {
  const { deployments, devices, woken, fleetChanges } = watched();
  deployments.put(deployment("a"));
  devices.put(device("one", "1", "cam"));
  devices.put(device("two", "1", "cam", "plant-b"));
  woken();
  fleetChanges("cam");
  expect(woken()).toEqual(["plant-a/a"]);
});

test("a configuration wakes the deployment that made it; one that belongs to all, or the first list, wakes all", () => {
  const { deployments, woken, configurationsChange } = watched();
  for (const name of ["a", "b"]) deployments.put(deployment(name, { module: name }));
  woken();
  const of = (name: string) => configuration({ [LABEL.namespace]: "plant-a", [LABEL.name]: name });
  configurationsChange([of("a"), of("gone")]);
  expect(woken()).toEqual(["plant-a/a"]);
  configurationsChange([of("a"), configuration({ [LABEL.base]: "1" })]);
  expect(woken()).toEqual(["plant-a/a", "plant-a/b"]);
  configurationsChange(null);
  expect(woken()).toEqual(["plant-a/a", "plant-a/b"]);
});
