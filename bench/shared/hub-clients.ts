import { readFileSync } from "node:fs";
import { Agent, request as httpsRequest } from "node:https";
import {
  CONNACK,
  connectPacket,
  credentialsOf,
  PUBACK,
  PUBLISH,
  published,
  publishPacket,
  type RawClient,
  rawClient,
  SUBACK,
  subscribePacket,
} from "../../simulator/testing/raw-mqtt.ts";
import type { connectRegistry } from "../../simulator/testing/service-client.ts";
import { percentile } from "./figures.ts";

// Clients that load a hub, lean ones over MQTT and HTTPS, and what that costs the hub's process.

export async function connectAll(
  place: { readonly mqttPort: number; readonly ca: string },
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

export async function subscribed(client: RawClient, filter: string): Promise<void> {
  client.send(subscribePacket(filter));
  if ((await client.next())?.type !== SUBACK) throw new Error(`no subscription to ${filter}`);
}

export async function answerMethods(client: RawClient): Promise<void> {
  for (let asked = await client.next(); asked !== null; asked = await client.next()) {
    if (asked.type !== PUBLISH) continue;
    const [, id] = /\$rid=(.+)$/.exec(published(asked).topic) ?? [];
    client.send(publishPacket(`$iothub/methods/res/200/?$rid=${id}`, "{}"));
  }
}

/** Each client sends its share, one message after the other has been acknowledged. */
export async function sendTelemetry(
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
export async function authorizationOf(registry: ReturnType<typeof connectRegistry>): Promise<string> {
  const { httpResponse } = await registry.get("cam-0");
  return String(
    (httpResponse as unknown as { req: { getHeader: (name: string) => string } }).req.getHeader(
      "authorization",
    ),
  );
}

export function createGetter(
  place: { readonly port: number; readonly ca: string },
  path: string,
  token: string,
) {
  return createCaller(place, path, token, "GET");
}

export function createCaller(
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
export async function load(
  times: number,
  width: number,
  run: (index: number) => Promise<void>,
): Promise<number> {
  let next = 0;
  return await timed(async () => {
    await Promise.all(
      Array.from({ length: width }, async () => {
        while (next < times) await run(next++);
      }),
    );
  });
}

export async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

export function rate(count: number, milliseconds: number): string {
  return `${Math.round((count / milliseconds) * 1000)}/s`;
}

export function spread(times: readonly number[]): string {
  return `p50/p95 ${percentile(times, 0.5).toFixed(0)}/${percentile(times, 0.95).toFixed(0)} ms`;
}

/** Of the kernel, in MiB. */
export function rss(pid: number): number {
  const [, kilobytes = "0"] = /VmRSS:\s+([0-9]+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return Math.round(Number(kilobytes) / 1024);
}

/** User and system, of all threads. */
export function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
