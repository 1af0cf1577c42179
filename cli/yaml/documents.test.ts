import { describe, expect, test } from "vitest";
import { documentsIn } from "./documents.ts";

const read = (stream: string) => documentsIn("f.yaml", stream);
function values(stream: string): readonly unknown[] {
  const found = read(stream);
  return found.ok ? found.value.documents.map(({ value }) => value) : found.error;
}

describe("a stream", () => {
  test.each<[string, string, readonly unknown[]]>([
    ["what Helm writes", "---\n# Source: a\na: 1\n---\n# Source: b\n---\n", [{ a: 1 }]],
    ["a byte order mark", "\uFEFFa: 1\n---\n\uFEFFb: 2\n", [{ a: 1 }, { b: 2 }]],
    ["line ends of Windows, in blocks too", "a: |\r\n  x\r\n  y\r\n", [{ a: "x\ny\n" }]],
    ["a comment behind the dashes", "a: 1\n--- # next\nb: 2", [{ a: 1 }, { b: 2 }]],
    ["nothing behind the end of a document", "a: 1\n...\n\tb: [\n", [{ a: 1 }]],
    ["JSON, with its own escapes", '{"a": "\\/\\ud83d\\ude00",\n\t"b": 1.0}', [{ a: "/😀", b: 1 }]],
    ["JSON with a trailing comma, as YAML", '{"a": 0100,}', [{ a: 64 }]],
    ["nothing at all", "# x\n---\n", []],
  ])("may have %s", (_, stream, documents) => {
    expect(values(stream)).toEqual(documents);
  });

  test.each([
    ["a: 1\n--- b\n", "f.yaml:2:1: only a comment may follow --- on its line: b"],
    ["a:\n\tb: 1\n", "f.yaml:2:1: a tab cannot indent: use spaces"],
    ["a: 1\n\t\nb: 2\n", "f.yaml:2:1: a tab cannot indent: use spaces"],
    ["%YAML 1.1\n---\na: 1\n", "f.yaml:1:1: a directive is not read by kubectl: leave it out"],
    ["...\na: 1\n", "f.yaml:1:1: a document cannot end before it has begun"],
    ["a: [b?c]\n", "f.yaml:1:5: put a text with ? in quotes between brackets"],
    ['a: "\\/"\n', "f.yaml:1:4: \\/ is an escape of JSON alone: write / as it is"],
    ["a: 1\n---\nb: *x\n", "f.yaml:3:4: there is no anchor &x before this alias"],
    ["a: &x [*x]\n", "f.yaml:1:8: the value of the anchor &x contains itself"],
    ["a: .inf\n", "f.yaml:1:4: JSON has no such number; put it in quotes if it is meant as a text"],
    [
      "~: 1\n",
      "f.yaml:1:1: a key must be a string, and this is null or too large a number; put it in quotes",
    ],
    ["[a]: 1\n", "f.yaml:1:1: a key must be a string, and this is a list or fields"],
    ["a:\n  <<: 1\n", "f.yaml:2:3: a merge key << needs fields, an alias of fields, or a list of them"],
    [`a: ${"[".repeat(5000)}`, "f.yaml:1:1: is nested too deeply to be read"],
    ["a: \u0007\n", "f.yaml:1:4: a control character: write it as an escape in double quotes"],
  ])("is refused with %j", (stream, problem) => {
    expect(values(stream)).toContain(problem);
  });
});

describe("a value", () => {
  test("of a merge key gives way to what stands behind it, and not to what stands before", () => {
    const base = "b: &b {x: 1, w: 2}\n";
    expect(values(`${base}c: {<<: *b, w: 3}\n`)).toEqual([{ b: { x: 1, w: 2 }, c: { x: 1, w: 3 } }]);
    expect(values(`${base}c: {w: 3, <<: *b}\n`)).toEqual([{ b: { x: 1, w: 2 }, c: { x: 1, w: 2 } }]);
    expect(values(`${base}c: {<<: [*b, {w: 5, z: 6}]}\n`)).toMatchObject([{ c: { x: 1, w: 2, z: 6 } }]);
    expect(values('c: {"<<": 1}\n')).toEqual([{ c: { "<<": 1 } }]);
  });

  test("of an alias is that of the last anchor before it", () => {
    expect(values("a: &x 1\nb: *x\nc: &x 0100\nd: *x\n")).toEqual([{ a: 1, b: 1, c: 64, d: 64 }]);
  });

  test("has its keys as text, and inherits nothing", () => {
    expect(values("0x10: a\non: b\n__proto__: c\n")).toEqual([
      Object.fromEntries([
        ["16", "a"],
        ["true", "b"],
        ["__proto__", "c"],
      ]),
    ]);
  });

  test("that is there twice is the last one, with a note", () => {
    const found = read("a: 1\nb:\n  c: 2\n  c: 3\n");
    expect(found).toMatchObject({ ok: true, value: { documents: [{ value: { a: 1, b: { c: 3 } } }] } });
    expect(found.ok && found.value.notes).toEqual(["f.yaml:4:3: c is there a second time: this one counts"]);
  });

  test("that is overridden need not be one that JSON has", () => {
    expect(values("a: .inf\na: 1\n")).toEqual([{ a: 1 }]);
    expect(values("a: { ~: 1 }\na: 2\n")).toEqual([{ a: 2 }]);
    expect(values("a: &x {b: .nan}\na: {<<: *x, b: 3}\n")).toEqual([{ a: { b: 3 } }]);
  });

  test("under two keys that are the same text is neither", () => {
    expect(values('1: a\n"1": b\n')).toEqual([
      "f.yaml:2:1: two keys are 1 once they are read, here and before; put one of them in quotes",
    ]);
  });
});

test("a place is that of the key, in its own document, and of a merged value where it is written", () => {
  const found = read("# c\n---\na: 1\n---\nb: &b\n  x: 1\nc:\n  <<: *b\nl:\n  - w: 2\n");
  const place = (pointer: string) => (found.ok ? found.value.documents[1]?.placeOf(pointer) : null);
  expect(place("/b/x")).toBe("f.yaml:6:3");
  expect(place("/c/x")).toBe("f.yaml:6:3");
  expect(place("/l/0/w")).toBe("f.yaml:10:5");
  expect(place("/l/0/w/z")).toBe("f.yaml:10:5");
  expect(place("/c/q")).toBe("f.yaml:7:1");
});
