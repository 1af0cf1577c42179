import { type AddressInfo, createServer as createNetServer, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { createServer as createTlsServer, TLSSocket } from "node:tls";
import { Aedes, type Client } from "aedes";
import { askingForCertificates, type ServerCertificate } from "../base/certificates.ts";
import { seversAll } from "../hub/faults/faults.ts";
import type { Hub } from "../hub/hub.ts";
import { createAdmission, type ReturnCode } from "./admission.ts";
import { createCloudDelivery } from "./cloud-delivery.ts";
import { type Connection, newConnection, send } from "./connection.ts";
import { type DeviceAuthority, peerCertificateOf } from "./device-certificates.ts";
import type { DeviceLinks } from "./device-link.ts";
import { createDeviceRequests } from "./device-requests.ts";
import { createSessions } from "./mqtt-sessions.ts";
import { desiredTopic, inputTopic, methodTopic, parseFilter } from "./mqtt-topics.ts";
import type { SessionMemory } from "./session-memory.ts";
import { tighten } from "./stream-limits.ts";

/** The side of the hub that real devices connect to: MQTT 3.1.1, as the vendor's SDKs speak it. */
export type MqttFront = {
  /** TLS on a port of its own; resolves with the port. */
  readonly listen: (port: number, host: string) => Promise<number>;
  /** Serves a connection that came another way than the port; `below` is the socket that carries it. */
  readonly accept: (stream: Duplex, below: Duplex) => void;
  /** Connections that are open, whether or not somebody has said yet who they are. */
  readonly connections: () => number;
  readonly close: () => Promise<void>;
};

/** The hub closes after one and a half times the keep-alive, and at last after 29.45 minutes. */
const LONGEST_KEEP_ALIVE = 1178;
/** Milliseconds for a TLS handshake, and then for a CONNECT. */
const PATIENCE = 10_000;
/** Milliseconds between two looks for tokens that have expired and devices that are cut off. */
const SWEEP_INTERVAL = 1000;

const ignore = (): void => {};

export async function createMqttFront(parts: {
  readonly hub: Hub;
  readonly links: DeviceLinks;
  readonly certificate: ServerCertificate;
  readonly authorities: readonly DeviceAuthority[];
  /** What clients may call the hub. */
  readonly names: readonly string[];
  readonly memory: SessionMemory;
}): Promise<MqttFront> {
  const { hub, links, certificate, authorities, names, memory } = parts;
  const connections = new WeakMap<Client, Connection>();
  const streams = new Set<Duplex>();
  const visitors = new Set<Duplex>();
  const sockets = new Set<Socket>();
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

  const broker = await Aedes.createBroker({
    connectTimeout: PATIENCE,
    persistence: createSessions({
      recall: memory.recall,
      numbered: (client, messageId) => {
        const connection = connections.get(client);
        if (connection !== undefined) delivery.numbered(connection, messageId);
      },
      acknowledged: (client, messageId) => {
        const connection = connections.get(client);
        if (connection !== undefined) delivery.acknowledged(connection, messageId);
      },
    }),
    preConnect: (client, packet, done) => {
      const connection = connections.get(client);
      if (connection !== undefined) {
        connection.lasting = packet.clean === false;
        connection.clientId = packet.clientId;
      }
      // What a session remembers is the hub's business: to the broker every session lasts.
      packet.clean = false;
      packet.keepalive = Math.min(packet.keepalive || LONGEST_KEEP_ALIVE, LONGEST_KEEP_ALIVE);
      // MQTT 3.1 is refused with the code for a version that is not served, as 5 is by the broker itself.
      if (packet.protocolVersion === 3) Object.assign(packet, { protocolVersion: 0 });
      done(null, true);
    },
    authenticate: (client, username, password, done) => {
      const connection = connections.get(client);
      if (connection === undefined) return;
      const admitted = (returnCode: ReturnCode | null) => {
        if (returnCode !== null) {
          done(Object.assign(new Error("not authorized"), { returnCode }), false);
          return;
        }
        if (!connection.lasting) memory.forget(client.id);
        done(null, true);
      };
      const brought = { username: username ?? "", password: password?.toString() ?? null };
      admission.admit(connection, brought, admitted);
    },
    authorizePublish: (client, packet, done) => {
      const connection = client === null ? undefined : connections.get(client);
      const problem = connection === undefined ? "nobody published this" : receive(connection, packet);
      done(problem === null ? null : new Error(problem));
    },
    authorizeSubscribe: (client, subscription, done) => {
      const connection = connections.get(client);
      const who = connection?.known?.who;
      const wanted = who === undefined ? null : parseFilter(subscription.topic, who);
      if (connection === undefined || wanted === null) return done(new Error("there is no such topic"));
      const qos = subscription.qos === 0 ? 0 : 1;
      connection.wants.set(wanted, qos);
      if (connection.lasting) memory.note(client.id, wanted, { topic: subscription.topic, qos });
      hub.persistence.commit();
      done(null, subscription);
    },
    // Devices share the names of topics: what one publishes reaches the hub and never another device.
    authorizeForward: (_client, packet) => ("clientId" in packet ? null : packet),
  });
  broker.on("clientReady", (client) => {
    const connection = connections.get(client);
    if (connection === undefined) return;
    connection.ready = true;
    serve(connection);
  });
  broker.on("subscribe", (_subscriptions, client) => {
    const connection = connections.get(client);
    if (connection !== undefined) serve(connection);
  });
  broker.on("unsubscribe", (filters, client) => {
    const connection = connections.get(client);
    if (connection !== undefined) for (const filter of filters) forsake(connection, filter);
  });

  const server = createTlsServer(
    { ...askingForCertificates(certificate), handshakeTimeout: PATIENCE },
    (socket) => serveStream(socket, socket),
  );
  // Connections are let in by hand: a hub that cannot be reached refuses them, or leaves them without an answer.
  // Without delay: the answer to CONNECT would wait for the client's acknowledgement of the handshake's last words.
  const door = createNetServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    const unreachable = hub.faults.unreachable();
    if (unreachable === "refuse") socket.resetAndDestroy();
    else if (unreachable === "blackHole") socket.on("error", ignore).resume();
    else server.emit("connection", socket);
  });
  hub.faults.onPut((rule) => {
    if (!seversAll(rule)) return;
    for (const socket of sockets) socket.resetAndDestroy();
  });
  // A handshake that fails is the client's trouble, and the socket is gone by then.
  server.on("tlsClientError", ignore);

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

  /** Begins what the client's subscriptions ask for and is not under way yet. */
  function serve(connection: Connection): void {
    const { session, attached, wants } = connection;
    if (!connection.ready || session === null) return;
    if (wants.has("methods") && !attached.has("methods"))
      attached.set(
        "methods",
        hub.methods.attach(session.key, ({ name, requestId, body }) =>
          send(connection, methodTopic(name, requestId), body),
        ),
      );
    if (wants.has("inputs") && !attached.has("inputs"))
      attached.set(
        "inputs",
        hub.inputs.attach(session.key, (message) =>
          send(connection, inputTopic(session, message), message.body, wants.get("inputs")),
        ),
      );
    delivery.pump(connection);
  }

  function forsake(connection: Connection, filter: string): void {
    const wanted = connection.known === null ? null : parseFilter(filter, connection.known.who);
    if (wanted === null) return;
    connection.wants.delete(wanted);
    memory.drop(connection.client.id, filter);
    if (wanted !== "methods" && wanted !== "inputs") return;
    connection.attached.get(wanted)?.();
    connection.attached.delete(wanted);
  }

  return {
    listen: (port, host) =>
      new Promise((resolve, reject) => {
        door.once("error", reject);
        door.listen(port, host, () => resolve((door.address() as AddressInfo).port));
      }),
    accept: (stream, below) => {
      visitors.add(stream);
      stream.once("close", () => visitors.delete(stream));
      serveStream(stream, below);
    },
    connections: () => sockets.size + visitors.size,
    close: async () => {
      clearInterval(sweeping);
      for (const stream of streams) stream.destroy();
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => {
        if (door.listening) door.close(() => resolve());
        else resolve();
      });
      await new Promise<void>((resolve) => broker.close(resolve));
    },
  };
}
