import { Buffer } from "node:buffer";
import { expect, test } from "vitest";
import { npzFile } from "../../../test/builders/verifier/npz.ts";
import { randomPerceptron } from "../../../test/builders/verifier/onnx-model.ts";
import { readGoldenSet } from "../golden/read.ts";
import { readOnnxFile } from "../onnx/file.ts";
import { fileKindOf } from "./file-kind.ts";

const safetensors = Buffer.concat([Buffer.from([0x40, 0, 0, 0, 0, 0, 0, 0]), Buffer.from('{"weight":{}}')]);

test.each<[Uint8Array, string | null]>([
  [safetensors, "a safetensors file, which has weights and no graph"],
  [Buffer.from([0x80, 0x04, 0x95]), "a Python pickle (a checkpoint?), which is never read"],
  [Buffer.from("0.1, 0.2, 0.3\n"), "a text file"],
  [Buffer.from('[{"a": 1}]'), "JSON"],
  [Buffer.from("GGUF\u0003"), "a GGUF file, which has weights and no graph"],
  [
    Buffer.from("version https://git-lfs.github.com/spec/v1"),
    "a pointer of git LFS, not the file it points to",
  ],
  [randomPerceptron([4, 3]), null],
])("a file is recognized by its first bytes (%#)", (bytes, name) => {
  expect(fileKindOf(bytes)).toBe(name);
});

test("a truncated model is reported with both sizes", () => {
  const whole = randomPerceptron([4, 8, 3]);
  const cut = readOnnxFile(whole.subarray(0, 120));
  expect(cut.ok ? "" : cut.error).toMatch(
    /^not an ONNX model: it is broken or cut off: it has 120 bytes, and what is in it says that it has at least \d+$/,
  );
});

test("wherever a model is cut off, the message has both sizes and no position", () => {
  const whole = randomPerceptron([4, 8, 3]);
  for (let length = 1; length < whole.length; length += 1) {
    const cut = readOnnxFile(whole.subarray(0, length));
    if (!cut.ok && /broken/.test(cut.error))
      expect(cut.error).toMatch(/it has \d+ bytes?, and what is in it says/);
  }
});

test.each<[string, Uint8Array, RegExp]>([
  ["that is empty", Buffer.alloc(0), /^the golden set cannot be read: it is empty, and neither/],
  [
    "of an unknown kind",
    Buffer.from([1, 2, 3, 0xff]),
    /it is of a kind that is not known, or broken \(4 bytes\)/,
  ],
  [
    "that is a text",
    Buffer.from("hello\n"),
    /it is a text file, and neither a zip archive nor tar nor tar.gz/,
  ],
  [
    "that is a zip archive that was cut off",
    npzFile({ x: { descr: "<f4", shape: [1, 1], values: [1] } }).subarray(0, 60),
    /it is a zip archive that is cut off: it has 60 bytes, and the list of its files, which comes last/,
  ],
])("a golden set %s is named as what it is", async (_what, bytes, message) => {
  const read = await readGoldenSet(
    bytes,
    { inputs: [], outputs: [] },
    { labels: true, outputs: false },
    2 ** 20,
  );
  expect(read.ok ? "" : read.error.message).toMatch(message);
});
