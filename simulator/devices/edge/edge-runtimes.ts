import { isObject } from "../../base/json.ts";
import type { Hub } from "../../hub/hub.ts";
import { twinKey } from "../../hub/twins/twin.ts";
import type { DeviceLinks } from "../../mqtt/device-link.ts";
import { type AgentPower, createAgentPower } from "./agent-power.ts";
import { createAgentSessions } from "./agent-sessions.ts";
import { createEdgeHubSessions, type EdgeHubSessions } from "./edge-hub-sessions.ts";
import { createEdgePlans } from "./edge-plan.ts";
import { createEdgeReporting, type EdgeReporting } from "./edge-reporting.ts";
import { type EdgeWorld, type Link, logOfAgent, newRuntime, type Runtime, writeLog } from "./edge-runtime.ts";
import { createModuleLife, type ModuleLife } from "./module-life.ts";

/** The runtimes of edge devices: `$edgeAgent` carries out manifests, `$edgeHub` says who is connected. */
export type EdgeRuntimes = {
  readonly moduleAdded: (deviceId: string, moduleId: string) => void;
  readonly moduleRemoved: (deviceId: string, moduleId: string) => void;
  /** Whether an agent here decides if the module runs: a manifest names it, or has named it. */
  readonly governs: (deviceId: string, moduleId: string) => boolean;
  /** The program of a module has ended. */
  readonly exited: (deviceId: string, moduleId: string, exitCode: number) => void;
  /** A module connects to the device's hub, or leaves it; `null`: it is no longer a module of the device. */
  readonly client: (deviceId: string, moduleId: string, connected: boolean | null) => void;
  readonly log: (deviceId: string, moduleId: string, level: number, text: string) => void;
  readonly powerOff: (deviceId: string) => void;
  readonly powerOn: (deviceId: string) => void;
  /** How devices behave has changed. */
  readonly look: () => void;
};

export type EdgeRuntimesOptions = Pick<
  EdgeWorld,
  "delay" | "isReachable" | "effectsOf" | "start" | "stop"
> & {
  /** Milliseconds after which a runtime that could not be reached looks again. */
  readonly lookInterval: number;
  /** Share of the interval, 0 to 1, after which a device first looks: not all of them at one moment. */
  readonly phaseOf: (deviceId: string) => number;
  /** Stops an upload of logs. */
  readonly stopped: AbortSignal;
};

export function createEdgeRuntimes(hub: Hub, links: DeviceLinks, options: EdgeRuntimesOptions): EdgeRuntimes {
  const { clock } = hub;
  const runtimes = new Map<string, Runtime>();
  const { world, life, power, reporting, connect, look } = createMachinery(hub, links, options, runtimes);

  function create(deviceId: string): Runtime {
    const runtime = newRuntime(deviceId, clock.now());
    runtimes.set(deviceId, runtime);
    logOfAgent(world, runtime, 6, "Starting the edge agent");
    clock.schedule(options.phaseOf(deviceId) * options.lookInterval, tick, runtime);
    return runtime;
  }

  function tick(runtime: Runtime): void {
    if (world.isGone(runtime)) return;
    clock.schedule(options.lookInterval, tick, runtime);
    look(runtime);
  }

  function withRuntime(deviceId: string, act: (runtime: Runtime) => void): void {
    const runtime = runtimes.get(deviceId);
    if (runtime !== undefined) act(runtime);
  }

  return {
    moduleAdded(deviceId, moduleId) {
      const runtime = runtimes.get(deviceId) ?? create(deviceId);
      const link = [runtime.agent, runtime.hub].find((one) => one.moduleId === moduleId);
      if (link === undefined) return;
      link.there = true;
      connect(runtime);
    },

    moduleRemoved(deviceId, moduleId) {
      withRuntime(deviceId, (runtime) => {
        for (const link of [runtime.agent, runtime.hub])
          if (link.moduleId === moduleId) {
            link.there = false;
            link.displaced = false;
          }
        if (runtime.agent.there || runtime.hub.there) return;
        runtime.detach?.();
        runtimes.delete(deviceId);
      });
    },

    governs(deviceId, moduleId) {
      const runtime = runtimes.get(deviceId);
      if (runtime === undefined || runtime.agent.displaced || !runtime.agent.there) return false;
      if (runtime.containers.has(moduleId)) return true;
      const modules = hub.twins.get(twinKey(deviceId, "$edgeAgent"))?.desired.value["modules"];
      return isObject(modules) && Object.hasOwn(modules, moduleId);
    },

    exited: (deviceId, moduleId, exitCode) =>
      withRuntime(deviceId, (runtime) => {
        const container = runtime.containers.get(moduleId);
        if (container?.status === "running") life.exit(runtime, container, exitCode);
      }),
    client: (deviceId, moduleId, connected) =>
      withRuntime(deviceId, (runtime) => reporting.noteClient(runtime, moduleId, connected)),
    log: (deviceId, moduleId, level, text) =>
      withRuntime(deviceId, (runtime) => writeLog(world, runtime, { module: moduleId, level, text })),
    powerOff: (deviceId) => withRuntime(deviceId, power.powerOff),
    powerOn: (deviceId) => withRuntime(deviceId, power.powerOn),
    look: () => {
      for (const runtime of runtimes.values()) look(runtime);
    },
  };
}

/** The parts of a runtime: they know each other, and this hands each what it needs of the others. */
type Machinery = {
  readonly world: EdgeWorld;
  readonly life: ModuleLife;
  readonly power: AgentPower;
  readonly reporting: EdgeReporting;
  readonly connect: (runtime: Runtime) => void;
  /** Brings the runtime up to date with the world around it. */
  readonly look: (runtime: Runtime) => void;
};

function createMachinery(
  hub: Hub,
  links: DeviceLinks,
  options: EdgeRuntimesOptions,
  runtimes: ReadonlyMap<string, Runtime>,
): Machinery {
  const { clock } = hub;
  const world: EdgeWorld = {
    ...options,
    clock,
    isGone: (runtime) => runtimes.get(runtime.deviceId) !== runtime,
    changed: (runtime) => reporting.changed(runtime),
    edgeHub: (runtime, running) => (running ? hubs.connect(runtime) : hubs.close(runtime)),
  };
  const reporting = createEdgeReporting(hub, links, world);
  const life = createModuleLife(world);
  const plans = createEdgePlans(world, life);
  const reconnecting = createReconnecting(hub, links, options, { isGone: world.isGone, look });
  const hubs: EdgeHubSessions = createEdgeHubSessions(links, { world, ...reconnecting });
  const agents = createAgentSessions(hub, links, {
    ...{ world, plans, reporting, stopped: options.stopped, ...reconnecting },
    restart: (runtime, id) => power.restartByHand(runtime, id),
  });
  const power: AgentPower = createAgentPower({ world, life, agents, reporting, look, connect, disconnect });

  function connect(runtime: Runtime): void {
    if (!runtime.powered || !options.isReachable(runtime.deviceId)) return;
    agents.connect(runtime);
    hubs.connect(runtime);
  }

  function disconnect(runtime: Runtime): void {
    agents.close(runtime);
    hubs.close(runtime);
  }

  function look(runtime: Runtime): void {
    if (!runtime.powered) return;
    if (!options.isReachable(runtime.deviceId)) {
      disconnect(runtime);
      return;
    }
    const { agentStopped } = options.effectsOf(runtime.deviceId);
    if (agentStopped && !runtime.stopped) power.shutDown(runtime);
    else if (!agentStopped && runtime.stopped) power.wake(runtime);
    connect(runtime);
    for (const { session } of [runtime.agent, runtime.hub])
      if (session !== null && links.missed(session)) runtime.unread = true;
    if (runtime.unread) agents.scheduleRead(runtime);
    if (runtime.changed) reporting.publishSoon(runtime);
  }

  return { world, life, power, reporting, connect, look };
}

/** How the sessions of a runtime come back after what ended them. */
function createReconnecting(
  { clock, faults }: Pick<Hub, "clock" | "faults">,
  links: DeviceLinks,
  { delay, phaseOf }: Pick<EdgeRuntimesOptions, "delay" | "phaseOf">,
  { isGone, look }: Pick<EdgeWorld, "isGone"> & Pick<Machinery, "look">,
) {
  /** After the client that had taken the identity; one that is back in the meantime keeps it. */
  function reconnect({ runtime, link }: { readonly runtime: Runtime; readonly link: Link }): void {
    const { deviceId } = runtime;
    if (isGone(runtime) || links.isTaken({ deviceId, moduleId: link.moduleId })) return;
    link.displaced = false;
    look(runtime);
  }

  return {
    reconnectSoon: (runtime: Runtime, link: Link): void => {
      clock.schedule(delay, reconnect, { runtime, link });
    },
    /** All come back at about the same time, as after a real outage. */
    reconnectLater: (runtime: Runtime, link: Link): void => {
      clock.schedule(faults.returnsIn(phaseOf(runtime.deviceId)), reconnect, { runtime, link });
    },
  };
}
