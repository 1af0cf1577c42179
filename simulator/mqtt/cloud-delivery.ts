import type { Hub } from "../hub/hub.ts";
import { LOCK_TIMEOUT } from "../hub/messaging/cloud-messages.ts";
import { type Connection, send } from "./connection.ts";
import { cloudMessageTopic } from "./mqtt-topics.ts";

/** Brings messages from the cloud to clients, one by one: the next when this one was acknowledged. */
export type CloudDelivery = {
  /** Sends what waits, unless something is under way. */
  readonly pump: (connection: Connection) => void;
  /** The broker has given the message that is under way its number on the wire. */
  readonly numbered: (connection: Connection, messageId: number) => void;
  readonly acknowledged: (connection: Connection, messageId: number) => void;
  /** What was under way is free for the next connection. */
  readonly release: (connection: Connection) => void;
};

export function createCloudDelivery(hub: Hub): CloudDelivery {
  function pump(connection: Connection): void {
    const deviceId = connection.session?.deviceId;
    const qos = connection.wants.get("cloudMessages");
    if (deviceId === undefined || qos === undefined || !connection.ready || hub.faults.cutsOff(deviceId))
      return;
    while (connection.underWay === null) {
      const message = hub.messages.deliver(deviceId);
      if (message === null) return;
      if (qos === 0) hub.messages.complete(deviceId, message.sequenceNumber);
      else waitFor(connection, message.sequenceNumber);
      send(connection, cloudMessageTopic(deviceId, message), message.body, qos);
    }
  }

  function waitFor(connection: Connection, sequenceNumber: number): void {
    const again = () => {
      connection.underWay = null;
      pump(connection);
    };
    const timer = hub.clock.schedule(LOCK_TIMEOUT, again, undefined);
    connection.underWay = { sequenceNumber, messageId: null, stopWaiting: () => timer.cancel() };
  }

  function release(connection: Connection): void {
    connection.underWay?.stopWaiting();
    connection.underWay = null;
  }

  return {
    pump,
    release,
    numbered: ({ underWay }, messageId) => {
      if (underWay?.messageId === null) underWay.messageId = messageId;
    },
    acknowledged(connection, messageId) {
      const { session, underWay } = connection;
      if (session === null || underWay === null || underWay.messageId !== messageId) return;
      hub.messages.complete(session.deviceId, underWay.sequenceNumber);
      release(connection);
      pump(connection);
    },
  };
}
