import type { JsonObject } from "../../base/json.ts";
import { ownValue } from "../../base/json.ts";
import { type Container, restartDelay } from "./containers.ts";
import { type DesiredStatus, EDGE_HUB } from "./edge-reports.ts";
import { type EdgeWorld, isUp, nameOf, type Runtime, writeLog } from "./edge-runtime.ts";
import { type Manifest, type ModuleSpec, needsNewContainer, readManifest, startOrder } from "./manifest.ts";
import type { ModuleLife } from "./module-life.ts";

/** How an agent makes its device as the manifest says. */
export type EdgePlans = {
  /** Desired properties that the agent has not seen before. */
  readonly follow: (runtime: Runtime, desired: JsonObject, version: number) => void;
  /** What differs from the manifest, one module after the other in the order of their start. */
  readonly carryOut: (runtime: Runtime) => void;
};

type Step = { readonly runtime: Runtime; readonly plan: number; readonly name: string };
/** A pull that takes longer is reported as cancelled, as agents do, until it is done. */
const PULL_PATIENCE = 60_000;
export function createEdgePlans(world: EdgeWorld, life: ModuleLife): EdgePlans {
  const { clock } = world;

  function log(runtime: Runtime, module: string, level: number, text: string): void {
    writeLog(world, runtime, { module, level, text });
  }

  function follow(runtime: Runtime, desired: JsonObject, version: number): void {
    runtime.version = version;
    runtime.plan += 1;
    const read = readManifest(desired);
    if (!read.ok) {
      // What runs goes on running.
      settle(runtime, { code: read.code, description: read.description });
      return;
    }
    runtime.wanted = read.manifest;
    runtime.retries = 0;
    carryOut(runtime);
  }

  function carryOut(runtime: Runtime): void {
    const { wanted, containers, todo, failures, deviceId } = runtime;
    runtime.plan += 1;
    todo.length = 0;
    failures.length = 0;
    if (wanted === null) return;
    const specs = specsOf(wanted);
    for (const container of [...containers.values()])
      if (!Object.hasOwn(specs, container.name)) life.remove(runtime, container);
    for (const name of startOrder(specs)) {
      const spec = ownValue(specs, name);
      const container = containers.get(name);
      if (spec === undefined || (container !== undefined && isAsWanted(container, spec))) continue;
      todo.push(name);
      if (container === undefined && name !== EDGE_HUB) world.stop(deviceId, name);
    }
    goOn({ runtime, plan: runtime.plan, name: "" });
  }

  function specsOf(manifest: Manifest): Readonly<Record<string, ModuleSpec>> {
    return { ...manifest.modules, [EDGE_HUB]: manifest.hub };
  }

  function isAsWanted(container: Container, spec: ModuleSpec): boolean {
    return !needsNewContainer(container.spec, spec) && container.spec.status === spec.status;
  }

  function isCurrent({ runtime, plan }: Step): boolean {
    return runtime.plan === plan && !world.isGone(runtime) && isUp(runtime);
  }

  function goOn(step: Step): void {
    if (!isCurrent(step)) return;
    const { runtime, plan } = step;
    for (let name = runtime.todo.shift(); name !== undefined; name = runtime.todo.shift())
      if (begin({ runtime, plan, name })) return;
    finish(runtime);
  }

  /** Whether it takes time: then the plan goes on later. */
  function begin(step: Step): boolean {
    const { runtime, name } = step;
    const spec = wantedSpec(runtime, name);
    if (spec === null) return false;
    const container = runtime.containers.get(name);
    if (container !== undefined && !needsNewContainer(container.spec, spec)) {
      container.spec = spec;
      if (spec.status === "stopped") life.stop(runtime, container);
      else life.start(runtime, container);
      return false;
    }
    if (runtime.images.has(spec.image)) {
      life.create(runtime, name, spec);
      return false;
    }
    if (spec.imagePullPolicy === "never") {
      failed(runtime, name, `the image ${spec.image} is not on the device, and imagePullPolicy is never`);
      return false;
    }
    const time = world.effectsOf(runtime.deviceId).pullTime ?? world.delay;
    log(runtime, "edgeAgent", 6, `Pulling image ${spec.image} of module ${name}`);
    world.changed(runtime);
    if (time > PULL_PATIENCE) clock.schedule(PULL_PATIENCE, losePatience, { ...step, name: spec.image });
    clock.schedule(time, pulled, step);
    return true;
  }

  function wantedSpec(runtime: Runtime, name: string): ModuleSpec | null {
    return runtime.wanted === null ? null : (ownValue(specsOf(runtime.wanted), name) ?? null);
  }

  /** `name` is the image. */
  function losePatience(step: Step): void {
    if (!isCurrent(step) || step.runtime.images.has(step.name)) return;
    settle(step.runtime, { code: 500, description: `The operation was cancelled: pulling ${step.name}` });
  }

  function pulled(step: Step): void {
    if (!isCurrent(step)) return;
    const { runtime, name } = step;
    const spec = wantedSpec(runtime, name);
    if (spec === null) return;
    const { pullFails } = world.effectsOf(runtime.deviceId);
    if (!world.isReachable(runtime.deviceId))
      failed(runtime, name, `pulling ${spec.image}: no connection to the registry`);
    else if (pullFails?.matches(spec.image) === true)
      failed(runtime, name, `pulling ${spec.image}: ${pullFails.message}`);
    else {
      runtime.images.add(spec.image);
      life.create(runtime, name, spec);
    }
    goOn(step);
  }

  function failed(runtime: Runtime, name: string, message: string): void {
    const text = `Module ${nameOf(name)}: ${message}`;
    runtime.failures.push(text);
    log(runtime, "edgeAgent", 3, text);
  }

  function finish(runtime: Runtime): void {
    const [first] = runtime.failures;
    if (first === undefined) {
      runtime.retries = 0;
      settle(runtime, { code: 200, description: "" });
      return;
    }
    settle(runtime, { code: 500, description: runtime.failures.join("; ").slice(0, 1000) });
    const step = { runtime, plan: runtime.plan, name: "" };
    clock.schedule(restartDelay(runtime.retries), tryAgain, step);
    runtime.retries += 1;
  }

  function tryAgain(step: Step): void {
    if (isCurrent(step)) carryOut(step.runtime);
  }

  function settle(runtime: Runtime, status: DesiredStatus): void {
    if (status.code !== 200 && status.code !== 500)
      log(runtime, "edgeAgent", 3, `The desired properties are not carried out: ${status.description}`);
    runtime.status = status;
    runtime.processed = runtime.version;
    world.changed(runtime);
  }

  return { follow, carryOut };
}
