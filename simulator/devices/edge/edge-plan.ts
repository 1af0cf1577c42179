import { type JsonObject, ownValue } from "../../base/json.ts";
import { type Container, restartDelay } from "./containers.ts";
import { type DesiredStatus, EDGE_HUB } from "./edge-reports.ts";
import { type EdgeWorld, isUp, logOfAgent, nameOf, type Runtime } from "./edge-runtime.ts";
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
const PULL_TIMEOUT = 60_000;

export function createEdgePlans(world: EdgeWorld, life: ModuleLife): EdgePlans {
  const { clock } = world;

  const steps = createSteps(world, life, { settle, finish });

  function follow(runtime: Runtime, desired: JsonObject, version: number): void {
    runtime.version = version;
    runtime.plan += 1;
    const read = readManifest(desired);
    if (!read.ok) {
      // What runs continues to run.
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
    steps.continueWith({ runtime, plan: runtime.plan, name: "" });
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
    if (isCurrent(world, step)) carryOut(step.runtime);
  }

  function settle(runtime: Runtime, status: DesiredStatus): void {
    if (status.code !== 200 && status.code !== 500)
      logOfAgent(world, runtime, 3, `The desired properties are not carried out: ${status.description}`);
    runtime.status = status;
    runtime.processed = runtime.version;
    world.changed(runtime);
  }

  return { follow, carryOut };
}

/** One module after the other: a step that takes time ends, and the next begins when it is done. */
function createSteps(
  world: EdgeWorld,
  life: ModuleLife,
  plan: {
    readonly settle: (runtime: Runtime, status: DesiredStatus) => void;
    /** All steps were taken. */
    readonly finish: (runtime: Runtime) => void;
  },
) {
  const { clock } = world;

  function continueWith(step: Step): void {
    if (!isCurrent(world, step)) return;
    const { runtime } = step;
    for (let name = runtime.todo.shift(); name !== undefined; name = runtime.todo.shift())
      if (begin({ ...step, name })) return;
    plan.finish(runtime);
  }

  /** Whether it takes time: then the plan continues later. */
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
    logOfAgent(world, runtime, 6, `Pulling image ${spec.image} of module ${name}`);
    world.changed(runtime);
    if (time > PULL_TIMEOUT) clock.schedule(PULL_TIMEOUT, reportSlowPull, { ...step, name: spec.image });
    clock.schedule(time, pulled, step);
    return true;
  }

  /** `name` is the image. */
  function reportSlowPull(step: Step): void {
    if (!isCurrent(world, step) || step.runtime.images.has(step.name)) return;
    plan.settle(step.runtime, {
      code: 500,
      description: `The operation was cancelled: pulling ${step.name}`,
    });
  }

  function pulled(step: Step): void {
    if (!isCurrent(world, step)) return;
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
    continueWith(step);
  }

  function failed(runtime: Runtime, name: string, message: string): void {
    const text = `Module ${nameOf(name)}: ${message}`;
    runtime.failures.push(text);
    logOfAgent(world, runtime, 3, text);
  }

  return { continueWith };
}

/** Whether a step still belongs to the plan that the runtime carries out. */
function isCurrent(world: EdgeWorld, { runtime, plan }: Step): boolean {
  return runtime.plan === plan && !world.isGone(runtime) && isUp(runtime);
}

function specsOf(manifest: Manifest): Readonly<Record<string, ModuleSpec>> {
  return { ...manifest.modules, [EDGE_HUB]: manifest.hub };
}

function isAsWanted(container: Container, spec: ModuleSpec): boolean {
  return !needsNewContainer(container.spec, spec) && container.spec.status === spec.status;
}

function wantedSpec(runtime: Runtime, name: string): ModuleSpec | null {
  return runtime.wanted === null ? null : (ownValue(specsOf(runtime.wanted), name) ?? null);
}
