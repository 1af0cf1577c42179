import { type Alias, type Document, isAlias, isMap, isScalar, isSeq, type Pair, type YAMLMap } from "yaml";
import { err, ok, type Result, unreachable } from "../../src/base/result.ts";
import type { Json } from "../json-pointer.ts";
import { keyText, scalarOf, TAG_PREFIX, type YamlScalar } from "./scalar.ts";

/** A value, and where in its file it is written. */
export type Located = {
  readonly value: Json;
  /** Of the key where there is one, else of the value; of what an alias or a merge key stands for, where that is written. */
  readonly at: number;
  readonly inside: ReadonlyMap<string, Located>;
};

export type ValueNote = { readonly at: number; readonly message: string };

export type ReadValue = { readonly located: Located; readonly notes: readonly ValueNote[] };

/**
 * The JSON that kubectl sends of a document (sigs.k8s.io/yaml): aliases and merge keys are resolved, keys become text,
 * and of a key that is there twice the last one counts, with a note.
 */
export function yamlValue(document: Document): Result<ReadValue, ValueNote> {
  const notes: ValueNote[] = [];
  const reader: Reader = { notes, targets: new Map(), following: new Set(), nodes: 0, ofAliases: 0 };
  try {
    findTargets(document.contents, new Map(), reader.targets);
    return ok({ located: converted(read(document.contents, reader, 0)), notes });
  } catch (thrown) {
    if (thrown instanceof Unreadable) return err({ at: thrown.at, message: thrown.message });
    throw thrown;
  }
}

type Reader = {
  readonly notes: ValueNote[];
  readonly targets: Map<Alias, unknown>;
  /** Aliases whose value is being read. */
  readonly following: Set<Alias>;
  nodes: number;
  ofAliases: number;
};

/** Never leaves this file. */
class Unreadable extends Error {
  readonly at: number;
  constructor(at: number, message: string) {
    super(message);
    this.at = at;
  }
}

/** An alias stands for the last value with its anchor that begins before it. */
function findTargets(node: unknown, anchors: Map<string, unknown>, targets: Map<Alias, unknown>): void {
  if (isAlias(node)) {
    if (!anchors.has(node.source))
      throw new Unreadable(offsetOf(node) ?? 0, `there is no anchor &${node.source} before this alias`);
    targets.set(node, anchors.get(node.source));
    return;
  }
  if (isScalar(node) || isMap(node) || isSeq(node)) {
    if (node.anchor !== undefined) anchors.set(node.anchor, node);
  }
  if (isSeq(node)) for (const item of node.items) findTargets(item, anchors, targets);
  if (isMap(node))
    for (const { key, value } of node.items) {
      findTargets(key, anchors, targets);
      findTargets(value, anchors, targets);
    }
}

/** What a value is before it becomes JSON: what is overridden never has to. */
type Resolved = { readonly at: number } & (
  | { readonly kind: "scalar"; readonly scalar: YamlScalar }
  | { readonly kind: "list"; readonly items: readonly Resolved[] }
  | { readonly kind: "fields"; readonly fields: Fields }
);

/** By what a key is, as it was read: 1 and "1" are two keys. */
type Fields = ReadonlyMap<string, Field>;
type Field = { readonly at: number; readonly key: YamlScalar; readonly value: Resolved };

/** @param around where a value that is left out would be. */
function read(node: unknown, reader: Reader, around: number): Resolved {
  const at = offsetOf(node) ?? around;
  count(reader, at);
  if (isAlias(node)) return follow(node, reader, (target) => read(target, reader, at));
  if (isSeq(node)) return { kind: "list", at, items: node.items.map((item) => read(item, reader, at)) };
  if (!isMap(node)) return { kind: "scalar", at, scalar: scalarIn(node, at) };
  const fields = new Map<string, Field>();
  fill(fields, node, reader, false);
  return { kind: "fields", at, fields };
}

/** Later keys win, and so do those of a merge key that stands behind them. */
function fill(fields: Map<string, Field>, map: YAMLMap, reader: Reader, merged: boolean): void {
  const own = new Set<string>();
  for (const pair of map.items) {
    if (isMergeKey(pair)) {
      merge(fields, pair.value, reader, offsetOf(pair.key) ?? 0);
      continue;
    }
    const at = offsetOf(pair.key) ?? offsetOf(map) ?? 0;
    const key = keyOf(pair.key, reader, at);
    const identity = `${key.kind} ${key.kind === "null" ? "" : key.value}`;
    if (own.has(identity) && !merged)
      reader.notes.push({
        at,
        message: `${keyText(key)?.slice(0, 60)} is there a second time: this one counts`,
      });
    own.add(identity);
    fields.set(identity, { at, key, value: read(pair.value, reader, at) });
  }
}

const NOTHING: ReadonlyMap<string, Located> = new Map();

function converted(resolved: Resolved, at = resolved.at): Located {
  switch (resolved.kind) {
    case "scalar":
      return { value: jsonOf(resolved.scalar, resolved.at), at, inside: NOTHING };
    case "list": {
      const items = resolved.items.map((item) => converted(item));
      const inside = new Map(items.map((item, index) => [String(index), item] as const));
      return { value: items.map(({ value }) => value), at, inside };
    }
    case "fields": {
      const inside = new Map<string, Located>();
      for (const field of resolved.fields.values()) {
        const key = textOf(field);
        if (inside.has(key))
          throw new Unreadable(
            field.at,
            `two keys are ${key} once they are read, here and before; put one of them in quotes`,
          );
        inside.set(key, converted(field.value, field.at));
      }
      const entries = [...inside].map(([key, { value }]) => [key, value] as const);
      return { value: Object.fromEntries(entries), at, inside };
    }
    default:
      return unreachable(resolved);
  }
}

function textOf({ key, at }: Field): string {
  const text = keyText(key);
  if (text !== null) return text;
  throw new Unreadable(
    at,
    "a key must be a string, and this is null or too large a number; put it in quotes",
  );
}

function keyOf(node: unknown, reader: Reader, at: number): YamlScalar {
  count(reader, at);
  if (isAlias(node)) return follow(node, reader, (target) => keyOf(target, reader, at));
  if (isMap(node) || isSeq(node))
    throw new Unreadable(at, "a key must be a string, and this is a list or fields");
  return scalarIn(node, at);
}

function isMergeKey({ key }: Pair): boolean {
  if (!isScalar(key) || key.source !== "<<") return false;
  const { tag = "!" } = key;
  return tag === `${TAG_PREFIX}merge` || (tag === "!" && key.type === "PLAIN");
}

function merge(fields: Map<string, Field>, node: unknown, reader: Reader, at: number): void {
  const one = (from: unknown) => {
    count(reader, at);
    if (isMap(from)) return fill(fields, from, reader, true);
    const target = isAlias(from) ? reader.targets.get(from) : null;
    if (!isAlias(from) || !isMap(target))
      throw new Unreadable(at, "a merge key << needs fields, an alias of fields, or a list of them");
    return follow(from, reader, () => {
      count(reader, at);
      fill(fields, target, reader, true);
    });
  };
  // Of a list, what comes earlier wins.
  if (isSeq(node)) for (const item of node.items.toReversed()) one(item);
  else one(node);
}

function follow<T>(alias: Alias, reader: Reader, use: (target: unknown) => T): T {
  if (reader.following.has(alias))
    throw new Unreadable(offsetOf(alias) ?? 0, `the value of the anchor &${alias.source} contains itself`);
  reader.following.add(alias);
  try {
    return use(reader.targets.get(alias));
  } finally {
    reader.following.delete(alias);
  }
}

const FEW = { nodes: 1000, ofAliases: 100 };
const MODERATE = 400_000;
const LARGE = 4_000_000;

/** The same bound on what aliases may multiply as kubectl has. */
function count(reader: Reader, at: number): void {
  reader.nodes += 1;
  if (reader.following.size > 0) reader.ofAliases += 1;
  const { nodes, ofAliases } = reader;
  const share = 0.99 - 0.89 * Math.min(1, Math.max(0, (nodes - MODERATE) / (LARGE - MODERATE)));
  if (ofAliases > FEW.ofAliases && nodes > FEW.nodes && ofAliases / nodes > share)
    throw new Unreadable(at, "aliases make the document too large");
}

function scalarIn(node: unknown, at: number): YamlScalar {
  if (!isScalar(node)) return { kind: "null" }; // left out
  const { source = "", tag = "", type } = node;
  const scalar = scalarOf(source, tag === "!" ? "" : tag, type === "PLAIN" && tag !== "!");
  if (!scalar.ok) throw new Unreadable(at, scalar.error);
  return scalar.value;
}

function jsonOf(scalar: YamlScalar, at: number): Json {
  if (scalar.kind === "null") return null;
  if (scalar.kind !== "int" && scalar.kind !== "float") return scalar.value;
  const number = Number(scalar.value);
  if (!Number.isFinite(number))
    throw new Unreadable(at, "JSON has no such number; put it in quotes if it is meant as a text");
  return number === 0 ? 0 : number;
}

function offsetOf(node: unknown): number | null {
  if (typeof node !== "object" || node === null || !("range" in node) || !Array.isArray(node.range))
    return null;
  const [start] = node.range as readonly unknown[];
  return typeof start === "number" ? start : null;
}
