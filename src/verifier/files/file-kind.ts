import { Buffer } from "node:buffer";

type Kind = { readonly is: (start: Buffer, text: string) => boolean; readonly name: string };

const begins =
  (text: string): Kind["is"] =>
  (_, start) =>
    start.startsWith(text);
const marked =
  (text: string): Kind["is"] =>
  (_, start) =>
    start.slice(4, 8) === text;

/** Kinds of files that are given instead of a model or a golden set, by their first bytes. */
const KINDS: readonly Kind[] = [
  { is: begins("PK\u0003\u0004"), name: "a zip archive (a PyTorch or Keras checkpoint?)" },
  { is: begins("\u007fELF"), name: "a program or a shared library" },
  { is: begins("\u0089HDF"), name: "an HDF5 file (a Keras model?)" },
  { is: begins("\u001f\u008b"), name: "compressed with gzip" },
  { is: begins("\u0093NUMPY"), name: "a numpy array" },
  { is: isPickle, name: "a Python pickle (a checkpoint?), which is never read" },
  { is: isSafetensors, name: "a safetensors file, which has weights and no graph" },
  { is: begins("GGUF"), name: "a GGUF file, which has weights and no graph" },
  { is: marked("TFL3"), name: "a TensorFlow Lite model" },
  { is: marked("ORTM"), name: "in ONNX Runtime's own format; convert it back to ONNX" },
  { is: begins("version https://git-lfs"), name: "a pointer of git LFS, not the file it points to" },
  { is: (_, text) => /^\s*(<!|<\?|<html|<H)/.test(text), name: "an HTML or XML page" },
  { is: (_, text) => /^\s*[{[]\s*["{[\d]/.test(text), name: "JSON" },
  { is: (_, text) => /^[\t\n\r\x20-\x7e]+$/.test(text), name: "a text file" },
];

/**
 * Describes an unexpected file, to follow "it is"; `null`: its format is not recognized.
 * @param start its first 64 bytes.
 */
export function fileKindOf(start: Uint8Array): string | null {
  const bytes = Buffer.from(start.buffer, start.byteOffset, Math.min(64, start.length));
  return KINDS.find(({ is }) => is(bytes, bytes.toString("latin1")))?.name ?? null;
}

/** Protocols 2 to 5; what comes first is the number of the protocol. */
function isPickle(start: Buffer): boolean {
  return start[0] === 0x80 && (start[1] ?? 0) >= 2 && (start[1] ?? 0) <= 5;
}

/** Eight bytes of length, and a JSON object. */
function isSafetensors(start: Buffer): boolean {
  return start.length > 9 && start.readUInt32LE(4) === 0 && start[8] === 0x7b && start[9] === 0x22;
}
