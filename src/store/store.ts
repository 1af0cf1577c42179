import type { BlobReference } from "../api/model-release.ts";
import type { Attempt } from "../base/fault.ts";
import type { Instant } from "../base/time.ts";

// The port of the blob store: types only.

export type BlobFacts = { readonly sizeBytes: number; readonly etag: string };
/** A URL that lets its bearer read one blob: a secret, never in an object, an event or a log. */
export type ReadUrl = { readonly url: string; readonly expiresAt: Instant };

/** What is written beside a model: a report, never a model. */
export type Document = { readonly contentType: string; readonly bytes: Uint8Array };

export type ModelStore = {
  /** `null`: there is no such blob (or no such container). */
  readonly stat: (blob: BlobReference, signal: AbortSignal) => Attempt<BlobFacts | null>;
  /** A read-only URL for this blob alone, good until `expiresAt`. */
  readonly readUrl: (blob: BlobReference, expiresAt: Instant, signal: AbortSignal) => Attempt<ReadUrl>;
  /** Leaves a blob alone that has the same bytes already, and replaces one that has others. The container is there. */
  readonly put: (blob: BlobReference, document: Document, signal: AbortSignal) => Attempt<"written" | "same">;
};
