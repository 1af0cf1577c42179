import type { Hub } from "../hub/hub.ts";
import type { TwinKey } from "../hub/twins/twin.ts";
import type { Connection } from "./connection.ts";
import type { DeviceAuthority } from "./device-certificates.ts";
import type { DeviceLinks } from "./device-link.ts";
import type { Listener } from "./device-sessions.ts";
import { authenticate, stillHolds } from "./mqtt-auth.ts";

/** CONNACK: a client id that is none, a budget that is spent, a user name that is none, not allowed. */
export type ReturnCode = 2 | 3 | 4 | 5;

/** Who may be connected, and for how long. */
export type Admission = {
  /** Answers `null` once the client is the one that the hub serves; one that an outage cuts off is never answered. */
  readonly admit: (
    connection: Connection,
    brought: { readonly username: string; readonly password: string | null },
    done: (returnCode: ReturnCode | null) => void,
  ) => void;
  readonly release: (connection: Connection) => void;
  readonly of: (key: TwinKey) => Connection | undefined;
  /** Closes connections whose token has expired and those of devices that are cut off. */
  readonly sweep: () => void;
};

export function createAdmission(
  hub: Hub,
  links: DeviceLinks,
  options: {
    readonly authorities: readonly DeviceAuthority[];
    readonly names: readonly string[];
    readonly listener: Listener<Connection>;
  },
): Admission {
  const live = new Map<TwinKey, Connection>();
  const charged = hub.options.throttling && hub.options.chargeDevices;

  hub.registry.onWrite(({ key, after }) => {
    const connection = live.get(key);
    if (after === null || connection === undefined || connection.known === null) return;
    if (!stillHolds(connection.known.proof, after)) connection.client.close();
  });

  return {
    /** One connection for one identity: a second client waits until the first is gone, and replaces it. */
    admit(connection, brought, done) {
      const { client, certificate, clientId } = connection;
      const proven = authenticate(
        { clientId, ...brought, certificate },
        { ...hub, ...options },
        hub.tokenTime(),
      );
      if (!proven.ok) {
        done(proven.returnCode);
        return;
      }
      if (hub.faults.cutsOff(proven.who.deviceId)) {
        client.conn.destroy();
        return;
      }
      if (charged && !hub.throttle.take("connection", 1)) {
        hub.counters.device("refused");
        done(3);
        return;
      }
      const takeOver = () => {
        if (client.closed) return;
        const session = links.connect(proven.who, options.listener, connection);
        if (!session.ok) {
          done(session.refusal.code === "IotHubUnauthorized" ? 5 : 3);
          return;
        }
        connection.known = proven;
        connection.session = session.value;
        live.set(session.value.key, connection);
        done(null);
      };
      const before = live.get(client.id);
      if (before === undefined) takeOver();
      else before.client.close(takeOver);
    },

    release(connection) {
      if (connection.session !== null) links.close(connection.session);
      connection.session = null;
      const key = connection.client.id;
      if (live.get(key) === connection) live.delete(key);
    },

    of: (key) => live.get(key),

    sweep() {
      const now = hub.tokenTime();
      for (const { client, known } of live.values()) {
        if (known === null) continue;
        const expired = "expiresAt" in known.proof && known.proof.expiresAt <= now;
        if (expired || hub.faults.cutsOff(known.who.deviceId)) client.close();
      }
    },
  };
}
