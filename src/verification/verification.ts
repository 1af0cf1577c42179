import type { CheckResult, ComparedWith, Verification } from "../api/model-release.ts";
import type { FullReport } from "../api/verification-report.ts";
import type { Brand } from "../base/brand.ts";
import type { Attempt } from "../base/fault.ts";

// The port of the verifier sidecar: types only. Docs of the wire: docs/verifier.md.

/** Hash of everything a verdict depends on (never of a url): asking twice runs the model once. */
export type VerificationKey = Brand<string, "VerificationKey">;

export type Download = {
  /** A secret: a read-only SAS URL of at most an hour. */
  readonly url: string;
  readonly digest: string;
  readonly sizeBytes: number;
  /**
   * The state of the blob that is meant: a copy of the same bytes from anywhere else is not it, and the verdict is about
   * this blob. Left out: the bytes are all that counts.
   */
  readonly etag?: string;
};

/** A model that another one is compared with. */
export type Reference = Download & { readonly name: string };

export type VerifyRequest = {
  /** Who asks: verifications of different tenants take turns. */
  readonly tenant: string;
  readonly model: Download;
  readonly golden: Download | null;
  /** `null` where the checks ask for no parity, or there is nothing to compare with. */
  readonly parity: Reference | null;
  readonly variantParity: Reference | null;
  readonly checks: Verification;
  /** `again`: it was verified before, and may wait for what was not. Left out: `new`. */
  readonly urgency?: "new" | "again";
};

export type VerifyReport =
  | { readonly kind: "running"; readonly check: string }
  | {
      readonly kind: "passed";
      readonly checks: readonly CheckResult[];
      readonly verifierVersion: string;
    }
  /** A fact about the model: final. */
  | {
      readonly kind: "failed";
      readonly reason: string;
      readonly message: string;
      readonly checks: readonly CheckResult[];
      readonly verifierVersion: string;
    }
  /** A fact about us: tried again. */
  | { readonly kind: "error"; readonly reason: string; readonly message: string };

/** No call waits for a verification: it is started, and polled. */
export type Verifier = {
  /** `null`: never asked (or forgotten after a restart): ask again. */
  readonly look: (key: VerificationKey, signal: AbortSignal) => Attempt<VerifyReport | null>;
  /** Idempotent by key; a verification that ended in an error is started again. */
  readonly start: (key: VerificationKey, request: VerifyRequest, signal: AbortSignal) => Attempt<void>;
  /** Everything that led to a verdict; `null`: there is none, or it was forgotten. */
  readonly report: (key: VerificationKey, signal: AbortSignal) => Attempt<FullReport | null>;
  /** Stops it if it runs, and forgets it. */
  readonly cancel: (key: VerificationKey, signal: AbortSignal) => Attempt<void>;
  /** The verifier's own version and that of its ONNX Runtime: a part of every key. */
  readonly version: (signal: AbortSignal) => Attempt<string>;
};

/** What the page of a report is about. */
export type ReportSubject = {
  /** `null`: it is in no cluster. */
  readonly namespace: string | null;
  /** `null`: a file alone. */
  readonly release: string | null;
  readonly model: string;
  readonly version: string;
  readonly variant: string;
  /** Where the model lies: `container/path`. */
  readonly path: string;
  readonly asked: Verification;
  readonly comparedWith: ComparedWith | null;
};
