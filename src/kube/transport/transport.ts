import type { KubeConfig } from "@kubernetes/client-node";
import type { Dispatcher } from "undici";
import { orAborted } from "../../base/abort.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { elapsed, type Millis, seconds } from "../../base/time.ts";
import type { RuntimeDeps } from "../../runtime/deps.ts";
import { linkedSignal } from "../../runtime/linked-signal.ts";
import type { Call, KubeFault } from "./call.ts";
import { describeCall, faultOfAnswer, faultOfError } from "./call-faults.ts";
import { type Connections, createConnections, type Pools } from "./connections.ts";
import { createInFlight } from "./in-flight.ts";
import { linesOf } from "./lines.ts";

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

/** All work has ended before the transport is closed: what is still in flight then is not waited for any longer. */
const CLOSE_GRACE = seconds(2);

export function createTransport(
  config: KubeConfig,
  options: TransportOptions,
  deps: Pick<RuntimeDeps, "clock" | "meter">,
): Transport {
  const cluster = config.getCurrentCluster();
  if (cluster === null) throw new Error("the kubeconfig names no current cluster");
  const server = new URL(cluster.server);
  const { timeout = seconds(30), deadline = seconds(60), connections: limit = 32 } = options;
  const connections = createConnections(config, { timeout, limit }, deps.clock);
  const inFlight = createInFlight(deps.clock, deadline);

  async function send(
    call: Call,
    lane: keyof Pools,
    bodyTimeout: Millis,
    signal: AbortSignal,
  ): Promise<Result<Dispatcher.ResponseData, KubeFault>> {
    const started = deps.clock.now();
    const { method } = call;
    let code = 0;
    try {
      // Raced: a request that waits for a connection would look at its signal only once it has one.
      const answer = await orAborted(request(server, connections, call, lane, bodyTimeout, signal), signal);
      if (answer === null) return err(faultOfError(call, signal.reason));
      code = answer.statusCode;
      if (code < 300) return ok(answer);
      if (code === 401) connections.forgetCredentials();
      return err(faultOfAnswer(code, answer.headers["retry-after"], await answer.body.text(), call, started));
    } catch (cause) {
      return err(faultOfError(call, cause));
    } finally {
      const took = elapsed(started, deps.clock.now()) / 1000;
      deps.meter.count("edgefleet_kube_requests_total", { method, code: String(code) });
      deps.meter.observe("edgefleet_kube_request_duration_seconds", took, { method });
    }
  }

  return {
    call: async (call, signal) => {
      using flight = inFlight.begin(describeCall(call), signal);
      const sent = await send(call, "calls", timeout, flight.signal);
      if (!sent.ok) return sent;
      try {
        return ok(JSON.parse(await sent.value.body.text()));
      } catch (cause) {
        return err(faultOfError(call, flight.signal.aborted ? flight.signal.reason : cause));
      }
    },
    lines: async (path, idle, signal) => {
      const call = { method: "GET", path } as const;
      const flight = inFlight.begin(describeCall(call), signal);
      const sent = await send(call, "watches", idle, flight.signal);
      flight.liftDeadline();
      if (sent.ok) return ok(linesOf(sent.value.body, flight[Symbol.dispose]));
      flight[Symbol.dispose]();
      return sent;
    },
    close: async () => {
      const ended = connections.close();
      using grace = linkedSignal(new AbortController().signal);
      await Promise.race([ended, deps.clock.sleep(CLOSE_GRACE, grace.signal)]);
      grace.abort();
      // Each request by its signal: a pool that is closing cannot be destroyed any more (undici no longer refers to it).
      inFlight.abortAll(new Error("the connections were closed"));
      await ended;
    },
  };
}

async function request(
  server: URL,
  connections: Connections,
  { method, path, body, contentType = "application/json" }: Call,
  lane: keyof Pools,
  bodyTimeout: Millis,
  signal: AbortSignal,
): Promise<Dispatcher.ResponseData> {
  const { headers, pools } = await connections.current();
  return pools[lane].request({
    origin: server.origin,
    path: server.pathname.replace(/\/$/, "") + path,
    method,
    headers: body === undefined ? headers : { ...headers, "content-type": contentType },
    body: body === undefined ? null : JSON.stringify(body),
    bodyTimeout,
    signal,
  });
}
