import type { ClientRequest } from "node:http";
import { Agent, type AgentOptions } from "node:https";
import type { Duplex } from "node:stream";

export type PinnedTo = {
  readonly host: string;
  readonly port: number;
  /** PEM of the authority to trust. */
  readonly ca: string;
  /** Milliseconds after which a request without an end is broken off. */
  readonly deadline: number;
};

type Connect = (options: AgentOptions, callback?: (problem: Error | null, stream: Duplex) => void) => Duplex;
type AddRequest = (request: ClientRequest, ...rest: readonly unknown[]) => void;

/**
 * Dials one address whatever host is asked for, so that a client keeps the hub's name while the hub is on this machine;
 * SNI and certificate checks go by the name. The vendor's client takes an `https.Agent` and nothing else.
 */
export function createPinnedAgent(to: PinnedTo): Agent {
  const agent = new Agent({ keepAlive: true });
  const base = agent as unknown as { createConnection: Connect; addRequest: AddRequest };
  const connect = base.createConnection.bind(agent);
  const addRequest = base.addRequest.bind(agent);
  base.createConnection = (options, callback) =>
    connect(
      { ...options, host: to.host, port: to.port, ca: to.ca, servername: String(options.host) },
      callback,
    );
  base.addRequest = (request, ...rest) => {
    const timer = setTimeout(
      () => request.destroy(Object.assign(new Error("the deadline has passed"), { code: "ETIMEDOUT" })),
      to.deadline,
    );
    request.once("close", () => clearTimeout(timer));
    request.on("response", (message) => message.setEncoding("utf8"));
    addRequest(request, ...rest);
  };
  return agent;
}
