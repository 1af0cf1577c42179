import { Buffer } from "node:buffer";

type Kind = { readonly is: (bytes: Uint8Array, text: string) => boolean; readonly name: string };

const starts = (text: string, ...with_: readonly string[]) => with_.some((start) => text.startsWith(start));

/** Kinds of files that are given instead of a model or a golden set, by how they begin. */
const KINDS: readonly Kind[] = [
  { is: (bytes) => bytes.length === 0, name: "an empty file" },
  {
    is: (_, text) => starts(text, "version https://git-lfs"),
    name: "a pointer of Git LFS, not the file itself (git lfs pull)",
  },
  { is: (bytes) => isSafetensors(bytes), name: "a safetensors file, which has weights and no graph" },
  {
    is: (bytes) => bytes[0] === 0x80 && (bytes[1] ?? 0) >= 2 && (bytes[1] ?? 9) <= 5,
    name: "a Python pickle",
  },
  { is: (_, text) => starts(text, "\u0093NUMPY"), name: "a single numpy array (.npy)" },
  { is: (_, text) => starts(text, "\u0089HDF"), name: "an HDF5 file, such as Keras writes" },
  { is: (_, text) => text.slice(4, 8) === "TFL3", name: "a TensorFlow Lite model" },
  { is: (_, text) => text.slice(4, 8) === "ORTM", name: "a model in ONNX Runtime's own format (.ort)" },
  { is: (_, text) => starts(text, "GGUF"), name: "a GGUF file" },
  { is: (_, text) => starts(text, "PK"), name: "a zip archive, as PyTorch and numpy write them" },
  { is: (bytes) => bytes[0] === 0x1f && bytes[1] === 0x8b, name: "a gzip file" },
  { is: (_, text) => /^\s*(<!doctype|<html|<\?xml)/i.test(text), name: "a page of HTML or XML" },
  { is: (_, text) => /^\s*[{[]/.test(text) && isPlain(text), name: "a JSON file" },
  { is: (_, text) => isPlain(text), name: "a text file" },
];

/** What a file is that is not what was wanted: `a Python pickle`. By its beginning alone. */
export function whatItIs(bytes: Uint8Array): string {
  const text = Buffer.from(bytes.subarray(0, 512)).toString("latin1");
  return KINDS.find(({ is }) => is(bytes, text))?.name ?? "a file of another kind, or cut off";
}

/** Eight bytes of length, and a JSON object. */
function isSafetensors(bytes: Uint8Array): boolean {
  if (bytes.length < 10) return false;
  const length = Buffer.from(bytes.subarray(0, 8)).readBigUInt64LE();
  return length > 1n && length < 2n ** 32n && bytes[8] === 0x7b && bytes[9] === 0x22;
}

function isPlain(text: string): boolean {
  return text !== "" && /^[\t\n\r\x20-\x7e\u00a0-\u00ff]*$/.test(text);
}
