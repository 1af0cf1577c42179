import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { createWebSocketStream, WebSocketServer } from "ws";

// MQTT over WebSocket: binary frames in and out as one stream of bytes.

/** Path that clients of the hub ask for; whatever query follows is theirs. */
const PATH = "/$iothub/websocket";
const PROTOCOL = "mqtt";
const LARGEST_FRAME = 512 * 1024;

const server = new WebSocketServer({
  noServer: true,
  clientTracking: false,
  perMessageDeflate: false,
  maxPayload: LARGEST_FRAME,
  handleProtocols: () => PROTOCOL,
});

/** Answers a request to upgrade. `null`: it was refused, and the socket is closed. */
export function acceptWebSocket(request: IncomingMessage, socket: Duplex, head: Buffer): Duplex | null {
  // A socket that breaks meanwhile takes its stream along; without a listener it would take the process.
  socket.on("error", () => socket.destroy());
  const protocols = (request.headers["sec-websocket-protocol"] ?? "").split(",").map((name) => name.trim());
  if (request.url?.split("?")[0] !== PATH || !protocols.includes(PROTOCOL)) {
    // Unread data would keep the socket from noticing that the client has gone.
    socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", () =>
      socket.destroy(),
    );
    return null;
  }
  let stream: Duplex | null = null;
  server.handleUpgrade(request, socket, head, (client) => {
    client.on("message", (_data, isBinary) => {
      if (!isBinary) client.terminate(); // text is no MQTT
    });
    stream = createWebSocketStream(client);
  });
  return stream;
}
