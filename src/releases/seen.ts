import type { CheckResult, ModelRelease, Variant, VariantStatus } from "../api/model-release.ts";
import type { Fault } from "../base/result.ts";
import type { Instant } from "../base/time.ts";

export type BlobSeen =
  /** Nothing depends on it in this pass. */
  | { readonly kind: "unasked" }
  | { readonly kind: "found"; readonly sizeBytes: number }
  | { readonly kind: "missing" }
  | { readonly kind: "unreadable"; readonly fault: Fault };

/** What the verifier says of one variant; `unknown`: it was never asked, or has forgotten. */
export type ReportSeen =
  | { readonly kind: "unknown" }
  | { readonly kind: "running"; readonly check: string }
  | { readonly kind: "passed"; readonly checks: readonly CheckResult[]; readonly verifierVersion: string }
  | {
      readonly kind: "failed";
      readonly reason: string;
      readonly message: string;
      readonly checks: readonly CheckResult[];
      readonly verifierVersion: string;
    }
  | { readonly kind: "error"; readonly reason: string; readonly message: string };

export type VariantSeen = {
  readonly variant: Variant;
  /** What the status says of exactly these bytes, golden set and checks; `null`: nothing. */
  readonly had: VariantStatus | null;
} & (
  | { readonly kind: "settled"; readonly had: VariantStatus }
  /** The verification broke off, and it is not time yet to try again. */
  | { readonly kind: "waiting"; readonly had: VariantStatus; readonly retryAt: Instant }
  | { readonly kind: "unreachable"; readonly fault: Fault; readonly blob: BlobSeen }
  | {
      readonly kind: "asked";
      readonly key: string;
      readonly report: ReportSeen;
      readonly blob: BlobSeen;
      readonly golden: BlobSeen;
    }
);

/** A frozen picture of one release at `now`. */
export type ReleaseSeen = {
  readonly now: Instant;
  readonly release: ModelRelease;
  readonly variants: readonly VariantSeen[];
};

/** What acting came to; it counts even where a later action failed. */
export type Learned = {
  /** Variants whose verification was started. */
  readonly started: readonly string[];
  /** Which system a fault came from. */
  readonly failedAt: "store" | "verifier";
};

export const NOTHING_LEARNED: Learned = { started: [], failedAt: "verifier" };
