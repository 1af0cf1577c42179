import { type Answer, ok, refuse } from "../errors.ts";
import { compile, type Expression, type Row } from "../query/expression.ts";
import { parseCall, parseEither, takeComparison } from "../query/grammar.ts";
import { type Cursor, caught, createCursor, type Parsed, tokenize } from "../query/lexer.ts";
import { UNDOCUMENTED_DEFAULTS, type Undocumented } from "../undocumented.ts";

/** Which twins a configuration is for, compiled. */
export type TargetCondition = {
  readonly text: string;
  /** `modules` for conditions that begin with `from devices.modules where`. */
  readonly subject: "devices" | "modules";
  readonly matches: (row: Row) => boolean;
};

/** A metric's query repeats the condition, and a query has at most 8192 characters. */
const LONGEST = 8192;
const METRIC_QUERY = "select deviceId from devices where capabilities.iotEdge = true and ()";
const VALUE = /^[A-Za-z0-9\-:.+%_#*?!(),=@;$']*$/;
const MODULES = /^\s*from\s+devices\.modules(?:\s+where\s+(?<rest>[\s\S]*))?$/i;

/**
 * The grammar of target conditions, which is not that of queries: comparisons of `deviceId`, `tags.*` and
 * `properties.reported.*` (and `moduleId` for modules) with single-quoted strings, numbers and booleans, IS_DEFINED,
 * AND, OR, NOT and parentheses. IN, double quotes and desired properties are refused. Empty text targets nothing and
 * `*` everything.
 */
export function parseTargetCondition(
  text: string,
  undocumented: Pick<Undocumented, "condition-functions"> = UNDOCUMENTED_DEFAULTS,
): Answer<TargetCondition> {
  const parsed = parseCondition(text, undocumented["condition-functions"] === "accepted");
  if (parsed.ok) return ok(parsed.value);
  return refuse(
    "InvalidConfigurationTargetCondition",
    `Target condition must be based on deviceId, tags or properties.reported. ${parsed.problem.message}`,
  );
}

function parseCondition(text: string, functions: boolean): Parsed<TargetCondition> {
  const module = MODULES.exec(text);
  const subject = module === null ? "devices" : "modules";
  const where = (module === null ? text : (module.groups?.["rest"] ?? "*")).trim();
  if (where === "") return { ok: true, value: { text, subject, matches: () => false } };
  if (where === "*") return { ok: true, value: { text, subject, matches: () => true } };
  if (METRIC_QUERY.length + text.length > LONGEST)
    return {
      ok: false,
      problem: { message: `The condition has ${text.length} characters, which is too long` },
    };
  const tokens = tokenize(where, { quotes: ["'"], escape: "doubled" });
  if (!tokens.ok) return tokens;
  const expression = caught(() => {
    const cursor = createCursor(tokens.value);
    const whole = parseOr(cursor, { subject, functions });
    if (cursor.peek().kind !== "end") cursor.fail("AND, OR or the end");
    return whole;
  });
  if (!expression.ok) return expression;
  const evaluate = compile(expression.value);
  return { ok: true, value: { text, subject, matches: (row) => evaluate(row) === true } };
}

/** `functions`: whether there are others than IS_DEFINED. */
type Grammar = { readonly subject: TargetCondition["subject"]; readonly functions: boolean };

function parseOr(cursor: Cursor, grammar: Grammar): Expression {
  return parseEither(cursor, () => parseNot(cursor, grammar));
}

function parseNot(cursor: Cursor, grammar: Grammar): Expression {
  if (cursor.take("NOT")) return { kind: "not", inner: cursor.within(() => parseNot(cursor, grammar)) };
  if (cursor.take("(")) {
    const inner = cursor.within(() => parseOr(cursor, grammar));
    cursor.expect(")");
    return inner;
  }
  if (cursor.take("IS_DEFINED")) {
    cursor.expect("(");
    const path = parsePath(cursor, grammar);
    cursor.expect(")");
    return { kind: "call", name: "IS_DEFINED", args: [path] };
  }
  const called = grammar.functions ? parseCall(cursor, () => parseOperand(cursor, grammar)) : null;
  if (called !== null) return called;
  const left = parseOperand(cursor, grammar);
  const operator = takeComparison(cursor) ?? cursor.fail("one of = != <> < <= > >=");
  return { kind: "compare", operator, left, right: parseOperand(cursor, grammar) };
}

function parseOperand(cursor: Cursor, grammar: Grammar): Expression {
  const token = cursor.peek();
  if (token.kind === "string") {
    if (!VALUE.test(token.text))
      cursor.fail("a string of letters, digits and - : . + % _ # * ? ! ( ) , = @ ; $");
    cursor.next();
    return { kind: "literal", value: token.text };
  }
  const negative = cursor.take("-");
  const number = cursor.peek();
  if (number.kind === "number") {
    cursor.next();
    return { kind: "literal", value: negative ? -number.value : number.value };
  }
  if (negative) cursor.fail("a number");
  if (cursor.take("TRUE")) return { kind: "literal", value: true };
  if (cursor.take("FALSE")) return { kind: "literal", value: false };
  return parsePath(cursor, grammar);
}

function parsePath(cursor: Cursor, grammar: Grammar): Expression {
  const root = cursor.peek();
  if (root.kind !== "name") return cursor.fail("deviceId, tags or properties.reported");
  cursor.next();
  const path: string[] = [rootName(root.text)];
  while (cursor.take(".")) {
    const segment = cursor.next();
    if (segment.kind !== "name" && segment.kind !== "bracketed") return cursor.fail("a name after the dot");
    path.push(path.length === 1 && path[0] === "properties" ? segment.text.toLowerCase() : segment.text);
  }
  const single = path.length === 1;
  const allowed =
    (path[0] === "deviceId" && single) ||
    (path[0] === "moduleId" && single && grammar.subject === "modules") ||
    (path[0] === "tags" && !single) ||
    (path[0] === "properties" && path[1] === "reported" && path.length > 2);
  if (!allowed) throw new SyntaxError(`Line 1:${root.at}: '${path.join(".")}' cannot be used`);
  return { kind: "path", path };
}

function rootName(written: string): string {
  const known = ["deviceId", "moduleId", "tags", "properties"];
  return known.find((name) => name.toLowerCase() === written.toLowerCase()) ?? written;
}
