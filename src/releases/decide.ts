import { REASONS } from "../api/reasons.ts";
import { unreachable } from "../base/result.ts";
import { instantOf } from "../base/time.ts";
import { planAsked } from "./answer.ts";
import type { OpenPlan, OpenSeen, ReleasePlan, VariantPlan } from "./plan.ts";
import type { ReleaseSeen, VariantSeen } from "./seen.ts";
import { faulted, missing, withoutReference } from "./start.ts";
import { withStandingVerdict } from "./variant-status.ts";
import { goldenDigestOf, stands } from "./verdict-match.ts";

/**
 *     unknown  → blobs there? → start → running → passed | failed   (stands)
 *     error    → wait, twice as long each time → start → …
 *
 * A verdict that is due for another verification stands meanwhile, and is replaced by the verdict that this ends with.
 */
export function decideRelease(seen: ReleaseSeen): ReleasePlan {
  return { variants: seen.variants.map((variant) => planVariant(seen, variant)) };
}

function planVariant(seen: ReleaseSeen, one: VariantSeen): VariantPlan {
  if (one.kind === "settled") {
    const retryAt = one.save ? undefined : one.had.reportError?.retryAt;
    const reportAt = retryAt === undefined ? null : instantOf(retryAt);
    return {
      next: one.had,
      start: null,
      save: one.save,
      waiting: { kind: "again", next: one.next, reportAt },
    };
  }
  const plan = planOpen(seen, one);
  return { ...plan, next: withStandingVerdict(one, plan.next), save: false };
}

function planOpen(seen: ReleaseSeen, one: OpenSeen): OpenPlan {
  switch (one.kind) {
    case "waiting":
      return {
        next: one.had,
        start: null,
        waiting:
          one.retryAt === null
            ? { kind: "again", next: { kind: "slot" }, reportAt: null }
            : { kind: "retry", at: one.retryAt },
      };
    case "unreachable": {
      const blocked = one.blob.kind === "missing" ? missing(seen, one, [one.variant.blob]) : null;
      return blocked ?? faulted(seen, one, "verifier", one.fault);
    }
    case "unresolved": {
      const blocked = one.blob.kind === "missing" ? missing(seen, one, [one.variant.blob]) : null;
      return blocked ?? withoutReference(seen, one, one.message, { kind: "reference" });
    }
    case "refused":
      return refused(seen, one);
    case "asked":
      return planAsked(seen, one);
    default:
      return unreachable(one);
  }
}

/** A verdict stands, and what runs continues; nothing is asked, started or reported about files that it may not use. */
export function refused(seen: ReleaseSeen, one: Extract<OpenSeen, { readonly kind: "refused" }>): OpenPlan {
  const { had, variant, message } = one;
  if (had !== null && one.standing === null && stands(had)) {
    const { reverification: _begun, ...verdict } = had;
    return { next: verdict, start: null, waiting: { kind: "nothing" } };
  }
  const goldenDigest = goldenDigestOf(seen.release);
  return {
    next: {
      name: variant.name,
      digest: variant.digest,
      ...(goldenDigest === null ? {} : { goldenDigest }),
      verdict: "Pending",
      reason: REASONS.NotPermitted,
      message,
    },
    start: null,
    waiting: { kind: "nothing" },
  };
}
