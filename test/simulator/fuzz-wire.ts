import { Agent, request as httpsRequest } from "node:https";
import { type Socket, connect as tcpConnect } from "node:net";
import { connect as tlsConnect } from "node:tls";
import fc from "fast-check";
import type { Endpoint } from "../../simulator/simulator.ts";

// Bytes that no proper client would send, and how they are sent. Nothing here knows what is right.

/** Milliseconds that a case waits for a hub that says nothing more. */
const PATIENCE = 20;

/** Sends pieces over TLS, hears what comes back, and leaves: soon after the last word, or when the hub closes. */
export function tellOverTls(port: number, ca: string, pieces: readonly Buffer[]): Promise<string> {
  return converse(
    tlsConnect({ host: "127.0.0.1", port, ca, servername: "localhost" }),
    "secureConnect",
    pieces,
  );
}

export function tellOverTcp(port: number, pieces: readonly Buffer[]): Promise<string> {
  return converse(tcpConnect(port, "127.0.0.1"), "connect", pieces);
}

function converse(socket: Socket, ready: string, pieces: readonly Buffer[]): Promise<string> {
  return new Promise((resolve) => {
    const heard: Buffer[] = [];
    const leave = () => socket.destroy();
    let idle = setTimeout(leave, 5000);
    const linger = () => {
      clearTimeout(idle);
      idle = setTimeout(leave, PATIENCE);
    };
    socket.on("data", (chunk: Buffer) => {
      heard.push(chunk);
      linger();
    });
    socket.on("error", () => {});
    socket.once("close", () => {
      clearTimeout(idle);
      resolve(Buffer.concat(heard).toString("latin1"));
    });
    socket.once(ready, () => {
      for (const piece of pieces) socket.write(piece);
      linger();
    });
  });
}

/** Statuses of all HTTP answers in what was heard. */
export function statusesIn(heard: string): readonly number[] {
  return [...heard.matchAll(/HTTP\/1\.1 ([0-9]{3})/g)].map(([, status]) => Number(status));
}

export type Asking = {
  readonly method: string;
  readonly path: string;
  readonly body: string;
  readonly headers: Readonly<Record<string, string>>;
};

/** A well-formed request, whatever its body is; the status, or 0 where the connection broke. */
export function createAsker(endpoint: Pick<Endpoint, "port" | "ca">) {
  const agent = new Agent({ keepAlive: true, maxSockets: 8, ca: endpoint.ca });
  const ask = ({ method, path, body, headers }: Asking): Promise<number> =>
    new Promise((resolve) => {
      const asked = httpsRequest(
        {
          agent,
          host: "127.0.0.1",
          servername: "localhost",
          port: endpoint.port,
          method,
          path,
          headers: { Authorization: "Bearer x", ...headers },
        },
        (answer) => {
          answer.resume();
          answer.once("close", () => resolve(answer.statusCode ?? 0));
        },
      );
      asked.once("error", () => resolve(0));
      asked.end(body);
    });
  return { ask, close: () => agent.destroy() };
}

/** Proper text with pieces taken out, doubled, moved or overwritten. */
export function mutated(texts: readonly string[]): fc.Arbitrary<string> {
  const change = fc.tuple(
    fc.nat(),
    fc.nat(12),
    fc.constantFrom("cut", "double", "put"),
    fc.constantFrom(...SPLINTERS),
  );
  return fc.tuple(fc.constantFrom(...texts), fc.array(change, { maxLength: 4 })).map(([text, changes]) =>
    changes.reduce((now, [place, length, how, splinter]) => {
      const at = place % (now.length + 1);
      const piece = now.slice(at, at + length);
      return `${now.slice(0, at)}${{ cut: "", double: piece + piece, put: splinter }[how]}${now.slice(at + length)}`;
    }, text),
  );
}

const SPLINTERS = [
  "{",
  "}",
  "[",
  "]",
  '"',
  ",",
  ":",
  "null",
  "1e999",
  "-0",
  "0.1",
  "9007199254740993",
  "\\",
  "\\ud800",
  "\u0000",
  "é",
  '"__proto__":{"a":1},',
  '"constructor":{"prototype":{"a":1}},',
  '"toString":1,',
  "true",
  "[[",
  "]]",
  "(",
  ")",
  "'",
  " ",
  "$",
  ".",
  "%00",
  "%2f",
  "%zz",
  "../",
  "*",
  "?",
  "#",
  "NOT ",
  "OR ",
  "AND ",
  "IN ",
  "IS_DEFINED(",
  "-",
  "=",
  "\r\n",
];

/** Nesting without end, and text without end. */
export const MONSTERS: readonly string[] = [
  "[".repeat(100_000),
  `${"[".repeat(100_000)}${"]".repeat(100_000)}`,
  `${'{"a":'.repeat(100_000)}1${"}".repeat(100_000)}`,
  `{"tags":{"a":${"[".repeat(60)}${"]".repeat(60)}}}`,
  `{"tags":${'{"a":'.repeat(50)}1${"}".repeat(50)}}`,
  `"${"x".repeat(1_100_000)}"`,
  `{"tags":{"a":"${"x".repeat(900_000)}"}}`,
  `[${"{},".repeat(200_000)}{}]`,
  "\ufeff{}",
  `{${Array.from({ length: 20_000 }, (_, index) => `"k${index}":1`).join()}}`,
];

export const noise: fc.Arbitrary<Buffer> = fc
  .uint8Array({ maxLength: 300, size: "max" })
  .map((bytes) => Buffer.from(bytes));

const line = (target: string, ...headers: readonly string[]) =>
  [`${target} HTTP/1.1`, "Host: x", "Authorization: Bearer x", ...headers, "", ""].join("\r\n");
const DEVICE = "/devices/d?api-version=2021-04-12";

/** Requests that are wrong in their very form: lines, headers, lengths, chunks, two requests in one. */
export const brokenHttp: fc.Arbitrary<readonly Buffer[]> = fc.oneof(
  fc
    .constantFrom(
      ["GET"],
      ["GET /"],
      ["GET / HTTP/1.1\r\n"],
      ["GET  / HTTP/9.9\r\n\r\n"],
      ["\r\n\r\n\r\n"],
      ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
      [line("OPTIONS *")],
      [line("CONNECT x:1")],
      [line("TRACE /")],
      [line("GET //")],
      [line("GET http://[")],
      [line("GET http://x/devices")],
      [line("GET \\")],
      [line(`GET /${"a/".repeat(5000)}`)],
      [line(`GET /${"%".repeat(300)}${DEVICE}`)],
      [line("GET /devices/%ff?api-version=2021-04-12")],
      [line("GET /constructor?api-version=2021-04-12")],
      [line("GET /__proto__/x?api-version=2021-04-12")],
      [line("GET /sim/constructor")],
      [line("DELETE /sim/faults/%zz")],
      [line(`GET /twins/..%2f..%2fd?api-version=2021-04-12`)],
      [line(`GET ${DEVICE}&api-version=1&${"a&".repeat(2000)}`)],
      [line(`GET ${DEVICE}`, ...Array.from({ length: 500 }, (_, index) => `X-${index}: ${"y".repeat(20)}`))],
      [line(`GET ${DEVICE}`, `X: ${"y".repeat(100_000)}`)],
      [line(`GET ${DEVICE}`, "No colon")],
      [line(`GET ${DEVICE}`, " : empty")],
      [
        line(`PUT ${DEVICE}`, "Content-Length: 5", "Transfer-Encoding: chunked"),
        "0\r\n\r\n",
        line(`GET ${DEVICE}`),
      ],
      [line(`PUT ${DEVICE}`, "Content-Length: 5", "Content-Length: 6"), "{}"],
      [line(`PUT ${DEVICE}`, "Content-Length: -1"), "{}"],
      [line(`PUT ${DEVICE}`, "Content-Length: 99999999999999999999"), "{}"],
      [line(`PUT ${DEVICE}`, "Content-Length: 100"), "{}"],
      [line(`PUT ${DEVICE}`, "Content-Length: 1"), "{}}}}GET / HTTP/1.1"],
      [line(`PUT ${DEVICE}`, "Transfer-Encoding: xchunked"), "0\r\n\r\n"],
      [line(`PUT ${DEVICE}`, "Transfer-Encoding: chunked"), "fffffffffffff\r\n{}"],
      [line(`PUT ${DEVICE}`, "Transfer-Encoding: chunked"), "zz\r\n{}\r\n"],
      [
        line(`PUT ${DEVICE}`, "Transfer-Encoding: chunked"),
        ...Array.from({ length: 20 }, () => `10000\r\n${"x".repeat(65_536)}\r\n`),
      ],
      [
        line(`PUT ${DEVICE}`, "Content-Length: 2000000"),
        ...Array.from({ length: 20 }, () => "x".repeat(65_536)),
      ],
      [line(`PUT ${DEVICE}`, "Expect: 100-continue", "Content-Length: 2")],
      [line(`GET ${DEVICE}`, "Upgrade: x", "Connection: upgrade")],
      Array.from({ length: 30 }, () => line(`GET ${DEVICE}`)),
      [`GET ${DEVICE} HTTP/1.1\nHost: x\n\n`],
      [line(`GET ${DEVICE}`, "X: a", " folded: b")],
      [line(`GET ${DEVICE}`, 'If-Match: "')],
      [line(`GET ${DEVICE}`, "Authorization: SharedAccessSignature %%%")],
    )
    .map((pieces) => pieces.map((piece) => Buffer.from(piece))),
  mutated([
    line(`GET ${DEVICE}`),
    `${line(`PUT ${DEVICE}`, "Content-Length: 2")}{}`,
    line("GET /sim/health"),
  ]).map((text) => [Buffer.from(text)]),
  noise.map((bytes) => [bytes]),
);

const UPGRADE = [
  "GET /$iothub/websocket?iothub-no-client-cert=true HTTP/1.1",
  "Host: x",
  "Upgrade: websocket",
  "Connection: Upgrade",
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
  "Sec-WebSocket-Version: 13",
  "Sec-WebSocket-Protocol: mqtt",
  "",
  "",
].join("\r\n");

/** Bytes of the longer length that these short ones announce. */
const MORE_LENGTH = new Map([
  [126, 2],
  [127, 8],
]);

/** Frames with every bit, length and mask that there can be, after a proper upgrade and after mutated ones. */
export function brokenWebSocket(bodies: readonly Buffer[]): fc.Arbitrary<readonly Buffer[]> {
  const length = fc.constantFrom(0, 1, 125, 126, 127, "true" as const);
  const frame = fc
    .tuple(fc.nat(255), fc.boolean(), length, fc.constantFrom(...bodies, Buffer.alloc(70_000)), fc.nat(3))
    .map(([first, masked, claimed, body, extra]) => {
      const short = claimed === "true" ? Math.min(body.length, 125) : claimed;
      const head = Buffer.from([first, (masked ? 0x80 : 0) | short]);
      const longer = Buffer.alloc(MORE_LENGTH.get(short) ?? 0, extra === 0 ? 0xff : 0);
      if (longer.length > 0 && extra > 0) longer.writeUInt16BE(body.length & 0xffff, longer.length - 2);
      return Buffer.concat([head, longer, masked ? Buffer.alloc(4) : Buffer.alloc(0), body]);
    });
  const upgrade = fc.oneof({ weight: 5, arbitrary: fc.constant(UPGRADE) }, mutated([UPGRADE]));
  return fc
    .tuple(upgrade, fc.array(fc.oneof({ weight: 4, arbitrary: frame }, noise), { maxLength: 6 }))
    .map(([head, frames]) => [Buffer.from(head), ...frames]);
}

/** A ClientHello of TLS 1.0 that is no more than a beginning, and other things that are no TLS. */
export const brokenTls: fc.Arbitrary<readonly Buffer[]> = fc.oneof(
  fc
    .tuple(fc.constantFrom(0, 1, 2, 3, 4), fc.nat(600), noise)
    .map(([minor, claimed, body]) => [
      Buffer.concat([
        Buffer.from([0x16, 3, minor, claimed >> 8, claimed & 0xff, 1, 0, 0, body.length & 0xff, 3, minor]),
        body,
      ]),
    ]),
  fc
    .constantFrom("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "", "\u0010\u000c\u0000\u0004MQTT", "SSH-2.0-x\r\n")
    .map((text) => [Buffer.from(text)]),
  fc
    .tuple(fc.constantFrom(0x14, 0x15, 0x17, 0x18, 0x80), noise)
    .map(([kind, body]) => [Buffer.concat([Buffer.from([kind, 3, 3, 0, body.length & 0xff]), body])]),
);
