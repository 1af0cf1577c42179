import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bytesIn, bytesInFile } from "./byte-source.ts";

const bytes = Uint8Array.from({ length: 200_000 }, (_, index) => (index * 31 + (index >> 8)) & 0xff);
let directory: string;
let descriptor: number;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "byte-source-"));
  writeFileSync(join(directory, "file"), bytes);
  descriptor = openSync(join(directory, "file"), "r");
});
afterAll(() => {
  closeSync(descriptor);
  rmSync(directory, { recursive: true });
});

test("a file looks like its bytes, wherever and in whatever order it is looked at", () => {
  const [file, memory] = [bytesInFile(descriptor, bytes.length), bytesIn(bytes)];
  for (const position of [0, 65_535, 65_536, 199_999, 5, 131_072, 200_000]) {
    expect(file.at(position)).toBe(memory.at(position));
    expect(file.slice(position, position + 300)).toEqual(memory.slice(position, position + 300));
  }
});
