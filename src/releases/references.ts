import type { BlobReference, ComparedWith, ModelRelease, Variant } from "../api/model-release.ts";
import { matchingStatus } from "./verdict-match.ts";

/** A model that another one is compared with. */
export type Reference = {
  readonly release: string;
  readonly variant: string;
  readonly blob: BlobReference;
  readonly digest: string;
};

/** What a variant is compared with; `null`: that check is not asked for, or there is nothing to compare with. */
export type References =
  | { readonly kind: "found"; readonly parity: Reference | null; readonly variantParity: Reference | null }
  /** It was asked for by name, and is not there. */
  | { readonly kind: "missing"; readonly message: string };

const PREVIOUS = "previous";

/**
 * @param remembered what was found when the verification began: a release that came or went since then changes nothing.
 * `null`: it has not begun.
 * @param others the releases of the namespace.
 */
export function referencesOf(
  release: ModelRelease,
  variant: Variant,
  remembered: ComparedWith | null,
  others: readonly ModelRelease[],
): References {
  const { parity, variantParity } = release.spec.verification ?? {};
  const known = remembered === null ? null : recalled(remembered, others);
  if (known !== null) return known;
  const within =
    variantParity === undefined || variantParity.reference === variant.name
      ? null
      : variantNamed(release, variantParity.reference);
  if (parity === undefined) return { kind: "found", parity: null, variantParity: within };
  if (parity.with === PREVIOUS) {
    const previous = previousOf(release, others);
    const compared = previous === null ? null : counterpart(previous, variant.name);
    return { kind: "found", parity: compared, variantParity: within };
  }
  const named = others.find(({ name }) => name === parity.with);
  if (parity.with === release.name) return missing(`${parity.with} is this release itself`);
  if (named === undefined || named.deleting)
    return missing(`ModelRelease ${parity.with} does not exist in the namespace; create it`);
  const compared = counterpart(named, variant.name);
  return compared === null
    ? missing(
        `${parity.with} has more than one variant, but neither variant ${variant.name} nor one for all device classes`,
      )
    : { kind: "found", parity: compared, variantParity: within };
}

/** What a status remembers of it; left out where the release asks for no comparison. */
export function comparedWithOf(
  release: ModelRelease,
  { parity, variantParity }: Extract<References, { readonly kind: "found" }>,
): ComparedWith | undefined {
  const asked = release.spec.verification;
  if (asked?.parity === undefined && asked?.variantParity === undefined) return undefined;
  return {
    ...(parity === null ? {} : { parity: rememberedOf(parity) }),
    ...(variantParity === null ? {} : { variantParity: rememberedOf(variantParity) }),
  };
}

function rememberedOf({ release, variant, digest }: Reference) {
  return { release, variant, digest };
}

/** `null`: what was compared with is gone, and has to be found again. */
function recalled(remembered: ComparedWith, others: readonly ModelRelease[]): References | null {
  const find = (one: ComparedWith["parity"]): Reference | null | undefined => {
    if (one === undefined) return null;
    const release = others.find(({ name }) => name === one.release);
    const variant = release?.spec.variants.find(
      ({ name, digest }) => name === one.variant && digest === one.digest,
    );
    return release === undefined || variant === undefined ? undefined : referenceTo(release, variant);
  };
  const parity = find(remembered.parity);
  const variantParity = find(remembered.variantParity);
  if (parity === undefined || variantParity === undefined) return null;
  return { kind: "found", parity, variantParity };
}

/** The newest older release of the same model that has passed; of two of one second, the name decides which is older. */
function previousOf(release: ModelRelease, others: readonly ModelRelease[]): ModelRelease | null {
  let newest: ModelRelease | null = null;
  for (const other of others) {
    if (other.spec.model !== release.spec.model || other.deleting || !isOlder(other, release)) continue;
    if (newest !== null && isOlder(other, newest)) continue;
    if (hasPassed(other)) newest = other;
  }
  return newest;
}

function isOlder(one: ModelRelease, other: ModelRelease): boolean {
  return one.createdAt === other.createdAt ? one.name < other.name : one.createdAt < other.createdAt;
}

function hasPassed(release: ModelRelease): boolean {
  return release.spec.variants.every((variant) => matchingStatus(release, variant)?.verdict === "Passed");
}

/** The variant of that name, else the one for any class of devices, else the only one. */
function counterpart(release: ModelRelease, name: string): Reference | null {
  const { variants } = release.spec;
  const found =
    variants.find((variant) => variant.name === name) ??
    variants.find(({ deviceClasses = [] }) => deviceClasses.length === 0) ??
    (variants.length === 1 ? variants[0] : undefined);
  return found === undefined ? null : referenceTo(release, found);
}

function variantNamed(release: ModelRelease, name: string): Reference | null {
  const found = release.spec.variants.find((variant) => variant.name === name);
  return found === undefined ? null : referenceTo(release, found);
}

function referenceTo(release: ModelRelease, { name, blob, digest }: Variant): Reference {
  return { release: release.name, variant: name, blob, digest };
}

function missing(message: string): References {
  return { kind: "missing", message };
}
