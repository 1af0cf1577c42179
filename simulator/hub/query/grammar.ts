import { type Comparison, type Expression, functionNamed } from "./expression.ts";
import type { Cursor } from "./lexer.ts";

// What target conditions and queries have in common.

const COMPARISONS: readonly (readonly [string, Comparison])[] = [
  ["=", "="],
  ["!=", "!="],
  ["<>", "!="],
  ["<=", "<="],
  [">=", ">="],
  ["<", "<"],
  [">", ">"],
];

/** `null` where no comparison comes next. */
export function takeComparison(cursor: Cursor): Comparison | null {
  return COMPARISONS.find(([text]) => cursor.take(text))?.[1] ?? null;
}

/** Conditions with OR between them, and AND between those; `inner` parses what has neither. */
export function parseEither(cursor: Cursor, inner: () => Expression): Expression {
  let left = parseBoth(cursor, inner);
  while (cursor.take("OR")) left = { kind: "or", left, right: parseBoth(cursor, inner) };
  return left;
}

function parseBoth(cursor: Cursor, inner: () => Expression): Expression {
  let left = inner();
  while (cursor.take("AND")) left = { kind: "and", left, right: inner() };
  return left;
}

/** A call of a function; `null` where none comes next. */
export function parseCall(cursor: Cursor, argument: () => Expression): Expression | null {
  const token = cursor.peek();
  const opens = cursor.peek(1);
  if (token.kind !== "name" || opens.kind !== "symbol" || opens.text !== "(") return null;
  const called = functionNamed(token.text);
  if (called === null) return cursor.fail("a function that exists");
  cursor.next();
  cursor.next();
  const args = [argument()];
  while (cursor.take(",")) args.push(argument());
  cursor.expect(")");
  if (args.length !== called.takes)
    throw new SyntaxError(`Line 1:${token.at}: ${called.name} takes ${called.takes} arguments`);
  return { kind: "call", name: called.name, args };
}
