import type { Configuration } from "../../hub/hub.ts";
import type { RolloutSeen, Track } from "../seen.ts";
import { isForeign, LABEL } from "./content.ts";

// Which configurations of the hub are a deployment's.

/** Our configurations, by name: an object that was deleted and created again takes over what it finds. */
export function ownConfigurations(
  seen: Pick<RolloutSeen, "deployment" | "configurations" | "settings">,
): readonly Configuration[] {
  return namesakes(seen).filter((configuration) => !isForeign(configuration, seen.settings.clusterId));
}

export function namesakes(
  seen: Pick<RolloutSeen, "deployment" | "configurations">,
): readonly Configuration[] {
  const { namespace, name } = seen.deployment;
  return (seen.configurations ?? []).filter(
    ({ labels }) => labels[LABEL.namespace] === namespace && labels[LABEL.name] === name,
  );
}

/** The base deployments that are ours to replace: another cluster's operator keeps its own. */
export function ownBases(seen: RolloutSeen): readonly Configuration[] {
  return (seen.configurations ?? []).filter(
    (configuration) =>
      configuration.labels[LABEL.base] !== undefined && !isForeign(configuration, seen.settings.clusterId),
  );
}

/** When the URL in a configuration ends, in milliseconds since the epoch; 0 where it does not say. */
export function expiryOf(configuration: Configuration): number {
  const written = Number(configuration.labels[LABEL.urlExpires]);
  return Number.isFinite(written) ? written * 1000 : 0;
}

export function ownOn(seen: Pick<RolloutSeen, "own">, track: Track): readonly Configuration[] {
  return seen.own.filter(({ labels }) => labels[LABEL.track] === track);
}
