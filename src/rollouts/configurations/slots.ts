import { qualifiedName } from "../../api/membership.ts";
import { type ModelRelease, type Variant, variantFor } from "../../api/model-release.ts";
import type { ConfigurationKind } from "../../hub/hub.ts";
import type { Member, RolloutSeen } from "../seen.ts";
import { boundOf, countedFor, expose, type StratifyBy } from "../state/exposure.ts";
import { stepsOf, stratifyByOf } from "../state/strategy.ts";
import { contentHash, pointerDraft } from "./content.ts";
import {
  candidateCondition,
  EXCEPTIONS_LIMIT,
  MATCH_NONE,
  stableCondition,
  stratification,
  type Target,
} from "./target.ts";

// Which configurations a release needs for the devices that there are, and which devices each of them targets.

/** One configuration that devices of a variant need: the deployment's own, whatever track it is on. */
export type ConfigurationSlot = {
  readonly kind: ConfigurationKind;
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
  seen: RolloutSeen,
  release: ModelRelease,
  including: readonly string[] = [],
): readonly ConfigurationSlot[] {
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
export function wantedElsewhere(seen: RolloutSeen) {
  const moving = seen.staleDevices.filter(({ heirs }) => heirs.length > 0);
  return [...seen.contested, ...moving].filter(({ tagged }) => tagged);
}

/**
 * As soon as all that carry our tag, and are to keep what they run, name the cluster in their tags too; a tag that an
 * older version wrote does not.
 */
export function clusterOf(seen: RolloutSeen): string | null {
  const served = [...seen.members.filter(({ tagged }) => tagged), ...wantedElsewhere(seen)];
  return served.every(({ namesCluster }) => namesCluster) ? seen.settings.clusterId : null;
}

/** Devices wanted elsewhere that are desired on none of these releases: a condition that does not name them would move them. */
function exceptionsOf(seen: RolloutSeen, releases: readonly string[]): readonly string[] {
  const { namespace } = seen.deployment;
  const deployment = qualifiedName(seen.deployment);
  const running = new Set(releases.map((name) => qualifiedName({ namespace, name })));
  return wantedElsewhere(seen)
    .filter(({ pointer }) => !(pointer?.deployment === deployment && running.has(pointer.release)))
    .map(({ device }) => device)
    .sort()
    .slice(0, EXCEPTIONS_LIMIT);
}

export function kindOf(member: Pick<Member, "iotEdge">): ConfigurationKind {
  return member.iotEdge ? "edge" : "device";
}

/** How finely a canary of this release can be divided: as asked for, or as finely as the hub's conditions allow. */
export function stratifyFor(seen: RolloutSeen, release: ModelRelease): StratifyBy {
  const wanted = stratifyByOf(seen);
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
export function conditionsToTest(seen: RolloutSeen, release: ModelRelease): readonly string[] {
  const step = stepsOf(seen)[0];
  if (step === undefined || seen.members.length === 0) return [];
  const counted = countedFor(seen.members);
  const exposure = expose(counted, stratifyFor(seen, release), boundOf(step, counted.length), []);
  const conditions = slotsOf(seen, release).flatMap(({ target }) => [
    stableCondition(target),
    candidateCondition(target, exposure),
  ]);
  return [...new Set([MATCH_NONE, ...conditions])];
}
