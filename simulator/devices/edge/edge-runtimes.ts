import { isObject, type JsonObject } from "../../base/json.ts";
import type { Hub } from "../../hub/hub.ts";
import { mergePatch } from "../../hub/twins/merge-patch.ts";
import { type TwinKey, twinKey } from "../../hub/twins/twin.ts";
import type { DeviceLinks } from "../../mqtt/device-link.ts";
import type { Listener } from "../../mqtt/device-sessions.ts";
import { answerMethod, createTasks } from "./agent-methods.ts";
import { createEdgePlans } from "./edge-plan.ts";
import { agentReport, EDGE_HUB, hubReport, hubStatusOf, shutdownReport } from "./edge-reports.ts";
import { type EdgeWorld, isUp, type Link, newRuntime, type Runtime, writeLog } from "./edge-runtime.ts";
import { startOrder } from "./manifest.ts";
import { createModuleLife } from "./module-life.ts";

/** The runtimes of edge devices: `$edgeAgent` carries out manifests, `$edgeHub` says who is connected. */
export type EdgeRuntimes = {
  readonly appear: (deviceId: string, moduleId: string) => void;
  readonly vanish: (deviceId: string, moduleId: string) => void;
  /** Whether an agent here decides if the module runs: a manifest names it, or has named it. */
  readonly governs: (deviceId: string, moduleId: string) => boolean;
  /** The program of a module has ended by itself. */
  readonly exited: (deviceId: string, moduleId: string, exitCode: number) => void;
  /** A module connects to the device's hub, or leaves it; `null`: it is no module of the device any more. */
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
  /** Where a device begins its beat, 0 to 1: not all of them in one moment. */
  readonly phaseOf: (deviceId: string) => number;
  /** Stops an upload of logs. */
  readonly stopped: AbortSignal;
};

/** Milliseconds. */
const AGENT_RESTART = 5000;
export function createEdgeRuntimes(hub: Hub, links: DeviceLinks, options: EdgeRuntimesOptions): EdgeRuntimes {
  const { clock } = hub;
  const runtimes = new Map<string, Runtime>();

  const world: EdgeWorld = {
    ...options,
    clock,
    isGone,
    changed,
    edgeHub: (runtime, running) => (running ? connectHub(runtime) : closeHub(runtime)),
  };
  const life = createModuleLife(world);
  const plans = createEdgePlans(world, life);

  const agentListener: Listener<Runtime> = {
    desired: (runtime) => hearSoon(runtime),
    closed: (runtime, because) => {
      leaveAgent(runtime);
      runtime.agent.displaced = because === "displaced";
      if (because === "cut") returnLater(runtime, runtime.agent);
      // Whoever has taken the identity looks after the modules now.
      if (because !== "displaced") return;
      runtime.plan += 1;
      runtime.processed = null;
      for (const name of Object.keys(runtime.wanted?.modules ?? {})) options.start(runtime.deviceId, name);
    },
    vacant: (runtime) => {
      clock.schedule(options.delay, comeBack, { runtime, link: runtime.agent });
    },
  };
  const hubListener: Listener<Runtime> = {
    desired: (runtime, _patch, version) => {
      runtime.hubVersion = version;
      hearHub(runtime);
    },
    closed: (runtime, because) => {
      runtime.hub.session = null;
      runtime.hub.displaced = because === "displaced";
      if (because === "cut") returnLater(runtime, runtime.hub);
    },
    vacant: (runtime) => {
      clock.schedule(options.delay, comeBack, { runtime, link: runtime.hub });
    },
  };

  function create(deviceId: string): Runtime {
    const runtime = newRuntime(deviceId, clock.now());
    runtimes.set(deviceId, runtime);
    log(runtime, 6, "Starting the edge agent");
    clock.schedule(options.phaseOf(deviceId) * options.lookInterval, beat, runtime);
    return runtime;
  }

  function isGone(runtime: Runtime): boolean {
    return runtimes.get(runtime.deviceId) !== runtime;
  }

  /** They all come back at about one time, as after a real outage. */
  function returnLater(runtime: Runtime, link: Link): void {
    const delay = hub.faults.returnsIn(options.phaseOf(runtime.deviceId));
    clock.schedule(delay, comeBack, { runtime, link });
  }

  /** After the client that had taken the identity; one that is back meanwhile keeps it. */
  function comeBack({ runtime, link }: { readonly runtime: Runtime; readonly link: Link }): void {
    const { deviceId } = runtime;
    if (isGone(runtime) || links.isTaken({ deviceId, moduleId: link.moduleId })) return;
    link.displaced = false;
    look(runtime);
  }

  function beat(runtime: Runtime): void {
    if (isGone(runtime)) return;
    clock.schedule(options.lookInterval, beat, runtime);
    look(runtime);
  }

  function look(runtime: Runtime): void {
    if (!runtime.powered) return;
    if (!options.isReachable(runtime.deviceId)) {
      close(runtime);
      return;
    }
    const { agentStopped } = options.effectsOf(runtime.deviceId);
    if (agentStopped && !runtime.stopped) shutDown(runtime);
    else if (!agentStopped && runtime.stopped) wake(runtime);
    connect(runtime);
    for (const { session } of [runtime.agent, runtime.hub])
      if (session !== null && links.missed(session)) runtime.unheard = true;
    if (runtime.unheard) hearSoon(runtime);
    if (runtime.changed) publishSoon(runtime);
  }

  function connect(runtime: Runtime): void {
    if (!runtime.powered || !options.isReachable(runtime.deviceId)) return;
    const { agent } = runtime;
    if (agent.there && !agent.displaced && agent.session === null && !runtime.stopped) {
      const session = links.connect(
        { deviceId: runtime.deviceId, moduleId: agent.moduleId },
        agentListener,
        runtime,
      );
      if (session.ok) {
        agent.session = session.value;
        attach(runtime, session.value.key);
        noteClient(runtime, agent.moduleId, true);
        changed(runtime);
        hearSoon(runtime);
      }
    }
    connectHub(runtime);
  }

  /** The hub of a device is there once its container runs. */
  function connectHub(runtime: Runtime): void {
    const { hub: link, deviceId } = runtime;
    const runs = runtime.containers.get(EDGE_HUB)?.status === "running";
    if (!runs || !link.there || link.displaced || link.session !== null || !runtime.powered) return;
    if (!options.isReachable(deviceId)) return;
    const session = links.connect({ deviceId, moduleId: EDGE_HUB }, hubListener, runtime);
    if (!session.ok) return;
    link.session = session.value;
    hearHub(runtime);
  }

  function hearHub(runtime: Runtime): void {
    const twin = runtime.hub.session === null ? null : links.getTwin(runtime.hub.session);
    if (twin?.ok !== true) return;
    runtime.hubVersion = twin.value.desiredVersion;
    runtime.hubStatus = hubStatusOf(twin.value.desired);
    changed(runtime);
  }

  function close(runtime: Runtime): void {
    closeAgent(runtime);
    closeHub(runtime);
  }

  function closeHub({ hub: link }: Runtime): void {
    if (link.session !== null) links.close(link.session);
    link.session = null;
  }

  function closeAgent(runtime: Runtime): void {
    const { session } = runtime.agent;
    leaveAgent(runtime);
    if (session !== null) links.close(session);
  }

  function leaveAgent(runtime: Runtime): void {
    runtime.detach?.();
    runtime.detach = null;
    runtime.agent.session = null;
    runtime.unheard = true;
  }

  function attach(runtime: Runtime, key: TwinKey): void {
    runtime.detach = hub.methods.attach(key, (request) => {
      log(runtime, 6, `Received direct method call ${request.name}`);
      const answer = answerMethod(request, {
        clock,
        iotHub: hub.options.hostName,
        deviceId: runtime.deviceId,
        logs: runtime.logs,
        tasks: runtime.tasks,
        stopped: options.stopped,
        restart: (id) => restartByHand(runtime, id),
      });
      if (answer !== null) hub.methods.respond(key, request.requestId, answer.status, answer.body);
    });
  }

  /** However many patches come in, the twin is read once. */
  function hearSoon(runtime: Runtime): void {
    runtime.unheard = true;
    if (runtime.hearing) return;
    runtime.hearing = true;
    clock.schedule(options.delay, hear, runtime);
  }

  function hear(runtime: Runtime): void {
    runtime.hearing = false;
    const { session } = runtime.agent;
    if (session === null || isGone(runtime) || !isUp(runtime) || !options.isReachable(runtime.deviceId))
      return;
    const twin = links.getTwin(session);
    if (!twin.ok) return;
    runtime.unheard = false;
    if (runtime.version === twin.value.desiredVersion) {
      if (runtime.processed !== runtime.version) plans.carryOut(runtime);
      return;
    }
    plans.follow(runtime, twin.value.desired, twin.value.desiredVersion);
  }

  /** `null`: the agent restarts itself, and answers nobody. */
  function restartByHand(runtime: Runtime, id: string): boolean | null {
    if (id === "edgeAgent") {
      restartAgent(runtime);
      return null;
    }
    const container = runtime.containers.get(id === "edgeHub" ? EDGE_HUB : id);
    if (container === undefined) return false;
    life.stop(runtime, container);
    container.restartedAt = clock.now();
    life.start(runtime, container);
    return true;
  }

  function restartAgent(runtime: Runtime): void {
    runtime.plan += 1;
    runtime.stopped = true;
    runtime.tasks = createTasks();
    log(runtime, 6, "The edge agent restarts");
    closeAgent(runtime);
    clock.schedule(AGENT_RESTART, look, runtime);
  }

  /** In good order: it says so before it goes. */
  function shutDown(runtime: Runtime): void {
    const { session } = runtime.agent;
    const { wrongClock } = options.effectsOf(runtime.deviceId);
    log(runtime, 6, "Shutting down");
    if (session !== null) {
      const reported = hub.twins.get(session.key)?.reported.value ?? {};
      links.report(session, mergePatch(reported, shutdownReport(runtime, wrongClock ?? 0)));
    }
    runtime.plan += 1;
    runtime.stopped = true;
    runtime.tasks = createTasks();
    closeAgent(runtime);
    noteClient(runtime, "$edgeAgent", false);
  }

  function wake(runtime: Runtime): void {
    runtime.stopped = false;
    runtime.startedAt = clock.now();
    // What was under way is taken up again.
    if (runtime.status.code === 500) runtime.processed = null;
    log(runtime, 6, "Starting the edge agent");
    for (const container of runtime.containers.values())
      if (container.status === "backoff") life.restartLater(runtime, container);
    changed(runtime);
    connect(runtime);
  }

  function powerOff(runtime: Runtime): void {
    runtime.powered = false;
    runtime.plan += 1;
    runtime.tasks = createTasks();
    for (const container of runtime.containers.values()) {
      container.run += 1;
      if (container.status === "running") container.exitedAt = clock.now();
    }
    close(runtime);
  }

  function powerOn(runtime: Runtime): void {
    runtime.powered = true;
    runtime.startedAt = clock.now();
    if (runtime.status.code === 500) runtime.processed = null;
    log(runtime, 6, "Starting the edge agent");
    const specs = Object.fromEntries([...runtime.containers].map(([name, { spec }]) => [name, spec]));
    for (const name of startOrder(specs)) {
      const container = runtime.containers.get(name);
      const runs = container?.status === "running" || container?.status === "backoff";
      if (container !== undefined && runs) life.start(runtime, container);
    }
    look(runtime);
  }

  function noteClient(runtime: Runtime, moduleId: string, connected: boolean | null): void {
    const before = runtime.clients.get(moduleId);
    if (connected === null) {
      if (runtime.clients.delete(moduleId)) changed(runtime);
      return;
    }
    if (before?.connected === connected || (before === undefined && !connected)) return;
    const client = before ?? { connected, connectedAt: null, disconnectedAt: null };
    client.connected = connected;
    if (connected) client.connectedAt = clock.now();
    else client.disconnectedAt = clock.now();
    runtime.clients.set(moduleId, client);
    changed(runtime);
  }

  function changed(runtime: Runtime): void {
    runtime.changed = true;
    publishSoon(runtime);
  }

  /** However much changes at one time, one report follows. */
  function publishSoon(runtime: Runtime): void {
    if (runtime.reporting) return;
    runtime.reporting = true;
    clock.schedule(options.delay, publish, runtime);
  }

  function publish(runtime: Runtime): void {
    runtime.reporting = false;
    if (isGone(runtime) || !runtime.powered || !options.isReachable(runtime.deviceId)) return;
    const offset = options.effectsOf(runtime.deviceId).wrongClock ?? 0;
    const { deviceId, hubStatus, hubVersion, clients } = runtime;
    const view = { status: hubStatus, version: hubVersion, clients };
    // Before it has read the twin the agent has nothing to say.
    const agent = runtime.version === null || send(runtime, runtime.agent, agentReport(runtime, offset));
    const edgeHub = send(runtime, runtime.hub, hubReport(view, deviceId, offset));
    runtime.changed = !agent || !edgeHub;
  }

  /** What differs from the twin; whether nothing is left to say. */
  function send(runtime: Runtime, { session }: Link, report: JsonObject): boolean {
    if (session === null) return true;
    const patch = mergePatch(hub.twins.get(session.key)?.reported.value ?? {}, report);
    if (Object.keys(patch).length === 0) return true;
    const written = links.report(session, patch);
    if (!written.ok) log(runtime, 4, `The report was refused: ${written.refusal.message}`);
    return written.ok || written.refusal.status === 400;
  }

  /** Of the agent itself. */
  function log(runtime: Runtime, level: number, text: string): void {
    writeLog(world, runtime, { module: "edgeAgent", level, text });
  }

  function withRuntime(deviceId: string, act: (runtime: Runtime) => void): void {
    const runtime = runtimes.get(deviceId);
    if (runtime !== undefined) act(runtime);
  }

  return {
    appear(deviceId, moduleId) {
      const runtime = runtimes.get(deviceId) ?? create(deviceId);
      const link = [runtime.agent, runtime.hub].find((one) => one.moduleId === moduleId);
      if (link === undefined) return;
      link.there = true;
      connect(runtime);
    },

    vanish(deviceId, moduleId) {
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
      withRuntime(deviceId, (runtime) => noteClient(runtime, moduleId, connected)),
    log: (deviceId, moduleId, level, text) =>
      withRuntime(deviceId, (runtime) => writeLog(world, runtime, { module: moduleId, level, text })),
    powerOff: (deviceId) => withRuntime(deviceId, powerOff),
    powerOn: (deviceId) => withRuntime(deviceId, powerOn),
    look: () => {
      for (const runtime of runtimes.values()) look(runtime);
    },
  };
}
