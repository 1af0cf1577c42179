import { deviceIdOf, type EdgeDevice } from "./api/edge-device.ts";
import type { InferenceDeployment } from "./api/inference-deployment.ts";
import { hasSomethingToRun, isEmptySelector, matches } from "./api/membership.ts";
import type { ModelRelease } from "./api/model-release.ts";
import type { ObjectKey } from "./api/resource.ts";
import { canonicalJson } from "./base/digest.ts";
import { millis } from "./base/time.ts";
import type { ConfigurationView, FleetView } from "./hub/hub.ts";
import type { Turns } from "./releases/turns.ts";
import { type Observed, type Trigger, triggerOf } from "./runtime/trigger.ts";

// What wakes which controller. A trigger says "look again" and nothing more: reconciles see for themselves.

type Cache<T> = Observed<T> & { readonly list: (namespace?: string) => readonly T[] };
export type Caches = {
  readonly devices: Cache<EdgeDevice>;
  readonly releases: Cache<ModelRelease>;
  readonly deployments: Cache<InferenceDeployment>;
};
type Views = { readonly fleet: FleetView; readonly configurations: ConfigurationView };

/** Changes of a fleet come in crowds: a deployment looks once for all that came within this time. */
const CROWD = millis(500);

export function deviceTriggers(
  { devices, deployments }: Caches,
  { fleet }: Pick<Views, "fleet">,
): readonly Trigger<ObjectKey>[] {
  return [
    triggerOf(devices, (device) => [device.key]),
    triggerOf(
      deployments,
      (deployment) => selectedBy(deployment, devices.list(deployment.namespace)),
      (before, after) => placementOf(before) !== placementOf(after),
    ),
    fleetTrigger(devices, fleet),
  ];
}

export function releaseTriggers(
  { releases }: Pick<Caches, "releases">,
  turns: Pick<Turns, "onTurn">,
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
    { synced: () => Promise.resolve(), attach: (enqueue) => turns.onTurn((key) => enqueue(key)) },
  ];
}

export function rolloutTriggers(
  { devices, releases, deployments }: Caches,
  { fleet, configurations }: Views,
  ownerless: () => Iterable<ObjectKey>,
): readonly Trigger<ObjectKey>[] {
  const everyDeployment = () => deployments.list().map(({ key }) => key);
  return [
    triggerOf(deployments, (deployment) => [deployment.key]),
    // Two that want the same devices must both say so, and both go on when one of them lets go.
    triggerOf(
      deployments,
      ({ namespace, spec }) =>
        deployments
          .list(namespace)
          .flatMap((other) => (other.spec.module.name === spec.module.name ? [other.key] : [])),
      (before, after) => claimOf(before) !== claimOf(after),
    ),
    triggerOf(releases, (release) =>
      deployments
        .list(release.namespace)
        .flatMap((deployment) => (concerns(deployment, release.name) ? [deployment.key] : [])),
    ),
    crowded(
      triggerOf(
        devices,
        (device) =>
          deployments
            .list(device.namespace)
            .flatMap((deployment) =>
              matches(deployment.spec.selector, device.labels) ? [deployment.key] : [],
            ),
        (before, after) => memberOf(before) !== memberOf(after),
      ),
    ),
    {
      synced: () => Promise.resolve(),
      attach: (enqueue) => {
        fleet.onChange(() => {
          for (const key of everyDeployment()) enqueue(key, CROWD);
        });
        fleet.onHealth(() => {
          for (const key of everyDeployment()) enqueue(key);
        });
        configurations.onChange(() => {
          for (const key of everyDeployment()) enqueue(key, CROWD);
          for (const key of ownerless()) enqueue(key, CROWD);
        });
        for (const key of ownerless()) enqueue(key);
      },
    },
  ];
}

/** Whatever a namespace may use, and what it waits for, is looked at again when that changes. `null`: it never does. */
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

/** The hub knows devices by id, the queue by key: an index joins them. Two objects with one id are both told. */
function fleetTrigger(devices: Cache<EdgeDevice>, fleet: FleetView): Trigger<ObjectKey> {
  const keys = new Map<string, Set<ObjectKey>>();
  const put = (device: EdgeDevice) => {
    const id = deviceIdOf(device);
    keys.set(id, (keys.get(id) ?? new Set()).add(device.key));
  };
  return {
    synced: () => Promise.resolve(),
    attach: (enqueue) => {
      for (const device of devices.list()) put(device);
      devices.onChange((before, after) => {
        if (after !== undefined) put(after);
        else if (before !== undefined) keys.get(deviceIdOf(before))?.delete(before.key);
      });
      fleet.onChange((id) => {
        for (const key of keys.get(id) ?? []) enqueue(key);
      });
    },
  };
}

function crowded<Key>(trigger: Trigger<Key>): Trigger<Key> {
  return {
    synced: trigger.synced,
    attach: (enqueue) => trigger.attach((key, delay) => enqueue(key, delay ?? CROWD)),
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
