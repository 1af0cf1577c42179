import type { Endpoint } from "../../simulator/simulator.ts";
import {
  connectRegistry,
  type RawClient,
  type Registry,
  rawOf,
} from "../../simulator/testing/service-client.ts";
import type { Json } from "./hub-model.ts";

/** What came back over HTTPS; the code is empty where it worked. */
export type Reply = {
  readonly status: number;
  readonly code: string;
  readonly body: Json;
  readonly etag: string | undefined;
};

type Response = {
  readonly statusCode: number;
  readonly headers: Readonly<Record<string, string | undefined>>;
};
type Execute = (
  method: string,
  path: string,
  headers: Readonly<Record<string, string>>,
  body: unknown,
  done: (
    problem: { responseBody?: string; response?: Response } | null,
    body: unknown,
    response: Response,
  ) => void,
) => void;

export type HubClient = {
  readonly registry: Registry;
  /** Any request, through the vendor's client and its way of signing; it resolves whatever the hub answers. */
  readonly ask: (method: string, path: string, body?: Json, ifMatch?: string) => Promise<Reply>;
};

export function createHubClient(endpoint: Endpoint): HubClient {
  const registry = connectRegistry(endpoint, endpoint.connectionString, 30_000);
  const raw = rawOf(registry) as RawClient & { readonly executeApiCall: Execute };
  const ask: HubClient["ask"] = (method, path, body, ifMatch) =>
    new Promise((resolve, reject) => {
      const headers = {
        ...(body === undefined ? {} : { "Content-Type": "application/json; charset=utf-8" }),
        ...(ifMatch === undefined ? {} : { "If-Match": ifMatch }),
      };
      const execute: Execute = raw.executeApiCall.bind(raw) as never;
      execute(method, `${path}?api-version=2021-04-12`, headers, body, (problem, answer, response) => {
        const met = problem === null ? response : problem.response;
        if (met === undefined) reject(problem);
        else
          resolve({
            status: met.statusCode,
            code: met.statusCode < 300 ? "" : (met.headers["iothub-errorcode"] ?? ""),
            body: (problem === null ? (answer ?? null) : parsed(problem.responseBody ?? "")) as Json,
            etag: met.headers["etag"],
          });
      });
    });
  return { registry, ask };
}

function parsed(text: string): unknown {
  return text === "" ? null : JSON.parse(text);
}

export function devicePath(id: string, module: string | null = null): string {
  return `/devices/${encodeURIComponent(id)}${module === null ? "" : `/modules/${encodeURIComponent(module)}`}`;
}

export function twinPath(id: string, module: string | null = null): string {
  return `/twins/${encodeURIComponent(id)}${module === null ? "" : `/modules/${encodeURIComponent(module)}`}`;
}
