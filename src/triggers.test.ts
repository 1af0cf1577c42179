import { expect, test } from "vitest";
import type { EdgeDevice } from "./api/edge-device.ts";
import type { InferenceDeployment, Selector } from "./api/inference-deployment.ts";
import type { ModelRelease } from "./api/model-release.ts";
import { objectKey } from "./api/resource.ts";
import type { ConfigurationView, FleetView } from "./hub/hub.ts";
import { rolloutTriggers } from "./triggers.ts";

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

function watched() {
  const deployments = cacheOf<InferenceDeployment>();
  const caches = { deployments, devices: cacheOf<EdgeDevice>(), releases: cacheOf<ModelRelease>() };
  const views = {
    fleet: NEVER as unknown as FleetView,
    configurations: NEVER as unknown as ConfigurationView,
  };
  const keys = new Set<string>();
  for (const trigger of rolloutTriggers(caches, views)) trigger.attach((key) => void keys.add(key));
  const told = () => {
    const sorted = [...keys].sort();
    keys.clear();
    return sorted;
  };
  return { deployments, told };
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
