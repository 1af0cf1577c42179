import { type Answer, ok, refuse } from "../errors.ts";

/** Blobs behind the URI of a container, which carries the access in its query. Texts of refusals never show it. */
export type BlobContainers = {
  readonly read: (container: string, blob: string, signal: AbortSignal) => Promise<Answer<string>>;
  /** Creates the blob or replaces it. */
  readonly write: (
    container: string,
    blob: string,
    text: string,
    signal: AbortSignal,
  ) => Promise<Answer<void>>;
};

/** Milliseconds that one transfer may take. */
const TIMEOUT = 60_000;

/** Blob Storage over its REST API: Get Blob and Put Blob with a shared access signature. */
export const blobContainers: BlobContainers = {
  async read(container, blob, signal) {
    const answered = await send("read", container, blob, { method: "GET" }, signal);
    return answered.ok ? ok(answered.value) : answered;
  },
  async write(container, blob, text, signal) {
    const headers = { "x-ms-blob-type": "BlockBlob", "Content-Type": "text/plain; charset=utf-8" };
    const answered = await send("write", container, blob, { method: "PUT", headers, body: text }, signal);
    return answered.ok ? ok(undefined) : answered;
  },
};

async function send(
  what: "read" | "write",
  container: string,
  blob: string,
  request: RequestInit,
  signal: AbortSignal,
): Promise<Answer<string>> {
  const url = urlOf(container, blob);
  if (url === null)
    return refuse(
      "BlobContainerValidationError",
      "The URI of a blob container must begin with https:// or http://",
    );
  const place = `${url.origin}${url.pathname}`;
  try {
    const response = await fetch(url, {
      ...request,
      redirect: "error",
      signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT)]),
    });
    const text = await response.text();
    if (response.ok) return ok(text);
    const code = response.headers.get("x-ms-error-code") ?? "no code";
    return refuse(
      "BlobContainerValidationError",
      `Unauthorized or unable to ${what} ${place}: the storage answered ${response.status} (${code})`,
    );
  } catch (problem) {
    return refuse("BlobContainerValidationError", `Unable to ${what} ${place}: ${causeOf(problem)}`);
  }
}

/** The message of a failed fetch may show the whole URI; its code, or its name, does not. */
function causeOf(problem: unknown): string {
  if (!(problem instanceof Error)) return "unknown";
  const { cause } = problem;
  if (cause instanceof Error && "code" in cause && typeof cause.code === "string") return cause.code;
  return problem.name;
}

function urlOf(container: string, blob: string): URL | null {
  if (!URL.canParse(container)) return null;
  const url = new URL(container);
  if (url.protocol !== "https:" && url.protocol !== "http:") return null;
  const base = url.pathname.replace(/\/$/, "");
  url.pathname = `${base}/${blob.split("/").map(encodeURIComponent).join("/")}`;
  return url;
}

/** The URI for other eyes: what grants access is blanked out. */
export function redactedUri(uri: string): string {
  if (!URL.canParse(uri)) return "";
  const url = new URL(uri);
  if (url.searchParams.has("sig")) url.searchParams.set("sig", "redacted");
  url.username = "";
  url.password = "";
  return url.href;
}
