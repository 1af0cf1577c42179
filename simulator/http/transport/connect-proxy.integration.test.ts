import { once } from "node:events";
import { request } from "node:http";
import { request as requestOverTls } from "node:https";
import type { Socket } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createSimulator, type Endpoint, type Simulator } from "../../simulator.ts";

let simulator: Simulator;
let endpoint: Endpoint;

beforeEach(async () => {
  simulator = createSimulator({ autoStart: false, proxyPort: 0 });
  endpoint = await simulator.start();
});
afterEach(() => simulator.stop());

type Tunnel = { readonly status: number | undefined; readonly text: string; readonly socket: Socket };

async function tunnelTo(path: string): Promise<Tunnel> {
  const asked = request({ host: "127.0.0.1", port: endpoint.proxyPort ?? 0, method: "CONNECT", path });
  const connected = once(asked.end(), "connect") as Promise<
    [{ readonly statusCode?: number }, Socket, Buffer]
  >;
  const [response, socket, head] = await connected;
  let text = head.toString();
  if (response.statusCode !== 200) for await (const chunk of socket) text += String(chunk);
  return { status: response.statusCode, text, socket };
}

test("a client that knows the hub's name and port 443 alone gets there through the proxy", async () => {
  const { status, socket } = await tunnelTo("SimHub.azure-devices.net:443");
  expect(status).toBe(200);
  const options = { socket, servername: endpoint.hostName, ca: endpoint.ca, path: "/sim/health" };
  const asked = requestOverTls({ ...options, host: endpoint.hostName, agent: false });
  const [response] = (await once(asked.end(), "response")) as [{ readonly statusCode?: number }];
  expect(response.statusCode).toBe(200);
});

test.each(["example.com:443", "simhub.azure-devices.net:22", "127.0.0.1:443", "nonsense"])(
  "it leads nowhere else: %s",
  async (path) => {
    const { status, text } = await tunnelTo(path);
    expect(status).toBe(403);
    expect(text).toBe(
      "this proxy leads to simhub.azure-devices.net:443 and simhub.azure-devices.net:8883 only\n",
    );
  },
);

test("it is not there unless it is asked for, and says what it is to who takes it for a server", async () => {
  const asked = request({ host: "127.0.0.1", port: endpoint.proxyPort ?? 0, path: "/devices" });
  const [response] = (await once(asked.end(), "response")) as [{ readonly statusCode?: number }];
  expect(response.statusCode).toBe(405);
  const without = createSimulator({ autoStart: false });
  expect((await without.start()).proxyPort).toBeNull();
  await without.stop();
});

test("a tunnel ends with the simulator", async () => {
  const { socket } = await tunnelTo("simhub.azure-devices.net:8883");
  const closed = once(socket.resume(), "close");
  await simulator.stop();
  await closed;
});
