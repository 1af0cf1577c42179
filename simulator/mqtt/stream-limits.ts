import type { EventEmitter } from "node:events";
import type { Duplex } from "node:stream";
import type { Client } from "aedes";

/** The largest message and room for the longest topic besides. */
const LARGEST_PACKET = 384 * 1024;

/** What the broker has no setting for: it grants quality 2 where the hub grants 1, and reads packets of any size. */
export function tighten(client: Client, stream: Duplex): void {
  const { _parser: parser } = client as unknown as {
    readonly _parser: EventEmitter & { readonly _list: { readonly length: number } };
  };
  parser.prependListener(
    "packet",
    (packet: { readonly cmd: string; readonly subscriptions?: { qos: number }[] }) => {
      for (const subscription of packet.subscriptions ?? []) subscription.qos = Math.min(subscription.qos, 1);
    },
  );
  stream.on("readable", () => {
    if (parser._list.length > LARGEST_PACKET) stream.destroy();
  });
}
