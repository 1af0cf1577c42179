import { createHash, type Hash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import { REASONS, type Reason } from "../../api/reasons.ts";
import { asCode, errorCodeOf, errorCodeText } from "../../base/guards.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { type Clock, durationText, elapsed, type Millis, millis, seconds } from "../../base/time.ts";
import { linkedSignal } from "../../runtime/linked-signal.ts";
import type { Meter } from "../../telemetry/telemetry.ts";
import type { Download } from "../../verification/verification.ts";

/** A fact about us, the network or the store; never one about the model. It never quotes the url, which is a secret. */
export type DownloadFault = {
  readonly reason: Reason;
  readonly message: string;
  /** There was no room on the disk. */
  readonly diskFull?: boolean;
};

export type DownloadLimits = {
  /** For everything, retries included. */
  readonly deadline: Millis;
  /** A connection that brings nothing for this long is given up. */
  readonly idle: Millis;
  /** Connections, the first one included. */
  readonly attempts: number;
  /** Pause before the second connection; it doubles. */
  readonly pause: Millis;
};

/** Gets a file. It has this digest, and is at `path` if that is the one expected. */
export type Fetch = (
  from: Download,
  to: string,
  signal: AbortSignal,
) => Promise<Result<{ readonly path: string; readonly digest: string }, DownloadFault>>;

export const DOWNLOAD_LIMITS: DownloadLimits = {
  deadline: seconds(900),
  idle: seconds(30),
  attempts: 4,
  pause: seconds(1),
};

const UNCOUNTED: Meter = { count: () => undefined, gauge: () => undefined, observe: () => undefined };

/** How one connection ended: `again` is worth another one, `over` is not. */
type End =
  | { readonly kind: "done" }
  | { readonly kind: "again"; readonly fault: DownloadFault }
  | { readonly kind: "over"; readonly fault: DownloadFault };

/** What has arrived so far: a lost connection is resumed here. `received` counts what had to be thrown away, too. */
type Progress = { bytes: number; received: number; hash: Hash; etag: string | null };

/**
 * Streams a blob into a new private file and hashes it on the way. At most `sizeBytes` are ever written; redirects are
 * not followed, and nothing is decoded, so that the digest is that of the stored bytes.
 * @returns the sha256 of what came (`sha256:…`), whether or not it is the expected one.
 */
async function download(
  from: Download,
  to: string,
  { limits, clock, meter }: { readonly limits: DownloadLimits; readonly clock: Clock; readonly meter: Meter },
  signal: AbortSignal,
): Promise<Result<string, DownloadFault>> {
  using within = linkedSignal(signal);
  const timer = setTimeout(() => within.abort(), limits.deadline);
  const started = clock.now();
  let file: FileHandle | null = null;
  try {
    file = await open(to, "wx", 0o640);
    const progress: Progress = { bytes: 0, received: 0, hash: createHash("sha256"), etag: null };
    let pause: number = limits.pause;
    let counted = 0;
    for (let attempt = 1; ; attempt += 1) {
      const end = await fetchInto(file, from, progress, limits.idle, within.signal);
      meter.count("edgefleet_verifier_download_bytes_total", {}, progress.received - counted);
      counted = progress.received;
      if (end.kind === "done") return ok(`sha256:${progress.hash.digest("hex")}`);
      if (signal.aborted) return err(unavailable("the download was cancelled"));
      if (within.signal.aborted)
        return err(unavailable(`not done after ${durationText(elapsed(started, clock.now()))}`));
      if (end.kind === "over") return err(end.fault);
      if (attempt >= limits.attempts)
        return err({ ...end.fault, message: `${end.fault.message} (${attempt} connections tried)` });
      meter.count("edgefleet_verifier_download_retries_total");
      await clock.sleep(millis(pause), within.signal);
      pause *= 2;
    }
  } catch (thrown) {
    return err({
      reason: REASONS.VerificationError,
      message: `cannot write the file: ${errorCodeText(thrown)}`,
      ...(errorCodeOf(thrown) === "ENOSPC" ? { diskFull: true } : {}),
    });
  } finally {
    clearTimeout(timer);
    await file?.close();
  }
}

/** Downloads each file to where it is wanted. */
export function downloader(limits: DownloadLimits, clock: Clock, meter: Meter = UNCOUNTED): Fetch {
  return async (from, to, signal) => {
    const got = await download(from, to, { limits, clock, meter }, signal);
    meter.count("edgefleet_verifier_downloads_total", { result: got.ok ? "ok" : got.error.reason });
    return got.ok ? ok({ path: to, digest: got.value }) : got;
  };
}

async function fetchInto(
  file: FileHandle,
  from: Download,
  progress: Progress,
  idle: Millis,
  signal: AbortSignal,
): Promise<End> {
  const opened = await openResponse(from, progress, idle, signal);
  if ("kind" in opened) return opened;
  const refusal = judgeStatus(opened, progress) ?? judgeState(opened, from);
  if (refusal !== null) {
    opened.destroy();
    return refusal;
  }
  if (opened.statusCode === 200) {
    progress.bytes = 0;
    progress.hash = createHash("sha256");
  }
  const etag = opened.headers.etag;
  // A weak etag does not promise equal bytes.
  progress.etag = etag === undefined || etag.startsWith("W/") ? null : etag;
  return receive(opened, file, from.sizeBytes, progress);
}

function openResponse(
  { url, etag }: Download,
  progress: Progress,
  idle: Millis,
  signal: AbortSignal,
): Promise<IncomingMessage | End> {
  return new Promise((resolve) => {
    const resume = progress.bytes > 0 && progress.etag !== null;
    const headers = resume
      ? { range: `bytes=${progress.bytes}-`, "if-match": progress.etag ?? "" }
      : { "accept-encoding": "identity", ...(etag === undefined ? {} : { "if-match": etag }) };
    let request: ClientRequest;
    try {
      const send = new URL(url).protocol === "https:" ? httpsRequest : httpRequest;
      request = send(url, { headers, signal, agent: false, timeout: idle });
    } catch {
      resolve({
        kind: "over",
        fault: { reason: REASONS.VerificationError, message: "the url is not usable" },
      });
      return;
    }
    request.on("response", resolve);
    request.on("timeout", () => request.destroy(Object.assign(new Error(), { code: "ETIMEDOUT" })));
    request.on("error", (cause) => resolve(connectionLost(cause, progress)));
    request.end();
  });
}

/** `null`: read on. */
function judgeStatus(response: IncomingMessage, progress: Progress): End | null {
  const status = response.statusCode ?? 0;
  if (status === 200) return null;
  if (status === 206 && contentStart(response) === progress.bytes && progress.bytes > 0) return null;
  const code = asCode(response.headers["x-ms-error-code"]);
  const message = `the store answered ${status}${code === null ? "" : ` ${code}`}`;
  if (status === 412 && progress.bytes === 0) return REPLACED;
  if (status === 412 || status === 416 || status === 206) {
    // The blob was replaced while we read it: from the start.
    progress.etag = null;
    return { kind: "again", fault: { reason: REASONS.StoreUnavailable, message } };
  }
  if (status === 404) return { kind: "over", fault: { reason: REASONS.BlobMissing, message } };
  if (status === 401 || status === 403)
    return { kind: "over", fault: { reason: REASONS.StoreDenied, message } };
  if (status >= 500 || status === 408 || status === 429)
    return { kind: "again", fault: { reason: REASONS.StoreUnavailable, message } };
  return { kind: "over", fault: { reason: REASONS.StoreUnavailable, message } };
}

const REPLACED: End = {
  kind: "over",
  fault: {
    reason: REASONS.StoreUnavailable,
    message: "the blob was replaced after it was looked at; it is looked at again",
  },
};

/** For a store that does not hold the state that is asked for against the one it has. */
function judgeState(response: IncomingMessage, { etag }: Download): End | null {
  const got = response.headers.etag;
  return etag === undefined || got === undefined || got === etag ? null : REPLACED;
}

function contentStart(response: IncomingMessage): number | null {
  const start = /^bytes (\d+)-/.exec(response.headers["content-range"] ?? "")?.[1];
  return start === undefined ? null : Number(start);
}

async function receive(
  response: IncomingMessage,
  file: FileHandle,
  sizeBytes: number,
  progress: Progress,
): Promise<End> {
  const tooLarge: End = {
    kind: "over",
    fault: {
      reason: REASONS.VerificationError,
      message: `the blob is larger than the ${sizeBytes} bytes it was said to have; was it replaced?`,
    },
  };
  const announced = Number(response.headers["content-length"] ?? Number.NaN);
  if (progress.bytes + announced > sizeBytes) {
    response.destroy();
    return tooLarge;
  }
  const chunks = response.iterator({ destroyOnReturn: true });
  for (;;) {
    const next = await nextChunk(chunks);
    if (!next.ok) return connectionLost(next.error, progress);
    if (next.value === null) break;
    if (progress.bytes + next.value.length > sizeBytes) {
      response.destroy();
      return tooLarge;
    }
    // Not in the try: a full disk is no lost connection, and its exception ends the download.
    await writeAll(file, next.value, progress.bytes);
    progress.hash.update(next.value);
    progress.bytes += next.value.length;
    progress.received += next.value.length;
  }
  // A restarted download may have been longer before.
  await file.truncate(progress.bytes);
  return response.complete ? { kind: "done" } : connectionLost({ code: "ECONNRESET" }, progress);
}

async function nextChunk(
  chunks: AsyncIterator<unknown, unknown>,
): Promise<Result<Uint8Array | null, unknown>> {
  try {
    const { done, value } = await chunks.next();
    return ok(done !== true && value instanceof Uint8Array ? value : null);
  } catch (thrown) {
    return err(thrown);
  }
}

async function writeAll(file: FileHandle, chunk: Uint8Array, at: number): Promise<void> {
  let written = 0;
  while (written < chunk.length)
    written += (await file.write(chunk, written, chunk.length - written, at + written)).bytesWritten;
}

function connectionLost(cause: unknown, progress: Progress): End {
  const message = `the connection to the store failed after ${progress.bytes} bytes: ${errorCodeText(cause)}`;
  return { kind: "again", fault: unavailable(message) };
}

function unavailable(message: string): DownloadFault {
  return { reason: REASONS.StoreUnavailable, message };
}

/** The system's code alone: texts of errors quote urls. */
