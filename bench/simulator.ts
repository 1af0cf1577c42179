import { fork, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo, createServer as createTcpServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import { parseArgs } from "node:util";
import { Aedes } from "aedes";
import { createAuthority, createServerCertificate } from "../simulator/base/certificates.ts";
import type { Endpoint } from "../simulator/simulator.ts";
import { deviceClient } from "../simulator/testing/device-client.ts";
import { PINGREQ, PUBLISH, publishPacket, type RawClient } from "../simulator/testing/raw-mqtt.ts";
import { connectRegistry } from "../simulator/testing/service-client.ts";
import { say } from "./shared/command.ts";
import { type Figure, percentile, publish, secondsText } from "./shared/figures.ts";
import {
  answerMethods,
  authorizationOf,
  connectAll,
  cpuSeconds,
  createCaller,
  createGetter,
  load,
  rate,
  rss,
  sendTelemetry,
  spread,
  subscribed,
  timed,
} from "./shared/hub-clients.ts";

const HELP = `node bench/simulator.ts [--devices 10000] [--connections 1000]

The IoT Hub simulator as a process of its own: simulated devices inside it and MQTT connections from this process, how
fast both sides are served, and what it costs. Beside it, in the same run, a bare aedes broker and a bare HTTPS server
of Node, each as a process of its own too: what is left when everything that is IoT Hub is taken away.`;

const { values } = parseArgs({
  options: {
    help: { type: "boolean", short: "h", default: false },
    devices: { type: "string", default: "10000" },
    connections: { type: "string", default: "1000" },
    /** For itself: what to serve for comparison. */
    peer: { type: "string" },
  },
});
const IDLE_SECONDS = 60;
const SDK_CLIENTS = 5;

if (values.help) console.log(HELP);
else if (values.peer !== undefined) await servePeer();
else {
  const [devices, connections] = [Number(values.devices), Number(values.connections)];
  if (
    ![devices, connections].every((number) => Number.isInteger(number) && number >= 10 && number <= 100_000)
  ) {
    console.error("--devices and --connections are whole numbers from 10 to 100000");
    process.exitCode = 2;
  } else await measureAll(devices, connections);
}

type Peer = { readonly port: number; readonly mqttPort: number; readonly ca: string };

/** A broker and an HTTPS server that know nothing of IoT Hub; says where they are over the channel of `fork`. */
async function servePeer(): Promise<void> {
  const { key, certificate, ca } = await createServerCertificate(
    ["peer", "localhost", "127.0.0.1"],
    await createAuthority(),
  );
  const broker = await Aedes.createBroker();
  const mqtt = createTlsServer({ key, cert: certificate }, (socket) => void broker.handle(socket));
  const twin = JSON.stringify({
    deviceId: "d",
    tags: {},
    properties: { desired: {}, reported: {} },
    filler: "x".repeat(700),
  });
  const http = createHttpsServer({ key, cert: certificate }, (_request, response) => {
    response.writeHead(200, {
      "Content-Type": "application/json",
      "Content-Length": Buffer.byteLength(twin),
    });
    response.end(twin);
  });
  const listening = (server: ReturnType<typeof createTcpServer>) =>
    new Promise<number>((resolve) => {
      server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port));
    });
  process.send?.({ port: await listening(http), mqttPort: await listening(mqtt), ca } satisfies Peer);
  process.once("disconnect", () => process.exit(0));
}

async function measureAll(devices: number, connections: number): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "edgefleet-bench-"));
  const main = join(import.meta.dirname, "../simulator/main.ts");
  const caFile = join(directory, "ca.crt");
  const simulator = spawn(
    process.execPath,
    [main, "--port", "0", "--mqtt-port", "0", "--no-throttling", "--ca-out", caFile],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const peer = fork(import.meta.filename, ["--peer", "yes"]);
  try {
    const peerPlace = await new Promise<Peer>((resolve) => {
      peer.once("message", (place) => resolve(place as Peer));
    });
    const first = await new Promise<string>((resolve) => {
      simulator.stdout.once("data", (chunk: Buffer) => resolve(chunk.toString()));
    });
    const endpoint = { ...JSON.parse(first), ca: readFileSync(caFile, "utf8") } as Endpoint;
    const figures = await measure(
      { endpoint, peer: peerPlace, pid: simulator.pid ?? 0 },
      devices,
      connections,
    );
    publish(
      `the simulator with ${devices} simulated devices and ${connections} connections over MQTT`,
      figures,
    );
  } finally {
    simulator.kill();
    peer.disconnect();
    rmSync(directory, { recursive: true, force: true });
  }
  // Not left to the event loop: connections that were never closed would keep it alive.
  process.exit();
}

type Places = { readonly endpoint: Endpoint; readonly peer: Peer; readonly pid: number };
type Registry = ReturnType<typeof connectRegistry>;
type Recorder = (what: string, value: string, against?: string) => void;

async function measure(
  { endpoint, peer, pid }: Places,
  devices: number,
  connections: number,
): Promise<readonly Figure[]> {
  const registry = connectRegistry(endpoint, endpoint.connectionString, 60_000);
  const figures: Figure[] = [];
  const record: Recorder = (what, value, against) => {
    say(`${what}: ${value}`);
    figures.push({ what, value, ...(against === undefined ? {} : { against }) });
  };
  record("RSS, empty", `${rss(pid)} MiB`);
  const names = Array.from({ length: devices + connections }, (_, index) => `cam-${index}`);
  await measureRegistration(registry, names, record);
  record(`RSS with ${names.length} simulated devices`, `${rss(pid)} MiB`, "goal < 1024 MiB");

  const keys = await keysOf(registry, names.slice(devices));
  const all = await measureConnections({ endpoint, peer }, [...keys], record);
  const [again] = (await connectAll(endpoint, [...keys].slice(0, SDK_CLIENTS))).clients;
  if (again === undefined) throw new Error("no client is connected");
  record("RSS with all of them connected", `${rss(pid)} MiB`, "goal < 1024 MiB");

  const token = await authorizationOf(registry);
  await measureTwinReads({ endpoint, peer }, token, record);
  await measureQuery(registry, names.length, record);
  const clients = all.slice(SDK_CLIENTS);
  const listening = [...keys.keys()].slice(SDK_CLIENTS);
  await measureDesired(registry, { clients, names: listening }, record);
  await measureMethods(again, { endpoint, device: [...keys.keys()][0] ?? "", token }, record);

  const messages = 20_000;
  const sent = await timed(() => sendTelemetry(clients, listening, messages));
  record("messages of devices, quality 1", rate(messages, sent));
  record("RSS after all that", `${rss(pid)} MiB`, "goal < 1024 MiB");
  await measureRest(pid, clients, record);
  return figures;
}

async function measureRegistration(
  registry: Registry,
  names: readonly string[],
  record: Recorder,
): Promise<void> {
  const took = await timed(async () => {
    for (let from = 0; from < names.length; from += 100)
      await registry.addDevices(names.slice(from, from + 100).map((deviceId) => ({ deviceId })) as never);
  });
  record("identities in bulk, a hundred at a time", rate(names.length, took));
}

async function keysOf(registry: Registry, names: readonly string[]): Promise<ReadonlyMap<string, string>> {
  const keys = new Map<string, string>();
  for (const deviceId of names) {
    const { authentication } = (await registry.get(deviceId)).responseBody;
    keys.set(deviceId, authentication?.symmetricKey?.primaryKey ?? "");
  }
  return keys;
}

/** Returns the clients, connected, except for those that the vendor's client has taken over. */
async function measureConnections(
  { endpoint, peer }: Omit<Places, "pid">,
  keys: readonly (readonly [string, string])[],
  record: Recorder,
): Promise<readonly RawClient[]> {
  const bare = await connectAll(peer, keys);
  for (const client of bare.clients) client.socket.destroy();
  const ours = await connectAll(endpoint, keys);
  record(
    `${keys.length} connections over TLS, eight at a time`,
    `${rate(keys.length, ours.total)}, ${spread(ours.times)}`,
    `a bare aedes broker: ${rate(keys.length, bare.total)}, ${spread(bare.times)}; ratio ${(ours.total / bare.total).toFixed(2)}`,
  );
  const sdk: number[] = [];
  for (const [deviceId, key] of keys.slice(0, SDK_CLIENTS)) {
    const client = await deviceClient(endpoint, { deviceId }, key);
    sdk.push(await timed(() => client.open()));
    await client.close();
  }
  record("the vendor's device client opens, median", `${percentile(sdk, 0.5).toFixed(0)} ms`);
  return ours.clients;
}

async function measureTwinReads(
  { endpoint, peer }: Omit<Places, "pid">,
  token: string,
  record: Recorder,
): Promise<void> {
  const get = (place: { readonly port: number; readonly ca: string }) =>
    load(3000, 16, createGetter(place, "/twins/cam-0?api-version=2021-04-12", token));
  const echo = await get(peer);
  const twins = await get(endpoint);
  record(
    "twin GET, 16 at a time",
    rate(3000, twins),
    `a bare HTTPS server of Node: ${rate(3000, echo)}; ratio ${(twins / echo).toFixed(2)}`,
  );
}

async function measureQuery(registry: Registry, devices: number, record: Recorder): Promise<void> {
  const pages = await timed(async () => {
    const query = registry.createQuery("SELECT * FROM devices", 1000);
    let continuation: string | undefined;
    let rows = 0;
    do {
      const page = await (query.next as (token?: string) => Promise<{ result: readonly unknown[] }>)(
        continuation,
      );
      rows += page.result.length;
      continuation = (query as unknown as { continuationToken?: string }).continuationToken;
    } while (query.hasMoreResults);
    if (rows !== devices) throw new Error(`the query returned ${rows} rows`);
  });
  record(`query of ${devices} whole twins, pages of 1000`, secondsText(pages));
}

async function measureDesired(
  registry: Registry,
  { clients, names }: { readonly clients: readonly RawClient[]; readonly names: readonly string[] },
  record: Recorder,
): Promise<void> {
  const pushed = await load(500, 8, async (index) => {
    const at = index % clients.length;
    const client = clients[at] as RawClient;
    if (index < clients.length) await subscribed(client, "$iothub/twin/PATCH/properties/desired/#");
    const heard = client.next();
    await registry.updateTwin(names[at] as string, { properties: { desired: { n: index } } } as never, "*");
    if ((await heard)?.type !== PUBLISH) throw new Error("the device got no update");
  });
  record("twin PATCH until the device has it, 8 at a time", rate(500, pushed));
}

async function measureMethods(
  client: RawClient,
  {
    endpoint,
    device,
    token,
  }: { readonly endpoint: Endpoint; readonly device: string; readonly token: string },
  record: Recorder,
): Promise<void> {
  await subscribed(client, "$iothub/methods/POST/#");
  const answering = answerMethods(client);
  const call = createCaller(endpoint, `/twins/${device}/methods?api-version=2021-04-12`, token);
  const methods = await load(500, 8, call);
  record("direct method there and back, 8 at a time", rate(500, methods));
  client.socket.destroy();
  await answering;
}

async function measureRest(pid: number, clients: readonly RawClient[], record: Recorder): Promise<void> {
  say(`each connection reports once, in ${IDLE_SECONDS} s`);
  const before = cpuSeconds(pid);
  for (let past = 0; past < IDLE_SECONDS; past += 1) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    for (const client of clients.filter((_, index) => index % IDLE_SECONDS === past)) {
      client.send(publishPacket("$iothub/twin/PATCH/properties/reported/?$rid=1", `{"at":${past}}`), PINGREQ);
    }
  }
  record(
    "CPU at rest, each connection reporting once a minute",
    `${(((cpuSeconds(pid) - before) / IDLE_SECONDS) * 100).toFixed(0)} % of a core`,
  );
  record("RSS at rest", `${rss(pid)} MiB`, "goal < 1024 MiB");
}
