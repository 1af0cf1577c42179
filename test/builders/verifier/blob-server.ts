import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { digestOf } from "../../../src/base/digest.ts";
import type { Download } from "../../../src/verification/verification.ts";

// A blob store on loopback for tests of downloads: good answers by default, and any bad one by a handler.

export type BlobHandler = (request: IncomingMessage, response: ServerResponse, content: Buffer) => void;

export type BlobServer = {
  /** Serves `content` under a new path, and says what a request for it is like. */
  readonly put: (content: Uint8Array, handler?: BlobHandler) => Download;
  /** Requests for this blob so far. */
  readonly requests: (blob: Download) => number;
  readonly stop: () => Promise<void>;
};

/** What makes the URLs of the server secrets: a signature as a SAS has it. */
export const SIGNATURE = "c2VjcmV0LXNpZ25hdHVyZQ";

export async function startBlobServer(): Promise<BlobServer> {
  const blobs = new Map<
    string,
    { readonly content: Buffer; readonly handler: BlobHandler; requests: number }
  >();
  const server = createServer((request, response) => {
    const blob = blobs.get(new URL(request.url ?? "/", "http://loopback").pathname);
    if (blob === undefined) {
      response.writeHead(404, { "x-ms-error-code": "BlobNotFound" }).end();
      return;
    }
    blob.requests += 1;
    blob.handler(request, response, blob.content);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    put: (content, handler = serveBlob) => {
      const path = `/models/blob-${blobs.size}`;
      blobs.set(path, { content: Buffer.from(content), handler, requests: 0 });
      return {
        url: `http://127.0.0.1:${port}${path}?sv=2025-11-05&sp=r&sig=${SIGNATURE}%3D`,
        digest: digestOf(content),
        sizeBytes: content.length,
      };
    },
    requests: (blob) => blobs.get(new URL(blob.url).pathname)?.requests ?? 0,
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

/** A whole blob or, asked for, the rest of it. */
export function serveBlob(request: IncomingMessage, response: ServerResponse, content: Buffer): void {
  const etag = `"${digestOf(content).slice(7, 23)}"`;
  const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
  const rest = content.subarray(start);
  response.writeHead(start > 0 ? 206 : 200, {
    etag,
    "content-length": rest.length,
    ...(start > 0 ? { "content-range": `bytes ${start}-${content.length - 1}/${content.length}` } : {}),
  });
  response.end(rest);
}

/** Sends headers for everything and `bytes` of it, then cuts the connection. */
export function cutAfter(bytes: number): BlobHandler {
  return (_request, response, content) => {
    response.writeHead(200, { etag: '"cut"', "content-length": content.length });
    response.write(content.subarray(0, bytes), () => setImmediate(() => response.destroy()));
  };
}

export function refuseWith(status: number, code: string): BlobHandler {
  return (_request, response) => {
    response.writeHead(status, { "x-ms-error-code": code }).end(`<Error><Code>${code}</Code></Error>`);
  };
}
