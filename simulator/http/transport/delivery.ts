import type { ServerResponse } from "node:http";
import type { AppliedFault } from "../../hub/faults/faults.ts";
import type { HttpReply } from "./http-message.ts";

/** What became of an answer on its way: it went out, was cut off, or came to a halt. */
export type Delivered = "sent" | "cut" | "hang";

/** Milliseconds between two pieces of a slow body. */
const PIECE = 50;

export function send(response: ServerResponse, reply: HttpReply, date: Date | null = null): void {
  if (response.destroyed || response.closed) return;
  begin(response, reply, date);
  response.end(reply.status === 204 ? undefined : (reply.body ?? ""));
}

/** Sends an answer as far as the faults of its body let it through. `date` stands in its header `Date` where the hub's clock is off. */
export async function deliver(
  response: ServerResponse,
  reply: HttpReply,
  about: { readonly faults: readonly AppliedFault[]; readonly date: Date | null },
): Promise<Delivered> {
  const body = Buffer.from(reply.body ?? "");
  for (const { rule } of about.faults) {
    if (body.length === 0) break;
    if (rule.kind === "partialBody") {
      begin(response, reply, about.date);
      response.write(body.subarray(0, Math.ceil(body.length / 2)));
      if (rule.variant === "silent") return "hang";
      // What was written must have left before the connection ends.
      response.write("", () => response.destroy());
      return "cut";
    }
    if (rule.kind === "slowBody") {
      begin(response, reply, about.date);
      await trickle(response, body, rule.bytesPerSecond);
      return "sent";
    }
  }
  send(response, reply, about.date);
  return "sent";
}

function begin(response: ServerResponse, reply: HttpReply, date: Date | null): void {
  response.writeHead(reply.status, {
    Server: "Microsoft-HTTPAPI/2.0",
    ...(date === null ? {} : { Date: date.toUTCString() }),
    ...reply.headers,
    ...(reply.status === 204 ? {} : { "Content-Length": Buffer.byteLength(reply.body ?? "") }),
  });
}

async function trickle(response: ServerResponse, body: Buffer, bytesPerSecond: number): Promise<void> {
  const piece = Math.max(1, Math.floor((bytesPerSecond * PIECE) / 1000));
  const pause = (piece / bytesPerSecond) * 1000;
  for (let at = 0; at < body.length && !response.destroyed; at += piece) {
    if (at > 0) await wait(pause);
    response.write(body.subarray(at, at + piece));
  }
  response.end();
}

export function wait(milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
  });
}
