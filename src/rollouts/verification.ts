import type { ModelRelease } from "../api/model-release.ts";
import { redacted } from "../base/redact.ts";
import type { ReleaseRef } from "./state/state.ts";

// What a ModelRelease says about itself: which bytes it is, and whether they have passed.

export type Verification =
  | { readonly kind: "missing" }
  | { readonly kind: "unverified"; readonly message: string }
  | { readonly kind: "verified" }
  /** A fact about the release: it does not pass, or it is not the one that was begun with. */
  | { readonly kind: "failed"; readonly message: string };

export function referenceOf(release: ModelRelease): ReleaseRef {
  return {
    release: release.name,
    digests: [...new Set(release.spec.variants.map(({ digest }) => digest))].sort(),
  };
}

/** Every variant must have passed, and its verdict must be about the digest that devices will be given. */
export function verificationOf(release: ModelRelease | undefined): Verification {
  if (release === undefined) return { kind: "missing" };
  const waiting: string[] = [];
  for (const variant of release.spec.variants) {
    const status = release.status?.variants?.find(({ name }) => name === variant.name);
    if (status === undefined || status.digest !== variant.digest)
      waiting.push(`${variant.name} has not been checked yet`);
    else if (status.verdict === "Failed") {
      const why = status.message ?? status.reason ?? "no reason given";
      return {
        kind: "failed",
        message: `variant ${variant.name} failed verification: ${redacted(why, 400)}`,
      };
    } else if (status.verdict !== "Passed") waiting.push(`${variant.name} ${status.verdict}`);
  }
  if (waiting.length === 0) return { kind: "verified" };
  return { kind: "unverified", message: waiting.join(", ") };
}

/** As `verificationOf`, for a release that is out already: one with other bytes under the same name is another one. */
export function verificationOfCandidate(
  reference: ReleaseRef,
  release: ModelRelease | undefined,
): Verification {
  if (release !== undefined && !isSame(reference, release)) {
    return {
      kind: "failed",
      message: `ModelRelease ${release.name} was replaced by one with different digests; use a new name for new files`,
    };
  }
  return verificationOf(release);
}

export function isSame(reference: ReleaseRef, release: ModelRelease): boolean {
  return reference.digests.join() === referenceOf(release).digests.join();
}
