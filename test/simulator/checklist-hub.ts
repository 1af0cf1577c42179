import { type Agent, request } from "node:https";
import { afterEach } from "vitest";
import {
  createSimulator,
  type Endpoint,
  type Simulator,
  type SimulatorSetup,
} from "../../simulator/simulator.ts";
import { controlCall } from "../../simulator/testing/control-client.ts";
import { type DeviceClient, deviceClient } from "../../simulator/testing/device-client.ts";
import { manifestOf } from "../../simulator/testing/edge-world.ts";
import { createHubClient, type Reply } from "./hub-client.ts";
import type { Json } from "./hub-model.ts";

export const running: Simulator[] = [];
const clients: DeviceClient[] = [];
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close().catch(() => {})));
  await Promise.all(running.splice(0).map((simulator) => simulator.stop()));
});

export async function startHub(setup: SimulatorSetup = {}) {
  const simulator = createSimulator({ tier: "S3", autoStart: false, ...setup });
  running.push(simulator);
  const endpoint = await simulator.start();
  const { ask, registry } = createHubClient(endpoint);
  const fault = (body: object) => controlCall(endpoint, "POST", "faults", body);
  return { ...simulator, endpoint, ask, registry, fault };
}

export function codeOf({ status, code }: Reply): string {
  return `${status} ${code}`.trim();
}

type Wire = {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly text: string;
};

/** One request by hand, to the address and under the hub's name. */
export function wire(
  { port, ca, hostName }: Endpoint,
  path: string,
  given: {
    readonly method?: string;
    readonly token?: string | null;
    readonly body?: string;
    readonly agent?: Agent;
  } = {},
): Promise<Wire> {
  const { method = "GET", token = "Bearer anybody", body, agent } = given;
  const headers = token === null ? {} : { Authorization: token };
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        host: "127.0.0.1",
        servername: hostName,
        port,
        ca,
        method,
        path,
        headers,
        ...(agent === undefined ? {} : { agent }),
      },
      (answer) => {
        let text = "";
        answer.setEncoding("utf8").on("data", (piece: string) => {
          text += piece;
        });
        answer.on("end", () => resolve({ status: answer.statusCode ?? 0, headers: answer.headers, text }));
      },
    );
    sent.on("error", reject).end(body);
  });
}

export const VERSION = "api-version=2021-04-12";

export async function clientOf(endpoint: Endpoint, deviceId: string, key: string): Promise<DeviceClient> {
  const client = await deviceClient(endpoint, { deviceId }, key);
  client.on("error", () => {});
  client.setRetryPolicy({ shouldRetry: () => false, nextRetryTimeout: () => 0 });
  clients.push(client);
  return client;
}

export function standard(modules: Parameters<typeof manifestOf>[0]): Json {
  return {
    modulesContent: {
      $edgeAgent: { "properties.desired": manifestOf(modules) },
      $edgeHub: { "properties.desired": { schemaVersion: "1.1", routes: {} } },
    },
  } as unknown as Json;
}
