import { Buffer } from "node:buffer";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { zipFile } from "../../../test/builders/verifier/npz.ts";
import { floatProto, tarFile, tarGzFile } from "../../../test/builders/verifier/test-data.ts";
import { readGoldenSet } from "../golden/read.ts";
import { type ArchiveKind, archiveKind, readArchive } from "./archive.ts";

const LIMIT = 1_000_000;
const all = () => true;
const read = (bytes: Uint8Array, kind: ArchiveKind, limit = LIMIT) => readArchive(bytes, kind, limit, all);
const hello = Buffer.from("hello");
const zipOf = (...names: readonly string[]) =>
  zipFile(
    names.map((name) => [name, hello] as const),
    true,
  );
/** Place of the first header of a directory entry of a zip archive. */
const DIRECTORY = Buffer.from([0x50, 0x4b, 0x01, 0x02]);

describe("an archive that was made to do harm is refused with a sentence", () => {
  test.each<[string, ArchiveKind, () => Uint8Array | Promise<Uint8Array>, RegExp]>([
    [
      "a zip bomb",
      "zip",
      () => zipFile([["x", Buffer.alloc(5_000_000)]], true),
      /take 5000000 bytes; at most 1000000/,
    ],
    [
      "a tar.gz bomb",
      "tar.gz",
      () => tarGzFile({ x: Buffer.alloc(5_000_000) }),
      /more than the 1000000 bytes/,
    ],
    [
      "zeros without end in gzip",
      "tar.gz",
      () => gzipSync(Buffer.alloc(50_000_000)),
      /more than the 1000000 bytes/,
    ],
    ["gzip in gzip", "tar.gz", () => gzipSync(gzipSync(Buffer.alloc(50_000_000))), /broken tar\.gz archive/],
    [
      "a name that leads up in a zip",
      "zip",
      () => zipOf("a/../../b"),
      /"a\/..\/..\/b" is not a safe name for a file/,
    ],
    ["an absolute name in a zip", "zip", () => zipOf("/etc/passwd"), /"\/etc\/passwd" is not a safe name/],
    ["a drive in a zip", "zip", () => zipOf("C:/x"), /is not a safe name/],
    ["backslashes in a zip", "zip", () => zipOf("..\\x"), /is not a safe name/],
    ["a name that leads up in a tar", "tar", () => tarFile({ "../x": hello }), /"..\/x" is not a safe name/],
    ["an absolute name in a tar", "tar", () => tarFile({ "/x": hello }), /"\/x" is not a safe name/],
    ["a zero in a name", "zip", () => zipOf("a\0b"), /is not a safe name/],
    ["one name twice in a zip", "zip", () => zipOf("x", "x"), /two files named "x"/],
    [
      "one name twice in a tar",
      "tar",
      () =>
        tarFile([
          [{ name: "x" }, hello],
          [{ name: "x" }, hello],
        ]),
      /two files named "x"/,
    ],
    [
      "a symbolic link",
      "tar",
      () => tarFile([[{ name: "x", type: "symlink", linkname: "/etc/passwd" }, Buffer.alloc(0)]]),
      /"x" is a link; links are not followed/,
    ],
    [
      "a hard link",
      "tar",
      () => tarFile([[{ name: "x", type: "link", linkname: "y" }, Buffer.alloc(0)]]),
      /"x" is a link/,
    ],
    [
      "a device",
      "tar",
      () => tarFile([[{ name: "x", type: "character-device" }, Buffer.alloc(0)]]),
      /"x" is character-device; only files and directories/,
    ],
    [
      "a sparse file of GNU tar",
      "tar",
      async () => withType(await tarFile({ x: hello }), "S"),
      /"x" is of a kind that is not known/,
    ],
    [
      "a sparse file by its extensions",
      "tar",
      () => tarFile([[{ name: "x", pax: { "GNU.sparse.major": "1" } } as never, hello]]),
      /"x" is sparse/,
    ],
    [
      "extensions without end",
      "tar",
      () => tarFile([[{ name: "x", pax: { comment: "x".repeat(5_000_000) } } as never, hello]]),
      /more than the 1000000 bytes|exceeds max size/,
    ],
    ["a link in a zip", "zip", () => withMode(zipOf("x"), 0o120777), /"x" is a link/],
    [
      "an encrypted file",
      "zip",
      () => changed(zipOf("x"), (bytes, at) => bytes.writeUInt16LE(1, at + 8)),
      /encrypted/,
    ],
    [
      "another way to compress",
      "zip",
      () => changed(zipOf("x"), (bytes, at) => bytes.writeUInt16LE(12, at + 10)),
      /compressed by method 12/,
    ],
    [
      "a lie about the size",
      "zip",
      () =>
        changed(zipFile([["x", Buffer.alloc(900_000)]], true), (bytes, at) =>
          bytes.writeUInt32LE(10, at + 24),
        ),
      /does not inflate to the size/,
    ],
    [
      "a wrong checksum",
      "zip",
      () => changed(zipOf("x"), (bytes, at) => bytes.writeUInt32LE(1, at + 16)),
      /its checksum is wrong/,
    ],
    ["files that overlap", "zip", overlapping, /"b" overlaps with another file/],
    ["another name inside", "zip", renamed, /"y" has another name where it lies than in the directory/],
  ])("%s", async (_what, kind, archive, message) => {
    const bytes = await archive();
    expect(archiveKind(bytes)).toBe(kind);
    const before = process.memoryUsage().arrayBuffers;
    expect(await read(bytes, kind)).toMatchObject({ ok: false, error: expect.stringMatching(message) });
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(20_000_000);
  });

  test("ten thousand files and one", async () => {
    const names = Array.from({ length: 10_001 }, (_, index) => [`${index}`, Buffer.alloc(0)] as const);
    expect(await read(zipFile(names, false), "zip")).toMatchObject({
      ok: false,
      error: "it has 10001 files; at most 10000 are allowed",
    });
    const tar = await tarFile(names.map(([name, content]) => [{ name }, content] as const));
    expect(await read(tar, "tar", 100_000_000)).toMatchObject({
      ok: false,
      error: "it has more than 10000 files",
    });
  });

  test.each(["tar", "tar.gz"] as const)("a %s that was cut off anywhere", async (kind) => {
    const files = { a: Buffer.from("a".repeat(600)), b: hello };
    const whole = kind === "tar" ? await tarFile(files) : await tarGzFile(files);
    expect(await read(whole, kind)).toMatchObject({ ok: true, value: [{ name: "a" }, { name: "b" }] });
    // Behind the last file only zeros follow.
    const end = kind === "tar" ? 512 + 1024 + 512 + 5 : whole.length;
    for (let length = 1; length < end; length += kind === "tar" ? 37 : 3) {
      const cut = await read(whole.subarray(0, length), kind);
      if (cut.ok) expect(cut.value.map(({ content }) => content.length)).toEqual([600]);
    }
    expect(await read(whole.subarray(0, 700), "tar")).toMatchObject({ ok: false });
  });
});

describe("never throws, and never takes more than it may", () => {
  test("random bytes behind every magic (property)", async () => {
    const magic = fc.constantFrom([0x50, 0x4b, 3, 4], [0x1f, 0x8b, 8, 0], [0x50, 0x4b, 5, 6], []);
    await fc.assert(
      fc.asyncProperty(magic, fc.uint8Array({ maxLength: 2000 }), fc.boolean(), async (start, rest, tar) => {
        const bytes = Buffer.concat([Buffer.from(start), rest]);
        if (tar && bytes.length > 262) bytes.write("ustar", 257);
        const set = await readGoldenSet(bytes, MODEL, WANTS, LIMIT);
        expect(set.ok).toBe(false);
      }),
      { numRuns: 300 },
    );
  });

  test("good archives with some bytes changed, or cut off (property)", async () => {
    const files = { "test_data_set_0/input_0.pb": PROTO, "test_data_set_0/output_0.pb": PROTO };
    const good = [
      await tarFile(files),
      await tarGzFile(files),
      zipFile(Object.entries(files), true),
    ] as const;
    const edits = fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...good),
        edits,
        fc.nat(),
        fc.boolean(),
        async (from, changes, length, cut) => {
          const bytes = Buffer.from(cut ? from.subarray(0, length % from.length) : from);
          for (const [place, value] of changes) bytes[place % Math.max(1, bytes.length)] = value;
          const set = await readGoldenSet(bytes, MODEL, WANTS, LIMIT);
          // What is still accepted has the model's types; its values may be others, for tar has no checksum of data.
          if (set.ok) expect(set.value.runAt(0).feeds["x"]).toMatchObject({ type: "float32" });
        },
      ),
      { numRuns: 500 },
    );
  });
});

const PROTO = floatProto([2, 2], [1, 2, 3, 4]).encode();
const MODEL = {
  inputs: [{ name: "x", type: "float32", shape: ["n", 2] }],
  outputs: [{ name: "y", type: "float32", shape: ["n", 2] }],
};
const WANTS = { labels: false, outputs: true };

function changed(bytes: Buffer, change: (bytes: Buffer, entry: number) => void): Buffer {
  change(bytes, bytes.lastIndexOf(DIRECTORY));
  return bytes;
}

function withMode(bytes: Buffer, mode: number): Buffer {
  return changed(bytes, (archive, entry) => archive.writeUInt32LE(mode * 65_536, entry + 38));
}

/** The data of the first entry reaches into the second. */
function overlapping(): Buffer {
  const bytes = zipOf("a", "b");
  bytes.writeUInt32LE(60, bytes.indexOf(DIRECTORY) + 20);
  return bytes;
}

function renamed(): Buffer {
  return changed(zipOf("x"), (bytes, at) => bytes.write("y", at + 46));
}

/** Of the first entry, with the checksum of its header. */
function withType(tar: Buffer, type: string): Buffer {
  tar.write(type, 156);
  tar.fill(" ", 148, 156);
  let sum = 0;
  for (const byte of tar.subarray(0, 512)) sum += byte;
  tar.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return tar;
}
