import { REASONS } from "../../api/reasons.ts";
import { orAborted } from "../../base/abort.ts";
import { err, type Result } from "../../base/result.ts";
import type { CachedBlob } from "./cached-blob.ts";
import type { DownloadFault } from "./download.ts";

// A download that several verifications wait for: it is cancelled once the last of them has left.

export const CANCELLED: DownloadFault = {
  reason: REASONS.StoreUnavailable,
  message: "the download was cancelled",
};

/** `wrong`: other bytes than were asked for. */
export type DownloadEnd =
  | Result<CachedBlob, DownloadFault>
  | { readonly ok: "wrong"; readonly digest: string };

export type SharedDownload = {
  readonly end: Promise<DownloadEnd>;
  readonly abort: AbortController;
  /** How many wait for it; once `blob` is there, they are its users. */
  users: number;
  blob: CachedBlob | null;
};

/** Waits for the end, as one of its users. One that leaves early does not end the download for the others. */
export async function waitFor(download: SharedDownload, signal: AbortSignal): Promise<DownloadEnd> {
  const end = await orAborted(download.end, signal);
  if (end !== null) return end;
  if (download.blob !== null) {
    download.blob.users -= 1;
    return err(CANCELLED);
  }
  download.users -= 1;
  if (download.users === 0) {
    download.abort.abort();
    await download.end;
  }
  return err(CANCELLED);
}
