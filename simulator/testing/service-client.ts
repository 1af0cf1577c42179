import iothub from "azure-iothub";
import type { Endpoint } from "../simulator.ts";
import { createPinnedAgent } from "./pinned-agent.ts";

export type Registry = ReturnType<typeof iothub.Registry.fromConnectionString>;

/** What the vendor's client keeps private, and what is needed to reach a hub on this machine. */
export type RawClient = {
  readonly setOptions: (options: unknown) => void;
  readonly executeApiCall: (
    method: string,
    path: string,
    headers: unknown,
    body: unknown,
    done: (problem: Error | null, body?: unknown) => void,
  ) => void;
};

export type ClientError = Error & {
  readonly response?: { readonly statusCode: number; readonly headers: Readonly<Record<string, string>> };
  readonly responseBody?: string;
  readonly code?: string;
};

export function rawOf(client: unknown): RawClient {
  return (client as { readonly _restApiClient: RawClient })._restApiClient;
}

/** A request that the client has no method for, as it would send it; `path` without the version of the API. */
export function rawCall(
  client: unknown,
  method: string,
  path: string,
  body: unknown = null,
  headers: Readonly<Record<string, string>> = {},
): Promise<unknown> {
  const url = `${path}${path.includes("?") ? "&" : "?"}api-version=2021-04-12`;
  const type = body === null ? {} : { "Content-Type": "application/json; charset=utf-8" };
  return new Promise((resolve, reject) => {
    rawOf(client).executeApiCall(method, url, { ...type, ...headers }, body, (refused, answer) =>
      refused === null ? resolve(answer) : reject(refused),
    );
  });
}

/** Points a client of the vendor at the simulator. `deadline` is milliseconds. */
export function redirect<T>(client: T, endpoint: Pick<Endpoint, "port" | "ca">, deadline = 5000): T {
  const agent = createPinnedAgent({ host: "127.0.0.1", port: endpoint.port, ca: endpoint.ca, deadline });
  rawOf(client).setOptions({ http: { agent } });
  return client;
}

export function connectRegistry(
  endpoint: Pick<Endpoint, "port" | "ca" | "connectionString">,
  connectionString = endpoint.connectionString,
  deadline = 5000,
): Registry {
  return redirect(iothub.Registry.fromConnectionString(connectionString), endpoint, deadline);
}

/** The error that a call is refused with; a call that succeeds is the test's failure. */
export async function problemOf(work: Promise<unknown>): Promise<ClientError> {
  try {
    await work;
  } catch (problem) {
    return problem as ClientError;
  }
  throw new Error("it was expected to be refused");
}

export async function statusOf(work: Promise<unknown>): Promise<number | undefined> {
  return (await problemOf(work)).response?.statusCode;
}
