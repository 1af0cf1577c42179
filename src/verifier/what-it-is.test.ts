import { Buffer } from "node:buffer";
import { expect, test } from "vitest";
import { randomPerceptron } from "../../test/builders/onnx-model.ts";
import { readOnnxFile } from "./onnx-file.ts";
import { whatItIs } from "./what-it-is.ts";

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
])("a file is told by its first bytes (%#)", (bytes, name) => {
  expect(whatItIs(bytes)).toBe(name);
});

test("a model that was cut off is told with both sizes", () => {
  const whole = randomPerceptron([4, 8, 3]);
  const cut = readOnnxFile(whole.subarray(0, 120));
  expect(cut.ok ? "" : cut.error).toMatch(
    /^not an ONNX model: it is broken or cut off: it has 120 bytes, and what is in it says that it has at least \d+$/,
  );
});
