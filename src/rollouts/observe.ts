import type { EdgeDeviceSpec, EdgeDeviceStatus } from "../api/edge-device.ts";
import type {
  InferenceDeployment,
  InferenceDeploymentSpec,
  InferenceDeploymentStatus,
} from "../api/inference-deployment.ts";
import { qualifiedName } from "../api/membership.ts";
import type { ModelRelease, ModelReleaseSpec, ModelReleaseStatus } from "../api/model-release.ts";
import { type ObjectKey, objectKey } from "../api/resource.ts";
import type { GrantOf } from "../api/tenancy.ts";
import type { Attempt } from "../base/fault.ts";
import { type Dictionary, dictionary } from "../base/lookup.ts";
import { ok } from "../base/result.ts";
import { type Clock, elapsed, type Instant } from "../base/time.ts";
import type { ConfigurationView, DeviceHub, FleetView, TwinRef } from "../hub/hub.ts";
import type { Resources } from "../kube/kube.ts";
import type { Log } from "../telemetry/telemetry.ts";
import { classifyDevices } from "./classify-devices.ts";
import { LABEL, recognized } from "./configurations/content.ts";
import { ownConfigurations } from "./configurations/own.ts";
import { ownerlessDeployment } from "./configurations/ownerless.ts";
import { conditionsToTest } from "./configurations/slots.ts";
import { pointedReleases } from "./configurations/takeover.ts";
import { MATCH_NONE } from "./configurations/target.ts";
import { type Heard, hear } from "./evidence/plausible.ts";
import { bucketCache, clearedIn, type Memories, type Memory, testCondition } from "./memory.ts";
import { membershipProblem, releaseProblem } from "./preconditions.ts";
import type { Member, Predecessor, RolloutSeen, Settings } from "./seen.ts";
import { exposureIndex } from "./state/exposure.ts";
import { recover } from "./state/recover.ts";
import { isUnderWay, type RolloutState, stateOf } from "./state/state.ts";
import { verificationOf } from "./verification.ts";

export type ObserveDeps = {
  readonly deployments: Resources<InferenceDeploymentSpec, InferenceDeploymentStatus>;
  readonly releases: Resources<ModelReleaseSpec, ModelReleaseStatus>;
  readonly devices: Resources<EdgeDeviceSpec, EdgeDeviceStatus>;
  readonly fleet: FleetView;
  readonly configurations: ConfigurationView;
  readonly hub: Pick<DeviceHub, "testCondition">;
  readonly clock: Pick<Clock, "now">;
  readonly log: Log;
  readonly salt: string;
  readonly grants: GrantOf;
  readonly settings: Settings;
  /** The namespaces that this operator serves; `null`: all. */
  readonly namespaces: readonly string[] | null;
};

/** Twins that one look reads ahead of the sweeps. */
const FAST_LANE = 500;

type Observing = ObserveDeps & {
  readonly memories: Memories;
  /** Of devices without a tag. */
  readonly bucketOf: (device: string) => number;
};

/** Looks at everything a decision may depend on, and reads the clock once. */
export function observeRollout(
  deps: ObserveDeps,
  memories: Memories,
): (key: ObjectKey, signal: AbortSignal) => Attempt<RolloutSeen | null> {
  const observing: Observing = { ...deps, memories, bucketOf: bucketCache(deps.salt) };
  return async (key, signal) => {
    const existing = deps.deployments.get(key);
    const deployment = existing ?? ownerlessDeployment(deps, key);
    if (deployment === null) {
      memories.forget(key);
      return ok(null);
    }
    const memory = memories.of(key);
    const now = deps.clock.now();
    if (existing === undefined) {
      memory.ownerlessSince ??= now;
      return ok(look(observing, deployment, now, memory));
    }
    memory.ownerlessSince = null;
    memory.ownerlessSaid = null;
    const first = look(observing, deployment, now, memory);
    const state = stateOf(deployment.status, now) ?? recover(first);
    if (state === null) return ok(first);
    const isRefreshed = await refreshExposed(observing, first, state, memory, signal);
    const isTested = await testConditions(observing, first, state, signal);
    // Where the hub was asked since, its answers count.
    return ok(isRefreshed || isTested ? look(observing, deployment, now, memory) : first);
  };
}

function look(
  observing: Observing,
  deployment: InferenceDeployment,
  now: Instant,
  memory: Memory,
): RolloutSeen {
  const configurations = observing.configurations.list()?.map(recognized) ?? null;
  const state = stateOf(deployment.status, now);
  const people = classifyDevices(observing, deployment);
  if (state === null || !isUnderWay(state)) memory.heard.clear();
  const seen: Omit<RolloutSeen, "releases" | "emptiedAt"> = {
    now,
    deployment,
    ...people,
    members:
      state !== null && isUnderWay(state) ? checked(people.members, memory.heard, now) : people.members,
    hub: {
      ...observing.fleet.health(),
      sweepTime: observing.fleet.sweepTime(),
      isSwept: observing.fleet.isSwept(),
    },
    configurations,
    own: ownConfigurations({ deployment, configurations, settings: observing.settings }),
    tested: dictionary(state === null || state.phase === "Pending" ? observing.memories.tested : []),
    cleared: state?.phase === "RollingBack" ? new Set(clearedIn(memory, state.because)) : new Set(),
    others: observing.deployments.list().filter((other) => other.key !== deployment.key && !other.deleting)
      .length,
    grant: observing.grants(deployment.namespace),
    predecessors: predecessorsOf(observing, deployment),
    ownerlessSince: memory.ownerlessSince,
    settings: observing.settings,
  };
  return { ...seen, releases: releasesFor(observing, seen), emptiedAt: emptiedAt(observing, seen, memory) };
}

function emptiedAt(
  _observing: Observing,
  seen: Omit<RolloutSeen, "releases" | "emptiedAt">,
  memory: Memory,
): Instant | null {
  const isEmpty =
    seen.deployment.deleting &&
    seen.configurations !== null &&
    seen.own.every(({ targetCondition }) => targetCondition === MATCH_NONE);
  memory.emptiedAt = isEmpty ? (memory.emptiedAt ?? seen.now) : null;
  return memory.emptiedAt;
}

function predecessorsOf(
  observing: Observing,
  deployment: InferenceDeployment,
): ReadonlyMap<string, Predecessor> {
  // Only one that has nothing of its own yet asks what others gave its devices.
  if (deployment.status?.stable !== undefined) return new Map();
  return new Map(
    observing.deployments
      .list(deployment.namespace)
      .filter(({ key }) => key !== deployment.key)
      .map((other) => [
        qualifiedName(other),
        {
          stable: other.status?.stable?.release ?? null,
          candidate: other.status?.candidate?.release ?? null,
        },
      ]),
  );
}

function releasesFor(
  observing: Observing,
  seen: Omit<RolloutSeen, "releases" | "emptiedAt">,
): Dictionary<ModelRelease> {
  const { deployment } = seen;
  const names = new Set([
    deployment.spec.release.name,
    ...[deployment.status?.stable, deployment.status?.candidate].flatMap(
      (reference) => reference?.release ?? [],
    ),
    ...seen.own.flatMap(({ labels }) => labels[LABEL.release] ?? []),
    ...pointedReleases(seen),
  ]);
  return dictionary(
    [...names].flatMap((name) => {
      const release = observing.releases.get(objectKey(deployment.namespace, name));
      return release === undefined ? [] : [[name, release] as const];
    }),
  );
}

/**
 * The fast lane: exposed devices are read at the pace of the analysis, not of the sweeps. Protection sees by it, so it
 * continues for as long as twins can be read, also where queries fail and the rollout is frozen.
 */
async function refreshExposed(
  observing: Observing,
  seen: RolloutSeen,
  state: RolloutState,
  memory: Memory,
  signal: AbortSignal,
): Promise<boolean> {
  if (!isUnderWay(state) || !seen.hub.canReadTwins) return false;
  if (
    memory.refreshedAt !== null &&
    elapsed(memory.refreshedAt, seen.now) < observing.settings.analysisInterval
  )
    return false;
  memory.refreshedAt = seen.now;
  const covers = exposureIndex(state.exposure);
  const module = seen.deployment.spec.module.name;
  const exposed = seen.members.filter(covers).flatMap(({ device, iotEdge, tagged }): readonly TwinRef[] => {
    if (tagged) return [{ device, module: iotEdge ? module : null }];
    // Not swept yet, and sweeps fail: its own twin says whether it is tagged, the next look reads its module's.
    const isUnseen = !seen.hub.reachable && observing.fleet.get(device) === undefined;
    return isUnseen ? [{ device, module: null }] : [];
  });
  const from = exposed.length === 0 ? 0 : memory.cursor % exposed.length;
  const refs = [...exposed.slice(from), ...exposed.slice(0, from)].slice(0, FAST_LANE);
  memory.cursor = from + refs.length;
  if (refs.length === 0) return false;
  const refreshed = await observing.fleet.refresh(refs, "normal", signal);
  // The fleet view knows best whether the hub can be reached; here the older picture is good enough.
  if (!refreshed.ok) observing.log.debug("fast lane stopped", { kind: refreshed.error.kind });
  return true;
}

/** Before a rollout begins, the hub is asked whether it understands what the rollout will rely on. */
async function testConditions(
  observing: Observing,
  seen: RolloutSeen,
  state: RolloutState,
  signal: AbortSignal,
): Promise<boolean> {
  if (state.phase !== "Pending" || !seen.hub.reachable || seen.configurations === null) return false;
  const release = seen.releases[seen.deployment.spec.release.name];
  if (release === undefined || verificationOf(release).kind !== "verified") return false;
  if (membershipProblem(seen) !== null || releaseProblem(seen, release) !== null) return false;
  for (const condition of conditionsToTest(seen, release)) {
    const tested = await testCondition(observing.hub, observing.memories, condition, signal);
    if (tested.ok) continue;
    observing.log.debug("target condition could not be tested", { kind: tested.error.kind });
    return true;
  }
  return true;
}

/** The members with what is wrong with their reports; `heard` is brought up to date. */
function checked(members: readonly Member[], heard: Map<string, Heard>, now: Instant): readonly Member[] {
  const present = new Set<string>();
  const looked = members.map((member) => {
    const { device, report, heardAt } = member;
    if (report === null || heardAt === null) return member;
    present.add(device);
    const next = hear(heard.get(device), report, heardAt, now);
    heard.set(device, next);
    return next.implausible === null ? member : { ...member, implausible: next.implausible };
  });
  for (const device of heard.keys()) if (!present.has(device)) heard.delete(device);
  return looked;
}
