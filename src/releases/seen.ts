import type { ModelRelease, ReportError, Variant, VariantStatus } from "../api/model-release.ts";
import type { Grant } from "../api/tenancy.ts";
import type { Fault } from "../base/fault.ts";
import type { Instant, Timestamp } from "../base/time.ts";
import type { VerificationKey, VerifyReport } from "../verification/verification.ts";
import type { Cause } from "./due.ts";
import type { Reference } from "./references.ts";

export type BlobSeen =
  /** Nothing depends on it in this pass. */
  | { readonly kind: "unasked" }
  | { readonly kind: "found"; readonly sizeBytes: number; readonly etag: string }
  | { readonly kind: "missing" }
  | { readonly kind: "unreadable"; readonly fault: Fault };

/** What the verifier says of one variant; `unknown`: it was never asked, or has forgotten. */
export type ReportSeen = VerifyReport | { readonly kind: "unknown" };

/** A verdict that holds while the same is verified again. */
export type Standing = {
  readonly verdict: VariantStatus;
  /** The round: when it was decided to verify again. */
  readonly since: Timestamp;
  readonly cause: Cause;
};

export type ReferenceSeen = Reference & { readonly found: BlobSeen };

/** When a verdict that stands is looked at again. */
export type Next =
  | { readonly kind: "never" }
  | { readonly kind: "at"; readonly at: Instant }
  /** It is due, and waits for a slot. */
  | { readonly kind: "slot" }
  /** The version of the verifier is not known, so neither is this. */
  | { readonly kind: "unknown" };

export type VariantSeen = {
  readonly variant: Variant;
  /**
   * What the status says of exactly these bytes, golden set and checks; `null`: nothing. Of what is verified again: how
   * far that has come.
   */
  readonly had: VariantStatus | null;
  readonly standing: Standing | null;
} & (
  | {
      readonly kind: "settled";
      readonly had: VariantStatus;
      /** Whether its full report is to be stored now. */
      readonly save: boolean;
      readonly next: Next;
    }
  /** The verification ended in an error and waits for its retry, or no slot is free. */
  | { readonly kind: "waiting"; readonly had: VariantStatus; readonly retryAt: Instant | null }
  /** What it is to be compared with does not exist. */
  | { readonly kind: "unresolved"; readonly message: string; readonly blob: BlobSeen }
  | { readonly kind: "unreachable"; readonly fault: Fault; readonly blob: BlobSeen }
  /** The namespace may not use its files: nothing was asked about them. */
  | { readonly kind: "refused"; readonly message: string }
  | {
      readonly kind: "asked";
      readonly key: VerificationKey;
      readonly report: ReportSeen;
      readonly blob: BlobSeen;
      readonly golden: BlobSeen;
      readonly parity: ReferenceSeen | null;
      readonly variantParity: ReferenceSeen | null;
    }
);

/** A frozen picture of one release at `now`. */
export type ReleaseSeen = {
  readonly now: Instant;
  readonly release: ModelRelease;
  /** What its namespace may use. */
  readonly grant: Grant;
  readonly variants: readonly VariantSeen[];
};

/** What acting found out; it counts even where a later action failed. */
export type ReleaseActed = {
  /** Variants whose verification was started. */
  readonly started: readonly string[];
  /** Which system a fault came from. */
  readonly failedAt: "store" | "verifier";
  /** Variants whose full report was to be stored, and the result. */
  readonly saved: Readonly<Record<string, Saved>>;
};

export type Saved =
  | { readonly kind: "stored"; readonly report: NonNullable<VariantStatus["report"]> }
  | { readonly kind: "failed"; readonly error: ReportError };

export const NOT_ACTED: ReleaseActed = { started: [], failedAt: "verifier", saved: {} };
