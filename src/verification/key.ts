import { canonicalJson, digestOf } from "../base/digest.ts";
import type { Download, VerificationKey, VerifyRequest } from "./verification.ts";

/** A blob as it was when it was read: other bytes have another etag. */
export type BlobState = { readonly container: string; readonly path: string; readonly etag: string };

/** What a verdict is about: a request, or as much of one as there is before anything was signed or measured. */
export type Question = Pick<VerifyRequest, "checks"> & {
  readonly model: Pick<Download, "digest"> & { readonly blob?: BlobState };
  readonly golden: Pick<Download, "digest"> | null;
  readonly parity: Pick<Download, "digest"> | null;
  readonly variantParity: Pick<Download, "digest"> | null;
  /** Asked again: when that was decided. `null` or left out: asked for the first time. */
  readonly round?: string | null;
};

/**
 * The identity of a verdict: 64 hexadecimal digits over the model's blob, the digests, the checks and the verifier's
 * version. Passed means that this blob has these bytes, so another blob of the same digest is another question. Where
 * other files lie, who asks, and by which schedule it is asked again are no part of it: a new SAS URL is not a new
 * question. Asking again is one, so each round has a key of its own.
 * @param verifierVersion as `Verifier.version` answers it.
 */
export function keyOf(request: Question, verifierVersion: string): VerificationKey {
  const { golden, reverify: _when, ...checks } = request.checks;
  const { blob: _, ...goldenChecks } = golden ?? { blob: null };
  const identity = canonicalJson({
    model: request.model.digest,
    blob: blobOf(request.model),
    golden: request.golden?.digest ?? null,
    parity: request.parity?.digest ?? null,
    variantParity: request.variantParity?.digest ?? null,
    checks: { ...checks, golden: golden === undefined ? null : goldenChecks },
    verifierVersion,
    ...(typeof request.round === "string" ? { round: request.round } : {}),
  });
  return digestOf(identity).replace("sha256:", "") as VerificationKey;
}

function blobOf({ blob }: Question["model"]): BlobState | null {
  if (blob === undefined) return null;
  const { container, path, etag } = blob;
  return { container, path, etag };
}
