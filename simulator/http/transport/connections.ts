import type { Socket } from "node:net";

/** What both ends of TLS have of a connection. */
type Peer = { readonly remoteAddress?: string | undefined; readonly remotePort?: number | undefined };

/** The TCP connections of a port that serves the hub and, to others, its control API. */
export type Connections = {
  readonly add: (socket: Socket) => void;
  /** This one has asked the hub for something. */
  readonly note: (peer: Peer) => void;
  /** Resets the TCP connection: the TLS socket on top of it cannot, so the one below is found by its peer. */
  readonly reset: (peer: Peer) => void;
  /** Resets those that have asked the hub for something. */
  readonly resetNoted: () => void;
  readonly destroyAll: () => void;
};

export function createConnections(): Connections {
  const sockets = new Map<string, { readonly socket: Socket; noted: boolean }>();
  // A port is used again while the connection that had it is not yet closed here: the map knows the younger only.
  const open = new Set<Socket>();
  const keyOf = ({ remoteAddress, remotePort }: Peer) => `${remoteAddress} ${remotePort}`;
  return {
    add: (socket) => {
      const key = keyOf(socket);
      sockets.set(key, { socket, noted: false });
      open.add(socket);
      socket.once("close", () => {
        open.delete(socket);
        if (sockets.get(key)?.socket === socket) sockets.delete(key);
      });
    },
    note: (peer) => {
      const known = sockets.get(keyOf(peer));
      if (known !== undefined) known.noted = true;
    },
    reset: (peer) => {
      sockets.get(keyOf(peer))?.socket.resetAndDestroy();
    },
    resetNoted: () => {
      for (const { socket, noted } of sockets.values()) if (noted) socket.resetAndDestroy();
    },
    destroyAll: () => {
      for (const socket of open) socket.destroy();
    },
  };
}
