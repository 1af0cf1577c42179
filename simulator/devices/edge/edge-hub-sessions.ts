import type { DeviceLinks } from "../../mqtt/device-link.ts";
import type { Listener } from "../../mqtt/device-sessions.ts";
import { EDGE_HUB, hubStatusOf } from "./edge-reports.ts";
import type { EdgeWorld, Link, Runtime } from "./edge-runtime.ts";

/** The session of a device's hub; it is there once the container of the hub runs. */
export type EdgeHubSessions = {
  readonly connect: (runtime: Runtime) => void;
  readonly close: (runtime: Runtime) => void;
};

export function createEdgeHubSessions(
  links: DeviceLinks,
  parts: {
    readonly world: Pick<EdgeWorld, "isReachable" | "changed">;
    readonly reconnectSoon: (runtime: Runtime, link: Link) => void;
    readonly reconnectLater: (runtime: Runtime, link: Link) => void;
  },
): EdgeHubSessions {
  const { world } = parts;

  const listener: Listener<Runtime> = {
    desired: (runtime, _patch, version) => {
      runtime.hubVersion = version;
      readTwin(runtime);
    },
    closed: (runtime, because) => {
      runtime.hub.session = null;
      runtime.hub.displaced = because === "displaced";
      if (because === "cut") parts.reconnectLater(runtime, runtime.hub);
    },
    vacant: (runtime) => parts.reconnectSoon(runtime, runtime.hub),
  };

  function readTwin(runtime: Runtime): void {
    const twin = runtime.hub.session === null ? null : links.getTwin(runtime.hub.session);
    if (twin?.ok !== true) return;
    runtime.hubVersion = twin.value.desiredVersion;
    runtime.hubStatus = hubStatusOf(twin.value.desired);
    world.changed(runtime);
  }

  return {
    connect: (runtime) => {
      const { hub: link, deviceId } = runtime;
      const runs = runtime.containers.get(EDGE_HUB)?.status === "running";
      if (!runs || !link.there || link.displaced || link.session !== null || !runtime.powered) return;
      if (!world.isReachable(deviceId)) return;
      const session = links.connect({ deviceId, moduleId: EDGE_HUB }, listener, runtime);
      if (!session.ok) return;
      link.session = session.value;
      readTwin(runtime);
    },
    close: ({ hub: link }) => {
      if (link.session !== null) links.close(link.session);
      link.session = null;
    },
  };
}
