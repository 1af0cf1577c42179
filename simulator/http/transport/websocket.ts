import { createHash } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { Duplex } from "node:stream";

// As much of RFC 6455 as a server of MQTT needs: binary frames in and out as one stream of bytes.

const HANDSHAKE_SECRET = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/** Path that clients of the hub ask for; whatever query follows is theirs. */
const PATH = "/$iothub/websocket";
const PROTOCOL = "mqtt";
const LARGEST_FRAME = 512 * 1024;

const CONTINUATION = 0x0;
const BINARY = 0x2;
const CLOSE = 0x8;
const PING = 0x9;
const PONG = 0xa;

/** Answers a request to upgrade. `null`: it was refused, and the socket is closed. */
export function acceptWebSocket(request: IncomingMessage, socket: Duplex, head: Buffer): Duplex | null {
  // A socket that breaks meanwhile takes its stream along; without a listener it would take the process.
  socket.on("error", () => socket.destroy());
  const { "sec-websocket-key": key, "sec-websocket-version": version, upgrade } = request.headers;
  const protocols = (request.headers["sec-websocket-protocol"] ?? "").split(",").map((name) => name.trim());
  const proper =
    request.method === "GET" &&
    request.url?.split("?")[0] === PATH &&
    upgrade?.toLowerCase() === "websocket" &&
    version === "13" &&
    protocols.includes(PROTOCOL);
  if (!proper || key === undefined) {
    // Nobody reads what the client goes on to say: left alone, the socket would never hear that the client has gone.
    socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", () =>
      socket.destroy(),
    );
    return null;
  }
  const accepted = createHash("sha1").update(`${key}${HANDSHAKE_SECRET}`).digest("base64");
  socket.write(
    [
      "HTTP/1.1 101 Switching Protocols",
      "Upgrade: websocket",
      "Connection: Upgrade",
      `Sec-WebSocket-Accept: ${accepted}`,
      `Sec-WebSocket-Protocol: ${PROTOCOL}`,
      "\r\n",
    ].join("\r\n"),
  );
  return streamOver(socket, head);
}

function streamOver(socket: Duplex, head: Buffer): Duplex {
  const stream = new Duplex({
    read: () => {
      socket.resume();
    },
    write: (chunk: Buffer, _encoding, done) => {
      socket.write(frame(BINARY, chunk), done);
    },
    final: (done) => {
      socket.end(frame(CLOSE, Buffer.from([0x03, 0xe8])));
      done();
    },
    destroy: (problem, done) => {
      socket.destroy();
      done(problem);
    },
  });
  const reader = createFrameReader();
  const take = (chunk: Buffer): void => {
    const frames = reader(chunk);
    if (frames === null) {
      stream.destroy();
      return;
    }
    for (const { kind, body } of frames) {
      if (kind === PING) socket.write(frame(PONG, body));
      else if (kind === CLOSE) stream.end();
      else if (kind !== PONG && body.length > 0 && !stream.push(body)) socket.pause();
    }
  };
  socket.on("data", take);
  socket.once("close", () => stream.destroy());
  if (head.length > 0) take(head);
  return stream;
}

export type Frame = { readonly kind: number; readonly body: Buffer };

/** Takes bytes as they come and answers with the frames that are whole; `null`: no proper client sends this. */
export function createFrameReader(): (chunk: Buffer) => readonly Frame[] | null {
  let held: Buffer = Buffer.alloc(0);
  return (chunk) => {
    held = Buffer.concat([held, chunk]);
    const frames: Frame[] = [];
    for (;;) {
      const head = headOf(held);
      if (head === "short") return frames;
      if (head === "wrong") return null;
      const { kind, start, length } = head;
      if (held.length < start + length) return frames;
      const mask = held.subarray(start - 4, start);
      const body = Buffer.from(held.subarray(start, start + length));
      for (let at = 0; at < body.length; at++) body[at] = (body[at] ?? 0) ^ (mask[at & 3] ?? 0);
      frames.push({ kind, body });
      held = held.subarray(start + length);
    }
  };
}

type Head = { readonly kind: number; readonly start: number; readonly length: number };

function headOf(bytes: Buffer): Head | "short" | "wrong" {
  const [first, second] = bytes;
  if (first === undefined || second === undefined) return "short";
  const kind = first & 0x0f;
  // Clients mask, nobody has agreed on extensions, and text is no MQTT.
  if ((second & 0x80) === 0 || (first & 0x70) !== 0) return "wrong";
  if (![CONTINUATION, BINARY, CLOSE, PING, PONG].includes(kind)) return "wrong";
  const short = second & 0x7f;
  if (kind >= CLOSE && short > 125) return "wrong";
  const extra = new Map([
    [126, 2],
    [127, 8],
  ]).get(short);
  const start = 2 + (extra ?? 0) + 4;
  if (bytes.length < start) return "short";
  const length = extra === undefined ? short : Number(`0x${bytes.subarray(2, 2 + extra).toString("hex")}`);
  return length > LARGEST_FRAME ? "wrong" : { kind, start, length };
}

/** A whole frame as a server sends it: not masked. */
function frame(kind: number, body: Buffer): Buffer {
  const first = 0x80 | kind;
  if (body.length < 126) return Buffer.concat([Buffer.from([first, body.length]), body]);
  const head = Buffer.alloc(body.length < 65_536 ? 4 : 10);
  head[0] = first;
  head[1] = body.length < 65_536 ? 126 : 127;
  if (body.length < 65_536) head.writeUInt16BE(body.length, 2);
  else head.writeBigUInt64BE(BigInt(body.length), 2);
  return Buffer.concat([head, body]);
}
