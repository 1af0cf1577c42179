import type { BlobReference } from "../../src/api/model-release.ts";
import { digestOf } from "../../src/base/digest.ts";
import type { Fault } from "../../src/base/fault.ts";
import { err, ok } from "../../src/base/result.ts";
import { type Clock, type Instant, instant } from "../../src/base/time.ts";
import type { Document, ModelStore } from "../../src/store/store.ts";

export type FakeStore = ModelStore & {
  /** As somebody else's upload. */
  readonly upload: (blob: BlobReference, bytes: Uint8Array) => void;
  readonly remove: (blob: BlobReference) => void;
  /** Every call answers with this fault until it is `null` again. */
  readonly fail: (fault: Fault | null) => void;
  /** What a bearer of the URL gets now; `null`: refused. */
  readonly open: (url: string) => Uint8Array | null;
  /** What was put, by `container/path`. */
  readonly documents: () => ReadonlyMap<string, Document>;
};

/** A blob store in memory: time is the clock's, and URLs open only what they name, for as long as they say. */
export function createFakeStore(clock: Pick<Clock, "now">): FakeStore {
  const blobs = new Map<string, Uint8Array>();
  const documents = new Map<string, Document>();
  let failing: Fault | null = null;
  const nameOf = ({ container, path }: BlobReference) => `${container}/${path}`;
  const cancelled: Fault = { kind: "unavailable", message: "cancelled" };

  return {
    stat: async (blob, signal) => {
      if (signal.aborted) return err(cancelled);
      if (failing !== null) return err(failing);
      const bytes = blobs.get(nameOf(blob));
      if (bytes === undefined) return ok(null);
      return ok({ sizeBytes: bytes.length, etag: `"${digestOf(bytes)}"` });
    },
    readUrl: async (blob, expiresAt, signal) => {
      if (signal.aborted) return err(cancelled);
      if (failing !== null) return err(failing);
      if (expiresAt <= clock.now()) return err({ kind: "rejected", message: "would have expired already" });
      const until = instant(Math.floor(expiresAt / 1000) * 1000);
      return ok({
        url: `https://store.invalid/${nameOf(blob)}?${new URLSearchParams(signed(nameOf(blob), until))}`,
        expiresAt: until,
      });
    },
    put: async (blob, document, signal) => {
      if (signal.aborted) return err(cancelled);
      if (failing !== null) return err(failing);
      const name = nameOf(blob);
      const had = blobs.get(name);
      if (had !== undefined && digestOf(had) === digestOf(document.bytes)) return ok("same");
      if (![...blobs.keys()].some((other) => other.startsWith(`${blob.container}/`)))
        return err({ kind: "rejected", message: "there is no such container" });
      blobs.set(name, document.bytes);
      documents.set(name, document);
      return ok("written");
    },
    upload: (blob, bytes) => void blobs.set(nameOf(blob), bytes),
    documents: () => documents,
    remove: (blob) => void blobs.delete(nameOf(blob)),
    fail: (fault) => {
      failing = fault;
    },
    open: (written) => {
      const url = new URL(written);
      const until = Date.parse(url.searchParams.get("se") ?? "");
      const name = decodeURIComponent(url.pathname.slice(1));
      if (Number.isNaN(until) || clock.now() >= until) return null;
      if (url.searchParams.get("sig") !== signed(name, instant(until)).sig) return null;
      return blobs.get(name) ?? null;
    },
  };
}

function signed(name: string, until: Instant): { readonly se: string; readonly sig: string } {
  const se = new Date(until).toISOString();
  return { se, sig: digestOf(`${name} until ${se}`) };
}
