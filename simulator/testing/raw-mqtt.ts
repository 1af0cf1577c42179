import { createHmac } from "node:crypto";
import { connect, type TLSSocket } from "node:tls";
import type { Endpoint } from "../simulator.ts";

// MQTT by hand, for what no proper client would send.

export const CONNACK = 2;
export const PUBLISH = 3;
export const PUBACK = 4;
export const SUBACK = 9;
export const PINGRESP = 13;

/** `first` is the first byte; text goes in front with its length, bytes as they are. */
export function packet(first: number, ...parts: readonly (string | Buffer)[]): Buffer {
  const body = Buffer.concat(parts.map((part) => (typeof part === "string" ? prefixed(part) : part)));
  const length: number[] = [];
  for (let rest = body.length; length.length === 0 || rest > 0; rest >>= 7)
    length.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
  return Buffer.concat([Buffer.from([first, ...length]), body]);
}

function prefixed(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 0xff]), bytes]);
}

export type Connecting = {
  readonly clientId: string;
  readonly username: string;
  readonly password: string;
  readonly clean?: boolean;
  /** Seconds. */
  readonly keepAlive?: number;
  readonly level?: number;
  readonly will?: { readonly topic: string; readonly body: string };
};

export function connectPacket(given: Connecting): Buffer {
  const { clientId, username, password, clean = true, keepAlive = 60, level = 4, will } = given;
  const flags = 0xc0 | (clean ? 0x02 : 0) | (will === undefined ? 0 : 0x04);
  const head = Buffer.from([level, flags, keepAlive >> 8, keepAlive & 0xff]);
  // MQTT 5 has properties here, and none are meant.
  const more = level === 5 ? [Buffer.from([0])] : [];
  const last = will === undefined ? [] : [will.topic, will.body];
  return packet(0x10, level === 3 ? "MQIsdp" : "MQTT", head, ...more, clientId, ...last, username, password);
}

export function publishPacket(
  topic: string,
  body: string | Buffer,
  { qos = 0, retain = false }: { readonly qos?: number; readonly retain?: boolean } = {},
): Buffer {
  const id = qos === 0 ? [] : [Buffer.from([0, 7])];
  return packet(0x30 | (qos << 1) | (retain ? 1 : 0), topic, ...id, Buffer.from(body));
}

export function subscribePacket(filter: string, qos = 0): Buffer {
  return packet(0x82, Buffer.from([0, 9]), filter, Buffer.from([qos]));
}

export const PINGREQ = packet(0xc0);

/** As an SDK says and signs who it is. */
export function credentialsOf(
  endpoint: Pick<Endpoint, "hostName">,
  clientId: string,
  key: string,
): Connecting {
  const [deviceId = "", moduleId] = clientId.split("/");
  const module = moduleId === undefined ? "" : `/modules/${moduleId}`;
  const scope = encodeURIComponent(`${endpoint.hostName}/devices/${deviceId}${module}`);
  const expiry = Math.floor(Date.now() / 1000) + 600;
  const signature = createHmac("sha256", Buffer.from(key, "base64")).update(`${scope}\n${expiry}`);
  return {
    clientId,
    username: `${endpoint.hostName}/${clientId}/?api-version=2021-04-12`,
    password: `SharedAccessSignature sr=${scope}&sig=${encodeURIComponent(signature.digest("base64"))}&se=${expiry}`,
  };
}

export type RawPacket = { readonly type: number; readonly flags: number; readonly body: Buffer };

export type RawClient = {
  readonly socket: TLSSocket;
  readonly send: (...bytes: readonly Buffer[]) => void;
  /** The next packet; `null`: the hub has closed the connection. */
  readonly next: () => Promise<RawPacket | null>;
};

export function rawClient(endpoint: Pick<Endpoint, "mqttPort" | "ca">): Promise<RawClient> {
  const packets: (RawPacket | null)[] = [];
  const waiting: ((packet: RawPacket | null) => void)[] = [];
  let bytes: Buffer = Buffer.alloc(0);
  const give = (one: RawPacket | null) => {
    const wake = waiting.shift();
    if (wake === undefined) packets.push(one);
    else wake(one);
  };
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port: endpoint.mqttPort, ca: endpoint.ca });
    socket.once("error", reject);
    socket.on("close", () => give(null));
    socket.on("data", (chunk) => {
      bytes = Buffer.concat([bytes, chunk]);
      for (let parsed = parse(bytes); parsed !== null; parsed = parse(bytes)) {
        bytes = bytes.subarray(parsed.size);
        give(parsed.packet);
      }
    });
    socket.once("secureConnect", () => {
      socket.off("error", reject);
      // A connection that the hub cuts is what many tests are about.
      socket.on("error", () => {});
      resolve({
        socket,
        send: (...all) => {
          for (const one of all) socket.write(one);
        },
        next: () => {
          const packetThere = packets.shift();
          if (packetThere !== undefined) return Promise.resolve(packetThere);
          return new Promise((wake) => waiting.push(wake));
        },
      });
    });
  });
}

function parse(bytes: Buffer): { readonly packet: RawPacket; readonly size: number } | null {
  const [first = 0] = bytes;
  let length = 0;
  for (let at = 1; at < bytes.length && at < 5; at++) {
    const digit = bytes[at] ?? 0;
    length += (digit & 0x7f) << (7 * (at - 1));
    if (digit >= 0x80) continue;
    const size = at + 1 + length;
    if (bytes.length < size) return null;
    return { packet: { type: first >> 4, flags: first & 0x0f, body: bytes.subarray(at + 1, size) }, size };
  }
  return null;
}

/** Topic and text of a PUBLISH. */
export function published({ flags, body }: RawPacket): { readonly topic: string; readonly text: string } {
  const start = 2 + body.readUInt16BE(0);
  const skipped = start + ((flags & 0x06) === 0 ? 0 : 2);
  return { topic: body.subarray(2, start).toString(), text: body.subarray(skipped).toString() };
}
