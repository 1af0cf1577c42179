import type { VariantStatus } from "../api/model-release.ts";
import { REASONS, type Reason } from "../api/reasons.ts";
import type { Fault } from "../base/fault.ts";
import { redacted } from "../base/redact.ts";
import type { LookedSeen } from "./plan.ts";
import { comparedWithOf } from "./references.ts";
import type { BlobSeen, ReleaseSeen, VariantSeen } from "./seen.ts";
import { goldenDigestOf } from "./verdict-match.ts";

// The status of a variant, from what was seen of it.

/** What is verified again shows below the verdict that stands, until there is another. */
export function withStandingVerdict(one: Pick<VariantSeen, "standing">, next: VariantStatus): VariantStatus {
  if (one.standing === null || next.verdict === "Passed" || next.verdict === "Failed") return next;
  const { verdict: standing, since, cause } = one.standing;
  const { verdict, reason, message, startedAt, comparedWith, attempts, retryAt } = next;
  const progress = { reason, message, startedAt, comparedWith, attempts, retryAt };
  const { reverification: _before, ...rest } = standing;
  return { ...rest, reverification: { since, cause, verdict, ...definedOf(progress) } };
}

/** Without the keys that have no value. */
function definedOf<T extends object>(fields: T): { readonly [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    readonly [K in keyof T]: Exclude<T[K], undefined>;
  };
}

/** A variant that waits for a system that fails; the first message of a problem stays for as long as the problem does. */
export function faultedStatus(
  base: Base,
  had: VariantStatus | null,
  source: "store" | "verifier",
  fault: Fault,
): VariantStatus {
  const reason = reasonOf(source, fault);
  return {
    ...base,
    ...attemptsOf(had),
    verdict: "Pending",
    reason,
    message: had?.reason === reason && had.message !== undefined ? had.message : messageFor(source, fault),
  };
}

function reasonOf(source: "store" | "verifier", fault: Fault): Reason {
  if (source === "store") return fault.kind === "denied" ? REASONS.StoreDenied : REASONS.StoreUnavailable;
  return fault.kind === "rejected" ? REASONS.VerificationError : REASONS.VerifierUnavailable;
}

function messageFor(source: "store" | "verifier", fault: Fault): string {
  const cause = redacted(fault.message);
  if (source === "store")
    return fault.kind === "denied"
      ? `the store refuses the operator's credential (${cause}); grant it permission to read blobs and to sign URLs`
      : `the store cannot be read (${cause}); it will be retried automatically`;
  return fault.kind === "rejected"
    ? `the verifier rejected the request: ${cause}`
    : `the verifier is not responding (${cause}); it will be retried automatically`;
}

type Base = Pick<VariantStatus, "name" | "digest" | "sizeBytes" | "etag" | "goldenDigest" | "comparedWith">;

export function baseOf(seen: ReleaseSeen, one: LookedSeen): Base {
  const blob = one.kind === "waiting" ? null : one.blob;
  const sizeBytes =
    blob?.kind === "missing" ? null : ((blob === null ? null : sizeOf(blob)) ?? one.had?.sizeBytes);
  const goldenDigest = goldenDigestOf(seen.release);
  return {
    name: one.variant.name,
    digest: one.variant.digest,
    ...(sizeBytes === null || sizeBytes === undefined ? {} : { sizeBytes }),
    ...(blob?.kind === "found" ? { etag: blob.etag } : {}),
    ...(goldenDigest === null ? {} : { goldenDigest }),
    ...comparisonOf(seen, one),
  };
}

/** What was found once stays, so that the question does not change while it is asked. */
function comparisonOf(seen: ReleaseSeen, one: LookedSeen): Pick<VariantStatus, "comparedWith"> {
  const comparedWith =
    one.kind === "asked" ? comparedWithOf(seen.release, { ...one, kind: "found" }) : one.had?.comparedWith;
  return comparedWith === undefined ? {} : { comparedWith };
}

export function sizeOf(blob: BlobSeen): number | null {
  return blob.kind === "found" ? blob.sizeBytes : null;
}

export function attemptsOf(had: VariantStatus | null): Pick<VariantStatus, "attempts"> {
  return had?.attempts === undefined ? {} : { attempts: had.attempts };
}
