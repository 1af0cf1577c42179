import type { BlobReference, ModelRelease, Variant } from "../api/model-release.ts";
import { blobRefusal, type Grant, mayUseBlob } from "../api/tenancy.ts";
import type { References } from "./references.ts";

/** Why the files of a variant may not be used by the release's namespace; `null`: they may. */
export function filesRefusal(grant: Grant, release: ModelRelease, variant: Variant): string | null {
  const golden = release.spec.verification?.golden;
  return firstRefusal(grant, release, [variant.blob, ...(golden === undefined ? [] : [golden.blob])]);
}

/** The same for what it is compared with: a release that named the file may have been given it before. */
export function referencesRefusal(
  grant: Grant,
  release: ModelRelease,
  { parity, variantParity }: Extract<References, { readonly kind: "found" }>,
): string | null {
  return firstRefusal(
    grant,
    release,
    [parity, variantParity].flatMap((reference) => (reference === null ? [] : [reference.blob])),
  );
}

function firstRefusal(
  grant: Grant,
  { namespace }: ModelRelease,
  blobs: readonly BlobReference[],
): string | null {
  const refused = blobs.find((blob) => !mayUseBlob(grant, blob));
  return refused === undefined ? null : blobRefusal(namespace, grant, refused);
}
