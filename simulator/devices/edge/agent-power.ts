import { createTasks } from "./agent-methods.ts";
import type { AgentSessions } from "./agent-sessions.ts";
import type { EdgeReporting } from "./edge-reporting.ts";
import { EDGE_HUB } from "./edge-reports.ts";
import { type EdgeWorld, logOfAgent, type Runtime } from "./edge-runtime.ts";
import { startOrder } from "./manifest.ts";
import type { ModuleLife } from "./module-life.ts";

/** Starts and stops of edge agents and of whole devices. */
export type AgentPower = {
  /** Restarts a module, or the agent (`null`, and nothing answers); `false` where there is no such module. */
  readonly restartByHand: (runtime: Runtime, id: string) => boolean | null;
  /** In good order: it says so before it goes. */
  readonly shutDown: (runtime: Runtime) => void;
  readonly wake: (runtime: Runtime) => void;
  readonly powerOff: (runtime: Runtime) => void;
  readonly powerOn: (runtime: Runtime) => void;
};

/** Milliseconds. */
const AGENT_RESTART = 5000;

export function createAgentPower(parts: {
  readonly world: EdgeWorld;
  readonly life: ModuleLife;
  readonly agents: AgentSessions;
  readonly reporting: EdgeReporting;
  /** Brings the runtime up to date with the world around it. */
  readonly look: (runtime: Runtime) => void;
  readonly connect: (runtime: Runtime) => void;
  readonly disconnect: (runtime: Runtime) => void;
}): AgentPower {
  const { world, life, agents, reporting, look } = parts;
  const { clock } = world;
  const log = (runtime: Runtime, text: string) => logOfAgent(world, runtime, 6, text);

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
    log(runtime, "The edge agent restarts");
    agents.close(runtime);
    clock.schedule(AGENT_RESTART, look, runtime);
  }

  function shutDown(runtime: Runtime): void {
    log(runtime, "Shutting down");
    agents.reportShutdown(runtime);
    runtime.plan += 1;
    runtime.stopped = true;
    runtime.tasks = createTasks();
    agents.close(runtime);
    reporting.noteClient(runtime, "$edgeAgent", false);
  }

  function wake(runtime: Runtime): void {
    runtime.stopped = false;
    runtime.startedAt = clock.now();
    // What was under way is taken up again.
    if (runtime.status.code === 500) runtime.processed = null;
    log(runtime, "Starting the edge agent");
    for (const container of runtime.containers.values())
      if (container.status === "backoff") life.restartLater(runtime, container);
    reporting.changed(runtime);
    parts.connect(runtime);
  }

  function powerOff(runtime: Runtime): void {
    runtime.powered = false;
    runtime.plan += 1;
    runtime.tasks = createTasks();
    for (const container of runtime.containers.values()) {
      container.run += 1;
      if (container.status === "running") container.exitedAt = clock.now();
    }
    parts.disconnect(runtime);
  }

  function powerOn(runtime: Runtime): void {
    runtime.powered = true;
    runtime.startedAt = clock.now();
    if (runtime.status.code === 500) runtime.processed = null;
    log(runtime, "Starting the edge agent");
    const specs = Object.fromEntries([...runtime.containers].map(([name, { spec }]) => [name, spec]));
    for (const name of startOrder(specs)) {
      const container = runtime.containers.get(name);
      const runs = container?.status === "running" || container?.status === "backoff";
      if (container !== undefined && runs) life.start(runtime, container);
    }
    look(runtime);
  }

  return { restartByHand, shutDown, wake, powerOff, powerOn };
}
