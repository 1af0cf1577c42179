import type { FleetDevice } from "./hub.ts";

/** Which devices name a deployment (`namespace.name`) in their tags or pointers, without a look at all devices. */
export type DeploymentIndex = {
  /** Ids of the devices that name it. */
  readonly devicesOf: (deployment: string) => Iterable<string>;
  /** Replaces what a device named by what it names now; returns the deployments that it named, or names. */
  readonly update: (had: FleetDevice | null, next: FleetDevice | null) => readonly string[];
};

const NO_NAMES: readonly string[] = Object.freeze([]);

export function createDeploymentIndex(): DeploymentIndex {
  const devicesByName = new Map<string, Set<string>>();

  function add(name: string, device: string): void {
    const devices = devicesByName.get(name);
    if (devices === undefined) devicesByName.set(name, new Set([device]));
    else devices.add(device);
  }

  function remove(name: string, device: string): void {
    const devices = devicesByName.get(name);
    devices?.delete(device);
    if (devices?.size === 0) devicesByName.delete(name);
  }

  return {
    devicesOf: (deployment) => devicesByName.get(deployment) ?? NO_NAMES,
    update: (had, next) => {
      const before = had === null ? NO_NAMES : namesIn(had);
      const after = next === null ? NO_NAMES : namesIn(next);
      const device = next?.device ?? had?.device ?? "";
      for (const name of before) if (!after.includes(name)) remove(name, device);
      for (const name of after) add(name, device);
      return before.length === 0 ? after : [...new Set([...before, ...after])];
    },
  };
}

/** The deployments that its tags and pointers name. */
function namesIn(device: FleetDevice): readonly string[] {
  const names: string[] = [];
  const add = (name: string | undefined) => {
    if (name !== undefined && !names.includes(name)) names.push(name);
  };
  if (device.fleetTags !== null) Object.values(device.fleetTags.deployments).forEach(add);
  for (const slot of Object.values(device.slots)) add(slot.pointer?.deployment);
  return names;
}
