import { ownValue } from "../../base/json.ts";
/** Words of the hub's languages. Target conditions and queries have different rules, so each says what it allows. */
export type Token =
  | { readonly kind: "name"; readonly text: string; readonly at: number }
  /** A path segment in double square brackets. */
  | { readonly kind: "bracketed"; readonly text: string; readonly at: number }
  | { readonly kind: "string"; readonly text: string; readonly at: number }
  | { readonly kind: "number"; readonly value: number; readonly text: string; readonly at: number }
  | { readonly kind: "symbol"; readonly text: string; readonly at: number }
  | { readonly kind: "end"; readonly text: ""; readonly at: number };

export type StringStyle = {
  /** Quotes that open a string. */
  readonly quotes: readonly string[];
  /** How a quote gets into a string. */
  readonly escape: "doubled" | "backslash";
};

/** Text that is not of the language; the message is readable and names the place. */
export type SyntaxProblem = { readonly message: string };
export type Parsed<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly problem: SyntaxProblem };

const SYMBOLS = [
  "!=",
  "<>",
  "<=",
  ">=",
  "=",
  "<",
  ">",
  "(",
  ")",
  ",",
  ".",
  "+",
  "-",
  "*",
  "/",
  "%",
  "[",
  "]",
];
const NUMBER = /0x[0-9a-f]+|[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?/iy;
const NAME = /[A-Za-z_$][A-Za-z0-9_$]*/y;
const ESCAPES: Readonly<Record<string, string>> = { n: "\n", t: "\t", r: "\r", b: "\b", f: "\f" };

export function tokenize(text: string, style: StringStyle): Parsed<readonly Token[]> {
  const tokens: Token[] = [];
  let at = 0;
  while (at < text.length) {
    const char = text[at] ?? "";
    if (/\s/.test(char)) {
      at += 1;
      continue;
    }
    if (style.quotes.includes(char)) {
      const string = readString(text, at, style.escape);
      if (!string.ok) return string;
      tokens.push({ kind: "string", text: string.value.text, at });
      at = string.value.end;
      continue;
    }
    if (text.startsWith("[[", at)) {
      const end = text.indexOf("]]", at);
      if (end < 0) return { ok: false, problem: { message: `Line 1:${at}: [[ is not closed by ]]` } };
      tokens.push({ kind: "bracketed", text: text.slice(at + 2, end), at });
      at = end + 2;
      continue;
    }
    const name = matchAt(NAME, text, at);
    if (name !== null) {
      tokens.push({ kind: "name", text: name, at });
      at += name.length;
      continue;
    }
    const number = matchAt(NUMBER, text, at);
    if (number !== null) {
      tokens.push({ kind: "number", value: Number(number), text: number, at });
      at += number.length;
      continue;
    }
    const from = at;
    const symbol = SYMBOLS.find((known) => text.startsWith(known, from));
    if (symbol === undefined)
      return { ok: false, problem: { message: `Line 1:${at}: token recognition error at: '${char}'` } };
    tokens.push({ kind: "symbol", text: symbol, at });
    at += symbol.length;
  }
  tokens.push({ kind: "end", text: "", at });
  return { ok: true, value: tokens };
}

function matchAt(pattern: RegExp, text: string, at: number): string | null {
  pattern.lastIndex = at;
  return pattern.exec(text)?.[0] ?? null;
}

function readString(
  text: string,
  start: number,
  style: StringStyle["escape"],
): Parsed<{ readonly text: string; readonly end: number }> {
  const quote = text[start] ?? "'";
  let read = "";
  for (let at = start + 1; at < text.length; at++) {
    const char = text[at] ?? "";
    if (char === quote && style === "doubled" && text[at + 1] === quote) {
      read += quote;
      at += 1;
    } else if (char === quote) {
      return { ok: true, value: { text: read, end: at + 1 } };
    } else if (char === "\\" && style === "backslash") {
      at += 1;
      const escaped = text[at] ?? "";
      if (escaped === "u") {
        read += String.fromCharCode(Number.parseInt(text.slice(at + 1, at + 5), 16));
        at += 4;
      } else {
        read += ownValue(ESCAPES, escaped) ?? escaped;
      }
    } else {
      read += char;
    }
  }
  return { ok: false, problem: { message: `Line 1:${start}: the string is not closed` } };
}

/** A place in a list of tokens. Parsers throw a `SyntaxError` inside; the exported function of each catches it. */
export type Cursor = {
  readonly peek: (ahead?: number) => Token;
  readonly next: () => Token;
  /** Takes the word or symbol if it comes next. Words are compared without case. */
  readonly take: (text: string) => boolean;
  readonly expect: (text: string) => void;
  readonly fail: (expected: string) => never;
  /** Parses what is inside of something; a parser calls itself for each level, so there are not any number of them. */
  readonly within: <T>(parse: () => T) => T;
};

/** Levels of parentheses, NOT and signs in one another. */
const DEEPEST = 100;

export function createCursor(tokens: readonly Token[]): Cursor {
  let at = 0;
  let depth = 0;
  const last = tokens[tokens.length - 1] ?? { kind: "end", text: "", at: 0 };
  const peek = (ahead = 0): Token => tokens[at + ahead] ?? last;
  const next = (): Token => {
    const token = peek();
    at += 1;
    return token;
  };
  const is = (token: Token, text: string) =>
    (token.kind === "name" || token.kind === "symbol") && token.text.toUpperCase() === text;
  const take = (text: string): boolean => {
    if (!is(peek(), text)) return false;
    at += 1;
    return true;
  };
  const fail = (expected: string): never => {
    const token = peek();
    const found = token.kind === "end" ? "the end" : `'${token.text}'`;
    throw new SyntaxError(`Line 1:${token.at}: found ${found}, expected ${expected}`);
  };
  return {
    peek,
    next,
    take,
    expect: (text) => {
      if (!take(text)) fail(text);
    },
    fail,
    within: (parse) => {
      if (depth >= DEEPEST)
        throw new SyntaxError(`Line 1:${peek().at}: nested deeper than ${DEEPEST} levels`);
      depth += 1;
      const parsed = parse();
      depth -= 1;
      return parsed;
    },
  };
}

/** Turns the `SyntaxError` of a parser into a value; anything else is a bug and is thrown on. */
export function caught<T>(parse: () => T): Parsed<T> {
  try {
    return { ok: true, value: parse() };
  } catch (problem) {
    if (problem instanceof SyntaxError) return { ok: false, problem: { message: problem.message } };
    throw problem;
  }
}
