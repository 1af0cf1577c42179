/** A blob to be. */
export type Upload = { readonly name: string; readonly content: Buffer; readonly contentType: string };

const TIMEOUT = 60_000;

/**
 * Writes blobs into the container that `container` is the signed address of. `null` when all are there; otherwise what
 * went wrong, without the address.
 */
export async function uploadAll(
  container: URL,
  uploads: readonly Upload[],
  stopped: AbortSignal,
): Promise<string | null> {
  for (const upload of uploads) {
    const problem = await put(container, upload, AbortSignal.any([stopped, AbortSignal.timeout(TIMEOUT)]));
    if (problem !== null) return problem;
  }
  return null;
}

async function put(container: URL, upload: Upload, signal: AbortSignal): Promise<string | null> {
  const url = new URL(container);
  const name = upload.name.split("/").map(encodeURIComponent).join("/");
  url.pathname = `${url.pathname.replace(/\/$/, "")}/${name}`;
  try {
    const response = await fetch(url, {
      method: "PUT",
      headers: { "x-ms-blob-type": "BlockBlob", "content-type": upload.contentType },
      body: new Uint8Array(upload.content),
      signal,
    });
    await response.body?.cancel();
    return response.ok ? null : `the store answered ${response.status} for ${upload.name}`;
  } catch (problem) {
    const cause = problem instanceof Error ? problem.cause : undefined;
    const code = cause instanceof Error && "code" in cause ? `: ${String(cause.code)}` : "";
    return `the upload of ${upload.name} broke off${code}`;
  }
}
