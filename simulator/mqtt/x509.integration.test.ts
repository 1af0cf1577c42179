import { connect, type TLSSocket } from "node:tls";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { createSimulator, type Endpoint, type Simulator } from "../simulator.ts";
import { controlCall } from "../testing/control-client.ts";
import {
  type Authority,
  deviceCertificate,
  newAuthority,
  withIssuers,
} from "../testing/device-certificates.ts";
import { type DeviceClient, report, webSocketClient, x509Client } from "../testing/device-client.ts";
import { connectPacket } from "../testing/raw-mqtt.ts";
import { problemOf } from "../testing/service-client.ts";
import { until } from "../testing/until.ts";

// The vendor's device SDK with certificates.

let root: Authority;
let middle: Authority;
let simulator: Simulator;
let endpoint: Endpoint;
const clients: DeviceClient[] = [];

beforeAll(async () => {
  root = await newAuthority("plant");
  middle = await newAuthority("line 4", { by: root });
  simulator = createSimulator({ autoStart: false, deviceAuthorities: [root.pem] });
  endpoint = await simulator.start();
});
beforeEach(() => {
  for (const { deviceId } of [...simulator.hub.registry.devices()])
    simulator.hub.registry.removeDevice(deviceId, { any: true, etag: "*" });
});
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close().catch(() => {})));
  await until(() => simulator.mqttConnections() === 0);
});
afterAll(() => simulator.stop());

function newDevice(authentication: object): void {
  expect(simulator.hub.registry.putDevice("cam-1", { authentication: { ...authentication } }, null).ok).toBe(
    true,
  );
}

async function opened(client: Promise<DeviceClient>): Promise<DeviceClient> {
  const made = await client;
  made.on("error", () => {});
  made.setRetryPolicy({ shouldRetry: () => false, nextRetryTimeout: () => 0 });
  clients.push(made);
  await made.open();
  return made;
}

const byPort = (certificate: Parameters<typeof x509Client>[2]) =>
  opened(x509Client(endpoint, { deviceId: "cam-1" }, certificate));
const byWebSocket = (certificate: Parameters<typeof x509Client>[2]) =>
  opened(webSocketClient(endpoint, { deviceId: "cam-1" }, certificate));

test.each([
  ["on the port of MQTT", byPort],
  ["over WebSockets", byWebSocket],
])(
  "a device is known by the thumbprint of a certificate that it signed itself, %s",
  async (_where, connected) => {
    const [mine, other] = await Promise.all([deviceCertificate("cam-1"), deviceCertificate("cam-1")]);
    newDevice({ type: "selfSigned", x509Thumbprint: { primaryThumbprint: mine.thumbprint } });
    const client = await connected(mine);
    await report(await client.getTwin(), { by: "certificate" });
    expect(simulator.hub.twins.get("cam-1")?.reported.value).toEqual({ by: "certificate" });
    expect((await problemOf(connected(other))).name).toBe("UnauthorizedError");
  },
);

test.each([
  ["on the port of MQTT", byPort],
  ["over WebSockets", byWebSocket],
])("a device is known by a certificate of a registered authority, %s", async (_where, connected) => {
  newDevice({ type: "certificateAuthority" });
  const own = await deviceCertificate("cam-1", { by: middle });
  const client = await connected(withIssuers(own, middle));
  await report(await client.getTwin(), { by: "authority" });
  expect((await problemOf(connected(own))).name).toBe("UnauthorizedError");
  const stranger = await newAuthority("plant");
  for (const certificate of [
    await deviceCertificate("cam-2", { by: root }),
    await deviceCertificate("cam-1", { by: stranger }),
    await deviceCertificate("cam-1"),
    await deviceCertificate("cam-1", { by: root, from: -7_200_000, to: -3_600_000 }),
  ])
    expect((await problemOf(connected(certificate))).name).toBe("UnauthorizedError");
});

test("a certificate is worth nothing to a device that is known otherwise", async () => {
  newDevice({ type: "sas" });
  const certificate = await deviceCertificate("cam-1", { by: root });
  expect((await problemOf(byPort(certificate))).name).toBe("UnauthorizedError");
});

test("telemetry says that its sender proved itself with a certificate, and a change of that cuts it off", async () => {
  newDevice({ type: "certificateAuthority" });
  const client = await byPort(await deviceCertificate("cam-1", { by: root }));
  const { Message } = (await import("azure-iot-device")).default;
  await client.sendEvent(new Message("hello"));
  const { body } = await controlCall(endpoint, "GET", "events?source=Telemetry&device=cam-1");
  expect(body).toMatchObject({
    events: [
      {
        annotations: {
          "iothub-connection-auth-method":
            '{"scope":"device","type":"x509Certificate","issuer":"external","acceptingIpFilterRule":null}',
        },
      },
    ],
  });
  const lost = new Promise<void>((resolve) => client.once("disconnect", () => resolve()));
  simulator.hub.registry.putDevice("cam-1", { authentication: { type: "sas" } }, { any: true, etag: "*" });
  await lost;
});

test("a client that resumes its TLS session is known as well as at the first time", async () => {
  newDevice({ type: "certificateAuthority" });
  const { cert, key } = withIssuers(await deviceCertificate("cam-1", { by: middle }), middle);
  let session: Buffer | undefined;
  for (let time = 0; time < 2; time++) {
    const socket: TLSSocket = connect({
      host: "127.0.0.1",
      port: endpoint.mqttPort,
      ca: endpoint.ca,
      cert,
      key,
      ...(session === undefined ? {} : { session }),
    });
    socket.on("session", (ticket) => {
      session = ticket;
    });
    const username = `${endpoint.hostName}/cam-1/?api-version=2021-04-12`;
    socket.write(connectPacket({ clientId: "cam-1", username, password: "" }));
    const connack = await new Promise<Buffer>((resolve) => socket.once("data", resolve));
    expect(connack).toEqual(Buffer.from([0x20, 2, 0, 0]));
    socket.destroy();
  }
});

test("who has no certificate is not asked for one twice, and service clients need none", async () => {
  expect((await controlCall(endpoint, "GET", "health")).status).toBe(200);
  newDevice({ type: "certificateAuthority" });
  const socket = connect({ host: "127.0.0.1", port: endpoint.mqttPort, ca: endpoint.ca });
  const username = `${endpoint.hostName}/cam-1/?api-version=2021-04-12`;
  socket.write(connectPacket({ clientId: "cam-1", username, password: "" }));
  expect(await new Promise<Buffer>((resolve) => socket.once("data", resolve))).toEqual(
    Buffer.from([0x20, 2, 0, 5]),
  );
  socket.destroy();
});
