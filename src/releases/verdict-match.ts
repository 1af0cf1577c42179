import type { ModelRelease, Variant, VariantStatus, Verification } from "../api/model-release.ts";
import { VERIFICATION_DEFAULTS } from "../api/verification-spec.ts";

export function checksOf(release: ModelRelease): Verification {
  return release.spec.verification ?? VERIFICATION_DEFAULTS;
}

export function goldenDigestOf(release: ModelRelease): string | null {
  return release.spec.verification?.golden?.digest ?? null;
}

/**
 * What the status says of exactly these bytes, this golden set and these checks; `null` where it says nothing. The
 * checks are those of a generation: a verdict of another one is none. What it was compared with is no part of this: a
 * verdict does not change because a newer or older release came or went.
 */
export function matchingStatus(release: ModelRelease, variant: Variant): VariantStatus | null {
  if (release.status?.observedGeneration !== release.generation) return null;
  const had = release.status.variants?.find(({ name }) => name === variant.name);
  if (had === undefined || had.digest !== variant.digest) return null;
  return (had.goldenDigest ?? null) === goldenDigestOf(release) ? had : null;
}

/** A verdict stands until there is another one, whatever may be verified again in the meantime. */
export function stands(had: VariantStatus): boolean {
  return had.verdict === "Passed" || had.verdict === "Failed";
}
