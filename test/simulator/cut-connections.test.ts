import { once } from "node:events";
import { connect, type TLSSocket } from "node:tls";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { createSimulator, type Endpoint, type Simulator } from "../../simulator/simulator.ts";
import { controlCall } from "../../simulator/testing/control-client.ts";
import { webSocketClient } from "../../simulator/testing/device-client.ts";
import { problemOf } from "../../simulator/testing/service-client.ts";
import { until } from "../../simulator/testing/until.ts";

// Faults that break connections, as the other end sees them.

let simulator: Simulator;
let endpoint: Endpoint;

beforeAll(async () => {
  simulator = createSimulator({ autoStart: false });
  endpoint = await simulator.start();
});
afterAll(() => simulator.stop());
afterEach(() => simulator.hub.faults.clear());

const REQUEST =
  "GET /devices/cam-1?api-version=2021-04-12 HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer x\r\n\r\n";

async function dialled(
  from: { readonly localAddress?: string; readonly localPort?: number } = {},
): Promise<TLSSocket> {
  const socket = connect({ host: "127.0.0.1", port: endpoint.port, ca: endpoint.ca, ...from });
  await once(socket, "secureConnect");
  return socket;
}

test.each(["reset", "outage"])(
  "a connection that %s cuts ends with a reset while it is in use",
  async (kind) => {
    await controlCall(endpoint, "POST", "faults", { kind });
    const socket = await dialled();
    const broken = once(socket, "error");
    socket.write(REQUEST);
    const [problem] = (await broken) as [NodeJS.ErrnoException];
    expect(problem.code).toBe("ECONNRESET");
  },
);

test("another machine's connection from a port of the same number goes on", async () => {
  const cut = await dialled();
  const bystander = await dialled({ localAddress: "127.0.0.2", localPort: cut.localPort ?? 0 });
  await controlCall(endpoint, "POST", "faults", { kind: "reset", until: 1 });
  const broken = once(cut, "error");
  cut.write(REQUEST);
  await broken;
  bystander.write(REQUEST);
  const [answer] = (await once(bystander, "data")) as [Buffer];
  expect(answer.toString()).toMatch(/^HTTP\/1.1 (200|404) /);
  bystander.destroy();
});

test("an outage cuts devices off that came over WebSockets, and lets none in", async () => {
  const created = simulator.hub.registry.putDevice("cam-1", {}, null);
  const key = created.ok ? (created.value.authentication.symmetricKey.primaryKey ?? "") : "";
  const dial = async () => {
    const client = await webSocketClient(endpoint, { deviceId: "cam-1" }, key);
    client.on("error", () => {});
    client.setRetryPolicy({ shouldRetry: () => false, nextRetryTimeout: () => 0 });
    return client;
  };
  const client = await dial();
  await client.open();
  const lost = once(client, "disconnect");
  await controlCall(endpoint, "POST", "faults", { id: "out", kind: "outage", devices: "cam-*" });
  await lost;
  await until(() => simulator.mqttConnections() === 0);
  await problemOf((await dial()).open());
  await until(() => simulator.mqttConnections() === 0);
  await controlCall(endpoint, "DELETE", "faults/out");
  const again = await dial();
  await again.open();
  await again.close();
});
