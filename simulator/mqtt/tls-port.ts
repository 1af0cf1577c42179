import { type AddressInfo, createServer as createNetServer, type Socket } from "node:net";
import { createServer as createTlsServer, type TLSSocket } from "node:tls";
import { askingForCertificates, type ServerCertificate } from "../base/certificates.ts";
import { seversAll } from "../hub/faults/faults.ts";
import type { Hub } from "../hub/hub.ts";

/** Milliseconds for a TLS handshake. */
const HANDSHAKE_TIMEOUT = 10_000;

const ignore = (): void => {};

/** The TLS port of the MQTT front. */
export type TlsPort = {
  readonly listen: (port: number, host: string) => Promise<number>;
  readonly connections: () => number;
  readonly close: () => Promise<void>;
};

export function createTlsPort(
  { faults }: Pick<Hub, "faults">,
  certificate: ServerCertificate,
  serve: (socket: TLSSocket) => void,
): TlsPort {
  const sockets = new Set<Socket>();
  const server = createTlsServer(
    { ...askingForCertificates(certificate), handshakeTimeout: HANDSHAKE_TIMEOUT },
    serve,
  );
  // Connections are accepted by hand: a hub that cannot be reached refuses them, or leaves them without an answer.
  // Without delay: the answer to CONNECT would wait for the client's acknowledgement of the handshake's last words.
  const door = createNetServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    const unreachable = faults.unreachable();
    if (unreachable === "refuse") socket.resetAndDestroy();
    else if (unreachable === "blackHole") socket.on("error", ignore).resume();
    else server.emit("connection", socket);
  });
  faults.onPut((rule) => {
    if (!seversAll(rule)) return;
    for (const socket of sockets) socket.resetAndDestroy();
  });
  // A handshake that fails is the client's problem, and the socket is gone by then.
  server.on("tlsClientError", ignore);

  return {
    listen: (port, host) =>
      new Promise((resolve, reject) => {
        door.once("error", reject);
        door.listen(port, host, () => resolve((door.address() as AddressInfo).port));
      }),
    connections: () => sockets.size,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => {
        if (door.listening) door.close(() => resolve());
        else resolve();
      });
    },
  };
}
