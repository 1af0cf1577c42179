import type { ClientRequest, IncomingMessage } from "node:http";
import { Agent, type RequestOptions, request } from "node:https";
import type { Duplex } from "node:stream";

/** Where to dial instead of the hub's name: the simulator, or a private endpoint. */
export type Endpoint = {
  readonly host: string;
  readonly port: number;
  /** PEM of the authority that the server's certificate is checked against; the system's when left out. */
  readonly ca?: string;
};

const MAX_SOCKETS = 16;
// The hub closes connections that are idle; ours goes first, so that no request meets a closing one.
const IDLE_MILLISECONDS = 30_000;

/** One pool of keep-alive connections to one hub. */
export function createHubAgent(endpoint: Endpoint | null): Agent {
  const options = { keepAlive: true, maxSockets: MAX_SOCKETS, timeout: IDLE_MILLISECONDS };
  return endpoint === null ? new Agent(options) : new PinnedAgent(endpoint, options);
}

/**
 * The SDK always dials port 443 of the hub's name and has no option for another place. This agent dials the endpoint
 * and keeps the name for SNI and for the certificate, so that a simulator is checked as strictly as a hub.
 */
class PinnedAgent extends Agent {
  readonly #endpoint: Endpoint;

  constructor(endpoint: Endpoint, options: ConstructorParameters<typeof Agent>[0]) {
    super(options);
    this.#endpoint = endpoint;
  }

  override createConnection(
    options: RequestOptions,
    callback?: (error: Error | null, stream: Duplex) => void,
  ): Duplex | null | undefined {
    const { host, port, ca } = this.#endpoint;
    const servername = options.host ?? options.hostname ?? host;
    return super.createConnection(
      { ...options, host, port, servername, ...(ca === undefined ? {} : { ca }) },
      callback,
    );
  }
}

/**
 * A stand-in for `https.request` for one call of the SDK. The SDK has no deadline and no way to stop: here the signal
 * closes the request. And it adds chunks of bytes to a string, which breaks characters that lie across two chunks: here
 * the decoder knows the encoding first.
 */
export function requestUnder(signal: AbortSignal) {
  return (options: RequestOptions, answered: (response: IncomingMessage) => void): ClientRequest =>
    request({ ...options, signal }, (response) => {
      response.setEncoding("utf8");
      answered(response);
    });
}
