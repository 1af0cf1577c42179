import { Buffer } from "node:buffer";
import { Agent, request as httpRequest, type IncomingMessage } from "node:http";
import { type Problem, parse, problemText } from "../api/parse.ts";
import { fullReportSchema } from "../api/verification-report.ts";
import { verifierProblemSchema, verifierVersionSchema, verifyReportSchema } from "../api/verifier-wire.ts";
import type { Attempt, Fault } from "../base/fault.ts";
import { errorCodeOf } from "../base/guards.ts";
import { err, ok, type Result } from "../base/result.ts";
import { type Millis, seconds } from "../base/time.ts";
import { linkedSignal } from "../runtime/linked-signal.ts";
import type { Verifier } from "./verification.ts";

export type VerifierClientOptions = {
  readonly socketPath: string;
  /** For one call; nothing here waits for a model. */
  readonly timeout?: Millis;
};

type Call = { readonly method: "GET" | "PUT" | "DELETE"; readonly path: string; readonly body?: unknown };
type Answer = { readonly status: number; readonly body: string; readonly retryAfter: number };

const TIMEOUT = seconds(10);
/** The report of a model with a million nodes names many operators and tensors. */
const LARGEST_BODY = 4_194_304;
const CONNECTIONS = 4;

/** The port `Verifier` over the sidecar's Unix socket. */
export function createVerifierClient({ socketPath, timeout = TIMEOUT }: VerifierClientOptions): Verifier {
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });

  async function call(what: Call, signal: AbortSignal): Attempt<Answer> {
    using within = linkedSignal(signal);
    const timer = setTimeout(() => within.abort(), timeout);
    try {
      return ok(await exchange(socketPath, agent, what, within.signal));
    } catch (thrown) {
      const why =
        within.signal.aborted && !signal.aborted ? "timed out" : (errorCodeOf(thrown) ?? "unknown error");
      return err({ kind: "unavailable", message: `the verifier does not answer: ${why}` });
    } finally {
      clearTimeout(timer);
    }
  }

  return {
    look: async (key, signal) => {
      const answer = await call({ method: "GET", path: pathOf(key) }, signal);
      if (!answer.ok) return answer;
      if (answer.value.status === 404) return ok(null);
      return answer.value.status === 200
        ? bodyOf(answer.value, (raw) => parse(verifyReportSchema, raw))
        : err(faultOf(answer.value));
    },
    start: async (key, request, signal) => {
      const answer = await call({ method: "PUT", path: pathOf(key), body: request }, signal);
      if (!answer.ok) return answer;
      return answer.value.status === 202 ? ok(undefined) : err(faultOf(answer.value));
    },
    report: async (key, signal) => {
      const answer = await call({ method: "GET", path: `${pathOf(key)}/report` }, signal);
      if (!answer.ok) return answer;
      if (answer.value.status === 404) return ok(null);
      return answer.value.status === 200
        ? bodyOf(answer.value, (raw) => parse(fullReportSchema, raw))
        : err(faultOf(answer.value));
    },
    cancel: async (key, signal) => {
      const answer = await call({ method: "DELETE", path: pathOf(key) }, signal);
      if (!answer.ok) return answer;
      return answer.value.status === 204 ? ok(undefined) : err(faultOf(answer.value));
    },
    version: async (signal) => {
      const answer = await call({ method: "GET", path: "/v1/version" }, signal);
      if (!answer.ok) return answer;
      if (answer.value.status !== 200) return err(faultOf(answer.value));
      const parsed = bodyOf(answer.value, (raw) => parse(verifierVersionSchema, raw));
      return parsed.ok ? ok(parsed.value.version) : parsed;
    },
  };
}

function pathOf(key: string): string {
  return `/v1/verifications/${encodeURIComponent(key)}`;
}

function exchange(socketPath: string, agent: Agent, what: Call, signal: AbortSignal): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const text = what.body === undefined ? "" : JSON.stringify(what.body);
    const request = httpRequest({
      socketPath,
      agent,
      method: what.method,
      path: what.path,
      headers: { "content-type": "application/json", "content-length": Buffer.byteLength(text) },
      signal,
    });
    request.on("error", reject);
    request.on("response", (response) => {
      readText(response).then(
        (body) =>
          resolve({
            status: response.statusCode ?? 0,
            body,
            retryAfter: Number(response.headers["retry-after"] ?? Number.NaN),
          }),
        reject,
      );
    });
    request.end(text);
  });
}

async function readText(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response) {
    size += chunk.length;
    if (size > LARGEST_BODY) throw Object.assign(new Error(), { code: "EMSGSIZE" });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function bodyOf<T>(
  { body }: Answer,
  read: (raw: unknown) => Result<T, readonly Problem[]>,
): Result<T, Fault> {
  const parsed = read(parseJson(body));
  if (parsed.ok) return parsed;
  return err({
    kind: "unavailable",
    message: `the verifier's answer is not understood: ${problemText(parsed.error)}`,
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function faultOf({ status, body, retryAfter }: Answer): Fault {
  const problem = parse(verifierProblemSchema, parseJson(body));
  const message = `the verifier answered ${status}${problem.ok ? `: ${problem.value.error}` : ""}`;
  if (status === 429)
    return {
      kind: "throttled",
      retryAfter: seconds(Number.isFinite(retryAfter) ? Math.max(0, retryAfter) : 5),
      message,
    };
  return status >= 400 && status < 500 ? { kind: "rejected", message } : { kind: "unavailable", message };
}
