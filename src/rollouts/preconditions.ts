import { isEmptySelector } from "../api/membership.ts";
import { type BlobReference, type ModelRelease, variantFor } from "../api/model-release.ts";
import type { Problem } from "../api/reasons.ts";
import { REASONS } from "../api/reasons.ts";
import { blobRefusal, mayUseBlob } from "../api/tenancy.ts";
import { redacted } from "../base/redact.ts";
import type { Configuration } from "../hub/hub.ts";
import { isForeign, LABEL } from "./configurations/content.ts";
import { namesakes } from "./configurations/own.ts";
import { clusterOf, conditionsToTest, slotsOf, wantedElsewhere } from "./configurations/slots.ts";
import { EXCEPTIONS_LIMIT, targetsCluster } from "./configurations/target.ts";
import type { RolloutSeen } from "./seen.ts";
import { devices } from "./text.ts";

// What must hold before a release may go out, and what stands in its way, found out before anything moves.

/** Why devices cannot be moved at all; the most basic reason first. `null`: nothing is in the way. */
export function membershipProblem(seen: RolloutSeen): Problem | null {
  if (isEmptySelector(seen.deployment.spec.selector)) {
    return {
      reason: REASONS.SelectorEmpty,
      message: "the selector is empty and selects no devices; add matchLabels or matchExpressions",
    };
  }
  if (seen.members.length === 0) {
    const contested = seen.contested.length;
    return {
      reason: REASONS.NoDevices,
      message:
        contested === 0
          ? "the selector matches no EdgeDevice in this namespace; check kubectl get edgedevices --show-labels"
          : `all ${devices(contested)} that the selector matches are also selected by another deployment`,
    };
  }
  const tagged = wantedElsewhere(seen).length;
  if (tagged > EXCEPTIONS_LIMIT) {
    return {
      reason: REASONS.Conflict,
      message: `${devices(tagged)} of this deployment are also selected by another one; at most ${EXCEPTIONS_LIMIT} devices can be excluded from a rollout, so narrow one of the selectors`,
    };
  }
  return null;
}

/** Why this release cannot go to these devices; `null`: it can. */
export function releaseProblem(seen: RolloutSeen, release: ModelRelease): Problem | null {
  const missing = classesWithoutVariant(seen, release);
  if (missing.length === 0) return null;
  const counts = missing.map(([name, count]) => `${name} (${devices(count)})`).join(", ");
  return {
    reason: REASONS.NoVariant,
    message: `release ${release.name} has no variant for ${counts}; add one in a new release, or narrow the selector`,
  };
}

/** Why devices may not be given the files of this release; `null`: they may. */
export function permissionProblem(seen: RolloutSeen, release: ModelRelease): Problem | null {
  const refused = release.spec.variants.find(({ blob }) => !mayUseBlob(seen.grant, blob));
  return refused === undefined ? null : notPermitted(seen, refused.blob);
}

export function notPermitted({ deployment, grant }: RolloutSeen, blob: BlobReference): Problem {
  return { reason: REASONS.NotPermitted, message: blobRefusal(deployment.namespace, grant, blob) };
}

export function classesWithoutVariant(
  seen: RolloutSeen,
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
export function hubProblem(seen: RolloutSeen, release: ModelRelease): Problem | null {
  // On the way through, the candidate stands beside the old stable, and then the new stable beside both.
  const own = seen.own;
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
        message: `the hub rejected the target condition "${condition.slice(0, 400)}": ${redacted(words, 400)}`,
      };
    }
  }
  return null;
}

/**
 * Tags and pointers name a deployment without its cluster: two of one name would steer each other's devices, unless the
 * conditions of both name their clusters.
 */
function namesakeProblem(seen: RolloutSeen): Problem | null {
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
    message: `cluster ${redacted(other.labels[LABEL.cluster] ?? "", 100)} also has a deployment ${namespace}/${name} on this hub; rename one of them, or move it to another namespace`,
  };
}

/** `null`: the hub has room for so many more configurations (or is not listed yet). */
export function fullProblem(seen: RolloutSeen, more: number): Problem | null {
  const all = seen.configurations ?? [];
  const limit = seen.settings.hubConfigurationLimit;
  if (more === 0 || all.length + more <= limit) return null;
  return {
    reason: REASONS.HubFull,
    message: `the hub has ${all.length} of at most ${limit} configurations, and ${more} more ${more === 1 ? "is" : "are"} needed; they belong to ${ownersText(seen, all)}. Remove some that are no longer needed; the rollout then continues automatically`,
  };
}

function ownersText(seen: RolloutSeen, configurations: readonly Configuration[]): string {
  const owners = new Map<string, number>();
  for (const { labels } of configurations) {
    const owner = ownerText(seen, labels);
    owners.set(owner, (owners.get(owner) ?? 0) + 1);
  }
  const sorted = [...owners].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  const shown = sorted.slice(0, 10).map(([owner, count]) => `${owner} (${count})`);
  return [...shown, ...(sorted.length > 10 ? [`${sorted.length - 10} more owners`] : [])].join(", ");
}

function ownerText({ deployment, grant }: RolloutSeen, labels: Configuration["labels"]): string {
  if (labels[LABEL.base] !== undefined) return "the base deployment";
  const namespace = labels[LABEL.namespace];
  // What other tenants call their objects is theirs.
  if (!grant.isOpen && namespace !== undefined && namespace !== deployment.namespace)
    return "other namespaces";
  return namespace === undefined ? "others" : `${namespace}/${labels[LABEL.name]}`;
}
