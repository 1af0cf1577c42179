import type { EdgeDevice } from "../../src/api/edge-device.ts";
import type { InferenceDeployment, InferenceDeploymentStatus } from "../../src/api/inference-deployment.ts";
import { bucketOf, isExposed, membershipsOf, qualifiedName } from "../../src/api/membership.ts";
import { variantFor } from "../../src/api/model-release.ts";
import { objectKey } from "../../src/api/resource.ts";
import { canonicalJson } from "../../src/base/digest.ts";
import { millis, minutes, seconds } from "../../src/base/time.ts";
import { LABEL } from "../../src/rollouts/configurations/content.ts";
import { type FleetWorld, NAMESPACE, SALT, type TrueDevice } from "../fakes/fleet-world.ts";
import { compileCondition } from "../fakes/target-condition.ts";

// What holds after every tick of a story, whatever happens in it (design, "The rollout as a state machine"). A promise
// is held against the world as it is: what the status says of itself proves nothing.

/** Of the exposed devices that were there, so many must be heard with the candidate before it is stable. */
const COVERAGE = 0.9;
/** What a device says now is read within this time. */
const READ_WITHIN = minutes(1);
/** Evidence is the last three windows of a minute and two minutes for lag, counted from when a sweep has read them. */
const HEARD = millis(minutes(5) + READ_WITHIN);
/** One analysis interval. What is written in it may still be on its way. */
const INTERVAL = seconds(30);
/** Time after which every device that lives has been evaluated, has loaded and has reported what it was given. */
const SETTLED = minutes(12);
/** A pointer may follow a condition by as long as the hub evaluates. */
const EVALUATION = minutes(6);

export type PromiseParts = {
  readonly world: FleetWorld;
  readonly tick: number;
  readonly current: () => InferenceDeployment | undefined;
  /** What people wrote, by key: the operator leaves it alone. */
  readonly specs: ReadonlyMap<Parameters<FleetWorld["deployments"]["get"]>[0], string>;
  /** Releases that ever passed verification, by qualified name. */
  readonly everVerified: ReadonlySet<string>;
  /** The operator is running: what it owes is counted only then. */
  readonly isThere: () => boolean;
  readonly broken: (message: string) => never;
};

type Member = {
  readonly device: string;
  readonly site: string | undefined;
  readonly deviceClass: string;
  readonly bucket: number;
  readonly enabled: boolean;
};

export function createPromises(parts: PromiseParts) {
  const { world, tick, current, broken } = parts;
  const members = createMembers(world);
  let checked = "";
  let before: InferenceDeploymentStatus | null = null;
  let frozen: { readonly at: number; readonly targeted: ReadonlySet<string> } | null = null;
  const since = new Map<string, { member: number; connected: number | null }>();
  /** Devices at the time when they were exposed to the candidate. */
  let exposed = new Map<string, { readonly wasThere: boolean }>();
  let exposedTo = "";
  let pointed: ReadonlySet<string> = new Set();
  const begunAt = world.now();
  let exposures: { readonly at: number; readonly exposure: Exposure }[] = [];
  let readySince: number | null = null;
  let troubledAt = Number.NEGATIVE_INFINITY;
  let aboveFor = 0;
  let promotedLast = false;
  /** By device and release: when the device last said that it runs it. */
  const saidAt = new Map<string, number>();

  function must(holds: boolean, message: string): void {
    if (!holds) broken(message);
  }

  /** Once for every tick: what depends on how long something has been so. */
  function look(): void {
    const deployment = current();
    const now = world.now();
    if (deployment === undefined) return;
    const status = deployment.status;
    const own = members(deployment);
    const devices = new Map(world.truth.devices().map((one) => [one.device, one]));
    for (const { device, reported } of devices.values()) saidAt.set(`${device} ${reported}`, now);
    for (const { device } of own) {
      const connected = devices.get(device)?.connected === true;
      const had = since.get(device) ?? { member: now, connected: null };
      had.connected = connected ? (had.connected ?? now) : null;
      since.set(device, had);
    }
    for (const device of since.keys())
      if (!own.some((member) => member.device === device)) since.delete(device);
    if (world.isDown() || world.faults().length > 0 || world.calls.pending() || !parts.isThere())
      troubledAt = now;
    if (status !== null) {
      rememberExposed(own, devices, status);
      boundHolds(deployment, own, status);
      readyIsTrue(own, devices, status);
    }
  }

  /** After every pass and every tick; nothing to do where nothing has changed. */
  function check(): void {
    const version = `${current()?.resourceVersion} ${world.truth.version()}`;
    if (version === checked) return;
    checked = version;
    for (const [key, spec] of parts.specs) {
      const object = world.deployments.get(key);
      if (object !== undefined) must(canonicalJson(object.spec) === spec, "spec was written");
    }
    const deployment = current();
    const status = deployment?.status;
    if (deployment === undefined || status === null || status === undefined) return;
    const own = members(deployment);
    const devices = new Map(world.truth.devices().map((one) => [one.device, one]));
    completionIsEarned(deployment, own, devices, status);
    rememberExposed(own, devices, status);
    nobodyIsExposedByFault(own, devices, status);
    othersAreLeftAlone(deployment, devices);
    pointersAreVerified(deployment);
    frozenIsNotWidened(status);
    endsAreEnds(status);
    statusIsFit(status);
    configurationsAreFit();
    before = status;
  }

  function rememberExposed(
    own: readonly Member[],
    devices: ReadonlyMap<string, TrueDevice>,
    status: InferenceDeploymentStatus,
  ): void {
    const release = status.candidate?.release ?? "";
    if (release !== exposedTo) {
      exposed = new Map();
      exposedTo = release;
      promotedLast = false;
    }
    if (release === "") return;
    for (const member of own) {
      if (exposed.has(member.device) || !isExposed(status.exposure ?? [], member)) continue;
      const device = devices.get(member.device);
      // A device that has joined just now has not been read yet, and is like one that was never switched on.
      const joinedAt = since.get(member.device)?.member ?? world.now();
      const isKnown = joinedAt === begunAt || world.now() - joinedAt >= minutes(2);
      const wasThere = isKnown && device?.connected === true && world.now() - device.beatAt <= minutes(2);
      exposed.set(member.device, { wasThere });
    }
  }

  /** Never Completed with less coverage than asked; a person may go past missing evidence. */
  function completionIsEarned(
    deployment: InferenceDeployment,
    own: readonly Member[],
    devices: ReadonlyMap<string, TrueDevice>,
    status: InferenceDeploymentStatus,
  ): void {
    const steps = deployment.spec.strategy?.steps ?? [];
    const isLast = before?.bakingSince !== undefined || (before?.step?.index ?? 0) >= steps.length - 1;
    if (status.handledRequests?.promote !== before?.handledRequests?.promote && isLast) promotedLast = true;
    if (status.phase !== "Completed" || before?.phase === "Completed") return;
    const release = status.stable?.release;
    if (release === undefined || before?.candidate?.release !== release || before.stable?.release === release)
      return;
    if (promotedLast || before.phase === "RollingBack" || before.phase === "Pending") return;
    const asked = own.filter(({ device, enabled }) => enabled && exposed.get(device)?.wasThere === true);
    const heard = asked.filter(({ device }) => {
      const one = devices.get(device);
      const at = saidAt.get(`${device} ${NAMESPACE}.${release}`) ?? Number.NEGATIVE_INFINITY;
      const says = one?.reported === `${NAMESPACE}.${release}` || world.now() - at <= READ_WITHIN;
      return one !== undefined && says && world.now() - one.beatAt <= HEARD;
    });
    // A person who promoted went on without so many.
    const accepted = before.step?.acceptedMissing ?? 0;
    must(
      heard.length >= Math.min(COVERAGE * asked.length, asked.length - accepted),
      `${release} is Completed, and ${heard.length} of the ${asked.length} exposed devices that were there are heard with it`,
    );
  }

  /** Exposure is never above the step's bound: neither in the state nor in what the hub was told. */
  function boundHolds(
    deployment: InferenceDeployment,
    own: readonly Member[],
    status: InferenceDeploymentStatus,
  ): void {
    const steps = deployment.spec.strategy?.steps ?? [];
    // A step is the one of its width: the list may have been edited since.
    const width =
      steps.find(({ percent }) => percent === status.step?.percent) ?? steps[status.step?.index ?? 0];
    const isBounded = width !== undefined && status.step !== undefined && status.phase !== "RollingBack";
    // The bound is one of enabled devices: one that is disabled runs nothing, so it neither has a place nor takes one.
    const counted = own.some(({ enabled }) => enabled) ? own.filter(({ enabled }) => enabled) : own;
    const all = counted.length;
    const share = isBounded ? Math.ceil((width.percent * all) / 100) : all;
    const bound = isBounded ? Math.min(all, Math.max(width.minimumDevices ?? 0, share)) : all;
    const inState = counted.filter((member) => isExposed(status.exposure ?? [], member)).length;
    const targeted = targetedBy(status).filter((id) => counted.some(({ device }) => device === id)).length;
    // While nothing can be written, nothing can be narrowed.
    const canWrite =
      !world.isDown() &&
      !world.faults().includes("configurationWrites") &&
      !world.calls.pending() &&
      parts.isThere();
    // A status that was put back says less than the hub has: that is held and said, and left as it is.
    const isContradicted = status.conditions?.some(({ reason }) => reason === "StateContradicted") === true;
    const isAbove = isBounded && !isContradicted && (inState > bound || targeted > bound);
    if (!isAbove) aboveFor = 0;
    else if (canWrite) aboveFor += tick;
    must(
      aboveFor <= INTERVAL + 2 * tick,
      `${inState} devices are exposed and the hub targets ${targeted}, and the step allows ${bound}`,
    );
  }

  function targetedBy(status: InferenceDeploymentStatus): readonly string[] {
    const candidates = world.truth
      .configurations()
      .filter(
        ({ labels }) =>
          labels[LABEL.track] === "candidate" && labels[LABEL.release] === status.candidate?.release,
      );
    return [...new Set(candidates.flatMap(({ targetCondition }) => world.truth.targeted(targetCondition)))];
  }

  /** Ready is what devices report: those that live and have had the time run what is stable. */
  function readyIsTrue(
    own: readonly Member[],
    devices: ReadonlyMap<string, TrueDevice>,
    status: InferenceDeploymentStatus,
  ): void {
    const now = world.now();
    const isReady = status.conditions?.some(({ type, status: is }) => type === "Ready" && is === "True");
    readySince = isReady === true ? (readySince ?? now) : null;
    if (readySince === null || now - readySince < minutes(3) || now - troubledAt < SETTLED) return;
    const settled = own.filter(({ device, enabled }) => {
      const { member = now, connected = null } = since.get(device) ?? {};
      const one = devices.get(device);
      const isLong = now - member >= SETTLED && connected !== null && now - connected >= SETTLED;
      return enabled && isLong && one !== undefined && one.desired !== null;
    });
    const stable = `${NAMESPACE}.${status.stable?.release}`;
    const others = settled.filter(({ device }) => devices.get(device)?.reported !== stable);
    must(
      others.length <= (1 - COVERAGE) * settled.length,
      `Ready is True, and ${others.length} of ${settled.length} devices run something else than ${stable}: ${others.map(({ device }) => device).join(", ")}`,
    );
  }

  /** Pointers to the candidate appear only where the state has exposed a device. */
  function nobodyIsExposedByFault(
    own: readonly Member[],
    devices: ReadonlyMap<string, TrueDevice>,
    status: InferenceDeploymentStatus,
  ): void {
    const now = world.now();
    exposures = [
      ...exposures.filter(({ at }, index) => now - at <= EVALUATION || index === exposures.length - 1),
      ...(status.exposure === undefined ? [] : [{ at: now, exposure: status.exposure }]),
    ];
    const { candidate } = status;
    if (candidate === undefined || candidate.release === status.stable?.release) {
      pointed = new Set();
      return;
    }
    const on = own.filter(
      ({ device }) => devices.get(device)?.desired === `${NAMESPACE}.${candidate.release}`,
    );
    for (const member of on) {
      const isNew = !pointed.has(member.device);
      const isMeant = exposures.some(({ exposure }) => isExposed(exposure, member));
      if (isNew && before?.candidate?.release === candidate.release)
        must(isMeant, `${member.device} is pointed at ${candidate.release}, and no step has exposed it`);
    }
    pointed = new Set(on.map(({ device }) => device));
    widthHasReason(own, status);
  }

  /** The same devices are exposed more widely only by a step, a replacement, or a release that begins. */
  function widthHasReason(own: readonly Member[], status: InferenceDeploymentStatus): void {
    if (before?.candidate?.release !== status.candidate?.release) return;
    const count = (exposure: Exposure) => own.filter((member) => isExposed(exposure, member)).length;
    const [was, is] = [count(before?.exposure ?? []), count(status.exposure ?? [])];
    if (is <= was) return;
    must(
      status.phase !== "Frozen" || before?.phase !== "Frozen",
      `${was} devices were exposed and now ${is} are, while nothing can be seen`,
    );
  }

  /** No action on an identity or a blob of another tenant. */
  function othersAreLeftAlone(
    deployment: InferenceDeployment,
    devices: ReadonlyMap<string, TrueDevice>,
  ): void {
    const isTheirs = (device: string) => {
      const namespace = devices.get(device)?.namespace;
      return namespace !== undefined && namespace !== NAMESPACE;
    };
    for (const device of world.truth.takePatched())
      must(!isTheirs(device), `the twin of ${device} was written, which is another tenant's`);
    for (const [device, pointer] of world.truth.pointers())
      must(
        pointer?.deployment !== qualifiedName(deployment) || !isTheirs(device),
        `${device} is another tenant's, and has a pointer of ours`,
      );
    for (const blob of world.truth.takeBlobs())
      must(!blob.startsWith("theirs/"), `${blob} was used, which is another tenant's`);
  }

  /** No pointer names bytes that were not verified, or another digest than the release has for the class. */
  function pointersAreVerified(deployment: InferenceDeployment): void {
    const objects = new Map(ownersOf(world).map((one) => [one.spec.deviceId ?? one.name, one]));
    for (const [id, pointer] of world.truth.pointers()) {
      if (pointer === null || pointer.deployment !== qualifiedName(deployment)) continue;
      const named = world.releases.get(objectKey(NAMESPACE, pointer.release.slice(NAMESPACE.length + 1)));
      const object = objects.get(id);
      if (named === undefined || object === undefined) continue;
      const fitting = variantFor(named.spec.variants, object.spec.deviceClass);
      must(pointer.digest === fitting?.digest, `${id} is pointed at a digest that is not its variant's`);
      must(
        parts.everVerified.has(pointer.release),
        `${id} is pointed at ${pointer.release}, which was never verified`,
      );
      must(pointer.sizeBytes > 0 && pointer.url.length > 0, "a pointer without a file");
      must(
        Object.keys(pointer).every((key) => POINTER.has(key)),
        "a pointer with keys that are not its own",
      );
    }
  }

  /** A candidate is not widened while nothing can be seen. */
  function frozenIsNotWidened(status: InferenceDeploymentStatus): void {
    if (status.phase !== "Frozen") {
      frozen = null;
      return;
    }
    const targeted = new Set(targetedBy(status));
    if (frozen !== null) {
      const { at, targeted: already } = frozen;
      // One that joins falls under the threshold that is there; the bound says how many may.
      const widened = [...targeted].find(
        (device) => !already.has(device) && (since.get(device)?.member ?? Number.POSITIVE_INFINITY) < at,
      );
      must(widened === undefined, `${widened} was exposed while frozen`);
    }
    frozen = { at: frozen?.at ?? world.now(), targeted };
  }

  /** A rollback that has ended has ended everywhere. */
  function endsAreEnds(status: InferenceDeploymentStatus): void {
    if (status.phase !== "RolledBack" || before?.phase === "RolledBack") return;
    const bad = status.rollback?.release;
    const owned = new Set(ownersOf(world).map((one) => one.spec.deviceId ?? one.name));
    for (const [id, pointer] of world.truth.pointers()) {
      if (!owned.has(id)) continue;
      must(pointer?.release !== `${NAMESPACE}.${bad}`, `${id} is desired on ${bad}, which was rolled back`);
    }
  }

  /** Secrets do not reach objects, and the history is what happened, not how often it was looked at. */
  function statusIsFit(status: InferenceDeploymentStatus): void {
    must(!canonicalJson(status).includes("sig="), "a URL with a signature is in the status");
    const history = status.history ?? [];
    must(history.length <= 10, "the history grows");
    // Outages that nothing happened between are one entry, not one for each.
    const begins = ({ message }: { readonly message: string }) => message.includes("the hub cannot be read");
    const ends = ({ message }: { readonly message: string }) => message.includes("the hub can be read again");
    const freezes = history.filter((entry, index) => {
      const [first, second] = [history[index - 2], history[index - 1]];
      return begins(entry) && first !== undefined && begins(first) && second !== undefined && ends(second);
    });
    must(freezes.length === 0, "the history is filled by outages");
  }

  /** Every configuration is one that a hub takes. */
  function configurationsAreFit(): void {
    const configurations = world.truth.configurations();
    const priorities = configurations.map(({ priority }) => priority);
    must(
      new Set(priorities).size === priorities.length,
      `two configurations have the same priority: ${priorities}`,
    );
    for (const { targetCondition } of configurations) {
      must(targetCondition.length < 8000, "a condition is too long for the hub");
      compileCondition(targetCondition);
    }
  }

  return { look, check };
}

type Exposure = NonNullable<InferenceDeploymentStatus["exposure"]>;

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

/** Objects that own their identity: another object with the same deviceId does not. */
function ownersOf(world: FleetWorld) {
  return world.devices.list().filter((one) => {
    const tags = world.truth.tags(one.spec.deviceId ?? one.name)["edgefleet"];
    const { namespace, device } = (tags ?? {}) as { readonly namespace?: string; readonly device?: string };
    return namespace === undefined || (namespace === one.namespace && device === one.name);
  });
}

/** Devices that belong to the deployment: selected by it alone, and owned by the object that the selector found. */
function createMembers(world: FleetWorld): (deployment: InferenceDeployment) => readonly Member[] {
  const buckets = new Map<string, number>();
  const bucketFor = (device: string): number => {
    const bucket = buckets.get(device) ?? bucketOf(SALT, device);
    buckets.set(device, bucket);
    return bucket;
  };
  const belongs = (one: EdgeDevice, deployment: InferenceDeployment): boolean =>
    membershipsOf(one, world.deployments.list()).some(
      (membership) => membership.kind === "member" && membership.deployment.key === deployment.key,
    );
  return (deployment) =>
    ownersOf(world)
      .filter((one) => !one.deleting && belongs(one, deployment))
      .map(({ name, spec }) => ({
        device: spec.deviceId ?? name,
        site: spec.site,
        deviceClass: spec.deviceClass,
        bucket: bucketFor(spec.deviceId ?? name),
        enabled: spec.enabled,
      }));
}
