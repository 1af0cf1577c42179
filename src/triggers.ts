import { deviceIdOf, type EdgeDevice } from "./api/edge-device.ts";
import type { InferenceDeployment } from "./api/inference-deployment.ts";
import { hasSomethingToRun, isEmptySelector, matches } from "./api/membership.ts";
import type { ModelRelease } from "./api/model-release.ts";
import { type ObjectKey, objectKey } from "./api/resource.ts";
import { canonicalJson } from "./base/digest.ts";
import { millis } from "./base/time.ts";
import type { Configuration, ConfigurationView, FleetView } from "./hub/hub.ts";
import type { ReverifySlots } from "./releases/reverify-slots.ts";
import { LABEL } from "./rollouts/configurations/content.ts";
import { type Observed, type Trigger, triggerOf } from "./runtime/trigger.ts";

// What wakes which controller. A trigger gives a key and nothing more: the reconcile observes what has changed.

type Cache<T> = Observed<T> & {
  readonly get: (key: ObjectKey) => T | undefined;
  readonly list: (namespace?: string) => readonly T[];
};
export type Caches = {
  readonly devices: Cache<EdgeDevice>;
  readonly releases: Cache<ModelRelease>;
  readonly deployments: Cache<InferenceDeployment>;
};
type Views = {
  readonly fleet: Pick<FleetView, "onChange" | "onHealth">;
  readonly configurations: Pick<ConfigurationView, "onChange">;
};

/** Changes of a fleet come in bursts: a deployment is reconciled once for all changes within this time. */
const COALESCE = millis(500);

/** The hub knows devices by id, caches by key: this joins them. Two objects with one id are both found. */
export type DevicesById = (device: string) => readonly EdgeDevice[];

export function indexDevices(devices: Pick<Cache<EdgeDevice>, "get" | "list" | "onChange">): DevicesById {
  const keys = new Map<string, Set<ObjectKey>>();
  const put = (device: EdgeDevice) => {
    const id = deviceIdOf(device);
    keys.set(id, (keys.get(id) ?? new Set()).add(device.key));
  };
  for (const device of devices.list()) put(device);
  devices.onChange((before, after) => {
    if (after !== undefined) put(after);
    else if (before !== undefined) {
      const id = deviceIdOf(before);
      const siblings = keys.get(id);
      siblings?.delete(before.key);
      if (siblings?.size === 0) keys.delete(id);
    }
  });
  return (id) => [...(keys.get(id) ?? [])].flatMap((key) => devices.get(key) ?? []);
}

export function deviceTriggers(
  { devices, deployments }: Caches,
  { fleet, byId }: Pick<Views, "fleet"> & { readonly byId: DevicesById },
): readonly Trigger<ObjectKey>[] {
  return [
    triggerOf(devices, (device) => [device.key]),
    triggerOf(
      deployments,
      (deployment) => selectedBy(deployment, devices.list(deployment.namespace)),
      (before, after) => placementOf(before) !== placementOf(after),
    ),
    {
      synced: () => Promise.resolve(),
      attach: (enqueue) => {
        // Two objects with one id are both reconciled when one of them is added, removed or begins to be deleted: the
        // identity may then belong to the other.
        devices.onChange((before, after) => {
          const device = after ?? before;
          if (device === undefined || (before !== undefined && before.deleting === after?.deleting)) return;
          for (const { key } of byId(deviceIdOf(device))) if (key !== device.key) enqueue(key);
        });
        fleet.onChange((id) => {
          for (const { key } of byId(id)) enqueue(key);
        });
      },
    },
  ];
}

export function releaseTriggers(
  { releases }: Pick<Caches, "releases">,
  reverifySlots: Pick<ReverifySlots, "onFree">,
): readonly Trigger<ObjectKey>[] {
  return [
    triggerOf(releases, (release) => [release.key]),
    // Those that are to be compared with it, and may have waited for it to come.
    triggerOf(
      releases,
      (release) =>
        releases
          .list(release.namespace)
          .flatMap(({ key, spec }) => (spec.verification?.parity?.with === release.name ? [key] : [])),
      (before, after) => before === undefined || after === undefined,
    ),
    { synced: () => Promise.resolve(), attach: (enqueue) => reverifySlots.onFree((key) => enqueue(key)) },
  ];
}

export function rolloutTriggers(
  { devices, releases, deployments }: Caches,
  { fleet, configurations, byId }: Views & { readonly byId: DevicesById },
  ownerless: () => Iterable<ObjectKey>,
): readonly Trigger<ObjectKey>[] {
  const everyDeployment = () => deployments.list().map(({ key }) => key);
  const selectors = (device: EdgeDevice) =>
    deployments
      .list(device.namespace)
      .flatMap(({ key, spec }) => (matches(spec.selector, device.labels) ? [key] : []));
  return [
    triggerOf(deployments, (deployment) => [deployment.key]),
    // Two that select the same devices must both report it, and both continue when one of them gives them up.
    triggerOf(
      deployments,
      // All of them, whatever module they name: on a device without IoT Edge all contend.
      ({ namespace }) => deployments.list(namespace).map(({ key }) => key),
      (before, after) => claimOf(before) !== claimOf(after),
    ),
    triggerOf(releases, (release) =>
      deployments
        .list(release.namespace)
        .flatMap((deployment) => (concerns(deployment, release.name) ? [deployment.key] : [])),
    ),
    debounced(triggerOf(devices, selectors, (before, after) => memberOf(before) !== memberOf(after))),
    {
      synced: () => Promise.resolve(),
      attach: (enqueue) => {
        // A device concerns those that select it, and those that its tags and pointers name: as they were, or as they are.
        fleet.onChange((id, named) => {
          for (const device of byId(id)) for (const key of selectors(device)) enqueue(key, COALESCE);
          for (const name of named) {
            const key = keyNamed(name);
            if (key !== null && deployments.get(key) !== undefined) enqueue(key, COALESCE);
          }
        });
        fleet.onHealth(() => {
          for (const key of everyDeployment()) enqueue(key);
        });
        configurations.onChange((changed) => {
          const owners = new Set(changed?.map(ownerOf) ?? [null]);
          // The base configuration concerns all, and so may one that is not ours.
          for (const key of [...everyDeployment(), ...ownerless()])
            if (owners.has(null) || owners.has(key)) enqueue(key, COALESCE);
        });
        for (const key of ownerless()) enqueue(key);
      },
    },
  ];
}

/** Enqueues all objects of a namespace when its grant changes. `tenants` is `null` where grants never change. */
export function grantTrigger(
  objects: { readonly list: (namespace?: string) => readonly { readonly key: ObjectKey }[] },
  tenants: { readonly onChange: (listener: (namespace: string) => void) => void } | null,
): Trigger<ObjectKey> {
  return {
    synced: () => Promise.resolve(),
    attach: (enqueue) => {
      tenants?.onChange((namespace) => {
        for (const { key } of objects.list(namespace)) enqueue(key);
      });
    },
  };
}

/** The key of what is called `namespace.name`; namespaces have no dots. */
function keyNamed(qualified: string): ObjectKey | null {
  const dot = qualified.indexOf(".");
  return dot <= 0 ? null : objectKey(qualified.slice(0, dot), qualified.slice(dot + 1));
}

/** The deployment that made it; `null`: it belongs to all of them, or to none. */
function ownerOf({ labels }: Configuration): ObjectKey | null {
  const { [LABEL.namespace]: namespace, [LABEL.name]: name } = labels;
  return namespace === undefined || name === undefined ? null : objectKey(namespace, name);
}

function debounced<Key>(trigger: Trigger<Key>): Trigger<Key> {
  return {
    synced: trigger.synced,
    attach: (enqueue) => trigger.attach((key, delay) => enqueue(key, delay ?? COALESCE)),
  };
}

function selectedBy(deployment: InferenceDeployment, devices: readonly EdgeDevice[]): readonly ObjectKey[] {
  const { selector } = deployment.spec;
  if (isEmptySelector(selector)) return [];
  return devices.flatMap((device) => (matches(selector, device.labels) ? [device.key] : []));
}

function concerns({ spec, status }: InferenceDeployment, release: string): boolean {
  return [spec.release.name, status?.stable?.release, status?.candidate?.release].includes(release);
}

/** What of a deployment decides where a device belongs and what it is meant to run. */
function placementOf(deployment: InferenceDeployment | undefined): string {
  if (deployment === undefined) return "";
  const { spec, status, deleting } = deployment;
  return canonicalJson([
    deleting,
    spec.selector,
    spec.module.name,
    status?.stable?.release,
    status?.candidate?.release,
    status?.exposure,
    status?.phase === "RollingBack",
    hasSomethingToRun(deployment),
  ]);
}

/** What of a deployment decides which devices it takes, from others too. */
function claimOf(deployment: InferenceDeployment | undefined): string {
  if (deployment === undefined) return "";
  const { spec, deleting } = deployment;
  return canonicalJson([deleting, spec.selector, spec.module.name]);
}

/** What of a device decides which deployments it belongs to, and in which stratum. */
function memberOf(device: EdgeDevice | undefined): string {
  return device === undefined ? "" : canonicalJson([device.deleting, device.labels, device.spec]);
}
