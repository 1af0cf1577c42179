import { createServer, type IncomingMessage } from "node:http";
import { type AddressInfo, connect } from "node:net";
import type { Duplex } from "node:stream";

export type ConnectProxy = {
  /** Resolves with the port. */
  readonly listen: (port: number, host: string) => Promise<number>;
  readonly close: () => Promise<void>;
};

/** Where the ports that every client of a hub knows are served here. */
export type ProxiedHub = {
  readonly hostName: string;
  /** Addresses to dial, by the port that is asked for. */
  readonly ports: ReadonlyMap<number, { readonly host: string; readonly port: number }>;
};

/**
 * An HTTP proxy that tunnels to one hub and to nothing else (CONNECT of RFC 9110, 9.3.6). Clients whose ports 443 and
 * 8883 are fixed all take a proxy: through it they keep the hub's name and their ports, and no name has to resolve.
 */
export function createConnectProxy(hub: ProxiedHub): ConnectProxy {
  const sockets = new Set<Duplex>();
  const server = createServer((_request, response) => {
    response.writeHead(405, { Allow: "CONNECT" }).end("this is a proxy for CONNECT\n");
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  server.on("connect", (request: IncomingMessage, client: Duplex, head: Buffer) => {
    // A client that breaks off takes its tunnel along; without a listener it would take the process.
    client.on("error", () => client.destroy());
    const [, name = "", port = ""] = /^(.+):([0-9]{1,5})$/.exec(request.url ?? "") ?? [];
    const isHub = name.toLowerCase() === hub.hostName.toLowerCase();
    const address = isHub ? hub.ports.get(Number(port)) : undefined;
    if (address === undefined) {
      const known = [...hub.ports.keys()].map((one) => `${hub.hostName}:${one}`).join(" and ");
      const text = `this proxy leads to ${known} only\n`;
      client.end(
        `HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
      );
      return;
    }
    const upstream = connect(address, () => {
      client.write("HTTP/1.1 200 Connection established\r\n\r\n");
      upstream.write(head);
      client.pipe(upstream).pipe(client);
    });
    upstream.on("error", () => client.destroy());
    // A reset of one side resets the other.
    upstream.once("close", () => client.destroy());
    client.once("close", () => upstream.destroy());
  });

  return {
    listen: (port, host) =>
      new Promise((resolve, reject) => {
        server.once("error", reject);
        server.listen(port, host, () => resolve((server.address() as AddressInfo).port));
      }),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}
