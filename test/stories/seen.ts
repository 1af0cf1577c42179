import type { InferenceDeploymentSpec } from "../../src/api/inference-deployment.ts";
import { qualifiedName } from "../../src/api/membership.ts";
import type { ModelRelease } from "../../src/api/model-release.ts";
import { FINALIZER, objectKey } from "../../src/api/resource.ts";
import { type Grant, OPEN_GRANT } from "../../src/api/tenancy.ts";
import { dictionary } from "../../src/base/lookup.ts";
import { type Instant, instant, minutes, seconds, timestampOf } from "../../src/base/time.ts";
import type { Configuration } from "../../src/hub/hub.ts";
import { ownConfigurations } from "../../src/rollouts/configurations/own.ts";
import { conditionsToTest } from "../../src/rollouts/configurations/slots.ts";
import type { Member, RolloutSeen } from "../../src/rollouts/seen.ts";
import { type AtStep, newStep } from "../../src/rollouts/state/state.ts";
import { deploymentSpec, releaseSpec } from "../builders/specs.ts";
import { CLUSTER, NAMESPACE } from "../fakes/fleet-world.ts";

// One look at a world, for tests of what is decided on it: they say what matters to them, the rest is filled in.

export const NOW = instant(Date.UTC(2026, 0, 10));

export function releaseNamed(
  name: string,
  verdict: "Passed" | "Pending" | "Failed" = "Passed",
): ModelRelease {
  const spec = releaseSpec(name);
  return {
    key: objectKey(NAMESPACE, name),
    namespace: NAMESPACE,
    name,
    uid: name,
    generation: 1,
    createdAt: instant(0),
    resourceVersion: "1",
    deleting: false,
    finalizers: [],
    labels: {},
    annotations: {},
    spec,
    status: {
      variants: spec.variants.map((variant) => ({
        name: variant.name,
        digest: variant.digest,
        sizeBytes: 1,
        verdict,
      })),
    },
  };
}

export function memberAt(index: number, more: Partial<Member> = {}): Member {
  return {
    device: `cam-${index}`,
    site: undefined,
    deviceClass: "orin",
    iotEdge: true,
    bucket: index * 1000,
    tagged: true,
    namesCluster: false,
    pointer: null,
    report: null,
    heardAt: null,
    enabled: true,
    implausible: null,
    ...more,
  };
}

export type Given = {
  readonly now?: Instant;
  readonly members?: readonly Member[];
  readonly spec?: Partial<InferenceDeploymentSpec>;
  readonly release?: string;
  readonly releases?: readonly ModelRelease[];
  readonly annotations?: Readonly<Record<string, string>>;
  readonly reachable?: boolean;
  readonly configurations?: readonly Configuration[];
  readonly settings?: Partial<RolloutSeen["settings"]>;
  readonly grant?: Grant;
};

export function look(given: Given = {}): RolloutSeen {
  const {
    release = "v2",
    releases = [releaseNamed("v1"), releaseNamed("v2"), releaseNamed("v3")],
    reachable = true,
  } = given;
  const seen: RolloutSeen = {
    now: given.now ?? NOW,
    deployment: {
      key: objectKey(NAMESPACE, "resnet"),
      namespace: NAMESPACE,
      name: "resnet",
      uid: "uid",
      generation: 3,
      createdAt: instant(0),
      resourceVersion: "9",
      deleting: false,
      finalizers: [FINALIZER],
      labels: {},
      annotations: given.annotations ?? {},
      spec: deploymentSpec(release, given.spec),
      status: null,
    },
    releases: dictionary(releases.map((one) => [one.name, one])),
    members: given.members ?? Array.from({ length: 20 }, (_, index) => memberAt(index)),
    contested: [],
    staleDevices: [],
    hub: {
      reachable,
      canReadTwins: reachable,
      since: instant(0),
      twinsSince: instant(0),
      sweepTime: minutes(1),
      isSwept: true,
      message: reachable ? "" : "503",
    },
    configurations: [],
    own: [],
    tested: dictionary([]),
    cleared: new Set(),
    others: 0,
    grant: given.grant ?? OPEN_GRANT,
    predecessors: new Map(),
    emptiedAt: null,
    ownerlessSince: null,
    settings: {
      clusterId: CLUSTER,
      analysisInterval: seconds(30),
      sasLifetime: minutes(60 * 24),
      fastPathLimit: 1000,
      hubConfigurationLimit: 100,
      baseDeployment: "managed",
      ownerlessAfter: minutes(60),
      ...given.settings,
    },
  };
  const wanted = seen.releases[release];
  const tested = wanted === undefined ? [] : conditionsToTest(seen, wanted);
  return withConfigurations(
    { ...seen, tested: dictionary(tested.map((condition) => [condition, null])) },
    given.configurations ?? [],
  );
}

/** The same look at a hub that has other configurations. */
export function withConfigurations(seen: RolloutSeen, configurations: readonly Configuration[]): RolloutSeen {
  return { ...seen, configurations, own: ownConfigurations({ ...seen, configurations }) };
}

/** A step that began now, and about which nothing is known yet. */
export function stepNow(index: number, percent: number, now: Instant = NOW): AtStep {
  return newStep(index, percent, now);
}

/** A device that has run a release for a while, and how it does. */
export function running(member: Member, release: string, p95: number, now: Instant = NOW): Member {
  const name = qualifiedName({ namespace: NAMESPACE, name: release });
  const { digest } = releaseSpec(release).variants[0]!;
  return {
    ...member,
    heardAt: now,
    report: {
      contract: 1,
      active: { release: name, digest, variant: "fp32", executionProvider: "cpu", since: timestampOf(now) },
      update: { release: name, digest, state: "Running", at: timestampOf(now) },
      window: {
        release: name,
        seconds: 60,
        inferences: 600,
        errors: 0,
        framesPerSecond: 10,
        latencyMilliseconds: { p50: p95, p95, p99: p95 },
        endedAt: timestampOf(now),
      },
      heartbeatAt: timestampOf(now),
    },
  };
}
