import type { Hub } from "../hub/hub.ts";
import type { CloudDelivery } from "./cloud-delivery.ts";
import { type Connection, send } from "./connection.ts";
import { inputTopic, methodTopic, parseFilter } from "./mqtt-topics.ts";
import type { SessionMemory } from "./session-memory.ts";

/** What the subscriptions of a connection bring it: methods, messages to inputs, messages from the cloud. */
export type Subscriptions = {
  /** Begins what the client's subscriptions ask for and is not under way yet; idempotent. */
  readonly serve: (connection: Connection) => void;
  readonly drop: (connection: Connection, filter: string) => void;
};

export function createSubscriptions(hub: Hub, delivery: CloudDelivery, memory: SessionMemory): Subscriptions {
  return {
    serve(connection: Connection): void {
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
    },

    drop(connection: Connection, filter: string): void {
      const wanted = connection.known === null ? null : parseFilter(filter, connection.known.who);
      if (wanted === null) return;
      connection.wants.delete(wanted);
      memory.drop(connection.client.id, filter);
      if (wanted !== "methods" && wanted !== "inputs") return;
      connection.attached.get(wanted)?.();
      connection.attached.delete(wanted);
    },
  };
}
