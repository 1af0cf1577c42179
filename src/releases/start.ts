import type { BlobReference, VariantStatus } from "../api/model-release.ts";
import { REASONS, type Reason } from "../api/reasons.ts";
import type { Fault } from "../base/fault.ts";
import { minutes, timestampOf } from "../base/time.ts";
import type { AskedSeen, LookedSeen, OpenPlan, SizedReference, Waiting } from "./plan.ts";
import type { Reference } from "./references.ts";
import type { ReferenceSeen, ReleaseSeen, VariantSeen } from "./seen.ts";
import { attemptsOf, baseOf, faultedStatus, sizeOf, withStandingVerdict } from "./variant-status.ts";

// A verification that is to be started, and what has to be there first.

/** How long the verifier may read the blobs; URLs are made for every start and stored nowhere. */
export const URL_LIFETIME = minutes(60);

export function planStart(seen: ReleaseSeen, one: AskedSeen): OpenPlan {
  const { variant, key, blob, golden, parity, variantParity } = one;
  const goldenBlob = seen.release.spec.verification?.golden?.blob;
  const gone = [
    ...(blob.kind === "missing" ? [variant.blob] : []),
    ...(golden.kind === "missing" && goldenBlob !== undefined ? [goldenBlob] : []),
  ];
  if (gone.length > 0) return missing(seen, one, gone);
  for (const reference of [parity, variantParity]) {
    if (reference?.found.kind !== "missing") continue;
    const what = `the model ${nameOf(reference.blob)} of ${shown(reference)}`;
    return withoutReference(seen, one, `${what} is not in the store; upload it`, { kind: "blob" });
  }
  for (const each of [blob, golden, parity?.found, variantParity?.found])
    if (each?.kind === "unreadable") return faulted(seen, one, "store", each.fault);
  return {
    next: {
      ...baseOf(seen, one),
      ...attemptsOf(one.had),
      startedAt: timestampOf(seen.now),
      verdict: "Running",
      reason: REASONS.VerificationRunning,
      message: "started",
    },
    start: {
      variant,
      key,
      urgency: one.standing === null ? "new" : "again",
      sizeBytes: sizeOf(blob) ?? 0,
      etag: blob.kind === "found" ? blob.etag : "",
      goldenSizeBytes: goldenBlob === undefined ? null : (sizeOf(golden) ?? 0),
      parity: sized(parity),
      variantParity: sized(variantParity),
    },
    waiting: { kind: "verifier" },
  };
}

function sized(reference: ReferenceSeen | null): SizedReference | null {
  if (reference === null) return null;
  const { found, ...rest } = reference;
  return { ...rest, sizeBytes: sizeOf(found) ?? 0 };
}

export function withoutReference(
  seen: ReleaseSeen,
  one: LookedSeen,
  why: string,
  waiting: Waiting,
): OpenPlan {
  return pending(seen, one, REASONS.ReferenceMissing, `it cannot be compared: ${why}`, waiting);
}

/** Nothing is started before what is missing is there. */
function pending(
  seen: ReleaseSeen,
  one: LookedSeen,
  reason: Reason,
  message: string,
  waiting: Waiting,
): OpenPlan {
  const next = { ...baseOf(seen, one), ...attemptsOf(one.had), verdict: "Pending", reason, message } as const;
  return { next, start: null, waiting };
}

/** What the verifier's words call it. */
export function shown({ release, variant }: Pick<Reference, "release" | "variant">): string {
  return `${release} (${variant})`;
}

export function missing(seen: ReleaseSeen, one: LookedSeen, blobs: readonly BlobReference[]): OpenPlan {
  const what = blobs.map((blob) =>
    blob === one.variant.blob ? `the model ${nameOf(blob)}` : `the golden set ${nameOf(blob)}`,
  );
  const many = blobs.length > 1;
  const message = `${what.join(" and ")} ${many ? "are" : "is"} not in the store; upload ${many ? "them" : "it"}, or create a new release with the correct path`;
  return pending(seen, one, REASONS.BlobMissing, message, { kind: "blob" });
}

/** A start that did not happen leaves its variant where it was, with the reason why. */
export function startFailed(
  seen: ReleaseSeen,
  one: VariantSeen,
  source: "store" | "verifier",
  fault: Fault,
): VariantStatus | null {
  return one.kind === "asked"
    ? withStandingVerdict(one, faultedStatus(baseOf(seen, one), one.had, source, fault))
    : null;
}

export function faulted(
  seen: ReleaseSeen,
  one: LookedSeen,
  source: "store" | "verifier",
  fault: Fault,
): OpenPlan {
  return {
    next: faultedStatus(baseOf(seen, one), one.had, source, fault),
    start: null,
    waiting: { kind: "fault", source, fault },
  };
}

function nameOf({ container, path }: BlobReference): string {
  return `${container}/${path}`;
}
