import type { FleetTags } from "../api/device-contract.ts";
import type { EdgeDevice } from "../api/edge-device.ts";
import { BUCKETS, type Membership, qualifiedName, taggedFor } from "../api/membership.ts";
import { OWN_TAG as OWN } from "../api/ownership.ts";
import { isRecord } from "../base/guards.ts";
import { own } from "../base/lookup.ts";
import type { Json } from "../hub/hub.ts";

/** The desired `tags` of a device's twin. */
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
    /** Tags that name a deployment that does not exist. */
    readonly orphaned: Readonly<Record<string, string>>;
  },
  memberships: readonly Membership[],
  current: Json,
): WantedTags {
  const further = Object.entries(device.spec.tags ?? {}).filter(([key]) => key !== OWN);
  const tagged = deploymentsInTags(current);
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
    deployments: {
      ...(device.spec.iotEdge || memberships.length === 0 ? facts.orphaned : {}),
      ...Object.fromEntries(
        device.spec.iotEdge
          ? memberships.flatMap((one) => tagsFor(one, own(tagged, one.module)))
          : onlyTag(facts.pointed, memberships, tagged),
      ),
    },
    further: Object.fromEntries(further),
  };
}

type Tag = readonly [module: string, deployment: string];

function tagsFor(membership: Membership, held: string | undefined): readonly Tag[] {
  const name = taggedFor(membership, held);
  return name === undefined ? [] : [[membership.module, name]];
}

/**
 * Without IoT Edge a device has one place, whatever the modules are called: it keeps the tag that it has under the module
 * where that stands. Where several stand there, it is the one that the device obeys.
 */
function onlyTag(
  pointed: string | null,
  memberships: readonly Membership[],
  tagged: Readonly<Record<string, string>>,
): readonly Tag[] {
  const [first] = memberships;
  if (first === undefined) return [];
  const wanted = new Set(memberships.map(({ module }) => module));
  const tags = Object.entries(tagged).sort(([a], [b]) => (a < b ? -1 : 1));
  const held =
    tags.find(([, name]) => name === pointed) ?? tags.find(([module]) => wanted.has(module)) ?? tags[0];
  const stays = held !== undefined && taggedFor(first, held[1]) === held[1] && !isOwnName(first, held[1]);
  return stays ? [held] : tagsFor(first, held?.[1]);
}

/** Whether it is the name of the one that is to have the device: its tag follows the name of its module. */
function isOwnName(membership: Membership, name: string): boolean {
  return membership.kind === "member" && qualifiedName(membership.deployment) === name;
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

/** The patch that removes every tag that the operator has written; `null` where none is left. */
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

function record(value: unknown): Json {
  return isRecord(value) ? value : {};
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
