import type { Variant, VariantStatus } from "../api/model-release.ts";
import type { Fault } from "../base/fault.ts";
import type { Instant } from "../base/time.ts";
import type { VerificationKey } from "../verification/verification.ts";
import type { Reference } from "./references.ts";
import type { Next, VariantSeen } from "./seen.ts";

// What a pass is to do about a release, variant by variant.

/** A verification to start. */
export type Start = {
  readonly variant: Variant;
  readonly key: VerificationKey;
  /** `again`: a verdict stands, and others may go first. */
  readonly urgency: "new" | "again";
  readonly sizeBytes: number;
  /** State of the model's blob that is verified. */
  readonly etag: string;
  /** `null`: the release has no golden set. */
  readonly goldenSizeBytes: number | null;
  /** `null`: nothing to compare with. */
  readonly parity: SizedReference | null;
  readonly variantParity: SizedReference | null;
};

export type SizedReference = Reference & { readonly sizeBytes: number };

/** What a variant waits for. */
export type Waiting =
  | { readonly kind: "nothing" }
  | { readonly kind: "verifier" }
  /** A person has to upload something. */
  | { readonly kind: "blob" }
  /** Another object has to come. */
  | { readonly kind: "reference" }
  | { readonly kind: "retry"; readonly at: Instant }
  /** It has a verdict; this is about the next one, or about the report of this one. */
  | { readonly kind: "again"; readonly next: Next; readonly reportAt: Instant | null }
  | { readonly kind: "fault"; readonly source: "store" | "verifier"; readonly fault: Fault };

export type VariantPlan = {
  /** The status once everything that is planned has been done. */
  readonly next: VariantStatus;
  readonly start: Start | null;
  /** Whether the report of its verdict is to be stored. */
  readonly save: boolean;
  readonly waiting: Waiting;
};

export type ReleasePlan = { readonly variants: readonly VariantPlan[] };

export type OpenSeen = Exclude<VariantSeen, { readonly kind: "settled" }>;

/** Variants whose files the namespace may use. */
export type LookedSeen = Exclude<OpenSeen, { readonly kind: "refused" }>;

export type OpenPlan = Omit<VariantPlan, "save">;

export type AskedSeen = Extract<VariantSeen, { readonly kind: "asked" }>;
