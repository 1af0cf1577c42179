import { Aedes, type AedesOptions, type Client } from "aedes";
import type { Hub } from "../hub/hub.ts";
import type { Admission, ReturnCode } from "./admission.ts";
import type { CloudDelivery } from "./cloud-delivery.ts";
import type { Connection } from "./connection.ts";
import type { DeviceRequests } from "./device-requests.ts";
import { createSessions } from "./mqtt-sessions.ts";
import { parseFilter } from "./mqtt-topics.ts";
import type { SessionMemory } from "./session-memory.ts";

/** The hub closes after one and a half times the keep-alive, and at last after 29.45 minutes. */
const LONGEST_KEEP_ALIVE = 1178;
/** Milliseconds for a CONNECT. */
const CONNECT_TIMEOUT = 10_000;

export type BrokerParts = {
  readonly hub: Hub;
  readonly connectionOf: (client: Client) => Connection | undefined;
  readonly delivery: CloudDelivery;
  readonly receive: DeviceRequests;
  readonly admission: Admission;
  readonly memory: SessionMemory;
};

/** The MQTT broker with the hub's rules: who may connect, publish and subscribe, and what a session remembers. */
export function createBroker(parts: BrokerParts): Promise<Aedes> {
  return Aedes.createBroker({ ...handlersOf(parts), persistence: sessionsOf(parts) });
}

function sessionsOf({ connectionOf, delivery, memory }: BrokerParts) {
  return createSessions({
    recall: memory.recall,
    numbered: (client, messageId) => {
      const connection = connectionOf(client);
      if (connection !== undefined) delivery.numbered(connection, messageId);
    },
    acknowledged: (client, messageId) => {
      const connection = connectionOf(client);
      if (connection !== undefined) delivery.acknowledged(connection, messageId);
    },
  });
}

function handlersOf({ hub, connectionOf, receive, admission, memory }: BrokerParts): AedesOptions {
  return {
    connectTimeout: CONNECT_TIMEOUT,
    preConnect: (client, packet, done) => {
      const connection = connectionOf(client);
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
      const connection = connectionOf(client);
      if (connection === undefined) return;
      const admitted = (returnCode: ReturnCode | null) => {
        if (returnCode !== null) {
          done(Object.assign(new Error("not authorized"), { returnCode }), false);
          return;
        }
        if (!connection.lasting) memory.forget(client.id);
        done(null, true);
      };
      const credentials = { username: username ?? "", password: password?.toString() ?? null };
      admission.admit(connection, credentials, admitted);
    },
    authorizePublish: (client, packet, done) => {
      const connection = client === null ? undefined : connectionOf(client);
      const problem =
        connection === undefined ? "there is no connection for this message" : receive(connection, packet);
      done(problem === null ? null : new Error(problem));
    },
    authorizeSubscribe: (client, subscription, done) => {
      const connection = connectionOf(client);
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
  };
}
