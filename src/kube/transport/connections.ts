import type { KubeConfig } from "@kubernetes/client-node";
import { Agent, type Dispatcher, ProxyAgent } from "undici";
import { type Clock, elapsed, type Instant, type Millis, seconds } from "../../base/time.ts";
import { FIELD_MANAGER } from "./call.ts";

/** Credentials of a kubeconfig, and pools of connections for them. */
export type Connections = {
  /** Credentials and pools as they are now. */
  readonly current: () => Promise<Credentials>;
  /** The credentials were refused: they are read again for the next call. */
  readonly forgetCredentials: () => void;
  /** Resolves when the requests that are under way have ended; nothing else ends them. */
  readonly close: () => Promise<void>;
};

/**
 * Over HTTP/1.1 a watch occupies its connection for minutes: in the pool of the calls, the watches of a few namespaces
 * would leave no connection to any of them.
 */
export type Pools = { readonly calls: Dispatcher; readonly watches: Dispatcher };
export type Credentials = { readonly headers: Readonly<Record<string, string>>; readonly pools: Pools };

export type ConnectionsOptions = {
  readonly timeout: Millis;
  /** Connections for calls at most. Watches have as many of their own as there are watches. */
  readonly limit: number;
};

type Tls = {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
  readonly servername?: string;
  readonly rejectUnauthorized?: boolean;
};

/** Credentials are read again after this long: reading them costs file reads, and they live for minutes. */
const CREDENTIALS_FRESH = seconds(1);

export function createConnections(
  config: KubeConfig,
  { timeout, limit }: ConnectionsOptions,
  clock: Pick<Clock, "now">,
): Connections {
  const proxyUrl = config.getCurrentCluster()?.proxyUrl;
  let identity = "";
  let pools: Pools | null = null;
  /** Pools that are closing: they end with their requests. */
  const closing = new Set<Promise<void>>();
  let fresh: { readonly credentials: Promise<Credentials>; readonly at: Instant } | null = null;

  async function readCredentials(): Promise<Credentials> {
    const applied: Tls & { headers?: Record<string, string>; auth?: string } = {};
    await config.applyToHTTPSOptions(applied);
    const { headers, auth, ...options } = applied;
    const basic =
      auth === undefined ? {} : { authorization: `Basic ${Buffer.from(auth).toString("base64")}` };
    return {
      headers: { accept: "application/json", "user-agent": FIELD_MANAGER, ...basic, ...headers },
      pools: poolsFor(tlsOf(options)),
    };
  }

  /** New pools for each TLS identity: a renewed certificate gets new ones, and the old ones end with their requests. */
  function poolsFor(tls: Tls): Pools {
    const wanted = JSON.stringify(tls);
    if (pools !== null && wanted === identity) return pools;
    retire();
    identity = wanted;
    pools = { calls: createPool(tls, limit), watches: createPool(tls, null) };
    return pools;
  }

  function createPool(tls: Tls, connections: number | null): Dispatcher {
    const pool = { connections, keepAliveTimeout: 30_000, headersTimeout: timeout, bodyTimeout: timeout };
    return proxyUrl === undefined
      ? new Agent({ ...pool, connect: { ...tls, timeout: 10_000, keepAliveInitialDelay: 15_000 } })
      : new ProxyAgent({ ...pool, uri: proxyUrl, requestTls: tls });
  }

  function retire(): void {
    if (pools === null) return;
    for (const pool of Object.values(pools)) {
      const forget = () => void closing.delete(closed);
      const closed: Promise<void> = pool.close().then(forget, forget);
      closing.add(closed);
    }
    pools = null;
  }

  return {
    // Asked for with each call, so that rotating tokens, certificates and exec plugins keep working.
    current: () => {
      const now = clock.now();
      if (fresh === null || elapsed(fresh.at, now) >= CREDENTIALS_FRESH)
        fresh = { credentials: readCredentials(), at: now };
      return fresh.credentials;
    },
    forgetCredentials: () => {
      fresh = null;
    },
    close: async () => {
      retire();
      identity = "";
      fresh = null;
      await Promise.all(closing);
    },
  };
}

function tlsOf({ ca, cert, key, servername, rejectUnauthorized }: Tls): Tls {
  const fields = { ca, cert, key, servername, rejectUnauthorized };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}
