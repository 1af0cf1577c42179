import { hashModulo } from "../base/digest.ts";
import { own } from "../base/lookup.ts";
import type { EdgeDevice } from "./edge-device.ts";
import type { InferenceDeployment, Selector, StratumExposure } from "./inference-deployment.ts";

// What the rooms share about who belongs where. They do not import each other; they agree through these functions.

export const BUCKETS = 1_000_000;

/**
 * Place of a device in canaries: the first 8 bytes of SHA-256(`<salt>/<deviceId>`) modulo 1,000,000. It depends on
 * nothing else, so 5 % ⊂ 25 % ⊂ 100 % and anybody can compute it again.
 */
export function bucketOf(salt: string, deviceId: string): number {
  return hashModulo(`${salt}/${deviceId}`, BUCKETS);
}

export type Labels = Readonly<Record<string, string>>;

export function isEmptySelector(selector: Selector): boolean {
  return (
    Object.keys(selector.matchLabels ?? {}).length === 0 && (selector.matchExpressions ?? []).length === 0
  );
}

/** As Kubernetes matches labels, except that an empty selector matches nothing. */
export function matches(selector: Selector, labels: Labels): boolean {
  if (isEmptySelector(selector)) return false;
  for (const [key, value] of Object.entries(selector.matchLabels ?? {}))
    if (own(labels, key) !== value) return false;
  for (const { key, operator, values = [] } of selector.matchExpressions ?? []) {
    const value = own(labels, key);
    const listed = value !== undefined && values.includes(value);
    if (operator === "In" && !listed) return false;
    if (operator === "NotIn" && listed) return false;
    if (operator === "Exists" && value === undefined) return false;
    if (operator === "DoesNotExist" && value !== undefined) return false;
  }
  return true;
}

/** A deployment that is being deleted selects nothing any more. */
export function selects(
  deployment: InferenceDeployment,
  device: Pick<EdgeDevice, "namespace" | "labels">,
): boolean {
  return (
    !deployment.deleting &&
    deployment.namespace === device.namespace &&
    matches(deployment.spec.selector, device.labels)
  );
}

/** `<namespace>.<name>`: how a deployment or a release is called in tags and twins. Namespaces have no dots. */
export function qualifiedName(object: { readonly namespace: string; readonly name: string }): string {
  return `${object.namespace}.${object.name}`;
}

/** The exposure entry that a device falls under, or `undefined`: entries name a site, a class, both or neither. */
export function stratumOf(
  exposure: readonly StratumExposure[],
  device: { readonly site: string | undefined; readonly deviceClass: string },
): StratumExposure | undefined {
  return exposure.find(
    (stratum) =>
      (stratum.site === undefined || stratum.site === (device.site ?? "")) &&
      (stratum.deviceClass === undefined || stratum.deviceClass === device.deviceClass),
  );
}

export function isExposed(
  exposure: readonly StratumExposure[],
  device: { readonly site: string | undefined; readonly deviceClass: string; readonly bucket: number },
): boolean {
  const stratum = stratumOf(exposure, device);
  return stratum !== undefined && device.bucket < stratum.threshold;
}

/**
 * Whether two deployments that both select a device want the same place on it: the same module, or, without IoT Edge,
 * the one model slot that the device has, whatever their modules are called.
 */
export function contend(
  device: Pick<EdgeDevice, "spec">,
  one: Pick<InferenceDeployment, "spec">,
  other: Pick<InferenceDeployment, "spec">,
): boolean {
  return !device.spec.iotEdge || one.spec.module.name === other.spec.module.name;
}

/**
 * Which device goes with which deployment for each module: a device on which two deployments contend is a conflict, and
 * neither gets it (the tag that it has is left as it is).
 */
export type Membership =
  | { readonly kind: "member"; readonly module: string; readonly deployment: InferenceDeployment }
  | {
      readonly kind: "conflict";
      readonly module: string;
      readonly deployments: readonly InferenceDeployment[];
    };

export function membershipsOf(
  device: Pick<EdgeDevice, "namespace" | "labels" | "spec">,
  deployments: readonly InferenceDeployment[],
): readonly Membership[] {
  const selecting = deployments.filter((deployment) => selects(deployment, device));
  const byModule = Map.groupBy(selecting, ({ spec }) => spec.module.name);
  return [...byModule].map(([module, sharing]) => {
    const list = device.spec.iotEdge ? sharing : selecting;
    const [only, ...others] = list;
    if (only !== undefined && others.length === 0) return { kind: "member", module, deployment: only };
    return { kind: "conflict", module, deployments: [...list].sort((a, b) => (a.name < b.name ? -1 : 1)) };
  });
}

/** Whether a deployment has something for its devices: what they are to run, or a rollout that has begun. */
export function hasSomethingToRun({ status }: Pick<InferenceDeployment, "status">): boolean {
  return status?.stable !== undefined || (status?.phase !== undefined && status.phase !== "Pending");
}

/**
 * The deployment that the tag of a module names. A device stays with the deployment that it has (`held`, by its qualified
 * name) while two contend for it, and until the one that takes it over has something for it to run: in between no
 * configuration would match the device, and the hub would take its model away.
 */
export function taggedFor(membership: Membership, held: string | undefined): string | undefined {
  if (membership.kind === "conflict") return held;
  const { deployment } = membership;
  const isOfNamespace = held?.startsWith(`${deployment.namespace}.`) === true;
  return isOfNamespace && !hasSomethingToRun(deployment) ? held : qualifiedName(deployment);
}

/**
 * The tags, by module, that name a deployment of the namespace that does not exist: it went without cleaning up, for a
 * deletion takes its tags away first. They stay, because what is left of it on the hub still gives the device its model.
 */
export function orphanedTags(
  device: Pick<EdgeDevice, "namespace">,
  held: Readonly<Record<string, string>>,
  deployments: readonly InferenceDeployment[],
): Readonly<Record<string, string>> {
  const names = new Set(deployments.map(qualifiedName));
  return Object.fromEntries(
    Object.entries(held).filter(([, name]) => name.startsWith(`${device.namespace}.`) && !names.has(name)),
  );
}
