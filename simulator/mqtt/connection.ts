import type { Client } from "aedes";
import type { Answer } from "../hub/errors.ts";
import type { PeerCertificate } from "./device-certificates.ts";
import type { Session } from "./device-sessions.ts";
import type { Proof } from "./mqtt-auth.ts";
import type { Subscribed, Who } from "./mqtt-topics.ts";

/** A client and what it has come to; each part of the front moves its own fields. */
export type Connection = {
  readonly client: Client;
  /** Makes what was done durable: a client hears of nothing that a crash could undo. */
  readonly commit: () => Answer<void>;
  /** Looked at only when a client brings no password. */
  readonly certificate: () => PeerCertificate | null;
  /** As the client wrote it: the broker makes one up for a client without. */
  clientId: string;
  /** `null` until the client has proven who it is. */
  known: { readonly who: Who; readonly proof: Proof; readonly modelId: string | null } | null;
  session: Session | null;
  /** Asked for a session that the hub remembers. */
  lasting: boolean;
  /** The broker has acknowledged the connection. */
  ready: boolean;
  /** Qualities of what the client subscribed to. */
  readonly wants: Map<Subscribed, 0 | 1>;
  /** The message from the cloud that is on its way; `messageId` is its number on the wire. */
  underWay: UnderWay | null;
  /** Ends what methods and inputs are attached to. */
  readonly attached: Map<"methods" | "inputs", () => void>;
};

export type UnderWay = {
  readonly sequenceNumber: number;
  messageId: number | null;
  /** Ends the wait for an acknowledgement. */
  readonly stopWaiting: () => void;
};

export function newConnection(
  client: Client,
  certificate: () => PeerCertificate | null,
  commit: () => Answer<void>,
): Connection {
  return {
    client,
    commit,
    certificate,
    clientId: "",
    known: null,
    session: null,
    lasting: false,
    ready: false,
    wants: new Map(),
    underWay: null,
    attached: new Map(),
  };
}

const ignore = (): void => {};

/** To this client alone; one that is gone gets nothing. */
export function send(
  { client, commit }: Connection,
  topic: string,
  payload: string | Buffer,
  qos: 0 | 1 = 0,
): void {
  if (client.closed) return;
  commit();
  client.publish({ cmd: "publish", topic, payload, qos, retain: false, dup: false }, ignore);
}
