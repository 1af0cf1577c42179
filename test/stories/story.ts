import type { InferenceDeployment, InferenceDeploymentSpec } from "../../src/api/inference-deployment.ts";
import { type Request, requestAnnotation } from "../../src/api/inference-deployment.ts";
import { bucketOf, isExposed, qualifiedName, selects } from "../../src/api/membership.ts";
import {
  type ModelReleaseSpec,
  type ModelReleaseStatus,
  type Variant,
  variantFor,
} from "../../src/api/model-release.ts";
import { FINALIZER, type ObjectKey, objectKey } from "../../src/api/resource.ts";
import { type Grant, OPEN_GRANT } from "../../src/api/tenancy.ts";
import { canonicalJson } from "../../src/base/digest.ts";
import { durationText, millis, minutes, seconds } from "../../src/base/time.ts";
import { LABEL } from "../../src/rollouts/content.ts";
import { type RolloutOptions, reconcileRollout } from "../../src/rollouts/reconcile.ts";
import { Crash } from "../fakes/calls.ts";
import { createFakeLog } from "../fakes/fake-log.ts";
import { createFakeMeter } from "../fakes/fake-meter.ts";
import { createFleetWorld, digestNamed, NAMESPACE, SALT, type WorldOptions } from "../fakes/fleet-world.ts";
import { compileCondition } from "../fakes/target-condition.ts";

// A whole rollout in virtual time: a world, the controller, and the promises that hold after every tick.

export type StoryOptions = WorldOptions & {
  readonly tick?: number;
  readonly options?: Partial<RolloutOptions>;
  /** Devices join and leave by themselves: the hub may be ahead of us for a moment. */
  readonly isFluid?: boolean;
};

export type Story = ReturnType<typeof createStory>;

export const KEY = objectKey(NAMESPACE, "resnet");
/** Id of the cluster that the stories happen in. */
export const CLUSTER = "cluster-1";
const WRITES = ["deployments.", "hub.patchTwin", "configurations."];

export function createStory(given: StoryOptions = {}) {
  const { tick = seconds(10), options = {}, isFluid = false } = given;
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
  let frozenWidth: number | null = null;
  let checked = "";

  function begin() {
    return reconcileRollout({
      ...world,
      announcer: { announce: (_about, note) => void say(`${note.type} ${note.reason}: ${note.message}`) },
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
      reconcile = begin();
      wakeAt = world.now();
    }
  }

  async function moveOn(): Promise<void> {
    world.advance(tick);
    const isDue = wakeAt !== null && world.now() >= wakeAt;
    if (world.takeChange() || isDue) await settle();
    check();
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

  // ── what holds after every tick (design, "The rollout as a state machine")

  function check(): void {
    const version = `${current()?.resourceVersion} ${world.truth.version()}`;
    if (version === checked) return;
    checked = version;
    for (const [key, spec] of specs) {
      const object = world.deployments.get(key);
      if (object !== undefined) must(canonicalJson(object.spec) === spec, "spec was written");
    }
    const deployment = current();
    const status = deployment?.status;
    if (deployment === undefined || status === null || status === undefined) return;
    if (phases.at(-1) !== status.phase && status.phase !== undefined) phases.push(status.phase);
    const members = membersOf(deployment);
    const candidates = world.truth
      .configurations()
      .filter(
        ({ labels }) =>
          labels[LABEL.track] === "candidate" && labels[LABEL.release] === status.candidate?.release,
      );
    const targeted = new Set(
      candidates.flatMap(({ targetCondition }) => world.truth.targeted(targetCondition)),
    );

    // Exposure is never above the step's bound: neither in the state nor in what the hub was told.
    const width = deployment.spec.strategy?.steps[status.step?.index ?? 0];
    if (width !== undefined && status.step !== undefined && status.phase !== "RollingBack" && !isFluid) {
      const share = Math.ceil((width.percent * members.length) / 100);
      const bound = Math.min(members.length, Math.max(width.minimumDevices ?? 0, share));
      const exposed = members.filter((member) => isExposed(status.exposure ?? [], member)).length;
      must(exposed <= bound, `${exposed} devices are exposed, and the step allows ${bound}`);
      must(targeted.size <= bound, `the hub targets ${targeted.size} devices, and the step allows ${bound}`);
    }

    // A candidate is not widened while nothing can be seen.
    if (status.phase === "Frozen") {
      // Devices that join fall under the condition that there is, until it is narrowed.
      const isWider = frozenWidth !== null && targeted.size > frozenWidth;
      must(isFluid || !isWider, "the candidate was widened while frozen");
      frozenWidth = targeted.size;
    } else frozenWidth = null;

    // No pointer names bytes that were not verified, or another digest than the release has for the class.
    for (const [id, pointer] of world.truth.pointers()) {
      if (pointer === null || pointer.deployment !== qualifiedName(deployment)) continue;
      const named = world.releases.get(objectKey(NAMESPACE, pointer.release.slice(NAMESPACE.length + 1)));
      const object = world.devices.list().find((one) => (one.spec.deviceId ?? one.name) === id);
      if (named === undefined || object === undefined) continue;
      const fitting = variantFor(named.spec.variants, object.spec.deviceClass);
      must(pointer.digest === fitting?.digest, `${id} is pointed at a digest that is not its variant's`);
      must(
        everVerified.has(pointer.release),
        `${id} is pointed at ${pointer.release}, which was never verified`,
      );
      must(pointer.sizeBytes > 0 && pointer.url.length > 0, "a pointer without a file");
      must(
        Object.keys(pointer).every((key) => POINTER.has(key)),
        "a pointer with keys that are not its own",
      );
    }

    // A rollback that has ended has ended everywhere.
    if (status.phase === "RolledBack" && !isFluid) {
      const bad = status.rollback?.release;
      for (const [id, pointer] of world.truth.pointers()) {
        must(pointer?.release !== `${NAMESPACE}.${bad}`, `${id} is desired on ${bad}, which was rolled back`);
      }
    }

    // Secrets do not reach objects, and every configuration is one that a hub takes.
    must(!canonicalJson(status).includes("sig="), "a URL with a signature is in the status");
    must(status.history === undefined || status.history.length <= 10, "the history grows");
    const priorities = world.truth.configurations().map(({ priority }) => priority);
    must(
      new Set(priorities).size === priorities.length,
      `two configurations have the same priority: ${priorities}`,
    );
    for (const { targetCondition } of world.truth.configurations()) {
      must(targetCondition.length < 8000, "a condition is too long for the hub");
      compileCondition(targetCondition);
    }
  }

  function membersOf(deployment: InferenceDeployment) {
    return world.devices
      .list()
      .filter((one) => !one.deleting && selects(deployment, one))
      .map(({ name, spec }) => ({
        site: spec.site,
        deviceClass: spec.deviceClass,
        bucket: bucketOf(SALT, spec.deviceId ?? name),
      }));
  }

  function must(holds: boolean, message: string): void {
    if (holds) return;
    const status = current()?.status;
    throw new Error(
      `${message} (${status?.phase}, step ${status?.step?.index}, after ${durationText(millis(world.now() - started))})\n${lines.slice(-8).join("\n")}`,
    );
  }

  const everVerified = new Set<string>();

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
      handled: status?.lastHandled,
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
    pass,
    step: moveOn,
    check,
    current,
    release,
    verify,
    device,
    fleet,
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

const POINTER = new Set([
  "contract",
  "deployment",
  "release",
  "name",
  "version",
  "variant",
  "digest",
  "sizeBytes",
  "url",
  "executionProvider",
  "config",
]);

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
