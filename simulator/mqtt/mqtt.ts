import { randomBytes } from "node:crypto";
import type { EventEmitter } from "node:events";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { createServer as createTlsServer, type TLSSocket } from "node:tls";
import { Aedes, type Client, type PublishPacket } from "aedes";
import type { ServerCertificate } from "../base/certificates.ts";
import { isObject, type JsonObject, parseJson } from "../base/json.ts";
import { type Answer, errorDetail, type Refusal, refuse } from "../hub/errors.ts";
import type { Hub } from "../hub/hub.ts";
import type { TwinKey } from "../hub/twin.ts";
import type { DeviceLinks, Listener, Session } from "./device-link.ts";
import { authenticate, authMethodOf, type Proof, stillHolds } from "./mqtt-auth.ts";
import { createSessions, type Remembered } from "./mqtt-sessions.ts";
import {
  cloudMessageTopic,
  desiredTopic,
  methodTopic,
  type PropertyBag,
  parseFilter,
  parseTopic,
  type Subscribed,
  sortBag,
  twinReplyTopic,
  type Who,
} from "./mqtt-topics.ts";

/** The side of the hub that real devices connect to: MQTT 3.1.1, as the vendor's SDKs speak it. */
export type MqttFront = {
  /** TLS on a port of its own; resolves with the port. */
  readonly listen: (port: number, host: string) => Promise<number>;
  /** Serves a connection that came another way than the port. */
  readonly accept: (stream: Duplex) => void;
  /** Connections that are open, whether or not somebody has said yet who they are. */
  readonly connections: () => number;
  readonly close: () => Promise<void>;
};

type Connection = {
  readonly client: Client;
  readonly thumbprints: readonly string[];
  /** `null` until the client has proven who it is. */
  known: { readonly who: Who; readonly proof: Proof } | null;
  session: Session | null;
  /** Asked for a session that the hub remembers. */
  lasting: boolean;
  /** The broker has told the client that it is connected. */
  ready: boolean;
  /** Qualities of what the client subscribed to. */
  readonly wants: Map<Subscribed, 0 | 1>;
  /** The message from the cloud that is on its way; `messageId` is its number on the wire. */
  underWay: { readonly sequenceNumber: number; messageId: number | null } | null;
  detachMethods: (() => void) | null;
};

/** The hub closes after one and a half times the keep-alive, and at last after 29.45 minutes. */
const LONGEST_KEEP_ALIVE = 1178;
const LARGEST_MESSAGE = 256 * 1024;
/** Room for the longest topic besides. */
const LARGEST_PACKET = LARGEST_MESSAGE + 128 * 1024;
/** Milliseconds for a TLS handshake, and then for a CONNECT. */
const PATIENCE = 10_000;
/** Milliseconds between two looks for tokens that have expired and devices that are cut off. */
const SWEEP_INTERVAL = 1000;

const ignore = (): void => {};

export async function createMqttFront(
  parts: { readonly hub: Hub; readonly links: DeviceLinks },
  certificate: ServerCertificate,
): Promise<MqttFront> {
  const { hub, links } = parts;
  const connections = new WeakMap<Client, Connection>();
  const live = new Map<TwinKey, Connection>();
  // The vendor's clients do not subscribe again when they renew their token or come back after a drop: they count on it.
  const remembered = new Map<string, Map<string, 0 | 1>>();
  const streams = new Set<Duplex>();
  const visitors = new Set<Duplex>();
  const sockets = new Set<Socket>();

  const broker = await Aedes.createBroker({
    connectTimeout: PATIENCE,
    persistence: createSessions({
      recall: (clientId) =>
        [...(remembered.get(clientId) ?? [])].map(([topic, qos]): Remembered => ({ topic, qos })),
      numbered: (client, messageId) => {
        const underWay = connections.get(client)?.underWay;
        if (underWay?.messageId === null) underWay.messageId = messageId;
      },
      acknowledged,
    }),
    preConnect: (client, packet, done) => {
      const connection = connections.get(client);
      if (connection !== undefined) connection.lasting = packet.clean === false;
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
      const admitted = (returnCode: 4 | 5 | null) => {
        if (returnCode === null) done(null, true);
        else done(Object.assign(new Error("not authorized"), { returnCode }), false);
      };
      admit(connection, { username: username ?? "", password: password?.toString() ?? null }, admitted);
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
      if (connection.lasting)
        remembered.set(client.id, (remembered.get(client.id) ?? new Map()).set(subscription.topic, qos));
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
    {
      key: certificate.key,
      cert: certificate.certificate,
      // Certificates of devices are signed by themselves: what counts is the thumbprint that the identity names.
      requestCert: true,
      rejectUnauthorized: false,
      handshakeTimeout: PATIENCE,
    },
    (socket) => serveStream(socket, thumbprintsOf(socket)),
  );
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  // A handshake that fails is the client's trouble, and the socket is gone by then.
  server.on("tlsClientError", ignore);

  const listener: Listener<Connection> = {
    desired: (connection, patch, version) => {
      if (connection.wants.has("desired"))
        send(connection, desiredTopic(version), JSON.stringify({ ...patch, $version: version }));
    },
    closed: (connection) => {
      connection.session = null;
      connection.client.close();
    },
  };
  hub.registry.onWrite(({ key, after }) => {
    if (after === null) remembered.delete(key);
    const connection = live.get(key);
    if (after === null || connection === undefined || connection.known === null) return;
    if (!stillHolds(connection.known.proof, after)) connection.client.close();
  });
  hub.messages.onSend((deviceId) => {
    const connection = live.get(deviceId);
    if (connection !== undefined) pump(connection);
  });
  const sweeping = setInterval(sweep, SWEEP_INTERVAL);
  sweeping.unref();

  function serveStream(stream: Duplex, thumbprints: readonly string[]): void {
    streams.add(stream);
    const client = broker.handle(stream);
    const connection: Connection = {
      client,
      thumbprints,
      known: null,
      session: null,
      lasting: false,
      ready: false,
      wants: new Map(),
      underWay: null,
      detachMethods: null,
    };
    connections.set(client, connection);
    tighten(client, stream);
    stream.once("close", () => {
      streams.delete(stream);
      release(connection);
    });
  }

  /** One connection for one identity: whoever comes second waits until the first is gone, and takes its place. */
  function admit(
    connection: Connection,
    brought: { readonly username: string; readonly password: string | null },
    done: (returnCode: 4 | 5 | null) => void,
  ): void {
    const { client, thumbprints } = connection;
    const proven = authenticate({ clientId: client.id, ...brought, thumbprints }, hub, Date.now());
    if (!proven.ok) {
      done(proven.returnCode);
      return;
    }
    if (hub.faults.cutsOff(proven.who.deviceId)) {
      client.conn.destroy();
      return;
    }
    const takeOver = () => {
      if (client.closed) return;
      const session = links.connect(proven.who, listener, connection);
      if (!session.ok) {
        done(5);
        return;
      }
      connection.known = proven;
      connection.session = session.value;
      live.set(session.value.key, connection);
      if (!connection.lasting) remembered.delete(client.id);
      done(null);
    };
    const before = live.get(client.id);
    if (before === undefined) takeOver();
    else before.client.close(takeOver);
  }

  function release(connection: Connection): void {
    connection.detachMethods?.();
    connection.detachMethods = null;
    if (connection.session !== null) links.close(connection.session);
    connection.session = null;
    const key = connection.client.id;
    if (live.get(key) === connection) live.delete(key);
  }

  /** Begins what the client's subscriptions ask for and is not under way yet. */
  function serve(connection: Connection): void {
    const { session } = connection;
    if (!connection.ready || session === null) return;
    if (connection.wants.has("methods") && connection.detachMethods === null)
      connection.detachMethods = hub.methods.attach(session.key, ({ name, requestId, body }) =>
        send(connection, methodTopic(name, requestId), body),
      );
    pump(connection);
  }

  function forsake(connection: Connection, filter: string): void {
    const wanted = connection.known === null ? null : parseFilter(filter, connection.known.who);
    if (wanted === null) return;
    connection.wants.delete(wanted);
    remembered.get(connection.client.id)?.delete(filter);
    if (wanted !== "methods") return;
    connection.detachMethods?.();
    connection.detachMethods = null;
  }

  /** `null`, or why the client is disconnected: the protocol has no other way to say no. */
  function receive(connection: Connection, packet: PublishPacket): string | null {
    const { client, known } = connection;
    if (known === null) return "nobody knows who published this";
    const { deviceId } = known.who;
    if (hub.faults.cutsOff(deviceId)) return "the hub cannot be reached";
    if (packet.qos === 2) return "quality 2 is not served";
    const topic = parseTopic(packet.topic, known.who);
    if (topic === null) return "there is no such topic";
    const body = Buffer.from(packet.payload);
    switch (topic.kind) {
      case "telemetry":
        if (body.length > LARGEST_MESSAGE) return "a message may have 256 KB";
        keep(connection, body, {
          ...topic.properties,
          // A connection that is closed publishes only what its client left for that case.
          ...(client.closed ? { "iothub-MessageType": "Will" } : {}),
          ...(packet.retain ? { "mqtt-retain": "true" } : {}),
        });
        return null;
      case "getTwin":
        getTwin(connection, topic.requestId);
        return null;
      case "report":
        report(connection, topic.requestId, body);
        return null;
      case "methodResponse":
        hub.methods.respond(client.id, topic.requestId, topic.status, body.toString());
        return null;
    }
  }

  function keep({ known }: Connection, body: Buffer, properties: PropertyBag): void {
    if (known === null) return;
    const { who, proof } = known;
    const { system, application } = sortBag(properties);
    hub.counters.device("messages");
    if (hub.options.chargeDevices) hub.quota.charge("telemetry", body.length);
    hub.events.telemetry({
      ...who,
      generationId: hub.registry.get(who.deviceId, who.moduleId)?.generationId ?? "",
      authMethod: authMethodOf(proof, who),
      body,
      properties: application,
      systemProperties: system,
    });
  }

  function getTwin(connection: Connection, requestId: string): void {
    if (connection.session === null) return;
    const twin = links.getTwin(connection.session);
    if (!twin.ok) {
      decline(connection, requestId, twin.refusal);
      return;
    }
    const { desired, desiredVersion, reported, reportedVersion } = twin.value;
    const document = {
      desired: { ...desired, $version: desiredVersion },
      reported: { ...reported, $version: reportedVersion },
    };
    answer(connection, twinReplyTopic(200, requestId, null), JSON.stringify(document));
  }

  function report(connection: Connection, requestId: string, body: Buffer): void {
    if (connection.session === null) return;
    const patch = parsePatch(body.toString());
    const written = patch.ok ? links.report(connection.session, patch.value) : patch;
    if (!written.ok) decline(connection, requestId, written.refusal);
    else answer(connection, twinReplyTopic(204, requestId, written.value), "");
  }

  /** The SDKs look for `errorCode` in the body and pass over the status. */
  function decline(connection: Connection, requestId: string, refusal: Refusal): void {
    const trackingId = randomBytes(16).toString("hex").toUpperCase();
    const body = errorDetail(refusal, trackingId, new Date(hub.clock.now()));
    answer(connection, twinReplyTopic(refusal.status, requestId, null), body);
  }

  function answer(connection: Connection, topic: string, payload: string): void {
    if (connection.wants.has("twinReplies")) send(connection, topic, payload);
  }

  function send({ client }: Connection, topic: string, payload: string | Buffer, qos: 0 | 1 = 0): void {
    if (client.closed) return;
    client.publish({ cmd: "publish", topic, payload, qos, retain: false, dup: false }, ignore);
  }

  /** Messages from the cloud go one by one: the next when this one was acknowledged. */
  function pump(connection: Connection): void {
    const deviceId = connection.session?.deviceId;
    const qos = connection.wants.get("cloudMessages");
    if (deviceId === undefined || qos === undefined || !connection.ready || hub.faults.cutsOff(deviceId))
      return;
    while (connection.underWay === null) {
      const message = hub.messages.head(deviceId);
      if (message === null) return;
      if (qos === 0) hub.messages.complete(deviceId, message.sequenceNumber);
      else connection.underWay = { sequenceNumber: message.sequenceNumber, messageId: null };
      send(connection, cloudMessageTopic(deviceId, message), message.body, qos);
    }
  }

  function acknowledged(client: Client, messageId: number): void {
    const connection = connections.get(client);
    const underWay = connection?.underWay ?? null;
    if (connection?.session == null || underWay === null || underWay.messageId !== messageId) return;
    hub.messages.complete(connection.session.deviceId, underWay.sequenceNumber);
    connection.underWay = null;
    pump(connection);
  }

  function sweep(): void {
    const now = Date.now();
    for (const { client, known } of live.values()) {
      if (known === null) continue;
      const expired = known.proof.kind !== "certificate" && known.proof.expiresAt <= now;
      if (expired || hub.faults.cutsOff(known.who.deviceId)) client.close();
    }
  }

  return {
    listen: (port, host) =>
      new Promise((resolve, reject) => {
        server.once("error", reject);
        server.listen(port, host, () => resolve((server.address() as AddressInfo).port));
      }),
    accept: (stream) => {
      visitors.add(stream);
      stream.once("close", () => visitors.delete(stream));
      serveStream(stream, []);
    },
    connections: () => sockets.size + visitors.size,
    close: async () => {
      clearInterval(sweeping);
      for (const stream of streams) stream.destroy();
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => {
        if (server.listening) server.close(() => resolve());
        else resolve();
      });
      await new Promise<void>((resolve) => broker.close(resolve));
    },
  };
}

/** What the broker has no setting for: it grants quality 2 where the hub grants 1, and reads packets of any size. */
function tighten(client: Client, stream: Duplex): void {
  const { _parser: parser } = client as unknown as {
    readonly _parser: EventEmitter & { readonly _list: { readonly length: number } };
  };
  parser.prependListener(
    "packet",
    (packet: { readonly cmd: string; readonly subscriptions?: { qos: number }[] }) => {
      for (const subscription of packet.subscriptions ?? []) subscription.qos = Math.min(subscription.qos, 1);
    },
  );
  stream.on("readable", () => {
    if (parser._list.length > LARGEST_PACKET) stream.destroy();
  });
}

/** SHA-1 and SHA-256 of the client's certificate; TLS has seen that the client holds its key. */
function thumbprintsOf(socket: TLSSocket): readonly string[] {
  const { fingerprint, fingerprint256 } = socket.getPeerCertificate();
  return [fingerprint, fingerprint256].filter((thumbprint) => thumbprint !== undefined);
}

function parsePatch(text: string): Answer<JsonObject> {
  const patch = parseJson(text);
  if (!patch.ok) return refuse("ArgumentInvalid", `The reported properties are ${patch.problem}`);
  if (isObject(patch.value)) return { ok: true, value: patch.value };
  return refuse("ArgumentInvalid", "The reported properties must be a JSON object");
}
