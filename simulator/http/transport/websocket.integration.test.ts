import { once } from "node:events";
import { connect, type TLSSocket } from "node:tls";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createSimulator, type Endpoint, type Simulator } from "../../simulator.ts";

let simulator: Simulator;
let endpoint: Endpoint;

beforeAll(async () => {
  simulator = createSimulator({ autoStart: false });
  endpoint = await simulator.start();
});
afterAll(() => simulator.stop());

/** A frame as a client sends it. */
function masked(kind: number, body: Uint8Array): Buffer {
  const mask = Buffer.from([7, 77, 177, 3]);
  const length =
    body.length < 126
      ? Buffer.from([0x80 | body.length])
      : Buffer.from([0x80 | 126, body.length >> 8, body.length & 0xff]);
  return Buffer.concat([
    Buffer.from([0x80 | kind]),
    length,
    mask,
    Buffer.from(body.map((byte, at) => byte ^ (mask[at & 3] ?? 0))),
  ]);
}

test.each<[string, Buffer]>([
  ["is not masked", Buffer.from([0x82, 0x01, 0x00])],
  ["is text", masked(1, Buffer.from("x"))],
  ["uses an extension", Buffer.from([0xc2, 0x80, 0, 0, 0, 0])],
  ["is a ping of more than 125 bytes", masked(9, Buffer.alloc(126))],
  ["is larger than any packet", Buffer.concat([Buffer.from([0x82, 0xff]), Buffer.alloc(12, 0xff)])],
  ["is just larger than any packet", Buffer.from([0x82, 0xff, 0, 0, 0, 0, 0, 8, 0, 1, 0, 0, 0, 0])],
])("a frame that %s ends the connection", async (_what, bytes) => {
  const { socket } = await upgraded("/$iothub/websocket", "mqtt");
  const closed = once(socket, "close");
  socket.write(bytes);
  socket.resume();
  await closed;
  await gone();
});

async function upgraded(
  path: string,
  protocol: string,
): Promise<{ readonly socket: TLSSocket; readonly status: string }> {
  const socket = connect({ host: "127.0.0.1", port: endpoint.port, ca: endpoint.ca });
  socket.on("error", () => {});
  socket.write(
    `GET ${path} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: ${protocol}\r\n\r\n`,
  );
  const [answer] = (await once(socket, "data")) as [Buffer];
  return { socket, status: answer.toString() };
}

test("only MQTT on the hub's path is upgraded", async () => {
  expect((await upgraded("/other", "mqtt")).status).toContain("400 Bad Request");
  expect((await upgraded("/$iothub/websocket", "AMQPWSB10")).status).toContain("400 Bad Request");
  const { socket, status } = await upgraded("/$iothub/websocket?iothub-no-client-cert=true", "x, mqtt");
  // The answer to this key is in the standard's own example.
  expect(status).toContain("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
  socket.write(masked(9, Buffer.from("hi")));
  expect((await once(socket, "data"))[0]).toEqual(Buffer.from([0x8a, 2, 0x68, 0x69]));
  socket.write(masked(8, Buffer.alloc(0)));
  await once(socket, "close");
  await gone();
});

test("garbage ends the connection, and nothing stays of it", async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 60 }), fc.boolean(), async (bytes, framed) => {
      const { socket } = await upgraded("/$iothub/websocket", "mqtt");
      const closed = once(socket, "close");
      socket.end(framed ? masked(2, bytes) : Buffer.from(bytes));
      socket.resume();
      await closed;
    }),
    { numRuns: 40 },
  );
  await gone();
});

async function gone(): Promise<void> {
  for (const end = Date.now() + 10_000; simulator.mqttConnections() > 0; )
    if (Date.now() > end) throw new Error("a connection stayed");
    else await new Promise((resolve) => setTimeout(resolve, 5));
}
