import type { FleetTags } from "../api/device-contract.ts";
import type { EdgeDevice } from "../api/edge-device.ts";
import { type Membership, taggedFor } from "../api/membership.ts";
import type { Json } from "./seen.ts";

/** The root tag that is the operator's own. */
export const OWN = "edgefleet";

/** `tags` of a device's twin as they ought to be. */
export type WantedTags = {
  readonly own: Omit<Required<FleetTags>, "deployments">;
  readonly deployments: Readonly<Record<string, string>>;
  /** Further tags that the EdgeDevice asks for. */
  readonly further: Readonly<Record<string, string>>;
};

export type Owner = { readonly namespace: string; readonly device: string };

/** The EdgeDevice that the tags name; `null` where nobody manages the twin. */
export function ownerOf(tags: Json): Owner | null {
  const own = record(tags[OWN]);
  if (own["managed"] !== true) return null;
  return { namespace: text(own["namespace"]), device: text(own["device"]) };
}

export function isOwner(device: Pick<EdgeDevice, "namespace" | "name">, owner: Owner): boolean {
  return owner.namespace === device.namespace && owner.device === device.name;
}

/** What the tags say about who made the identity; `null` where they say nothing. */
export function adoptedInTags(tags: Json): boolean | null {
  const adopted = record(tags[OWN])["adopted"];
  return typeof adopted === "boolean" ? adopted : null;
}

export function bucketInTags(tags: Json): number | null {
  const bucket = record(tags[OWN])["bucket"];
  return typeof bucket === "number" ? bucket : null;
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
    readonly bucket: number;
    readonly adopted: boolean;
    /** Tags that name a deployment that does not exist. */
    readonly orphaned: Readonly<Record<string, string>>;
  },
  memberships: readonly Membership[],
  current: Json,
): WantedTags {
  const further = Object.entries(device.spec.tags ?? {}).filter(([key]) => key !== OWN);
  const held = deploymentsInTags(current);
  return {
    own: {
      managed: true,
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
        memberships.flatMap((membership) => {
          const name = taggedFor(membership, held[membership.module]);
          return name === undefined ? [] : [[membership.module, name]];
        }),
      ),
    },
    further: Object.fromEntries(further),
  };
}

/**
 * The smallest merge patch that makes `current` say what is wanted; `null` where it does already. Tags that are not
 * ours stay as they are.
 */
export function tagsPatch(wanted: WantedTags, current: Json): Json | null {
  const own = ownPatch(wanted, current[OWN]);
  const further = furtherPatch(wanted, current);
  if (own === null && Object.keys(further).length === 0) return null;
  return { ...further, ...(own === null ? {} : { [OWN]: own }) };
}

function ownPatch(wanted: WantedTags, current: unknown): Json | null {
  if (!isRecord(current)) return { ...wanted.own, deployments: wanted.deployments };
  const fields = Object.fromEntries(
    Object.entries(wanted.own).filter(([key, value]) => current[key] !== value),
  );
  const deployments = mapPatch(wanted.deployments, current["deployments"]);
  if (Object.keys(fields).length === 0 && deployments === null) return null;
  return { ...fields, ...(deployments === null ? {} : { deployments }) };
}

/** A hub may leave an empty object out, so one that is missing is as good as an empty one. */
function mapPatch(wanted: Readonly<Record<string, string>>, current: unknown): Json | null {
  const had = record(current);
  const patch = Object.fromEntries([
    ...Object.keys(had).flatMap((key) => (Object.hasOwn(wanted, key) ? [] : [[key, null]])),
    ...Object.entries(wanted).filter(([key, value]) => had[key] !== value),
  ]);
  return Object.keys(patch).length === 0 ? null : patch;
}

function furtherPatch(wanted: WantedTags, current: Json): Json {
  const gone = keysInTags(current).filter(
    (key) => !Object.hasOwn(wanted.further, key) && Object.hasOwn(current, key),
  );
  return Object.fromEntries([
    ...gone.map((key) => [key, null]),
    ...Object.entries(wanted.further).filter(([key, value]) => current[key] !== value),
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
