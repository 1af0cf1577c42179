import type { FleetTags } from "../api/device-contract.ts";
import type { EdgeDevice } from "../api/edge-device.ts";
import { BUCKETS, type Membership, qualifiedName } from "../api/membership.ts";
import { OWN_TAG as OWN } from "../api/ownership.ts";
import { own } from "../base/lookup.ts";
import type { Json } from "./seen.ts";

/** `tags` of a device's twin as they ought to be. */
export type WantedTags = {
  readonly own: Omit<Required<FleetTags>, "deployments">;
  readonly deployments: Readonly<Record<string, string>>;
  /** Further tags that the EdgeDevice asks for. */
  readonly further: Readonly<Record<string, string>>;
};

/** What the tags say about who made the identity; `null` where they say nothing. */
export function adoptedInTags(tags: Json): boolean | null {
  const adopted = record(tags[OWN])["adopted"];
  return typeof adopted === "boolean" ? adopted : null;
}

export function bucketInTags(tags: Json): number | null {
  const bucket = record(tags[OWN])["bucket"];
  return typeof bucket === "number" && Number.isInteger(bucket) && bucket >= 0 && bucket < BUCKETS
    ? bucket
    : null;
}

/** Module → `<namespace>.<name>` of the deployment it is given to. */
export function deploymentsInTags(tags: Json): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(record(record(tags[OWN])["deployments"])).flatMap(([module, name]) =>
      typeof name === "string" ? [[module, name]] : [],
    ),
  );
}

export function wantedTags(
  device: EdgeDevice,
  facts: {
    readonly clusterId: string;
    readonly bucket: number;
    readonly adopted: boolean;
    /** The deployment that the device twin's own pointer names. */
    readonly pointed: string | null;
  },
  memberships: readonly Membership[],
  current: Json,
): WantedTags {
  const further = Object.entries(device.spec.tags ?? {}).filter(([key]) => key !== OWN);
  const held = heldBy(device, facts.pointed, memberships, deploymentsInTags(current));
  return {
    own: {
      managed: true,
      cluster: facts.clusterId,
      namespace: device.namespace,
      device: device.name,
      class: device.spec.deviceClass,
      site: device.spec.site ?? "",
      bucket: facts.bucket,
      iotEdge: device.spec.iotEdge,
      adopted: facts.adopted,
      keys: further
        .map(([key]) => key)
        .sort()
        .join(","),
    },
    deployments: Object.fromEntries(
      memberships.flatMap((membership) => {
        if (membership.kind === "member") return [[membership.module, qualifiedName(membership.deployment)]];
        // Two want it: it stays where it is.
        const kept = own(held, membership.module);
        return kept === undefined ? [] : [[membership.module, kept]];
      }),
    ),
    further: Object.fromEntries(further),
  };
}

/**
 * The tags that stay while two deployments contend. Without IoT Edge one at most: where several stand there, the one that
 * the device obeys.
 */
function heldBy(
  device: EdgeDevice,
  pointed: string | null,
  memberships: readonly Membership[],
  tagged: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  if (device.spec.iotEdge) return tagged;
  const held = memberships
    .flatMap(({ kind, module }) => (kind === "conflict" && Object.hasOwn(tagged, module) ? [module] : []))
    .sort();
  const kept = held.find((module) => own(tagged, module) === pointed) ?? held[0];
  return Object.fromEntries(Object.entries(tagged).filter(([module]) => module === kept));
}

/**
 * The smallest merge patch that makes `current` say what is wanted; `null` where it does already. Tags that are not
 * ours stay as they are. A name of the cluster that is missing is added to a patch that is due, and is none of its own:
 * a new version does not write to every device at once.
 */
export function tagsPatch(wanted: WantedTags, current: Json): Json | null {
  const ours = ownPatch(wanted, own(current, OWN));
  const further = furtherPatch(wanted, current);
  if (ours === null && Object.keys(further).length === 0) return null;
  return { ...further, ...(ours === null ? {} : { [OWN]: ours }) };
}

function ownPatch(wanted: WantedTags, current: unknown): Json | null {
  if (!isRecord(current)) return { ...wanted.own, deployments: wanted.deployments };
  const fields = Object.fromEntries(
    Object.entries(wanted.own).filter(([key, value]) => own(current, key) !== value),
  );
  const deployments = mapPatch(wanted.deployments, current["deployments"]);
  const due = Object.keys(fields).filter((key) => key !== "cluster" || own(current, key) !== undefined);
  if (due.length === 0 && deployments === null) return null;
  return { ...fields, ...(deployments === null ? {} : { deployments }) };
}

/** A hub may leave an empty object out, so one that is missing is as good as an empty one. */
function mapPatch(wanted: Readonly<Record<string, string>>, current: unknown): Json | null {
  const had = record(current);
  const patch = Object.fromEntries([
    ...Object.keys(had).flatMap((key) => (Object.hasOwn(wanted, key) ? [] : [[key, null]])),
    ...Object.entries(wanted).filter(([key, value]) => own(had, key) !== value),
  ]);
  return Object.keys(patch).length === 0 ? null : patch;
}

function furtherPatch(wanted: WantedTags, current: Json): Json {
  const gone = keysInTags(current).filter(
    (key) => !Object.hasOwn(wanted.further, key) && Object.hasOwn(current, key),
  );
  return Object.fromEntries([
    ...gone.map((key) => [key, null]),
    ...Object.entries(wanted.further).filter(([key, value]) => own(current, key) !== value),
  ]);
}

/** The patch that takes everything away that we ever put there; `null` where nothing is left. */
export function bareTagsPatch(current: Json): Json | null {
  const ours = [...keysInTags(current), OWN].filter((key) => Object.hasOwn(current, key));
  return ours.length === 0 ? null : Object.fromEntries(ours.map((key) => [key, null]));
}

/** The patch after which no target condition selects the device, while its modules can still be read from the tags. */
export function deselectedPatch(current: Json): Json | null {
  const given = Object.entries(deploymentsInTags(current)).filter(([, name]) => name !== "");
  if (given.length === 0) return null;
  return { [OWN]: { deployments: Object.fromEntries(given.map(([module]) => [module, ""])) } };
}

function keysInTags(tags: Json): readonly string[] {
  return text(record(tags[OWN])["keys"])
    .split(",")
    .filter((key) => key !== "" && key !== OWN);
}

function isRecord(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function record(value: unknown): Json {
  return isRecord(value) ? value : {};
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
