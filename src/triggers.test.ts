import { expect, test } from "vitest";
import type { EdgeDevice } from "./api/edge-device.ts";
import type { InferenceDeployment, Selector } from "./api/inference-deployment.ts";
import type { ModelRelease } from "./api/model-release.ts";
import { type ObjectKey, objectKey } from "./api/resource.ts";
import type { ConfigurationView, FleetView } from "./hub/hub.ts";
import { createTurns } from "./releases/turns.ts";
import { grantTrigger, releaseTriggers, rolloutTriggers } from "./triggers.ts";

type Listener<T> = (before: T | undefined, after: T | undefined) => void;

function cacheOf<T extends { readonly key: string; readonly namespace: string }>() {
  const objects = new Map<string, T>();
  const listeners: Listener<T>[] = [];
  return {
    synced: () => Promise.resolve(),
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

const NEVER = { onChange: () => {}, onHealth: () => {} };

function watched(ownerless: readonly ObjectKey[] = []) {
  const deployments = cacheOf<InferenceDeployment>();
  const listings: (() => void)[] = [];
  const caches = { deployments, devices: cacheOf<EdgeDevice>(), releases: cacheOf<ModelRelease>() };
  const views = {
    fleet: NEVER as unknown as FleetView,
    configurations: {
      onChange: (listener: () => void) => void listings.push(listener),
    } as unknown as ConfigurationView,
  };
  const keys = new Set<string>();
  for (const trigger of rolloutTriggers(caches, views, () => ownerless))
    trigger.attach((key) => void keys.add(key));
  const told = () => {
    const sorted = [...keys].sort();
    keys.clear();
    return sorted;
  };
  const relist = () => {
    for (const listener of listings) listener();
  };
  return { deployments, told, relist };
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

function release(name: string, comparedWith?: string, namespace = "plant-a") {
  const parity = comparedWith === undefined ? {} : { parity: { with: comparedWith } };
  const spec = { verification: { timeout: "5m", ...parity } };
  return { key: objectKey(namespace, name), namespace, name, spec } as unknown as ModelRelease;
}

test("a release that comes or goes wakes those that are compared with it, and a turn wakes whose it is", () => {
  const releases = cacheOf<ModelRelease>();
  const turns = createTurns();
  const keys: string[] = [];
  for (const trigger of releaseTriggers({ releases }, turns)) trigger.attach((key) => void keys.push(key));
  const told = () => [...new Set(keys.splice(0))].sort();
  for (const one of [release("b", "a"), release("c"), release("d", "a", "plant-b")]) releases.put(one);
  told();
  const a = release("a");
  releases.put(a);
  expect(told()).toEqual(["plant-a/a", "plant-a/b"]);
  releases.put(a);
  expect(told()).toEqual(["plant-a/a"]);
  releases.remove(a);
  expect(told()).toEqual(["plant-a/a", "plant-a/b"]);
  expect(turns.take(objectKey("plant-a", "a"), "fp32", false)).toBe(true);
  expect(turns.take(objectKey("plant-a", "c"), "fp32", false)).toBe(false);
  turns.release(objectKey("plant-a", "a"), "fp32");
  expect(told()).toEqual(["plant-a/c"]);
});

test("what a deployment takes concerns the others of its module, what it reports concerns itself", () => {
  const { deployments, told } = watched();
  const [a, b] = [deployment("a"), deployment("b")];
  deployments.put(a);
  deployments.put(deployment("other", { module: "audio" }));
  told();
  deployments.put(b);
  expect(told()).toEqual(["plant-a/a", "plant-a/b"]);
  deployments.put({ ...b, status: { phase: "Completed" } });
  expect(told()).toEqual(["plant-a/b"]);
  const moved = deployment("b", { line: "2" });
  deployments.put(moved);
  expect(told()).toEqual(["plant-a/a", "plant-a/b"]);
  deployments.put({ ...moved, deleting: true });
  expect(told()).toEqual(["plant-a/a", "plant-a/b"]);
  deployments.remove(moved);
  expect(told()).toEqual(["plant-a/a", "plant-a/b"]);
});

test("whatever a namespace may use is looked at again when that changes, and nothing of other namespaces", () => {
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

test("configurations without a deployment wake the key that they belonged to, at the start and with each listing", () => {
  const { told, relist } = watched([objectKey("plant-a", "gone")]);
  expect(told()).toEqual(["plant-a/gone"]);
  relist();
  expect(told()).toEqual(["plant-a/gone"]);
});
