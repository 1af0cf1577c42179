import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type RequestListener } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { millis } from "../base/time.ts";
import { createVerifierClient } from "./client.ts";
import type { VerificationKey } from "./verification.ts";

// What the client makes of a sidecar that is not well; with a real one it is tested in src/verifier/sidecar.test.ts.

const KEY = "k" as VerificationKey;
const SIGNAL = new AbortController().signal;

async function withServer<T>(listener: RequestListener, use: (socketPath: string) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), "verifier-client-"));
  const socketPath = join(directory, "s");
  const server = createServer(listener).listen(socketPath);
  await once(server, "listening");
  try {
    return await use(socketPath);
  } finally {
    server.closeAllConnections();
    server.close();
    await rm(directory, { recursive: true });
  }
}

const REPORT = {
  format: "edgefleet.dev/verification-report/v1",
  verdict: "Passed",
  message: "passed every check",
  verifierVersion: "v",
  startedAt: "2026-01-01T00:00:00.000Z",
  finishedAt: "2026-01-01T00:00:01.000Z",
  model: null,
  golden: null,
  checks: [{ name: "Golden", outcome: "Passed", took: 1, details: { anything: [1, null] } }],
};

const look = (socketPath: string, signal = SIGNAL) =>
  createVerifierClient({ socketPath, timeout: millis(300) }).look(KEY, signal);

test("a sidecar that does not listen is unavailable", async () => {
  expect(await look("/nonexistent/verifier.sock")).toEqual({
    ok: false,
    error: { kind: "unavailable", message: "the verifier does not answer: ENOENT" },
  });
});

test("a sidecar that never answers is unavailable after the timeout", async () => {
  const found = await withServer(() => undefined, look);
  expect(found).toEqual({
    ok: false,
    error: { kind: "unavailable", message: "the verifier does not answer: timed out" },
  });
});

test("a call ends with its signal", async () => {
  const found = await withServer(
    () => undefined,
    (socketPath) => look(socketPath, AbortSignal.abort()),
  );
  expect(found).toMatchObject({
    ok: false,
    error: { kind: "unavailable", message: expect.stringMatching(/ABORT_ERR/) },
  });
});

test.each<[string, number, string, Readonly<Record<string, string>>, unknown]>([
  [
    "too many",
    429,
    '{"error":"full"}',
    { "retry-after": "7" },
    { kind: "throttled", retryAfter: 7000, message: "the verifier answered 429: full" },
  ],
  [
    "a refusal",
    400,
    '{"error":"/model must be object"}',
    {},
    { kind: "rejected", message: "the verifier answered 400: /model must be object" },
  ],
  ["a failure", 500, "oops", {}, { kind: "unavailable", message: "the verifier answered 500" }],
  [
    "a shutdown",
    503,
    '{"error":"stopping"}',
    {},
    { kind: "unavailable", message: "the verifier answered 503: stopping" },
  ],
  ["no report", 200, '{"kind":"passed"}', {}, expect.objectContaining({ kind: "unavailable" })],
  ["no JSON", 200, "{", {}, expect.objectContaining({ kind: "unavailable" })],
])("an answer that is %s becomes a fault", async (_what, status, body, headers, fault) => {
  const found = await withServer((_request, response) => response.writeHead(status, headers).end(body), look);
  expect(found).toEqual({ ok: false, error: fault });
});

test.each<[string, number, object, unknown]>([
  ["that is there", 200, REPORT, { ok: true, value: REPORT }],
  ["that is not there", 404, { error: "there is no verdict" }, { ok: true, value: null }],
  ["of another format", 200, { ...REPORT, format: "v2" }, { ok: false, error: { kind: "unavailable" } }],
  ["that is refused", 400, { error: "no" }, { ok: false, error: { kind: "rejected" } }],
])("a full report %s", async (_what, status, body, expected) => {
  const paths: string[] = [];
  const found = await withServer(
    (request, response) => {
      paths.push(request.url ?? "");
      response.writeHead(status).end(JSON.stringify(body));
    },
    (socketPath) => createVerifierClient({ socketPath }).report(KEY, SIGNAL),
  );
  expect(found).toMatchObject(expected as object);
  expect(paths).toEqual(["/v1/verifications/k/report"]);
});

test("a connection that is cut is unavailable", async () => {
  const found = await withServer((request) => request.socket.destroy(), look);
  expect(found).toMatchObject({ ok: false, error: { kind: "unavailable" } });
});
