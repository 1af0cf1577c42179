import { type Container, INTENSIVE_CARE, newContainer, restartDelay, statusAfterExit } from "./containers.ts";
import { EDGE_HUB } from "./edge-reports.ts";
import { type EdgeWorld, isUp, nameOf, type Runtime, writeLog } from "./edge-runtime.ts";
import type { ModuleSpec } from "./manifest.ts";

/** Containers of edge devices: made, started, stopped, and started again when their programs end. */
export type ModuleLife = {
  /** In place of the one that is there. */
  readonly create: (runtime: Runtime, name: string, spec: ModuleSpec) => void;
  readonly start: (runtime: Runtime, container: Container) => void;
  readonly stop: (runtime: Runtime, container: Container) => void;
  readonly remove: (runtime: Runtime, container: Container) => void;
  /** The program has ended: policy and count say whether it is started again, and when. */
  readonly exit: (runtime: Runtime, container: Container, exitCode: number) => void;
  readonly restartLater: (runtime: Runtime, container: Container) => void;
};

type Run = { readonly runtime: Runtime; readonly container: Container; readonly run: number };

/** Longer than most: its operations start, stop and restart each other. */
export function createModuleLife(world: EdgeWorld): ModuleLife {
  const { clock } = world;

  function log(runtime: Runtime, module: string, level: number, text: string): void {
    writeLog(world, runtime, { module, level, text });
  }

  function create(runtime: Runtime, name: string, spec: ModuleSpec): void {
    const before = runtime.containers.get(name);
    if (before !== undefined) stop(runtime, before);
    const container = newContainer(name, spec);
    runtime.containers.set(name, container);
    log(runtime, "edgeAgent", 6, `Created module ${nameOf(name)} with image ${spec.image}`);
    if (spec.status === "running") start(runtime, container);
    world.changed(runtime);
  }

  function start(runtime: Runtime, container: Container): void {
    container.run += 1;
    container.status = "running";
    container.description = "running";
    container.startedAt = clock.now();
    log(runtime, "edgeAgent", 6, `Started module ${nameOf(container.name)}`);
    log(runtime, nameOf(container.name), 6, "started");
    if (container.name === EDGE_HUB) world.edgeHub(runtime, true);
    else world.start(runtime.deviceId, container.name);
    world.changed(runtime);
  }

  function stop(runtime: Runtime, container: Container): void {
    const ran = container.status === "running";
    container.run += 1;
    container.status = "stopped";
    if (ran) {
      container.exitedAt = clock.now();
      container.exitCode = 0;
      container.description = "Exited (0)";
      log(runtime, nameOf(container.name), 6, "stopped");
    }
    if (container.name !== EDGE_HUB) world.stop(runtime.deviceId, container.name);
    else world.edgeHub(runtime, false);
    world.changed(runtime);
  }

  function remove(runtime: Runtime, container: Container): void {
    stop(runtime, container);
    runtime.containers.delete(container.name);
    log(runtime, "edgeAgent", 6, `Removed module ${nameOf(container.name)}`);
  }

  function exit(runtime: Runtime, container: Container, exitCode: number): void {
    container.run += 1;
    container.exitCode = exitCode;
    container.exitedAt = clock.now();
    container.description = `Exited (${exitCode})`;
    container.status = statusAfterExit(container.spec, exitCode, container.restarts);
    log(runtime, nameOf(container.name), 3, `ended with exit code ${exitCode}`);
    log(runtime, "edgeAgent", 4, `Module ${nameOf(container.name)} has ended: ${container.status}`);
    world.changed(runtime);
    if (container.status === "backoff") restartLater(runtime, container);
  }

  function restartLater(runtime: Runtime, container: Container): void {
    const run = { runtime, container, run: container.run };
    clock.schedule(restartDelay(container.restarts), restart, run);
  }

  function isStillRun({ runtime, container, run }: Run): boolean {
    return (
      container.run === run && runtime.containers.get(container.name) === container && !world.isGone(runtime)
    );
  }

  /** Without the agent no module is started again. */
  function restart(run: Run): void {
    const { runtime, container } = run;
    if (!isStillRun(run) || !isUp(runtime)) return;
    container.restarts += 1;
    container.restartedAt = clock.now();
    start(runtime, container);
    clock.schedule(INTENSIVE_CARE, forgetRestarts, { runtime, container, run: container.run });
  }

  function forgetRestarts(run: Run): void {
    if (!isStillRun(run)) return;
    run.container.restarts = 0;
    world.changed(run.runtime);
  }

  return { create, start, stop, remove, exit, restartLater };
}
