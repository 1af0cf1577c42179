import { existsSync } from "node:fs";
import { delimiter, resolve } from "node:path";
import { KubeConfig } from "@kubernetes/client-node";
import { Agent, type Dispatcher, ProxyAgent } from "undici";
import { orAborted } from "../base/abort.ts";
import type { Fault } from "../base/fault.ts";
import { errorCodeOf } from "../base/guards.ts";
import { err, ok, type Result } from "../base/result.ts";
import { clip } from "../base/text.ts";
import { elapsed, type Instant, type Millis, millis, seconds } from "../base/time.ts";
import type { RuntimeDeps } from "../runtime/deps.ts";
import { type LinkedSignal, linkedSignal } from "../runtime/linked-signal.ts";

/** Besides what every outside system can answer: there is no such object, and that version is forgotten (410). */
export type KubeFault =
  | Fault
  | { readonly kind: "missing"; readonly message: string }
  | { readonly kind: "expired"; readonly message: string };

export type Call = {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Absolute, with its query; every part of it encoded. */
  readonly path: string;
  readonly body?: unknown;
  /** `application/json` when left out. */
  readonly contentType?: string;
};

/** JSON over HTTP to one API server: a pool of connections for calls, and another for answers that do not end. */
export type Transport = {
  /** The parsed answer, within the deadline and at once when `signal` aborts, also while it waits for a connection. */
  readonly call: (call: Call, signal: AbortSignal) => Promise<Result<unknown, KubeFault>>;
  /** The lines of an answer that does not end; they end after `idle` without a byte. A reset throws while iterating. */
  readonly lines: (
    path: string,
    idle: Millis,
    signal: AbortSignal,
  ) => Promise<Result<AsyncIterable<string>, KubeFault>>;
  /** Waits a moment for what is in flight, then cuts it off. */
  readonly close: () => Promise<void>;
};

export type TransportOptions = {
  /** Without an answer, or without a further byte of it, for this long a call is given up; half a minute when left out. */
  readonly timeout?: Millis;
  /** A call takes at most this long, its wait for a connection included; a minute when left out. */
  readonly deadline?: Millis;
  /** Connections for calls at most; 32 when left out. Watches have as many of their own as there are watches. */
  readonly connections?: number;
};

export const JSON_PATCH = "application/json-patch+json";
/** Owner of the fields that we write. */
export const FIELD_MANAGER = "edge-fleet-operator";
/** Credentials are asked for again after this long: reading them costs file reads, and they live for minutes. */
const CREDENTIALS_FRESH = seconds(1);
/** A server that asks for more patience than this is asked again all the same. */
const LONGEST_RETRY_AFTER = seconds(300);
/** Who closes the transport has ended all work before: what is still in flight then is not waited for any longer. */
const CLOSE_GRACE = seconds(2);

/**
 * The kubeconfig at `paths`, at `context`. As for kubectl, `paths` may be several, with the system's delimiter: what the
 * first of them says counts, those that are missing are left out, and relative paths in a file start at its folder.
 * `null`: what the home directory or the Pod's service account say.
 * @throws where a file cannot be read, or none of them is there.
 */
export function loadKubeConfig(paths: string | null, context: string | null): KubeConfig {
  const files = (paths ?? "").split(delimiter).filter((file) => file !== "");
  const [first, ...others] = files.filter((file) => existsSync(file));
  const config = new KubeConfig();
  if (files.length === 0) config.loadFromDefault();
  else if (first === undefined) throw new Error(`there is no kubeconfig at ${files.join(", nor at ")}`);
  else config.loadFromFile(resolve(first));
  for (const file of others) addFrom(file, config);
  if (context !== null) config.setCurrentContext(context);
  return config;
}

/** What `config` does not have yet; the library's own way to merge refuses names that two files have. */
function addFrom(file: string, config: KubeConfig): void {
  const other = new KubeConfig();
  other.loadFromFile(resolve(file));
  for (const cluster of other.clusters)
    if (config.getCluster(cluster.name) === null) config.addCluster(cluster);
  for (const user of other.users) if (config.getUser(user.name) === null) config.addUser(user);
  for (const one of other.contexts) if (config.getContextObject(one.name) === null) config.addContext(one);
  if (!config.currentContext && other.currentContext) config.setCurrentContext(other.currentContext);
}

type Tls = {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
  readonly servername?: string;
  readonly rejectUnauthorized?: boolean;
};
/**
 * Over HTTP/1.1 a watch occupies its connection for minutes: in the pool of the calls, the watches of a few namespaces
 * would leave no connection to any of them.
 */
type Pools = { readonly calls: Dispatcher; readonly watches: Dispatcher };
type Credentials = { readonly headers: Readonly<Record<string, string>>; readonly pools: Pools };

export function createTransport(
  config: KubeConfig,
  options: TransportOptions,
  deps: Pick<RuntimeDeps, "clock" | "meter">,
): Transport {
  const cluster = config.getCurrentCluster();
  if (cluster === null) throw new Error("the kubeconfig names no current cluster");
  const server = new URL(cluster.server);
  const prefix = server.pathname.replace(/\/$/, "");
  const timeout = options.timeout ?? seconds(30);
  const deadline = options.deadline ?? seconds(60);

  let identity = "";
  let pools: Pools | null = null;
  /** What is asked and not answered yet, and the watches that go on. */
  const inFlight = new Set<LinkedSignal>();
  /** Pools that are closing: they end with their requests. */
  const closing = new Set<Promise<void>>();
  let fresh: { readonly credentials: Promise<Credentials>; readonly at: Instant } | null = null;

  /** Asked for with each call, so that rotating tokens, certificates and exec plugins keep working. */
  function credentials(): Promise<Credentials> {
    const now = deps.clock.now();
    if (fresh === null || elapsed(fresh.at, now) >= CREDENTIALS_FRESH)
      fresh = { credentials: readCredentials(), at: now };
    return fresh.credentials;
  }

  async function readCredentials(): Promise<Credentials> {
    const applied: Tls & { headers?: Record<string, string>; auth?: string } = {};
    await config.applyToHTTPSOptions(applied);
    const { ca, cert, key, servername, rejectUnauthorized, headers, auth } = applied;
    const basic =
      auth === undefined ? {} : { authorization: `Basic ${Buffer.from(auth).toString("base64")}` };
    const tls: Tls = Object.fromEntries(
      Object.entries({ ca, cert, key, servername, rejectUnauthorized }).filter(
        ([, value]) => value !== undefined,
      ),
    );
    return {
      headers: { accept: "application/json", "user-agent": FIELD_MANAGER, ...basic, ...headers },
      pools: poolsFor(tls),
    };
  }

  /** New pools for each TLS identity: a renewed certificate gets new ones, and the old ones end with their requests. */
  function poolsFor(tls: Tls): Pools {
    const wanted = JSON.stringify(tls);
    if (pools !== null && wanted === identity) return pools;
    if (pools !== null) for (const pool of Object.values(pools)) retire(pool);
    identity = wanted;
    pools = { calls: createPool(tls, options.connections ?? 32), watches: createPool(tls, null) };
    return pools;
  }

  function createPool(tls: Tls, connections: number | null): Dispatcher {
    const pool = { connections, keepAliveTimeout: 30_000, headersTimeout: timeout, bodyTimeout: timeout };
    return cluster?.proxyUrl === undefined
      ? new Agent({ ...pool, connect: { ...tls, timeout: 10_000, keepAliveInitialDelay: 15_000 } })
      : new ProxyAgent({ ...pool, uri: cluster.proxyUrl, requestTls: tls });
  }

  function retire(pool: Dispatcher): void {
    const forget = () => void closing.delete(closed);
    const closed: Promise<void> = pool.close().then(forget, forget);
    closing.add(closed);
  }

  /** A signal that follows `signal` and aborts at the deadline, unless that is lifted before. */
  function limited(call: Call, signal: AbortSignal) {
    const link = linkedSignal(signal);
    inFlight.add(link);
    const timer = linkedSignal(link.signal);
    void deps.clock.sleep(deadline, timer.signal).then(() => {
      if (!timer.signal.aborted)
        link.abort(new Error(`${describe(call)}: no answer within ${deadline / 1000} s`));
    });
    const lift = () => {
      timer.abort();
      timer[Symbol.dispose]();
    };
    return {
      signal: link.signal,
      lift,
      [Symbol.dispose]: () => {
        lift();
        link[Symbol.dispose]();
        inFlight.delete(link);
      },
    };
  }

  async function send(
    call: Call,
    lane: keyof Pools,
    bodyTimeout: Millis,
    signal: AbortSignal,
  ): Promise<Result<Dispatcher.ResponseData, KubeFault>> {
    const started = deps.clock.now();
    let code = 0;
    try {
      // Raced: a request that waits for a connection would look at its signal only once it has one.
      const answer = await orAborted(request(call, lane, bodyTimeout, signal), signal);
      if (answer === null) return err(unreadable(call, signal.reason));
      code = answer.statusCode;
      if (code < 300) return ok(answer);
      if (code === 401) fresh = null;
      return err(faultOf(code, answer.headers["retry-after"], await answer.body.text(), call, started));
    } catch (cause) {
      return err(unreadable(call, cause));
    } finally {
      deps.meter.count("edgefleet_kube_requests_total", { method: call.method, code: String(code) });
      deps.meter.observe(
        "edgefleet_kube_request_duration_seconds",
        elapsed(started, deps.clock.now()) / 1000,
        {
          method: call.method,
        },
      );
    }
  }

  async function request(
    call: Call,
    lane: keyof Pools,
    bodyTimeout: Millis,
    signal: AbortSignal,
  ): Promise<Dispatcher.ResponseData> {
    const { headers, pools: had } = await credentials();
    return had[lane].request({
      origin: server.origin,
      path: prefix + call.path,
      method: call.method,
      headers:
        call.body === undefined
          ? headers
          : { ...headers, "content-type": call.contentType ?? "application/json" },
      body: call.body === undefined ? null : JSON.stringify(call.body),
      bodyTimeout,
      signal,
    });
  }

  return {
    call: async (call, signal) => {
      using limit = limited(call, signal);
      const sent = await send(call, "calls", timeout, limit.signal);
      if (!sent.ok) return sent;
      try {
        return ok(JSON.parse(await sent.value.body.text()));
      } catch (cause) {
        return err(unreadable(call, limit.signal.aborted ? limit.signal.reason : cause));
      }
    },
    lines: async (path, idle, signal) => {
      const call = { method: "GET", path } as const;
      const limit = limited(call, signal);
      const sent = await send(call, "watches", idle, limit.signal);
      limit.lift();
      if (sent.ok) return ok(linesOf(sent.value.body, limit[Symbol.dispose]));
      limit[Symbol.dispose]();
      return sent;
    },
    close: async () => {
      if (pools !== null) for (const pool of Object.values(pools)) retire(pool);
      pools = null;
      identity = "";
      fresh = null;
      const ended = Promise.all(closing);
      using patience = linkedSignal(new AbortController().signal);
      await Promise.race([ended, deps.clock.sleep(CLOSE_GRACE, patience.signal)]);
      patience.abort();
      // Each request by its signal: a pool that is closing cannot be destroyed any more (undici has let go of it).
      for (const link of inFlight) link.abort(new Error("the connections were closed"));
      await ended;
    },
  };
}

async function* linesOf(body: AsyncIterable<Buffer>, ended: () => void): AsyncIterable<string> {
  // What came of a line so far; joined once, because a line can come in many chunks.
  let begun: Buffer[] = [];
  try {
    for await (const chunk of body) {
      let from = 0;
      for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, from)) {
        const line = Buffer.concat([...begun, chunk.subarray(from, end)]).toString("utf8");
        begun = [];
        from = end + 1;
        if (line.trim() !== "") yield line;
      }
      if (from < chunk.length) begun.push(chunk.subarray(from));
    }
  } catch (cause) {
    if (errorCodeOf(cause) === "UND_ERR_BODY_TIMEOUT") return;
    throw cause;
  } finally {
    ended();
  }
  // Half a line is handed on too: whoever parses it finds out that the stream was cut.
  const last = Buffer.concat(begun).toString("utf8");
  if (last.trim() !== "") yield last;
}

/** What the API server says when it refuses. */
type Status = {
  readonly message?: string;
  readonly reason?: string;
  readonly details?: { readonly name?: string; readonly retryAfterSeconds?: number };
};

function faultOf(
  code: number,
  retryAfter: string | string[] | undefined,
  body: string,
  call: Call,
  now: Instant,
): KubeFault {
  const status = statusOf(body);
  const message = `${describe(call)}: ${code} ${status.message ?? status.reason ?? "without a message"}`;
  const delay =
    retryAfterOf(retryAfter, now) ?? retryAfterOf(status.details?.retryAfterSeconds?.toString(), now);
  switch (code) {
    case 401:
    case 403:
      return { kind: "denied", message };
    case 404:
      return { kind: "missing", message };
    case 409:
      return { kind: "conflict", message };
    case 410:
      return { kind: "expired", message };
    case 422:
      // A JSON Patch that cannot be applied (its `test` fails) is answered like an invalid object, but no object is named.
      if (call.contentType === JSON_PATCH && status.details?.name === undefined)
        return {
          kind: "conflict",
          message: `${describe(call)}: the object is no longer the one that was read`,
        };
      return { kind: "rejected", message };
    case 408:
      return { kind: "unavailable", message };
    case 429:
      return { kind: "throttled", retryAfter: delay ?? seconds(1), message };
    default:
      if (code < 500) return { kind: "rejected", message };
      return delay === null
        ? { kind: "unavailable", message }
        : { kind: "throttled", retryAfter: delay, message };
  }
}

function statusOf(body: string): Status {
  try {
    const parsed: unknown = JSON.parse(body);
    return parsed !== null && typeof parsed === "object" ? parsed : {};
  } catch {
    return { message: clip(body, 200) };
  }
}

/** Retry-After: seconds, or a date. `null` for neither. */
function retryAfterOf(written: string | string[] | undefined, now: Instant): Millis | null {
  if (typeof written !== "string" || written.trim() === "") return null;
  const given = Number(written);
  const delay = Number.isFinite(given) ? given * 1000 : Date.parse(written) - now;
  return Number.isNaN(delay) ? null : millis(Math.min(Math.max(0, delay), LONGEST_RETRY_AFTER));
}

/** No answer, or one that cannot be read. */
function unreadable(call: Call, cause: unknown): Fault {
  const what = errorCodeOf(cause) ?? (cause instanceof Error ? cause.message : "no answer");
  return { kind: "unavailable", message: `${describe(call)}: ${what}` };
}

function describe(call: Call): string {
  return `${call.method} ${call.path.split("?")[0]}`;
}
