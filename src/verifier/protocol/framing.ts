import { Buffer } from "node:buffer";
import { deserialize, serialize } from "node:v8";

// What goes over the pipe between the sidecar and the process of a model: frames of four bytes of length (big-endian)
// and a value as the structured clone algorithm writes it. Node's own channel would buffer a message of any size, and
// would take file descriptors; this one ends at the first frame that is too long.

const HEAD = 4;

/** One value, ready to be written. */
export function frameOf(value: unknown): Buffer {
  const body = serialize(value);
  const head = Buffer.alloc(HEAD);
  head.writeUInt32BE(body.length);
  return Buffer.concat([head, body]);
}

/**
 * Puts frames together from the pieces that they arrive in.
 * @param longest bytes of one value; no more than that is ever kept.
 * @returns takes a piece, and says what is wrong with it, or `null`. Nothing may be given to it after a complaint.
 */
export function frameReader(
  longest: number,
  take: (value: unknown) => void,
): (piece: Buffer) => string | null {
  let pieces: Buffer[] = [];
  let bytes = 0;
  let wanted = HEAD;
  let inBody = false;

  return (piece) => {
    pieces.push(piece);
    bytes += piece.length;
    while (bytes >= wanted) {
      const all = Buffer.concat(pieces, bytes);
      const part = all.subarray(0, wanted);
      const rest = all.subarray(wanted);
      if (inBody) {
        const value = decoded(part);
        if (value === null) return "a message cannot be read";
        wanted = HEAD;
        take(value.value);
      } else {
        wanted = part.readUInt32BE(0);
        if (wanted > longest) return `a message of ${wanted} bytes, more than ${longest}`;
      }
      inBody = !inBody;
      pieces = [rest];
      bytes = rest.length;
    }
    return null;
  };
}

function decoded(bytes: Buffer): { readonly value: unknown } | null {
  try {
    return { value: deserialize(bytes) };
  } catch {
    return null;
  }
}
