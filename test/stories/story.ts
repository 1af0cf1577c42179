import type { InferenceDeployment, InferenceDeploymentSpec } from "../../src/api/inference-deployment.ts";
import { type Request, requestAnnotation } from "../../src/api/inference-deployment.ts";
import type { ModelReleaseSpec, ModelReleaseStatus, Variant } from "../../src/api/model-release.ts";
import { FINALIZER, type ObjectKey, objectKey } from "../../src/api/resource.ts";
import { type Grant, OPEN_GRANT } from "../../src/api/tenancy.ts";
import { canonicalJson } from "../../src/base/digest.ts";
import { durationText, millis, minutes, seconds } from "../../src/base/time.ts";
import { LABEL } from "../../src/rollouts/configurations/content.ts";
import { type RolloutOptions, reconcileRollout } from "../../src/rollouts/reconcile.ts";
import { Crash } from "../fakes/calls.ts";
import { createFakeLog } from "../fakes/fake-log.ts";
import { createFakeMeter } from "../fakes/fake-meter.ts";
import {
  CLUSTER,
  createFleetWorld,
  digestNamed,
  NAMESPACE,
  SALT,
  type WorldOptions,
} from "../fakes/fleet-world.ts";
import { createPromises } from "./promises.ts";

// A whole rollout in virtual time: a world, the controller, and the promises that hold after every tick.

export type StoryOptions = WorldOptions & {
  readonly tick?: number;
  readonly options?: Partial<RolloutOptions>;
};

export type Story = ReturnType<typeof createStory>;

export const KEY = objectKey(NAMESPACE, "resnet");
const WRITES = ["deployments.", "hub.patchTwin", "configurations."];

export function createStory(given: StoryOptions = {}) {
  const { tick = seconds(10), options = {} } = given;
  const world = createFleetWorld(given);
  let grant = OPEN_GRANT;
  const started = world.now();
  const lines: string[] = [];
  const phases: string[] = [];
  const meter = createFakeMeter();
  const log = createFakeLog();
  let reconcile = begin();
  let wakeAt: number | null = 0;
  let failures = 0;
  let reconciles = 0;
  let crashes = 0;
  const specs = new Map<ObjectKey, string>();
  const everVerified = new Set<string>();
  let isThere = true;
  const promises = createPromises({
    world,
    tick,
    current,
    specs,
    everVerified,
    isThere: () => isThere,
    broken,
  });

  function begin() {
    return reconcileRollout({
      ...world,
      recorder: { record: (_about, note) => void say(`${note.type} ${note.reason}: ${note.message}`) },
      log,
      meter,
      grants: () => grant,
      options: { salt: SALT, clusterId: CLUSTER, ...options },
    });
  }

  function say(line: string): void {
    const at = world.now() - started;
    lines.push(`${at === 0 ? "0s" : durationText(millis(at))} ${line}`);
  }

  function current(): InferenceDeployment | undefined {
    return world.deployments.get(KEY);
  }

  /** One reconcile; a crash forgets everything that was in memory. */
  async function pass(): Promise<void> {
    reconciles += 1;
    try {
      const rest = await reconcile(KEY, new AbortController().signal);
      if (rest.kind === "retry") {
        failures += 1;
        wakeAt = world.now() + Math.max(rest.atLeast ?? 0, Math.min(300_000, 250 * 2 ** failures));
        return;
      }
      failures = 0;
      if (rest.kind === "stalled") wakeAt = world.now() + minutes(5);
      else wakeAt = rest.kind === "settled" ? null : world.now() + rest.delay;
    } catch (cause) {
      if (!(cause instanceof Crash)) throw cause;
      crashes += 1;
      startAgain();
    }
  }

  async function moveOn(): Promise<void> {
    world.advance(tick);
    const isDue = wakeAt !== null && world.now() >= wakeAt;
    if (world.takeChange() || isDue) await settle();
    check();
    promises.look();
  }

  function check(): void {
    const phase = current()?.status?.phase;
    if (phase !== undefined && phases.at(-1) !== phase) phases.push(phase);
    promises.check();
  }

  /** The operator is not there: the hub and the devices go on, and what was in memory is lost. */
  function away(length: number): void {
    isThere = false;
    const end = world.now() + length;
    while (world.now() < end) {
      world.advance(Math.min(tick, end - world.now()));
      promises.look();
    }
    isThere = true;
    startAgain();
  }

  function startAgain(): void {
    world.restart();
    reconcile = begin();
    failures = 0;
    wakeAt = world.now();
  }

  /** Reconciles for as long as the outcome says "at once". */
  async function settle(): Promise<void> {
    for (let round = 0; round < 30; round += 1) {
      await pass();
      check();
      if (wakeAt === null || wakeAt > world.now()) return;
    }
    throw new Error("the reconcile never comes to rest");
  }

  async function run(length: number): Promise<void> {
    const end = world.now() + length;
    while (world.now() < end) await moveOn();
  }

  async function runUntil(done: (deployment: InferenceDeployment) => boolean, limit: number): Promise<void> {
    const end = world.now() + limit;
    while (world.now() < end) {
      const deployment = current();
      if (deployment !== undefined && done(deployment)) return;
      await moveOn();
    }
    const status = current()?.status;
    throw new Error(
      `not reached within ${durationText(millis(limit))}: ${status?.phase} ${JSON.stringify(status?.conditions)}`,
    );
  }

  function broken(message: string): never {
    const status = current()?.status;
    throw new Error(
      `${message} (${status?.phase}, step ${status?.step?.index}, after ${durationText(millis(world.now() - started))})\n${lines.slice(-8).join("\n")}`,
    );
  }

  function release(
    name: string,
    more: Partial<ModelReleaseSpec> & { readonly verdict?: "Passed" | "Pending" } = {},
  ): void {
    const { verdict = "Passed", ...spec } = more;
    world.releases.create({ name, spec: { ...releaseSpec(name), ...spec } });
    if (verdict === "Passed") verify(name);
  }

  function verify(name: string, verdict: "Passed" | "Failed" | "Running" = "Passed"): void {
    const key = objectKey(NAMESPACE, name);
    const variants = world.releases.get(key)?.spec.variants ?? [];
    const status: ModelReleaseStatus = {
      variants: variants.map((one) => ({
        name: one.name,
        digest: one.digest,
        sizeBytes: 102_400,
        verdict,
        ...(verdict === "Failed"
          ? { reason: "AccuracyTooLow", message: "accuracy is 0.61, and must be 0.95" }
          : {}),
      })),
    };
    world.releases.setStatus(key, status);
    if (verdict === "Passed") everVerified.add(`${NAMESPACE}.${name}`);
    world.touch();
  }

  function device(
    name: string,
    more: Partial<Parameters<typeof world.devices.create>[0]["spec"]> = {},
  ): void {
    world.devices.create({ name, labels: { fleet: "cameras" }, spec: deviceSpec(more) });
    world.touch();
  }

  /**
   * Another tenant: a release of the same name with bytes of its own, a device whose identity one of our objects claims,
   * and an object that claims the identity of one of our devices.
   */
  function attack(): void {
    const namespace = "plant-b";
    if (world.releases.get(objectKey(namespace, "v2")) !== undefined) return;
    const theirs = {
      name: "fp32",
      blob: { container: "theirs", path: "model.onnx" },
      digest: digestNamed("theirs"),
    };
    world.releases.create({
      namespace,
      name: "v2",
      spec: { model: "resnet50", version: "v2", variants: [theirs] },
      status: { variants: [{ name: "fp32", digest: theirs.digest, sizeBytes: 1, verdict: "Passed" }] },
    });
    const labels = { fleet: "cameras" };
    world.devices.create({ namespace, name: "victim", labels, spec: deviceSpec() });
    world.advance(0);
    world.devices.create({ name: "claims-victim", labels, spec: deviceSpec({ deviceId: "victim" }) });
    const [ours] = world.devices.list(NAMESPACE);
    if (ours !== undefined) {
      const deviceId = ours.spec.deviceId ?? ours.name;
      const spec = deviceSpec({ deviceId, deviceClass: "nano" });
      world.devices.create({ namespace, name: "claims-ours", labels, spec });
      world.devices.create({ name: "claims-again", labels, spec });
    }
    world.touch();
  }

  function fleet(count: number, shape: (index: number) => Parameters<typeof device>[1] = () => ({})): void {
    for (let index = 0; index < count; index += 1)
      device(`cam-${String(index).padStart(3, "0")}`, shape(index));
  }

  function deploy(name: string, change: Partial<InferenceDeploymentSpec> = {}): void {
    world.deployments.create({ name: "resnet", finalizers: [FINALIZER], spec: deploymentSpec(name, change) });
    remember();
  }

  function edit(change: Partial<InferenceDeploymentSpec>): void {
    const object = current()!;
    world.deployments.edit(KEY, { spec: { ...object.spec, ...change } });
    remember();
  }

  function remember(): void {
    specs.set(KEY, canonicalJson(current()!.spec));
    world.touch();
  }

  function request(what: Request, token: string): void {
    const object = current()!;
    world.deployments.edit(KEY, { annotations: { ...object.annotations, [requestAnnotation(what)]: token } });
    world.touch();
  }

  /** Brings a first release to every device, without ceremony. */
  async function install(name: string, change: Partial<InferenceDeploymentSpec> = {}): Promise<void> {
    release(name);
    deploy(name, { ...change, strategy: strategy([{ percent: 100 }]) });
    await runUntil(({ status }) => status?.phase === "Completed", minutes(30));
    await run(minutes(6));
    edit({ strategy: change.strategy ?? strategy(STEPS) });
    await moveOn();
    lines.length = 0;
    phases.length = 0;
  }

  function writes(): readonly string[] {
    return world.calls.made().filter((name) => WRITES.some((write) => name.startsWith(write)));
  }

  /** What everybody would say that nothing happened, in words that leave out times and ids. */
  function outcome() {
    const status = current()?.status;
    return {
      phase: status?.phase,
      stable: status?.stable,
      candidate: status?.candidate,
      exposure: status?.exposure,
      quarantined: status?.quarantinedReleases?.map(({ release: name, reason }) => ({ name, reason })),
      handled: status?.handledRequests,
      pointers: Object.fromEntries(
        [...world.truth.pointers()].map(([id, pointer]) => [
          id,
          pointer === null ? null : [pointer.release, pointer.digest],
        ]),
      ),
      configurations: world.truth
        .configurations()
        .map(({ labels, kind, targetCondition }) => [
          labels[LABEL.track],
          labels[LABEL.release],
          labels[LABEL.variant],
          kind,
          targetCondition,
        ])
        .sort((a, b) => (canonicalJson(a) < canonicalJson(b) ? -1 : 1)),
    };
  }

  return {
    world,
    meter,
    log,
    /** What the namespace may use from now on. */
    grant: (next: Grant): void => {
      grant = next;
    },
    lines,
    phases,
    say,
    run,
    runUntil,
    away,
    pass,
    step: moveOn,
    check,
    current,
    release,
    verify,
    device,
    fleet,
    attack,
    deploy,
    edit,
    request,
    install,
    writes,
    outcome,
    status: () => current()?.status ?? null,
    condition: (type: string) => current()?.status?.conditions?.find((one) => one.type === type),
    counts: () => ({ reconciles, crashes }),
  };
}

export const STEPS: InferenceDeploymentSpec["strategy"] extends infer S
  ? NonNullable<S> extends { steps: infer T }
    ? T
    : never
  : never = [
  { percent: 10, minimumDevices: 1, hold: duration("5m") },
  { percent: 50, hold: duration("5m") },
  { percent: 100 },
];

export function duration(text: string) {
  return text as NonNullable<(typeof STEPS)[number]["hold"]>;
}

export function strategy(
  steps: NonNullable<InferenceDeploymentSpec["strategy"]>["steps"],
  more: Partial<NonNullable<InferenceDeploymentSpec["strategy"]>> = {},
): NonNullable<InferenceDeploymentSpec["strategy"]> {
  return {
    steps,
    stratifyBy: ["Site", "DeviceClass"],
    progressDeadline: duration("2h"),
    onDeadline: "Rollback",
    ...more,
  };
}

export function objective(
  more: Partial<NonNullable<InferenceDeploymentSpec["objectives"]>[number]> = {},
): NonNullable<InferenceDeploymentSpec["objectives"]>[number] {
  return {
    metric: "latencyP95Milliseconds",
    direction: "AtMost",
    minimumInferences: 100,
    minimumDevices: 1,
    consecutive: 2,
    ...more,
  };
}

export function deploymentSpec(
  release: string,
  change: Partial<InferenceDeploymentSpec> = {},
): InferenceDeploymentSpec {
  return {
    release: { name: release },
    selector: { matchLabels: { fleet: "cameras" } },
    module: { name: "inference" },
    strategy: strategy(STEPS),
    objectives: [
      objective({ warning: 100, critical: 200 }),
      objective({ metric: "errorRate", critical: "0.05" }),
    ],
    ...change,
  };
}

export function deviceSpec(more: object = {}) {
  return {
    deviceClass: "jetson-orin-nano",
    iotEdge: true,
    enabled: true,
    heartbeatTimeout: duration("5m"),
    ...more,
  };
}

export function releaseSpec(name: string): ModelReleaseSpec {
  return { model: "resnet50", version: name, variants: [variant(name)] };
}

export function variant(name: string, more: Partial<Variant> = {}): Variant {
  return {
    name: "fp32",
    blob: { container: "models", path: `resnet50/${name}/model.onnx` },
    digest: digestNamed(`${name}/${more.name ?? "fp32"}`),
    ...more,
  };
}
