import type { Json } from "../../src/hub/hub.ts";

// Target conditions as a hub reads them, as far as we write them: AND, OR, parentheses, = != <> < <= > >= over tags and
// deviceId, single-quoted strings, numbers, booleans. Whatever else there is, is refused.

export type Subject = { readonly device: string; readonly tags: Json };
type Test = (subject: Subject) => boolean;

const known = new Map<string, Test>();

/** Throws with the hub's words where the condition cannot be read. */
export function compileCondition(text: string): Test {
  const had = known.get(text);
  if (had !== undefined) return had;
  const tokens = tokensOf(text);
  let at = 0;
  const peek = () => tokens[at];
  const take = () => {
    const token = tokens[at];
    at += 1;
    if (token === undefined) throw new Error(`unexpected end of condition: ${text}`);
    return token;
  };
  const either = (): Test => {
    const parts = [both()];
    while (peek() === "OR") {
      at += 1;
      parts.push(both());
    }
    return (subject) => parts.some((part) => part(subject));
  };
  const both = (): Test => {
    const parts = [atom()];
    while (peek() === "AND") {
      at += 1;
      parts.push(atom());
    }
    return (subject) => parts.every((part) => part(subject));
  };
  const atom = (): Test => {
    if (peek() === "(") {
      at += 1;
      const inner = either();
      if (take() !== ")") throw new Error(`missing ) in condition: ${text}`);
      return inner;
    }
    return comparison(take(), take(), take());
  };
  const test = either();
  if (at !== tokens.length) throw new Error(`unexpected ${tokens[at]} in condition: ${text}`);
  if (known.size > 20_000) known.clear();
  known.set(text, test);
  return test;
}

function comparison(path: string, operator: string, written: string): Test {
  const read = readerOf(path);
  const value = literalOf(written);
  return (subject) => {
    const found = read(subject);
    // A property that is missing, or of another type, makes the comparison undefined: the device drops out.
    if (typeof found !== typeof value) return false;
    return compare(found as number, operator, value as number);
  };
}

function compare(a: number, operator: string, b: number): boolean {
  switch (operator) {
    case "=":
      return a === b;
    case "!=":
    case "<>":
      return a !== b;
    case "<":
      return a < b;
    case "<=":
      return a <= b;
    case ">":
      return a > b;
    case ">=":
      return a >= b;
    default:
      throw new Error(`unknown operator ${operator}`);
  }
}

function readerOf(path: string): (subject: Subject) => unknown {
  if (path === "deviceId") return ({ device }) => device;
  const parts = (path.match(/\[\[[^\]]+\]\]|[^.[\]]+/g) ?? []).map((part) =>
    part.replace(/^\[\[|\]\]$/g, ""),
  );
  if (parts[0] !== "tags") throw new Error(`a condition must be based on deviceId or tags, not ${path}`);
  return ({ tags }) => {
    let found: unknown = tags;
    for (const part of parts.slice(1)) {
      if (typeof found !== "object" || found === null) return undefined;
      found = (found as Json)[part];
    }
    return found;
  };
}

function literalOf(written: string): string | number | boolean {
  if (written.startsWith("'")) return written.slice(1, -1).replaceAll("''", "'");
  if (written === "true" || written === "false") return written === "true";
  const number = Number(written);
  if (Number.isNaN(number)) throw new Error(`not a literal: ${written}`);
  return number;
}

function tokensOf(text: string): readonly string[] {
  const pattern =
    /\s*('(?:[^']|'')*'|\(|\)|!=|<>|<=|>=|[=<>]|(?:[A-Za-z_][A-Za-z0-9_]*|\[\[[A-Za-z0-9_-]+\]\])(?:\.(?:[A-Za-z_][A-Za-z0-9_]*|\[\[[A-Za-z0-9_-]+\]\]))*|[0-9]+)/y;
  const tokens: string[] = [];
  while (pattern.lastIndex < text.length) {
    const from = pattern.lastIndex;
    const match = pattern.exec(text);
    if (match === null) throw new Error(`unexpected "${text.slice(from, from + 20)}" in condition`);
    tokens.push(match[1]!);
  }
  return tokens;
}
