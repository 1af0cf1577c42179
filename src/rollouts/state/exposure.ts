import type { Step, StratumExposure } from "../../api/inference-deployment.ts";
import { BUCKETS, stratumOf } from "../../api/membership.ts";

// Who goes first. A stratum exposes the devices whose bucket is below its threshold, so one number for each stratum is
// all that is remembered, and all that the hub has to evaluate.

export type Placed = {
  readonly site: string | undefined;
  readonly deviceClass: string;
  readonly bucket: number;
};
export type StratifyBy = readonly ("Site" | "DeviceClass")[];

/** All devices: no strata and no buckets, so that joiners and new classes are included. */
export function allDevices(devices: number): readonly StratumExposure[] {
  return [{ threshold: BUCKETS, devices }];
}

/**
 * The devices that a width is a share of, and that take a place in it: those that are enabled. One that is disabled runs
 * nothing and proves nothing, so a canary of it alone would be held for ever. Where none is enabled, all of them.
 */
export function countedFor<M extends { readonly enabled: boolean }>(members: readonly M[]): readonly M[] {
  const enabled = members.filter((member) => member.enabled);
  return enabled.length === 0 ? members : enabled;
}

/** The most devices that a step may expose: `max(minimumDevices, ceil(percent of matched))`, and never more than there are. */
export function boundOf(step: Pick<Step, "percent" | "minimumDevices">, matched: number): number {
  return Math.min(matched, Math.max(step.minimumDevices ?? 0, Math.ceil((step.percent * matched) / 100)));
}

/** How many of the devices an exposure covers. */
export function countExposed(exposure: readonly StratumExposure[], devices: readonly Placed[]): number {
  const covers = exposureIndex(exposure);
  let count = 0;
  for (const device of devices) if (covers(device)) count += 1;
  return count;
}

/** `isExposed` for many devices: one look-up instead of a search through all strata. */
export function exposureIndex(exposure: readonly StratumExposure[]): (device: Placed) => boolean {
  // Only what distinguishes strata is looked at: a fleet can have a site for each device.
  const by: StratifyBy = [
    ...(exposure.some(({ site }) => site !== undefined) ? (["Site"] as const) : []),
    ...(exposure.some(({ deviceClass }) => deviceClass !== undefined) ? (["DeviceClass"] as const) : []),
  ];
  const known = new Map<string, number>();
  return (device) => {
    const key = by.length === 0 ? "" : stratumKey(device, by);
    let threshold = known.get(key);
    if (threshold === undefined) {
      threshold = stratumOf(exposure, device)?.threshold ?? 0;
      known.set(key, threshold);
    }
    return device.bucket < threshold;
  };
}

/**
 * The exposure of at most `bound` devices, shared among the strata in proportion to their size (largest remainder), at
 * least one for each stratum where the bound allows. Inside a stratum the order is that of the buckets; devices that
 * share a bucket are exposed together or not at all, so there can be fewer than `bound`, never more.
 *
 * `had` is the exposure so far. While the bound allows it no exposed device is taken out again; when it does not
 * (devices have left or joined), no device is added while others are taken out.
 */
export function expose(
  devices: readonly Placed[],
  stratifyBy: StratifyBy,
  bound: number,
  had: readonly StratumExposure[],
): readonly StratumExposure[] {
  const covered = exposureIndex(had);
  const strata = strataOf(devices, stratifyBy).map(({ site, deviceClass, members }) => {
    const buckets = members.map(({ bucket }) => bucket).sort((a, b) => a - b);
    return { site, deviceClass, buckets, had: members.filter(covered).length };
  });
  const total = strata.reduce((sum, { buckets }) => sum + buckets.length, 0);
  const already = strata.reduce((sum, stratum) => sum + stratum.had, 0);
  const most = Math.min(bound, total);
  const one = most >= strata.length ? 1 : 0;
  const shares = share(
    strata.map((stratum) => ({
      size: stratum.buckets.length,
      least: already <= most ? stratum.had : 0,
      most: already > most ? stratum.had : stratum.buckets.length,
    })),
    most,
    already <= most ? one : 0,
  );
  return strata.map(({ site, deviceClass, buckets }, index) => {
    const threshold = thresholdFor(buckets, shares[index] ?? 0);
    return {
      ...(site === undefined ? {} : { site }),
      ...(deviceClass === undefined ? {} : { deviceClass }),
      threshold,
      devices: buckets.filter((bucket) => bucket < threshold).length,
    };
  });
}

/** Whether devices fall into more strata than `limit`. */
export function hasMoreStrata(devices: readonly Placed[], stratifyBy: StratifyBy, limit: number): boolean {
  const strata = new Set<string>();
  for (const device of devices) {
    strata.add(stratumKey(device, stratifyBy));
    if (strata.size > limit) return true;
  }
  return false;
}

/** Names the stratum that a device falls into; never shown. */
export function stratumKey({ site, deviceClass }: Placed, stratifyBy: StratifyBy): string {
  return `${stratifyBy.includes("Site") ? (site ?? "") : ""}\n${stratifyBy.includes("DeviceClass") ? deviceClass : ""}`;
}

/** The strata that devices fall into, in the order of site and class. */
export function strataOf<D extends Placed>(
  devices: readonly D[],
  stratifyBy: StratifyBy,
): readonly {
  readonly site: string | undefined;
  readonly deviceClass: string | undefined;
  readonly members: readonly D[];
}[] {
  const strata = new Map<
    string,
    { site: string | undefined; deviceClass: string | undefined; members: D[] }
  >();
  for (const device of devices) {
    const site = stratifyBy.includes("Site") ? (device.site ?? "") : undefined;
    const deviceClass = stratifyBy.includes("DeviceClass") ? device.deviceClass : undefined;
    const key = stratumKey(device, stratifyBy);
    const stratum = strata.get(key) ?? { site, deviceClass, members: [] };
    stratum.members.push(device);
    strata.set(key, stratum);
  }
  return [...strata].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, stratum]) => stratum);
}

type Claim = { readonly size: number; readonly least: number; readonly most: number };

/** Shares `total` among claims in proportion to their sizes, within their bounds; whole numbers, never more than `total`. */
function share(claims: readonly Claim[], total: number, one: number): readonly number[] {
  const sizes = sumOf(claims.map(({ size }) => size));
  if (sizes === 0) return claims.map(() => 0);
  const floor = claims.map(({ least, most }) => Math.min(most, Math.max(least, one)));
  // What strata have already may leave too little for one in each stratum.
  const low = sumOf(floor) <= total ? floor : claims.map(({ least }) => least);
  const at = (scale: number): readonly number[] =>
    claims.map(({ size, most }, i) =>
      Math.max(low[i] ?? 0, Math.min(most, Math.floor((scale * total * size) / sizes))),
    );
  // The largest scale at which the rounded-down shares still fit: strata that must have more leave less for the others.
  let [below, above] = [0, 1];
  while (sumOf(at(above)) < total && above < sizes) above *= 2;
  if (sumOf(at(above)) <= total) below = above;
  for (let round = 0; round < 60 && below < above; round += 1) {
    const middle = (below + above) / 2;
    if (sumOf(at(middle)) <= total) below = middle;
    else above = middle;
  }
  const shares = [...at(below)];
  let rest = total - sumOf(shares);
  const wanting = claims
    .map(({ size }, index) => ({ index, remainder: (below * total * size) / sizes - (shares[index] ?? 0) }))
    .sort((a, b) => b.remainder - a.remainder || a.index - b.index);
  for (let given = 1; rest > 0 && given > 0; ) {
    given = 0;
    for (const { index } of wanting) {
      const claim = claims[index];
      const has = shares[index];
      if (rest === 0 || claim === undefined || has === undefined || has >= claim.most) continue;
      shares[index] = has + 1;
      rest -= 1;
      given += 1;
    }
  }
  return shares;
}

function sumOf(numbers: readonly number[]): number {
  return numbers.reduce((sum, n) => sum + n, 0);
}

/**
 * The threshold below which `count` of the sorted buckets lie, or fewer where devices share a bucket. Always one above an
 * exposed bucket: the same devices have the same threshold, however they were come by.
 */
function thresholdFor(buckets: readonly number[], count: number): number {
  const next = buckets[count];
  const last = buckets.slice(0, count).findLast((bucket) => bucket !== next);
  return last === undefined ? 0 : last + 1;
}
