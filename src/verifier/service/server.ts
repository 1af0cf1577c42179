import { Buffer } from "node:buffer";
import { chmod, lstat, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { connect } from "node:net";
import { parse, problemText } from "../../api/parse.ts";
import { verifyRequestSchema } from "../../api/verifier-wire.ts";
import { err, ok, type Result } from "../../base/result.ts";
import type { Log } from "../../telemetry/telemetry.ts";
import type { VerificationKey, VerifyRequest } from "../../verification/verification.ts";
import type { SandboxFeatures } from "../process/sandbox.ts";
import type { Health } from "./health.ts";
import type { Jobs } from "./jobs.ts";

export type ServerDeps = {
  readonly jobs: Jobs;
  readonly version: string;
  readonly features: SandboxFeatures;
  readonly health: Health;
  readonly log: Log;
};

export type Server = {
  /** Resolves once no connection is left and the socket file is gone. */
  readonly close: () => Promise<void>;
};

type Reply = {
  readonly status: number;
  /** As JSON; text as it is, where the headers say what it is. */
  readonly body: unknown;
  readonly headers?: Readonly<Record<string, string>>;
};

const KEY = /^\/v1\/verifications\/([A-Za-z0-9._-]{1,128})(\/report)?$/;
const LARGEST_BODY = 1_048_576;
const SOCKET_MODE = 0o660;
const REQUEST_TIMEOUT = 10_000;
const CLOSE_TIMEOUT = 1000;
const RETRY_AFTER_SECONDS = 5;

/**
 * Serves the wire of docs/verifier.md on a Unix socket.
 * @returns a sentence where the socket cannot be used: another verifier listens there, or the path is something else.
 */
export async function startServer(path: string, deps: ServerDeps): Promise<Result<Server, string>> {
  const free = await freeSocket(path);
  if (!free.ok) return free;
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT, headersTimeout: REQUEST_TIMEOUT });
  server.on("request", (request, response) => {
    serve(request, deps)
      .catch((thrown: unknown): Reply => {
        deps.log.error("request failed", thrown, { method: request.method ?? "" });
        return problem(500, "the verifier failed; its log says why");
      })
      .then((reply) => send(response, reply))
      // The other side has hung up: no one is left to answer.
      .catch(() => response.destroy());
  });
  const listening = Promise.withResolvers<string | null>();
  server.once("listening", () => listening.resolve(null));
  server.once("error", (cause: NodeJS.ErrnoException) => listening.resolve(cause.code ?? "unknown error"));
  server.listen(path);
  const failure = await listening.promise;
  if (failure !== null) return err(`cannot listen on ${path}: ${failure}`);
  await chmod(path, SOCKET_MODE);
  return ok({
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      const timer = setTimeout(() => server.closeAllConnections(), CLOSE_TIMEOUT);
      await closed;
      clearTimeout(timer);
      await rm(path, { force: true });
    },
  });
}

/** Removes the socket of a previous run. */
async function freeSocket(path: string): Promise<Result<void, string>> {
  const found = await lstat(path).catch(() => null);
  if (found === null) return ok(undefined);
  if (!found.isSocket()) return err(`${path} exists and is not a socket`);
  if (await answers(path)) return err(`another process listens on ${path}`);
  await rm(path, { force: true });
  return ok(undefined);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const say = (alive: boolean) => {
      socket.destroy();
      resolve(alive);
    };
    socket.once("connect", () => say(true));
    socket.once("error", () => say(false));
  });
}

async function serve(request: IncomingMessage, deps: ServerDeps): Promise<Reply> {
  const { method = "GET", url = "/" } = request;
  if (url === "/healthz")
    return method === "GET"
      ? { status: 200, body: { status: "ok", ...deps.jobs.counts() } }
      : notAllowed("GET");
  if (url === "/readyz" || url === "/metrics") {
    if (method !== "GET") return notAllowed("GET");
    return url === "/readyz" ? ready(deps.health) : metrics(deps.health);
  }
  if (url === "/v1/version")
    return method === "GET"
      ? { status: 200, body: { version: deps.version, sandbox: deps.features } }
      : notAllowed("GET");
  const [, found, rest] = KEY.exec(url) ?? [];
  if (found === undefined) return problem(404, "there is no such path");
  const key = found as VerificationKey;
  if (rest === "/report") {
    const full = method === "GET" ? deps.jobs.fullReport(key) : null;
    if (method !== "GET") return notAllowed("GET");
    return full === null ? problem(404, "there is no verdict") : { status: 200, body: full };
  }
  switch (method) {
    case "GET": {
      const report = deps.jobs.look(key);
      return report === null ? problem(404, "this was never asked") : { status: 200, body: report };
    }
    case "PUT":
      return put(request, key, deps.jobs);
    case "DELETE":
      await deps.jobs.cancel(key);
      return { status: 204, body: null };
    default:
      return notAllowed("GET, PUT, DELETE");
  }
}

async function ready(health: Health): Promise<Reply> {
  const why = await health.unready();
  return why === null ? { status: 200, body: { status: "ready" } } : problem(503, `not ready: ${why}`);
}

async function metrics(health: Health): Promise<Reply> {
  return { status: 200, body: await health.metrics(), headers: { "content-type": health.metricsType } };
}

async function put(request: IncomingMessage, key: VerificationKey, jobs: Jobs): Promise<Reply> {
  const body = await readBody(request);
  if (body === null)
    return {
      ...problem(413, `the body is larger than ${LARGEST_BODY} bytes`),
      headers: { connection: "close" },
    };
  const asked = parseRequest(body);
  if (!asked.ok) return problem(400, asked.error);
  switch (jobs.start(key, asked.value)) {
    case "accepted":
      return { status: 202, body: { key } };
    case "full":
      return later("too many verifications are waiting");
    case "tenantFull":
      return later("too many verifications of this tenant are waiting");
    case "draining":
      return problem(503, "the verifier is shutting down");
  }
}

/** `null`: too large. */
async function readBody(request: IncomingMessage): Promise<string | null> {
  if (Number(request.headers["content-length"] ?? 0) > LARGEST_BODY) return null;
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > LARGEST_BODY) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** Problems never quote values: urls are secrets. */
function parseRequest(body: string): Result<VerifyRequest, string> {
  const json = parseJson(body);
  if (!json.ok) return json;
  const parsed = parse(verifyRequestSchema, json.value);
  if (!parsed.ok) return err(problemText(parsed.error));
  const { golden, checks } = parsed.value;
  if ((golden === null) !== (checks.golden === undefined))
    return err("/golden and /checks/golden must be given together");
  if (golden !== null && golden.digest !== checks.golden?.digest)
    return err("/golden/digest and /checks/golden/digest must be the same");
  return ok(parsed.value);
}

function parseJson(body: string): Result<unknown, string> {
  try {
    return ok(JSON.parse(body));
  } catch {
    // The exception quotes the body.
    return err("the body is not JSON");
  }
}

function later(error: string): Reply {
  return { ...problem(429, error), headers: { "retry-after": String(RETRY_AFTER_SECONDS) } };
}

function problem(status: number, error: string): Reply {
  return { status, body: { error } };
}

function notAllowed(allow: string): Reply {
  return { ...problem(405, `only ${allow}`), headers: { allow } };
}

function textOf(body: unknown): string {
  if (typeof body === "string") return body;
  return body === null ? "" : JSON.stringify(body);
}

function send(response: ServerResponse, { status, body, headers }: Reply): void {
  const text = textOf(body);
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(text),
    ...headers,
  });
  response.end(text);
}
