import type { EdgeDevice } from "../../api/edge-device.ts";
import type { InferenceDeployment } from "../../api/inference-deployment.ts";
import { isExposed, type Membership, qualifiedName } from "../../api/membership.ts";
import { own } from "../../base/lookup.ts";
import type { ModuleSlot } from "../seen.ts";

/** Which release a device is meant to run in one module, and who says so. */
export type Placement = {
  readonly deployment: string;
  readonly module: string;
  readonly track: "Stable" | "Candidate";
  /** `null`: the deployment has no release for this device yet. */
  readonly release: string | null;
  /** Digests of that release: the device runs it when it reports one of them. */
  readonly digests: readonly string[];
};

/**
 * Sorted by module. A module that two deployments want stays where the tags (`held`) have it, and with the release that
 * its twin is desired on (`pointed`): neither deployment moves it.
 */
export function placementsOf(
  device: Pick<EdgeDevice, "spec">,
  bucket: number,
  memberships: readonly Membership[],
  held: Readonly<Record<string, string>>,
  pointed: (module: string) => ModuleSlot["pointer"],
): readonly Placement[] {
  const placements = memberships.flatMap((membership) => {
    const { module } = membership;
    if (membership.kind === "member") return [placementOf(device, bucket, module, membership.deployment)];
    const kept = membership.deployments.find((deployment) => qualifiedName(deployment) === own(held, module));
    return kept === undefined ? [] : [keptWhere(pointed(module), module, kept)];
  });
  return placements.sort((a, b) => (a.module < b.module ? -1 : 1));
}

function keptWhere(
  pointer: ModuleSlot["pointer"],
  module: string,
  deployment: InferenceDeployment,
): Placement {
  const { name, namespace } = deployment;
  const isIts = pointer !== null && pointer.deployment === qualifiedName(deployment);
  return {
    deployment: name,
    module,
    track: "Stable",
    release: isIts ? pointer.release.slice(namespace.length + 1) : null,
    digests: isIts ? [pointer.digest] : [],
  };
}

function placementOf(
  device: Pick<EdgeDevice, "spec">,
  bucket: number,
  module: string,
  { name, status }: InferenceDeployment,
): Placement {
  const { site, deviceClass } = device.spec;
  const candidate = status?.candidate;
  const exposed =
    candidate !== undefined &&
    status?.phase !== "RollingBack" &&
    status?.phase !== "RolledBack" &&
    isExposed(status?.exposure ?? [], { site, deviceClass, bucket });
  const wanted = exposed ? candidate : status?.stable;
  return {
    deployment: name,
    module,
    track: exposed ? "Candidate" : "Stable",
    release: wanted?.release ?? null,
    digests: wanted?.digests ?? [],
  };
}
