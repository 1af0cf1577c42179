import { fork, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { Agent, createServer as createHttpsServer, request as httpsRequest } from "node:https";
import type { AddressInfo, createServer as createTcpServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import { parseArgs } from "node:util";
import { Aedes } from "aedes";
import { createAuthority, createServerCertificate } from "../simulator/base/certificates.ts";
import type { Endpoint } from "../simulator/simulator.ts";
import { deviceClient } from "../simulator/testing/device-client.ts";
import {
  CONNACK,
  connectPacket,
  credentialsOf,
  PINGREQ,
  PUBACK,
  PUBLISH,
  published,
  publishPacket,
  type RawClient,
  rawClient,
  SUBACK,
  subscribePacket,
} from "../simulator/testing/raw-mqtt.ts";
import { connectRegistry } from "../simulator/testing/service-client.ts";
import { say } from "./shared/command.ts";
import { type Figure, percentile, publish, secondsText } from "./shared/figures.ts";

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

async function measure(
  { endpoint, peer, pid }: Places,
  devices: number,
  connections: number,
): Promise<readonly Figure[]> {
  const registry = connectRegistry(endpoint, endpoint.connectionString, 60_000);
  const figures: Figure[] = [];
  const record = (what: string, value: string, against?: string) => {
    say(`${what}: ${value}`);
    figures.push({ what, value, ...(against === undefined ? {} : { against }) });
  };
  record("RSS, empty", `${rss(pid)} MiB`);

  const names = Array.from({ length: devices + connections }, (_, index) => `cam-${index}`);
  const began = performance.now();
  for (let from = 0; from < names.length; from += 100)
    await registry.addDevices(names.slice(from, from + 100).map((deviceId) => ({ deviceId })) as never);
  record("identities in bulk, a hundred at a time", rate(names.length, performance.now() - began));
  record(`RSS with ${names.length} simulated devices`, `${rss(pid)} MiB`, "goal < 1024 MiB");

  const keys = new Map<string, string>();
  for (const deviceId of names.slice(devices, devices + connections)) {
    const { authentication } = (await registry.get(deviceId)).responseBody;
    keys.set(deviceId, authentication?.symmetricKey?.primaryKey ?? "");
  }
  const bare = await connectAll(peer, [...keys]);
  for (const client of bare.clients) client.socket.destroy();
  const ours = await connectAll(endpoint, [...keys]);
  const aedes = `a bare aedes broker: ${rate(connections, bare.total)}, ${spread(bare.times)}; ratio ${(ours.total / bare.total).toFixed(2)}`;
  record(
    `${connections} connections over TLS, eight at a time`,
    `${rate(connections, ours.total)}, ${spread(ours.times)}`,
    aedes,
  );
  const sdk: number[] = [];
  for (const [deviceId, key] of [...keys].slice(0, SDK_CLIENTS)) {
    const client = await deviceClient(endpoint, { deviceId }, key);
    sdk.push(await timed(() => client.open()));
    await client.close();
  }
  record("the vendor's device client opens, median", `${percentile(sdk, 0.5).toFixed(0)} ms`);
  const [again] = (await connectAll(endpoint, [...keys].slice(0, SDK_CLIENTS))).clients;
  record("RSS with all of them connected", `${rss(pid)} MiB`, "goal < 1024 MiB");

  const token = await authorizationOf(registry);
  const get = (place: { readonly port: number; readonly ca: string }) =>
    load(3000, 16, createGetter(place, "/twins/cam-0?api-version=2021-04-12", token));
  const echo = await get(peer);
  const twins = await get(endpoint);
  record(
    "twin GET, 16 at a time",
    rate(3000, twins),
    `a bare HTTPS server of Node: ${rate(3000, echo)}; ratio ${(twins / echo).toFixed(2)}`,
  );

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
    if (rows !== names.length) throw new Error(`the query answered ${rows} rows`);
  });
  record(`query of ${names.length} whole twins, pages of 1000`, secondsText(pages));

  const clients = ours.clients.slice(SDK_CLIENTS);
  const listening = [...keys.keys()].slice(SDK_CLIENTS);
  const pushed = await load(500, 8, async (index) => {
    const at = index % clients.length;
    const client = clients[at] as RawClient;
    if (index < clients.length) await subscribed(client, "$iothub/twin/PATCH/properties/desired/#");
    const heard = client.next();
    await registry.updateTwin(
      listening[at] as string,
      { properties: { desired: { n: index } } } as never,
      "*",
    );
    if ((await heard)?.type !== PUBLISH) throw new Error("the device got no update");
  });
  record("twin PATCH until the device has it, 8 at a time", rate(500, pushed));

  if (again === undefined) throw new Error("no client is connected");
  await subscribed(again, "$iothub/methods/POST/#");
  const answering = answerMethods(again);
  const call = createCaller(endpoint, `/twins/${[...keys.keys()][0]}/methods?api-version=2021-04-12`, token);
  const methods = await load(500, 8, call);
  record("direct method there and back, 8 at a time", rate(500, methods));
  again.socket.destroy();
  await answering;

  const messages = 20_000;
  const sent = await timed(() => sendTelemetry(clients, listening, messages));
  record("messages of devices, quality 1", rate(messages, sent));
  record("RSS after all that", `${rss(pid)} MiB`, "goal < 1024 MiB");

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
  return figures;
}

async function connectAll(
  place: Pick<Peer, "mqttPort" | "ca">,
  keys: readonly (readonly [string, string])[],
) {
  const clients: RawClient[] = [];
  const times: number[] = [];
  const total = await load(keys.length, 8, async (index) => {
    const [deviceId, key] = keys[index] ?? ["", ""];
    times.push(
      await timed(async () => {
        const client = await rawClient(place);
        client.send(
          connectPacket({
            ...credentialsOf({ hostName: "simhub.azure-devices.net" }, deviceId, key),
            keepAlive: 600,
          }),
        );
        if ((await client.next())?.type !== CONNACK) throw new Error(`${deviceId} was not let in`);
        clients[index] = client;
      }),
    );
  });
  return { clients, times, total };
}

async function subscribed(client: RawClient, filter: string): Promise<void> {
  client.send(subscribePacket(filter));
  if ((await client.next())?.type !== SUBACK) throw new Error(`no subscription to ${filter}`);
}

async function answerMethods(client: RawClient): Promise<void> {
  for (let asked = await client.next(); asked !== null; asked = await client.next()) {
    if (asked.type !== PUBLISH) continue;
    const [, id] = /\$rid=(.+)$/.exec(published(asked).topic) ?? [];
    client.send(publishPacket(`$iothub/methods/res/200/?$rid=${id}`, "{}"));
  }
}

/** Each client sends its share, one message after the other has been acknowledged. */
async function sendTelemetry(
  clients: readonly RawClient[],
  names: readonly string[],
  messages: number,
): Promise<void> {
  const senders = clients.slice(0, 100);
  await Promise.all(
    senders.map(async (client, index) => {
      for (let left = messages / senders.length; left > 0; left -= 1) {
        client.send(
          publishPacket(`devices/${names[index]}/messages/events/`, '{"temperature":21}', { qos: 1 }),
        );
        for (let answer = await client.next(); answer?.type !== PUBACK; answer = await client.next())
          if (answer === null) throw new Error("the connection was closed");
      }
    }),
  );
}

/** The vendor's client signs: what it signed is good for an hour, and for a lean client too. */
async function authorizationOf(registry: ReturnType<typeof connectRegistry>): Promise<string> {
  const { httpResponse } = await registry.get("cam-0");
  return String(
    (httpResponse as unknown as { req: { getHeader: (name: string) => string } }).req.getHeader(
      "authorization",
    ),
  );
}

function createGetter(place: { readonly port: number; readonly ca: string }, path: string, token: string) {
  return createCaller(place, path, token, "GET");
}

function createCaller(
  place: { readonly port: number; readonly ca: string },
  path: string,
  token: string,
  method = "POST",
) {
  const agent = new Agent({ keepAlive: true, ca: place.ca, servername: "localhost" });
  const body = method === "GET" ? "" : '{"methodName":"ping","payload":null}';
  return (): Promise<void> =>
    new Promise((resolve, reject) => {
      const headers = {
        Authorization: token,
        ...(body === "" ? {} : { "Content-Type": "application/json" }),
      };
      const asked = httpsRequest(
        { agent, host: "127.0.0.1", port: place.port, path, method, headers },
        (answer) => {
          answer.resume();
          answer.once("end", () =>
            answer.statusCode === 200 ? resolve() : reject(new Error(`${path}: ${answer.statusCode}`)),
          );
        },
      );
      asked.once("error", reject);
      asked.end(body);
    });
}

/** Milliseconds for `times` runs, `width` of them at a time. */
async function load(times: number, width: number, run: (index: number) => Promise<void>): Promise<number> {
  let next = 0;
  return await timed(async () => {
    await Promise.all(
      Array.from({ length: width }, async () => {
        while (next < times) await run(next++);
      }),
    );
  });
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

function rate(count: number, milliseconds: number): string {
  return `${Math.round((count / milliseconds) * 1000)}/s`;
}

function spread(times: readonly number[]): string {
  return `p50/p95 ${percentile(times, 0.5).toFixed(0)}/${percentile(times, 0.95).toFixed(0)} ms`;
}

/** Of the kernel, in MiB. */
function rss(pid: number): number {
  const [, kilobytes = "0"] = /VmRSS:\s+([0-9]+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return Math.round(Number(kilobytes) / 1024);
}

/** User and system, of all threads. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
