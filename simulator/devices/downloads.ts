import { createHash } from "node:crypto";

/** What came of fetching a model file. `message` never has the url: it is a secret. */
export type Download =
  | { readonly ok: true; readonly digest: string; readonly loadable: boolean }
  | { readonly ok: false; readonly code: string; readonly message: string };

export type Downloads = {
  readonly fetch: (url: string, digest: string) => Promise<Download>;
  readonly stop: () => void;
};

export type DownloadsOptions = {
  /** `skip`: every file is taken to be there and to be what the pointer says. */
  readonly download: "real" | "skip";
  /** After this many downloads of one file the next devices get the result of those; `null`: every device fetches. */
  readonly realDownloads: number | null;
  /** Milliseconds without an answer after which a download has failed. */
  readonly timeout: number;
};

/** Downloads at a time: ten thousand devices share one machine. */
const AT_ONCE = 16;

export function createDownloads(options: DownloadsOptions): Downloads {
  const found = new Map<string, { count: number; last: Download }>();
  const stopped = new AbortController();
  const waiting: (() => void)[] = [];
  let running = 0;

  async function inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (running >= AT_ONCE) await new Promise<void>((resolve) => waiting.push(resolve));
    running += 1;
    try {
      return await work();
    } finally {
      running -= 1;
      waiting.shift()?.();
    }
  }

  async function fetchOnce(url: string, digest: string): Promise<Download> {
    const key = `${pathOf(url)} ${digest}`;
    const known = found.get(key);
    if (known !== undefined && options.realDownloads !== null && known.count >= options.realDownloads)
      return known.last;
    const download = await fetchFile(
      url,
      AbortSignal.any([stopped.signal, AbortSignal.timeout(options.timeout)]),
    );
    // Only success is remembered: the next device may have a url that has not expired.
    if (download.ok) found.set(key, { count: (found.get(key)?.count ?? 0) + 1, last: download });
    return download;
  }

  return {
    fetch: (url, digest) =>
      options.download === "skip"
        ? Promise.resolve({ ok: true, digest, loadable: true })
        : inTurn(() => fetchOnce(url, digest)),
    stop: () => stopped.abort(),
  };
}

async function fetchFile(url: string, signal: AbortSignal): Promise<Download> {
  try {
    const response = await fetch(url, { signal });
    if (!response.ok || response.body === null) {
      await response.body?.cancel();
      const { status } = response;
      return { ok: false, code: codeOfStatus(status), message: `the server answered ${status}` };
    }
    const hash = createHash("sha256");
    let start = Buffer.alloc(0);
    for await (const chunk of response.body) {
      hash.update(chunk);
      if (start.length < 16) start = Buffer.concat([start, Buffer.from(chunk).subarray(0, 16)]);
    }
    return { ok: true, digest: `sha256:${hash.digest("hex")}`, loadable: looksLikeOnnx(start) };
  } catch (problem) {
    return { ok: false, code: "DownloadFailed", message: causeOf(problem) };
  }
}

/** What the device contract calls a download that ended with this HTTP status. */
export function codeOfStatus(status: number): string {
  return status === 403 || status === 404 ? `DownloadFailed${status}` : "DownloadFailed";
}

function pathOf(url: string): string {
  try {
    const { host, pathname } = new URL(url);
    return `${host}${pathname}`;
  } catch {
    return "";
  }
}

function causeOf(problem: unknown): string {
  if (!(problem instanceof Error)) return "the download broke off";
  const cause = problem.cause;
  if (cause instanceof Error && "code" in cause) return `the download broke off: ${String(cause.code)}`;
  return problem.name === "TimeoutError" ? "the download took too long" : "the download broke off";
}

/** Field numbers of ONNX's ModelProto that a file can begin with, and their wire types. */
const FIRST_FIELDS = new Map([
  [1, 0],
  [2, 2],
  [3, 2],
  [4, 2],
  [5, 0],
  [6, 2],
  [7, 2],
  [8, 2],
  [14, 2],
  [20, 2],
  [25, 2],
]);

/** Whether bytes begin as a protobuf of a model does: enough to distinguish a model from a page of HTML. */
export function looksLikeOnnx(start: Uint8Array): boolean {
  const [first, second] = start;
  if (first === undefined || second === undefined) return false;
  const tag = first < 0x80 ? first : (first & 0x7f) | (second << 7);
  const wireType = FIRST_FIELDS.get(tag >> 3);
  if (wireType === undefined || wireType !== (tag & 7)) return false;
  // The version of the format comes first in files of every common writer, and it is a small number.
  return tag !== 0x08 || (second >= 1 && second <= 32);
}
