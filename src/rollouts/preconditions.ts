import { isEmptySelector, qualifiedName } from "../api/membership.ts";
import { type BlobReference, type ModelRelease, type Variant, variantFor } from "../api/model-release.ts";
import { REASONS, type Reason } from "../api/reasons.ts";
import { blobRefusal, mayUseBlob } from "../api/tenancy.ts";
import { redacted } from "../base/redact.ts";
import { contentHash, isForeign, LABEL, pointerDraft } from "./configurations/content.ts";
import {
  candidateCondition,
  EXCEPTIONS_LIMIT,
  NOBODY,
  stableCondition,
  stratification,
  type Target,
  targetsCluster,
} from "./configurations/target.ts";
import { devices } from "./evidence/cohort.ts";
import type { HubConfiguration, Kind, Member, Seen } from "./seen.ts";
import { boundOf, expose, type StratifyBy } from "./state/exposure.ts";
import type { ReleaseRef } from "./state/state.ts";
import { stepsOf } from "./state/strategy.ts";

// What must hold before a release may go out, and what stands in its way, found out before anything moves.

export type Verification =
  | { readonly kind: "missing" }
  | { readonly kind: "unverified"; readonly message: string }
  | { readonly kind: "verified" }
  /** A fact about the release: it does not pass, or it is not the one that was begun with. */
  | { readonly kind: "failed"; readonly message: string };

/** What only another spec, another fleet or a person can change. */
export type Problem = { readonly reason: Reason; readonly message: string };

export function referenceOf(release: ModelRelease): ReleaseRef {
  return {
    release: release.name,
    digests: [...new Set(release.spec.variants.map(({ digest }) => digest))].sort(),
  };
}

/** Every variant must have passed, and its verdict must be about the digest that devices will be told. */
export function verificationOf(release: ModelRelease | undefined): Verification {
  if (release === undefined) return { kind: "missing" };
  const waiting: string[] = [];
  for (const variant of release.spec.variants) {
    const status = release.status?.variants?.find(({ name }) => name === variant.name);
    if (status === undefined || status.digest !== variant.digest)
      waiting.push(`${variant.name} not looked at yet`);
    else if (status.verdict === "Failed") {
      const why = status.message ?? status.reason ?? "no reason given";
      return {
        kind: "failed",
        message: `variant ${variant.name} failed verification: ${redacted(why, 400)}`,
      };
    } else if (status.verdict !== "Passed") waiting.push(`${variant.name} ${status.verdict}`);
  }
  if (waiting.length === 0) return { kind: "verified" };
  return { kind: "unverified", message: waiting.join(", ") };
}

/** As `verificationOf`, for a release that is out already: one with other bytes under the same name is another one. */
export function verificationOfCandidate(
  reference: ReleaseRef,
  release: ModelRelease | undefined,
): Verification {
  if (release !== undefined && !isSame(reference, release)) {
    return {
      kind: "failed",
      message: `ModelRelease ${release.name} was replaced by one with other digests; give new bytes a new name`,
    };
  }
  return verificationOf(release);
}

export function isSame(reference: ReleaseRef, release: ModelRelease): boolean {
  return reference.digests.join() === referenceOf(release).digests.join();
}

/** One configuration that devices of a variant need: the deployment's own, whatever track it is on. */
export type Slot = {
  readonly kind: Kind;
  readonly variant: Variant;
  readonly release: ModelRelease;
  readonly hash: string;
  readonly target: Target;
};

/**
 * One slot for each combination of variant and kind that members need, in a stable order. Contested devices are left
 * out, except those that are desired on one of `including`.
 */
export function slotsOf(
  seen: Seen,
  release: ModelRelease,
  including: readonly string[] = [],
): readonly Slot[] {
  const { deployment } = seen;
  const except = exceptionsOf(seen, including);
  const clusterId = clusterOf(seen);
  const needed = new Set(
    seen.members.map(
      (member) => `${variantFor(release.spec.variants, member.deviceClass)?.name}/${kindOf(member)}`,
    ),
  );
  return release.spec.variants.flatMap((variant) =>
    (["edge", "device"] as const)
      .filter((kind) => needed.has(`${variant.name}/${kind}`))
      .map((kind) => ({
        kind,
        variant,
        release,
        hash: contentHash(kind, deployment.spec.module, pointerDraft(deployment, release, variant)),
        target: {
          deployment: qualifiedName(deployment),
          module: deployment.spec.module.name,
          clusterId,
          kind,
          variant,
          variants: release.spec.variants,
          except,
        },
      })),
  );
}

/** Devices that carry our tag and are wanted by another deployment. */
function wantedElsewhere(seen: Seen) {
  const moving = seen.leftovers.filter(({ heirs }) => heirs.length > 0);
  return [...seen.contested, ...moving].filter(({ tagged }) => tagged);
}

/**
 * As soon as all that carry our tag, and are to keep what they run, name the cluster in their tags too; a tag that an
 * older version wrote does not.
 */
function clusterOf(seen: Seen): string | null {
  const served = [...seen.members.filter(({ tagged }) => tagged), ...wantedElsewhere(seen)];
  return served.every(({ namesCluster }) => namesCluster) ? seen.settings.clusterId : null;
}

/** Devices wanted elsewhere that are desired on none of these releases: a condition that does not name them would move them. */
function exceptionsOf(seen: Seen, releases: readonly string[]): readonly string[] {
  const { namespace } = seen.deployment;
  const deployment = qualifiedName(seen.deployment);
  const running = new Set(releases.map((name) => qualifiedName({ namespace, name })));
  return wantedElsewhere(seen)
    .filter(({ pointer }) => !(pointer?.deployment === deployment && running.has(pointer.release)))
    .map(({ device }) => device)
    .sort()
    .slice(0, EXCEPTIONS_LIMIT);
}

export function kindOf(member: Pick<Member, "iotEdge">): Kind {
  return member.iotEdge ? "edge" : "device";
}

/** How finely a canary of this release can be divided: as asked for, or as finely as the hub's conditions allow. */
export function stratifyFor(seen: Seen, release: ModelRelease): StratifyBy {
  const wanted = seen.deployment.spec.strategy?.stratifyBy ?? ["Site", "DeviceClass"];
  return stratification(seen.members, wanted, {
    deployment: qualifiedName(seen.deployment),
    module: seen.deployment.spec.module.name,
    clusterId: seen.settings.clusterId,
    kind: "device",
    variants: release.spec.variants,
    except: exceptionsOf(seen, []),
  });
}

/** The target conditions that a rollout of this release relies on: the hub is asked about them before it begins. */
export function conditionsToTest(seen: Seen, release: ModelRelease): readonly string[] {
  const step = stepsOf(seen)[0];
  if (step === undefined || seen.members.length === 0) return [];
  const exposure = expose(seen.members, stratifyFor(seen, release), boundOf(step, seen.members.length), []);
  const conditions = slotsOf(seen, release).flatMap(({ target }) => [
    stableCondition(target),
    candidateCondition(target, exposure),
  ]);
  return [...new Set([NOBODY, ...conditions])];
}

/** Why devices cannot be moved at all; the most basic reason first. `null`: nothing is in the way. */
export function membershipProblem(seen: Seen): Problem | null {
  if (isEmptySelector(seen.deployment.spec.selector)) {
    return {
      reason: REASONS.SelectorEmpty,
      message: "the selector is empty and selects nothing; add matchLabels or matchExpressions",
    };
  }
  if (seen.members.length === 0) {
    const contested = seen.contested.length;
    return {
      reason: REASONS.NoDevices,
      message:
        contested === 0
          ? "the selector matches no EdgeDevice of this namespace; look at kubectl get edgedevices --show-labels"
          : `all ${devices(contested)} that the selector matches are selected by another deployment too`,
    };
  }
  const tagged = wantedElsewhere(seen).length;
  if (tagged > EXCEPTIONS_LIMIT) {
    return {
      reason: REASONS.Conflict,
      message: `${devices(tagged)} of this deployment are selected by another one too; at most ${EXCEPTIONS_LIMIT} can be left out of a rollout one by one, so narrow one of the selectors`,
    };
  }
  return null;
}

/** Why this release cannot go to these devices; `null`: it can. */
export function releaseProblem(seen: Seen, release: ModelRelease): Problem | null {
  const missing = classesWithoutVariant(seen, release);
  if (missing.length === 0) return null;
  const counts = missing.map(([name, count]) => `${name} (${devices(count)})`).join(", ");
  return {
    reason: REASONS.NoVariant,
    message: `release ${release.name} has no variant for ${counts}; add one in a new release, or narrow the selector`,
  };
}

/** Why devices may not be given the files of this release; `null`: they may. */
export function permissionProblem(seen: Seen, release: ModelRelease): Problem | null {
  const refused = release.spec.variants.find(({ blob }) => !mayUseBlob(seen.grant, blob));
  return refused === undefined ? null : notPermitted(seen, refused.blob);
}

export function notPermitted({ deployment, grant }: Seen, blob: BlobReference): Problem {
  return { reason: REASONS.NotPermitted, message: blobRefusal(deployment.namespace, grant, blob) };
}

export function classesWithoutVariant(
  seen: Seen,
  release: ModelRelease,
): readonly (readonly [string, number])[] {
  const missing = new Map<string, number>();
  for (const { deviceClass } of seen.members) {
    if (variantFor(release.spec.variants, deviceClass) !== null) continue;
    missing.set(deviceClass, (missing.get(deviceClass) ?? 0) + 1);
  }
  return [...missing].sort(([a], [b]) => (a < b ? -1 : 1));
}

/** What the hub says against a rollout of this release: a full hub, or a condition that it refuses. */
export function hubProblem(seen: Seen, release: ModelRelease): Problem | null {
  // On the way through, the candidate stands beside the old stable, and then the new stable beside both.
  const own = ownConfigurations(seen);
  const needed = slotsOf(seen, release)
    .flatMap(({ hash }) => (["candidate", "stable"] as const).map((track) => ({ hash, track })))
    .filter(
      ({ hash, track }) =>
        !own.some(({ labels }) => labels[LABEL.contentHash] === hash && labels[LABEL.track] === track),
    );
  const full = fullProblem(seen, needed.length) ?? namesakeProblem(seen);
  if (full !== null) return full;
  for (const condition of conditionsToTest(seen, release)) {
    const words = seen.tested[condition];
    if (words !== undefined && words !== null) {
      return {
        reason: REASONS.ConditionRefused,
        message: `the hub refuses the target condition "${condition.slice(0, 400)}": ${redacted(words, 400)}`,
      };
    }
  }
  return null;
}

/**
 * Tags and pointers name a deployment without its cluster: two of one name would steer each other's devices, unless the
 * conditions of both name their clusters.
 */
function namesakeProblem(seen: Seen): Problem | null {
  const { clusterId } = seen.settings;
  const isUnnamed = clusterOf(seen) === null;
  const other = namesakes(seen).find(
    (configuration) =>
      isForeign(configuration, clusterId) &&
      (isUnnamed ||
        !targetsCluster(configuration.targetCondition, configuration.labels[LABEL.cluster] ?? "")),
  );
  if (other === undefined) return null;
  const { namespace, name } = seen.deployment;
  return {
    reason: REASONS.OwnedByAnother,
    message: `cluster ${redacted(other.labels[LABEL.cluster] ?? "", 100)} has a deployment ${namespace}/${name} on this hub too; give one of them another name or namespace`,
  };
}

/** `null`: the hub has room for so many more configurations (or is not listed yet). */
export function fullProblem(seen: Seen, more: number): Problem | null {
  const all = seen.configurations ?? [];
  const limit = seen.settings.hubConfigurationLimit;
  if (more === 0 || all.length + more <= limit) return null;
  return {
    reason: REASONS.HubFull,
    message: `the hub holds ${all.length} of ${limit} configurations and ${more} more ${more === 1 ? "is" : "are"} needed; they belong to ${ownersText(seen, all)}. Remove some that nobody needs, and it goes on by itself`,
  };
}

/** Our configurations, by name: an object that was deleted and created again takes over what it finds. */
export function ownConfigurations(
  seen: Pick<Seen, "deployment" | "configurations" | "settings">,
): readonly HubConfiguration[] {
  return namesakes(seen).filter((configuration) => !isForeign(configuration, seen.settings.clusterId));
}

function namesakes(seen: Pick<Seen, "deployment" | "configurations">): readonly HubConfiguration[] {
  const { namespace, name } = seen.deployment;
  return (seen.configurations ?? []).filter(
    ({ labels }) => labels[LABEL.namespace] === namespace && labels[LABEL.name] === name,
  );
}

/** The base deployments that are ours to replace: another cluster's operator keeps its own. */
export function ownBases(seen: Seen): readonly HubConfiguration[] {
  return (seen.configurations ?? []).filter(
    (configuration) =>
      configuration.labels[LABEL.base] !== undefined && !isForeign(configuration, seen.settings.clusterId),
  );
}

function ownersText(seen: Seen, configurations: readonly HubConfiguration[]): string {
  const owners = new Map<string, number>();
  for (const { labels } of configurations) {
    const owner = ownerText(seen, labels);
    owners.set(owner, (owners.get(owner) ?? 0) + 1);
  }
  const sorted = [...owners].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  const shown = sorted.slice(0, 10).map(([owner, count]) => `${owner} (${count})`);
  return [...shown, ...(sorted.length > 10 ? [`${sorted.length - 10} more owners`] : [])].join(", ");
}

function ownerText({ deployment, grant }: Seen, labels: HubConfiguration["labels"]): string {
  if (labels[LABEL.base] !== undefined) return "the base deployment";
  const namespace = labels[LABEL.namespace];
  // What other tenants call their objects is theirs.
  if (!grant.isOpen && namespace !== undefined && namespace !== deployment.namespace)
    return "other namespaces";
  return namespace === undefined ? "others" : `${namespace}/${labels[LABEL.name]}`;
}
