import { readFile, stat } from "node:fs/promises";
import { type Document, isMap, isPair, isScalar, LineCounter, parseAllDocuments } from "yaml";
import { err, ok, type Result } from "../src/base/result.ts";
import { fileFault } from "./file-fault.ts";
import { type Json, keysOf } from "./json-pointer.ts";

/** One document of a file, and where in it each value stands. */
export type YamlDocument = {
  readonly value: Json;
  /** `checks.yaml:12:5` for what is at a JSON pointer, or for the nearest thing around it. */
  readonly placeOf: (pointer: string) => string;
};

const LARGEST = 4 * 2 ** 20;

/** The documents of a YAML or JSON file, without empty ones; or every mistake in it, with its line. */
export async function readYamlFile(
  path: string,
): Promise<Result<readonly YamlDocument[], readonly string[]>> {
  const text = await readText(path);
  if (!text.ok) return err([text.error]);
  const lines = new LineCounter();
  const parsed = parseAllDocuments(text.value, { lineCounter: lines, prettyErrors: false });
  const documents = Array.isArray(parsed) ? (parsed as readonly Document[]) : [];
  const placeOf = (offset: number) => {
    const { line, col } = lines.linePos(offset);
    return `${path}:${line}:${col}`;
  };
  const mistakes = documents.flatMap(({ errors }) =>
    errors.map(({ message, pos }) => `${placeOf(pos[0])}: ${message}`),
  );
  if (mistakes.length > 0) return err(mistakes);
  const read: YamlDocument[] = [];
  for (const document of documents) {
    let value: Json;
    try {
      value = document.toJS() as Json;
    } catch (thrown) {
      // An alias without its anchor, or so many of them that they would fill the memory.
      return err([`${path}: ${thrown instanceof Error ? thrown.message : String(thrown)}`]);
    }
    if (value !== null) read.push({ value, placeOf: (pointer) => placeOf(offsetOf(document, pointer)) });
  }
  return read.length === 0 ? err([`${path}: there is nothing in it`]) : ok(read);
}

async function readText(path: string): Promise<Result<string, string>> {
  try {
    const about = await stat(path);
    if (!about.isFile()) return err(`${path}: is ${about.isDirectory() ? "a directory" : "no file"}`);
    if (about.size > LARGEST) return err(`${path}: has ${about.size} bytes, more than a manifest can have`);
    return ok(await readFile(path, "utf8"));
  } catch (thrown) {
    return err(`${path}: ${fileFault(thrown)}`);
  }
}

/** Of the key where there is one, else of the value. */
function offsetOf(document: Document, pointer: string): number {
  let node: unknown = document.contents;
  let offset = rangeOf(node) ?? document.range?.[0] ?? 0;
  for (const key of keysOf(pointer)) {
    const items: readonly unknown[] =
      typeof node === "object" && node !== null && "items" in node && Array.isArray(node.items)
        ? node.items
        : [];
    const pair = isMap(node)
      ? items.find((item) => isPair(item) && isScalar(item.key) && String(item.key.value) === key)
      : items[Number(key)];
    node = isPair(pair) ? pair.value : pair;
    const at = rangeOf(isPair(pair) ? pair.key : pair);
    if (at === null) return offset;
    offset = at;
  }
  return offset;
}

function rangeOf(node: unknown): number | null {
  if (typeof node !== "object" || node === null || !("range" in node) || !Array.isArray(node.range))
    return null;
  const [start] = node.range as readonly unknown[];
  return typeof start === "number" ? start : null;
}
