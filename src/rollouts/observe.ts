import {
  deviceIdOf,
  type EdgeDevice,
  type EdgeDeviceSpec,
  type EdgeDeviceStatus,
} from "../api/edge-device.ts";
import type {
  InferenceDeployment,
  InferenceDeploymentSpec,
  InferenceDeploymentStatus,
} from "../api/inference-deployment.ts";
import { contend, matches, membershipsOf, qualifiedName, selects } from "../api/membership.ts";
import type { ModelRelease, ModelReleaseSpec, ModelReleaseStatus } from "../api/model-release.ts";
import { isForeign, isOwner, ownerOf, succeeds } from "../api/ownership.ts";
import { type ObjectKey, objectKey } from "../api/resource.ts";
import type { GrantOf } from "../api/tenancy.ts";
import { type Dictionary, dictionary, own as ownValue } from "../base/lookup.ts";
import { type Attempt, ok } from "../base/result.ts";
import { type Clock, elapsed, type Instant } from "../base/time.ts";
import type { ConfigurationView, DeviceHub, FleetDevice, FleetView, TwinRef } from "../hub/hub.ts";
import type { Resources } from "../kube/kube.ts";
import type { Log } from "../telemetry/telemetry.ts";
import { LABEL, recognized } from "./configurations/content.ts";
import { ownConfigurations } from "./configurations/own.ts";
import { ownerlessDeployment } from "./configurations/ownerless.ts";
import { conditionsToTest } from "./configurations/slots.ts";
import { pointedReleases } from "./configurations/takeover.ts";
import { NOBODY } from "./configurations/target.ts";
import { type Heard, hear } from "./evidence/plausible.ts";
import { bucketCache, clearedIn, type Memories, type Memory, testCondition } from "./memory.ts";
import { membershipProblem, releaseProblem } from "./preconditions.ts";
import type { Contested, Leftover, Member, Predecessor, Seen, Settings } from "./seen.ts";
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

/** Looks at everything a decision may depend on, and reads the clock once. */
export function observeRollout(
  deps: ObserveDeps,
  memories: Memories,
): (key: ObjectKey, signal: AbortSignal) => Attempt<Seen | null> {
  const bucket = bucketCache(deps.salt);
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
      return ok(look(deployment, now, memory));
    }
    memory.ownerlessSince = null;
    memory.ownerlessSaid = null;
    const first = look(deployment, now, memory);
    const state = stateOf(deployment.status, now) ?? recover(first);
    if (state === null) return ok(first);
    const isRefreshed = await refreshExposed(first, state, memory, signal);
    const isTested = await testConditions(first, state, signal);
    // Where the hub was asked since, its answers count.
    return ok(isRefreshed || isTested ? look(deployment, now, memory) : first);
  };

  function look(deployment: InferenceDeployment, now: Instant, memory: Memory): Seen {
    const configurations = deps.configurations.list()?.map(recognized) ?? null;
    const state = stateOf(deployment.status, now);
    const people = peopleOf(deployment);
    if (state === null || !isUnderWay(state)) memory.heard.clear();
    const seen: Omit<Seen, "releases" | "emptiedAt"> = {
      now,
      deployment,
      ...people,
      members:
        state !== null && isUnderWay(state) ? checked(people.members, memory.heard, now) : people.members,
      hub: { ...deps.fleet.health(), sweepTime: deps.fleet.sweepTime() },
      configurations,
      tested: dictionary(state === null || state.phase === "Pending" ? memories.tested : []),
      cleared: state?.phase === "RollingBack" ? new Set(clearedIn(memory, state.because)) : new Set(),
      others: deps.deployments.list().filter((other) => other.key !== deployment.key && !other.deleting)
        .length,
      grant: deps.grants(deployment.namespace),
      predecessors: predecessorsOf(deployment),
      ownerlessSince: memory.ownerlessSince,
      settings: deps.settings,
    };
    return { ...seen, releases: releasesFor(seen), emptiedAt: emptiedAt(seen, memory) };
  }

  function emptiedAt(seen: Omit<Seen, "releases" | "emptiedAt">, memory: Memory): Instant | null {
    const isEmpty =
      seen.deployment.deleting &&
      seen.configurations !== null &&
      ownConfigurations(seen).every(({ targetCondition }) => targetCondition === NOBODY);
    memory.emptiedAt = isEmpty ? (memory.emptiedAt ?? seen.now) : null;
    return memory.emptiedAt;
  }

  function predecessorsOf(deployment: InferenceDeployment): ReadonlyMap<string, Predecessor> {
    // Only one that has nothing of its own yet asks what others gave its devices.
    if (deployment.status?.stable !== undefined) return new Map();
    return new Map(
      deps.deployments
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

  function releasesFor(seen: Omit<Seen, "releases" | "emptiedAt">): Dictionary<ModelRelease> {
    const { deployment } = seen;
    const names = new Set([
      deployment.spec.release.name,
      ...[deployment.status?.stable, deployment.status?.candidate].flatMap(
        (reference) => reference?.release ?? [],
      ),
      ...ownConfigurations(seen).flatMap(({ labels }) => labels[LABEL.release] ?? []),
      ...pointedReleases(seen),
    ]);
    return dictionary(
      [...names].flatMap((name) => {
        const release = deps.releases.get(objectKey(deployment.namespace, name));
        return release === undefined ? [] : [[name, release] as const];
      }),
    );
  }

  /** Sorts the devices of the namespace and the rows of the fleet by what they are to this deployment. */
  function peopleOf(deployment: InferenceDeployment): Pick<Seen, "members" | "contested" | "leftovers"> {
    const rivals = deps.deployments
      .list(deployment.namespace)
      .filter((other) => other.key !== deployment.key && !other.deleting);
    const known = new Set<string>();
    const members: Member[] = [];
    const contested: Contested[] = [];
    for (const device of deps.devices.list(deployment.namespace)) {
      if (device.deleting || !selects(deployment, device)) continue;
      const id = deviceIdOf(device);
      const row = deps.fleet.get(id);
      if (known.has(id) || !holds(device, row)) continue;
      known.add(id);
      const others = rivals
        .filter((rival) => contend(device, deployment, rival) && selects(rival, device))
        .map(({ name }) => name);
      const member = memberOf(device, id, row, deployment);
      if (others.length === 0) members.push(member);
      else contested.push(contestedOf(member, row !== undefined, others));
    }
    return { members, contested, leftovers: leftoversOf(deployment, known) };
  }

  function leftoversOf(deployment: InferenceDeployment, known: ReadonlySet<string>): readonly Leftover[] {
    const own = qualifiedName(deployment);
    const module = deployment.spec.module.name;
    const leftovers: Leftover[] = [];
    let objects: ReadonlyMap<string, readonly EdgeDevice[]> | null = null;
    for (const row of candidatesOf(deployment)) {
      if (known.has(row.device) || isOfAnotherCluster(row)) continue;
      const slot = ownValue(row.slots, row.iotEdge ? module : "");
      const pointer = slot?.pointer ?? null;
      const tagged = isTagged(row, module, own);
      const isPointed = pointer?.deployment === own;
      // The hub may have taken the pointer together with the tag: a deletion looks after every device that it had.
      if (!tagged && !isPointed && !(deployment.deleting && pointer === null && slot !== undefined)) continue;
      objects ??= Map.groupBy(deps.devices.list(deployment.namespace), deviceIdOf);
      // Where one object succeeds another, it is the successor's.
      const holders = objects.get(row.device)?.filter((one) => holds(one, row)) ?? [];
      const object = holders.find(({ deleting }) => !deleting) ?? holders[0];
      const wasMember =
        object !== undefined && !object.deleting && matches(deployment.spec.selector, object.labels);
      if (!tagged && !isPointed && !wasMember) continue;
      leftovers.push({
        device: row.device,
        deviceClass: object?.spec.deviceClass ?? row.fleetTags?.class ?? null,
        iotEdge: row.iotEdge,
        tagged,
        namesCluster: namesCluster(row),
        pointer,
        leaving: object?.deleting === true,
        heirs: object === undefined ? [] : heirsOf(deployment, object),
      });
    }
    return leftovers;
  }

  /** Rows that may be left over: what names the deployment and, while it is deleted, what it selected. */
  function candidatesOf(deployment: InferenceDeployment): Iterable<FleetDevice> {
    const named = deps.fleet.namedBy(qualifiedName(deployment));
    if (!deployment.deleting) return named;
    const selected = deps.devices
      .list(deployment.namespace)
      .filter(({ labels }) => matches(deployment.spec.selector, labels))
      .flatMap((device) => deps.fleet.get(deviceIdOf(device)) ?? []);
    return new Set([...named, ...selected]);
  }

  /** Who wants the place on the device that the deployment had. */
  function heirsOf(deployment: InferenceDeployment, device: EdgeDevice): readonly string[] {
    if (device.deleting) return [];
    const others = deps.deployments.list(deployment.namespace).filter(({ key }) => key !== deployment.key);
    const module = deployment.spec.module.name;
    return membershipsOf(device, others)
      .filter((membership) => !device.spec.iotEdge || membership.module === module)
      .flatMap((membership) =>
        membership.kind === "member"
          ? [membership.deployment.name]
          : membership.deployments.map(({ name }) => name),
      );
  }

  /** Two objects may have one deviceId: only the one that the tags name acts on it, and any while they name none. */
  function holds(device: EdgeDevice, row: FleetDevice | undefined): boolean {
    const owner = row === undefined ? null : ownerOf(row.tags);
    if (owner === null) return true;
    const { clusterId } = deps.settings;
    return isOwner(device, owner, clusterId) || succeeds(device, owner, clusterId, deps.devices.get);
  }

  /** A deployment of another cluster may have the same name: what it left there is its own. */
  function isOfAnotherCluster(row: FleetDevice): boolean {
    const owner = ownerOf(row.tags);
    return owner !== null && isForeign(owner, deps.settings.clusterId);
  }

  function namesCluster(row: FleetDevice | undefined): boolean {
    return row?.fleetTags?.cluster === deps.settings.clusterId;
  }

  function memberOf(
    device: EdgeDevice,
    id: string,
    row: FleetDevice | undefined,
    deployment: InferenceDeployment,
  ): Member {
    const module = deployment.spec.module.name;
    const slot = ownValue(row?.slots, row?.iotEdge ? module : "");
    const tagged = isTagged(row, module, qualifiedName(deployment));
    // What the hub targets by is what the tags say, also while they lag behind the object.
    const tags = tagged ? (row?.fleetTags ?? null) : null;
    return {
      device: id,
      site: (tags === null ? device.spec.site : tags.site) || undefined,
      deviceClass: tags?.class ?? device.spec.deviceClass,
      iotEdge: row?.iotEdge ?? device.spec.iotEdge,
      bucket: row?.fleetTags?.bucket ?? device.status?.bucket ?? bucket(id),
      tagged,
      namesCluster: namesCluster(row),
      pointer: slot?.pointer ?? null,
      report: slot?.report ?? null,
      heardAt: slot?.heardAt ?? null,
      enabled: device.spec.enabled,
      implausible: null,
    };
  }

  /**
   * The fast lane: exposed devices are read at the pace of the analysis, not of the sweeps. Protection sees by it, so it
   * goes on for as long as twins can be read, also where queries fail and the rollout is frozen.
   */
  async function refreshExposed(
    seen: Seen,
    state: RolloutState,
    memory: Memory,
    signal: AbortSignal,
  ): Promise<boolean> {
    if (!isUnderWay(state) || !seen.hub.canReadTwins) return false;
    if (memory.refreshedAt !== null && elapsed(memory.refreshedAt, seen.now) < deps.settings.analysisInterval)
      return false;
    memory.refreshedAt = seen.now;
    const covers = exposureIndex(state.exposure);
    const module = seen.deployment.spec.module.name;
    const exposed = seen.members.filter(covers).flatMap(({ device, iotEdge, tagged }): readonly TwinRef[] => {
      if (tagged) return [{ device, module: iotEdge ? module : null }];
      // Not swept yet, and sweeps fail: its own twin says whether it is tagged, the next look reads its module's.
      const isUnseen = !seen.hub.reachable && deps.fleet.get(device) === undefined;
      return isUnseen ? [{ device, module: null }] : [];
    });
    const from = exposed.length === 0 ? 0 : memory.cursor % exposed.length;
    const refs = [...exposed.slice(from), ...exposed.slice(0, from)].slice(0, FAST_LANE);
    memory.cursor = from + refs.length;
    if (refs.length === 0) return false;
    const refreshed = await deps.fleet.refresh(refs, "normal", signal);
    // The fleet view knows best whether the hub can be reached; here the older picture is good enough.
    if (!refreshed.ok) deps.log.debug("fast lane stopped", { kind: refreshed.error.kind });
    return true;
  }

  /** Before a rollout begins, the hub is asked whether it understands what the rollout will rely on. */
  async function testConditions(seen: Seen, state: RolloutState, signal: AbortSignal): Promise<boolean> {
    if (state.phase !== "Pending" || !seen.hub.reachable || seen.configurations === null) return false;
    const release = seen.releases[seen.deployment.spec.release.name];
    if (release === undefined || verificationOf(release).kind !== "verified") return false;
    if (membershipProblem(seen) !== null || releaseProblem(seen, release) !== null) return false;
    for (const condition of conditionsToTest(seen, release)) {
      const tested = await testCondition(deps.hub, memories, condition, signal);
      if (tested.ok) continue;
      deps.log.debug("target condition could not be tested", { kind: tested.error.kind });
      return true;
    }
    return true;
  }
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

function contestedOf(
  { device, deviceClass, iotEdge, tagged, namesCluster, pointer }: Member,
  isKnown: boolean,
  rivals: readonly string[],
): Contested {
  return { device, deviceClass, iotEdge, tagged, namesCluster, isKnown, pointer, rivals };
}

function isTagged(row: FleetDevice | undefined, module: string, own: string): boolean {
  const deployments = row?.fleetTags?.deployments ?? {};
  // Of what is ownerless the module is not always known.
  return module === "" ? Object.values(deployments).includes(own) : ownValue(deployments, module) === own;
}
