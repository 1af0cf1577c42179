import type { StratumExposure } from "../../api/inference-deployment.ts";
import { BUCKETS } from "../../api/membership.ts";
import { type Variant, variantFor } from "../../api/model-release.ts";
import type { ConfigurationKind } from "../../hub/hub.ts";
import { hasMoreStrata, type Placed, type StratifyBy, strataOf } from "../state/exposure.ts";

// Target conditions: a WHERE expression over tags, with AND, OR, comparisons and single quotes only. `IN`, double
// quotes and functions are refused by the hub. Every value is quoted here, and nowhere else.

export const BUCKET = "tags.edgefleet.bucket";
export const CLASS = "tags.edgefleet.class";
export const SITE = "tags.edgefleet.site";
export const DEVICE = "deviceId";

/** Valid, and true for no device: buckets begin at 0. */
export const MATCH_NONE = `${BUCKET} < 0`;

/** Above this the hub's own metric query, which contains the condition, comes near its limit of 8192 characters. */
export const CONDITION_LIMIT = 6000;
/** As many strata as `status.exposure` has room for. */
const STRATA_LIMIT = 512;
/** Devices that another deployment selects too can be kept out one by one, up to this many. */
export const EXCEPTIONS_LIMIT = 20;

export type Target = {
  /** `<namespace>.<name>` of the deployment. */
  readonly deployment: string;
  readonly module: string;
  /** Keeps devices of other clusters out, whose deployment may have the same name; `null`: some tags do not name theirs. */
  readonly clusterId: string | null;
  readonly kind: ConfigurationKind;
  /** The variant that the condition is for, and all variants of its release. */
  readonly variant: Variant;
  readonly variants: readonly Variant[];
  /** Devices that another deployment wants too, and that run something else: they are not moved. */
  readonly except: readonly string[];
};

/** Every device of the deployment that the variant is for. */
export function stableCondition(target: Target): string {
  return and([...ownTag(target), ...classClause(target), ...exceptions(target)]);
}

/** Devices that keep what they run, one by one: an id is one device's, whatever clusters share the hub. */
export function keptCondition(
  target: Pick<Target, "deployment" | "module" | "kind">,
  kept: readonly string[],
): string {
  return and([
    ...ownTag({ ...target, clusterId: null }),
    or(kept.map((device) => `${DEVICE} = ${quoted(device)}`)),
  ]);
}

/** Whether the condition names the devices that it is for: they keep what others no longer run. */
export function isKept(condition: string): boolean {
  return condition.includes(`${DEVICE} = '`);
}

/** The devices among them that the exposure covers; `MATCH_NONE` where it covers none. */
export function candidateCondition(target: Target, exposure: readonly StratumExposure[]): string {
  const strata = exposure.filter((stratum) => stratum.threshold > 0 && concerns(target, stratum));
  if (strata.length === 0) return MATCH_NONE;
  const except = exceptions(target);
  const all = strata.some(
    ({ site, deviceClass, threshold }) =>
      site === undefined && deviceClass === undefined && threshold >= BUCKETS,
  );
  if (all) return and([...ownTag(target), ...classClause(target), ...except]);
  // A stratum that names its class says which variant it is for.
  const classes = strata.every(({ deviceClass }) => deviceClass !== undefined) ? [] : classClause(target);
  return and([...ownTag(target), ...classes, or(strata.map(stratumClause)), ...except]);
}

/**
 * The finest stratification, of those asked for, whose conditions stay short enough for the hub: sites are merged
 * first, then classes.
 */
export function stratification(
  devices: readonly Placed[],
  wanted: StratifyBy,
  target: Omit<Target, "variant">,
): StratifyBy {
  const levels: readonly StratifyBy[] = [wanted, wanted.filter((by) => by !== "Site"), []];
  for (const level of levels) {
    // A fleet with a site for each device has as many strata: found out before they are made.
    if (hasMoreStrata(devices, level, STRATA_LIMIT)) continue;
    const strata = strataOf(devices, level).map(({ site, deviceClass }) => ({
      ...(site === undefined ? {} : { site }),
      ...(deviceClass === undefined ? {} : { deviceClass }),
      threshold: BUCKETS - 1,
      devices: 0,
    }));
    const longest = Math.max(
      0,
      ...target.variants.map((variant) => candidateCondition({ ...target, variant }, strata).length),
    );
    if (longest <= CONDITION_LIMIT) return level;
  }
  return [];
}

function concerns(target: Target, { deviceClass }: StratumExposure): boolean {
  return deviceClass === undefined || variantFor(target.variants, deviceClass)?.name === target.variant.name;
}

function exceptions({ except }: Pick<Target, "except">): readonly string[] {
  return except.map((device) => `${DEVICE} != ${quoted(device)}`);
}

function ownTag({
  deployment,
  module,
  clusterId,
  kind,
}: Pick<Target, "deployment" | "module" | "clusterId" | "kind">): readonly string[] {
  return [
    `tags.edgefleet.deployments.${pathPart(module)} = ${quoted(deployment)}`,
    `tags.edgefleet.iotEdge = ${kind === "edge"}`,
    ...(clusterId === null ? [] : [clusterClause(clusterId)]),
  ];
}

function classClause({ variant, variants }: Target): readonly string[] {
  const own = variant.deviceClasses ?? [];
  if (own.length > 0) return [or(own.map((name) => `${CLASS} = ${quoted(name)}`))];
  const others = variants.flatMap(({ deviceClasses }) => deviceClasses ?? []);
  return others.map((name) => `${CLASS} != ${quoted(name)}`);
}

function stratumClause({ site, deviceClass, threshold }: StratumExposure): string {
  return and([
    ...(deviceClass === undefined ? [] : [`${CLASS} = ${quoted(deviceClass)}`]),
    ...(site === undefined ? [] : [`${SITE} = ${quoted(site)}`]),
    `${BUCKET} < ${threshold}`,
  ]);
}

/** What all alternatives have in common, and one of the alternatives; none of either selects no device. */
export function printed(common: readonly string[], alternatives: readonly (readonly string[])[]): string {
  if (common.length === 0 && alternatives.length === 0) return MATCH_NONE;
  return and([...common, ...(alternatives.length === 0 ? [] : [or(alternatives.map(and))])]);
}

function and(clauses: readonly string[]): string {
  return clauses.join(" AND ");
}

function or(clauses: readonly string[]): string {
  const [only, ...others] = clauses;
  if (only !== undefined && others.length === 0) return only;
  return `(${clauses.map((clause) => (clause.includes(" AND ") ? `(${clause})` : clause)).join(" OR ")})`;
}

export function quoted(value: string): string {
  return `'${value.replaceAll("'", "''")}'`;
}

/** Words of the hub's query language: bare in a path they are read as the word (a tag called group, for one, fails). */
const RESERVED = new Set(
  "all and as asc between by case count desc devices distinct end exists false from group having in is_defined join jobs like max min modules nin not null on or order select sum then top true undefined value when where".split(
    " ",
  ),
);

/** A part of a path that is no plain word, or a reserved one, must stand in double square brackets. */
function pathPart(name: string): string {
  return /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && !RESERVED.has(name.toLowerCase()) ? name : `[[${name}]]`;
}

function clusterClause(clusterId: string): string {
  return `tags.edgefleet.cluster = ${quoted(clusterId)}`;
}

/** Whether a condition keeps out the devices of every other cluster. */
export function targetsCluster(condition: string, clusterId: string): boolean {
  return condition === MATCH_NONE || condition.includes(clusterClause(clusterId));
}
