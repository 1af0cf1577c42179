import type { Duplex } from "node:stream";
import { TLSSocket } from "node:tls";
import type { Client } from "aedes";
import type { ServerCertificate } from "../base/certificates.ts";
import type { Hub } from "../hub/hub.ts";
import { createAdmission } from "./admission.ts";
import { createBroker } from "./broker.ts";
import { createCloudDelivery } from "./cloud-delivery.ts";
import { type Connection, newConnection, send } from "./connection.ts";
import { type DeviceAuthority, peerCertificateOf } from "./device-certificates.ts";
import type { DeviceLinks } from "./device-link.ts";
import { createDeviceRequests } from "./device-requests.ts";
import { desiredTopic } from "./mqtt-topics.ts";
import type { SessionMemory } from "./session-memory.ts";
import { tighten } from "./stream-limits.ts";
import { createSubscriptions } from "./subscriptions.ts";
import { createTlsPort } from "./tls-port.ts";

/** The side of the hub that real devices connect to: MQTT 3.1.1, as the vendor's SDKs speak it. */
export type MqttFront = {
  /** TLS on a port of its own; resolves with the port. */
  readonly listen: (port: number, host: string) => Promise<number>;
  /** Serves a connection that came another way than the port; `below` is the socket that carries it. */
  readonly accept: (stream: Duplex, below: Duplex) => void;
  /** Connections that are open, whether or not the client has said yet who it is. */
  readonly connections: () => number;
  readonly close: () => Promise<void>;
};

/** Milliseconds between two looks for tokens that have expired and devices that are cut off. */
const SWEEP_INTERVAL = 1000;

type MqttParts = {
  readonly hub: Hub;
  readonly links: DeviceLinks;
  readonly certificate: ServerCertificate;
  readonly authorities: readonly DeviceAuthority[];
  /** What clients may call the hub. */
  readonly names: readonly string[];
  readonly memory: SessionMemory;
};

export async function createMqttFront(parts: MqttParts): Promise<MqttFront> {
  const { hub, links, certificate, authorities, names, memory } = parts;
  const connections = new WeakMap<Client, Connection>();
  const streams = new Set<Duplex>();
  const visitors = new Set<Duplex>();
  const delivery = createCloudDelivery(hub);
  const receive = createDeviceRequests(hub, links);
  const admission = createAdmission(hub, links, {
    authorities,
    names,
    listener: {
      desired: (connection, patch, version) => {
        if (connection.wants.has("desired"))
          send(connection, desiredTopic(version), JSON.stringify({ ...patch, $version: version }));
      },
      closed: (connection) => {
        connection.session = null;
        connection.client.close();
      },
    },
  });

  const subscriptions = createSubscriptions(hub, delivery, memory);
  const connectionOf = (client: Client) => connections.get(client);
  const broker = await createBroker({ hub, connectionOf, delivery, receive, admission, memory });
  broker.on("clientReady", (client) => {
    const connection = connections.get(client);
    if (connection === undefined) return;
    connection.ready = true;
    subscriptions.serve(connection);
  });
  broker.on("subscribe", (_subscriptions, client) => {
    const connection = connections.get(client);
    if (connection !== undefined) subscriptions.serve(connection);
  });
  broker.on("unsubscribe", (filters, client) => {
    const connection = connections.get(client);
    if (connection !== undefined) for (const filter of filters) subscriptions.drop(connection, filter);
  });

  const port = createTlsPort(hub, certificate, (socket) => serveStream(socket, socket));
  hub.registry.onWrite(({ key, after }) => {
    if (after === null) memory.forget(key);
  });
  hub.messages.onSend((deviceId) => {
    const connection = admission.of(deviceId);
    if (connection !== undefined) delivery.pump(connection);
  });
  const sweeping = setInterval(admission.sweep, SWEEP_INTERVAL);
  sweeping.unref();

  function serveStream(stream: Duplex, below: Duplex): void {
    streams.add(stream);
    const client = broker.handle(stream);
    const certificateOf = () => (below instanceof TLSSocket ? peerCertificateOf(below) : null);
    const connection = newConnection(client, certificateOf, hub.persistence.commit);
    connections.set(client, connection);
    tighten(client, stream);
    stream.once("close", () => {
      streams.delete(stream);
      for (const end of connection.attached.values()) end();
      connection.attached.clear();
      delivery.release(connection);
      admission.release(connection);
    });
  }

  return {
    listen: port.listen,
    accept: (stream, below) => {
      visitors.add(stream);
      stream.once("close", () => visitors.delete(stream));
      serveStream(stream, below);
    },
    connections: () => port.connections() + visitors.size,
    close: async () => {
      clearInterval(sweeping);
      for (const stream of streams) stream.destroy();
      await port.close();
      await new Promise<void>((resolve) => broker.close(resolve));
    },
  };
}
