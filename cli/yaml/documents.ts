import { type Document, LineCounter, parseAllDocuments } from "yaml";
import { err, ok, type Result } from "../../src/base/result.ts";
import { type Json, keysOf } from "../json-pointer.ts";
import { chunksOf } from "./chunks.ts";
import { lexicalFaults } from "./lexical-faults.ts";
import { type Located, yamlValue } from "./value.ts";

/** One document of a file, and where in it each value stands. */
export type YamlDocument = {
  readonly value: Json;
  /** `checks.yaml:12:5` for what is at a JSON pointer, or for the nearest thing around it. */
  readonly placeOf: (pointer: string) => string;
};

export type YamlDocuments = {
  /** Without empty ones. */
  readonly documents: readonly YamlDocument[];
  /** Notes on how the file was read. */
  readonly notes: readonly string[];
};

/** The documents of a YAML or JSON file as kubectl reads them; or every mistake in it, with its line. */
export function documentsIn(path: string, stream: string): Result<YamlDocuments, readonly string[]> {
  const chunks = chunksOf(stream);
  if (!chunks.ok) return err([`${path}:${chunks.error.line + 1}:1: ${chunks.error.message}`]);
  const documents: YamlDocument[] = [];
  const problems: string[] = [];
  const notes: string[] = [];
  for (const [index, chunk] of chunks.value.entries()) {
    const json = index === 0 ? jsonIn(chunk.text) : undefined;
    const text = chunk.text.replace(/^\uFEFF/, "");
    const lines = new LineCounter();
    const place = (offset: number) => {
      const { line, col } = lines.linePos(offset);
      return `${path}:${chunk.line + line}:${col}`;
    };
    const parsed = parseAllDocuments(text, { ...OPTIONS, lineCounter: lines });
    const document = Array.isArray(parsed) ? ((parsed as readonly Document[])[0] ?? null) : null;
    if (json === undefined && document?.errors.some(({ message }) => STACK.test(message))) {
      problems.push(`${place(0)}: is nested too deeply to be read`);
      continue;
    }
    const errors = [
      ...(document?.errors ?? [])
        .filter(({ code, message }) => !IGNORED.includes(code) && !message.startsWith(COMMENT))
        .map(({ pos: [offset], message }) => ({ offset, message })),
      ...lexicalFaults(text),
    ].filter(() => json === undefined);
    problems.push(...errors.map(({ message, offset }) => `${place(offset)}: ${message}`));
    if (errors.length > 0 || document === null) continue;
    const read = yamlValue(document);
    if (!read.ok && json === undefined) {
      problems.push(`${place(read.error.at)}: ${read.error.message}`);
      continue;
    }
    const located = read.ok ? read.value.located : NOWHERE;
    const value = json === undefined ? located.value : json;
    if (read.ok) notes.push(...read.value.notes.map(({ at, message }) => `${place(at)}: ${message}`));
    if (value !== null) documents.push({ value, placeOf: (pointer) => place(nearest(located, pointer)) });
  }
  return problems.length > 0 ? err(problems) : ok({ documents, notes });
}

/** Scalars stay texts here: what they mean is decided by `scalar.ts`. */
const OPTIONS = {
  prettyErrors: false,
  uniqueKeys: false,
  schema: "failsafe",
  resolveKnownTags: false,
  merge: false,
  logLevel: "silent",
} as const;

/** What kubectl does not look at. */
const IGNORED: readonly string[] = ["TAG_RESOLVE_FAILED", "BAD_COLLECTION_TYPE"];
/** How the library reports that its own recursion came to an end; every other mistake that it finds then follows from it. */
const STACK = /call stack size exceeded|stack overflow/i;
const COMMENT = "Comments must be separated from other tokens";

/** A JSON file is JSON first, and YAML only where it is not: the escapes of both differ. */
function jsonIn(text: string): Json | undefined {
  if (!/^\s*\{/.test(text)) return undefined;
  try {
    return JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
}

const NOWHERE: Located = { value: null, at: 0, inside: new Map() };

function nearest(located: Located, pointer: string): number {
  let found = located;
  for (const key of keysOf(pointer)) {
    const inner = found.inside.get(key);
    if (inner === undefined) return found.at;
    found = inner;
  }
  return found.at;
}
