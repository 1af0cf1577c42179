import { type Answer, ok, refuse } from "../errors.ts";
import { UNDOCUMENTED_DEFAULTS, type Undocumented } from "../undocumented.ts";
import { TWIN_ATTRIBUTES } from "./document.ts";
import { compile, type Evaluate, type Expression, type Path, type Row } from "./expression.ts";
import { parseCall, parseEither, takeComparison } from "./grammar.ts";
import { type Cursor, caught, createCursor, type Parsed, tokenize } from "./lexer.ts";

export type Source = "devices" | "devices.modules" | "devices.jobs";

export type Aggregate = "COUNT" | "SUM" | "AVG" | "MIN" | "MAX";

export type Column =
  | { readonly kind: "value"; readonly name: string; readonly read: Evaluate; readonly text: string }
  | {
      readonly kind: "aggregate";
      readonly name: string;
      readonly aggregate: Aggregate;
      readonly read: Evaluate;
    };

/** A query, compiled. */
export type Query = {
  readonly source: Source;
  /** `null`: `SELECT *`. */
  readonly columns: readonly Column[] | null;
  readonly top: number | null;
  readonly matches: (row: Row) => boolean;
  readonly groupBy: readonly { readonly text: string; readonly read: Evaluate }[];
  /** Answers with one row per group and not one per twin. */
  readonly aggregates: boolean;
  readonly distinct: boolean;
  readonly orderBy: readonly { readonly read: Evaluate; readonly descending: boolean }[];
};

const LONGEST = 8192;
const AGGREGATES: readonly Aggregate[] = ["COUNT", "SUM", "AVG", "MIN", "MAX"];
const RESERVED = new Set([
  "SELECT",
  "FROM",
  "WHERE",
  "GROUP",
  "BY",
  "AND",
  "OR",
  "NOT",
  "IN",
  "NIN",
  "AS",
  "TOP",
  "TRUE",
  "FALSE",
  "NULL",
]);
/** Attributes of what a job did to one device. */
const JOB_ROOTS = [
  "jobId",
  "jobType",
  "deviceId",
  "moduleId",
  "status",
  "startTimeUtc",
  "endTimeUtc",
  "createdDateTimeUtc",
  "createdTimeUtc",
  "lastUpdatedDateTimeUtc",
  "outcome",
  "error",
];

/** What of the grammar is not certain. */
type QueryGrammar = Pick<Undocumented, "query-order" | "unnamed-counts" | "constant-conditions">;

/** A place in a query; `roots` are the attributes that paths may begin with, by what the query is from. */
type QueryCursor = Cursor & { roots: readonly string[]; readonly undocumented: QueryGrammar };

/**
 * `SELECT [TOP n] * | paths and aggregates [AS name] FROM devices | devices.modules [WHERE …] [GROUP BY …]`,
 * and `SELECT * FROM devices.jobs [WHERE …]`. Paths may begin with the name of the collection.
 * Strings in either quotes with backslash escapes; IN and NIN with square brackets; no JOIN, HAVING or subqueries, and
 * ORDER BY and DISTINCT only where `undocumented` says so.
 */
export function parseQuery(text: string, undocumented: QueryGrammar = UNDOCUMENTED_DEFAULTS): Answer<Query> {
  if (text.length > LONGEST)
    return refuse(
      "ArgumentInvalid",
      `The query has ${text.length} characters; at most ${LONGEST} are allowed`,
    );
  const parsed = parseText(text, undocumented);
  if (parsed.ok) return ok(parsed.value);
  return refuse(
    "ArgumentInvalid",
    `SQL query parse failed due to following errors: ${parsed.problem.message}`,
  );
}

function parseText(text: string, undocumented: QueryGrammar): Parsed<Query> {
  const tokens = tokenize(text, { quotes: ["'", '"'], escape: "backslash" });
  if (!tokens.ok) return tokens;
  return caught(() => parseSelect({ ...createCursor(tokens.value), roots: TWIN_ATTRIBUTES, undocumented }));
}

function parseSelect(cursor: QueryCursor): Query {
  cursor.expect("SELECT");
  const ordering = cursor.undocumented["query-order"] === "accepted";
  const distinct = ordering && cursor.take("DISTINCT");
  const top = cursor.take("TOP") ? parseInteger(cursor) : null;
  const columns = cursor.take("*") ? null : parseColumns(cursor);
  cursor.expect("FROM");
  const source = parseSource(cursor);
  if (source === "devices.jobs" && (columns !== null || top !== null))
    throw new SyntaxError("Line 1:7: devices.jobs can only be queried with SELECT *");
  const where = cursor.take("WHERE") ? compile(parseWhere(cursor)) : null;
  const groupBy: { readonly text: string; readonly read: Evaluate }[] = [];
  if (cursor.take("GROUP")) {
    cursor.expect("BY");
    do {
      const path = parsePath(cursor);
      groupBy.push({ text: path.join("."), read: compile({ kind: "path", path }) });
    } while (cursor.take(","));
  }
  const aggregates = groupBy.length > 0 || (columns ?? []).some((column) => column.kind === "aggregate");
  const orderBy = ordering && source !== "devices.jobs" && !aggregates ? parseOrderBy(cursor) : [];
  if (cursor.peek().kind !== "end") cursor.fail("WHERE, GROUP BY or the end");
  if (aggregates)
    checkGroups(
      columns,
      groupBy.map((group) => group.text),
      source,
    );
  return {
    source,
    columns,
    top,
    matches: where === null ? () => true : (row) => where(row) === true,
    groupBy,
    aggregates,
    distinct,
    orderBy,
  };
}

function parseWhere(cursor: QueryCursor): Expression {
  const { at } = cursor.peek();
  const where = parseOr(cursor);
  if (
    cursor.undocumented["constant-conditions"] === "refused" &&
    where.kind === "literal" &&
    where.value !== true
  )
    throw new SyntaxError(`Line 1:${at}: a constant is not a condition`);
  return where;
}

function parseOrderBy(cursor: QueryCursor): Query["orderBy"] {
  if (!cursor.take("ORDER")) return [];
  cursor.expect("BY");
  const orderBy: { readonly read: Evaluate; readonly descending: boolean }[] = [];
  do {
    const read = compile({ kind: "path", path: parsePath(cursor) });
    const descending = cursor.take("DESC");
    if (!descending) cursor.take("ASC");
    orderBy.push({ read, descending });
  } while (cursor.take(","));
  return orderBy;
}

function checkGroups(columns: Query["columns"], groups: readonly string[], source: Source): void {
  if (columns === null) throw new SyntaxError("Line 1:7: * cannot be grouped");
  if (groups.length > 0 && source !== "devices")
    throw new SyntaxError("Line 1:0: GROUP BY is for queries of devices only");
  for (const column of columns)
    if (column.kind === "value" && !groups.includes(column.text))
      throw new SyntaxError(`Line 1:7: ${column.text} is neither aggregated nor grouped by`);
}

function parseInteger(cursor: QueryCursor): number {
  const token = cursor.next();
  return token.kind === "number" && Number.isInteger(token.value)
    ? token.value
    : cursor.fail("a whole number");
}

function parseSource(cursor: QueryCursor): Source {
  cursor.expect("DEVICES");
  if (!cursor.take(".")) return "devices";
  if (cursor.take("JOBS")) {
    cursor.roots = JOB_ROOTS;
    return "devices.jobs";
  }
  cursor.expect("MODULES");
  return "devices.modules";
}

function parseColumns(cursor: QueryCursor): readonly Column[] {
  const columns: Column[] = [];
  do {
    columns.push(parseColumn(cursor, columns.length + 1));
  } while (cursor.take(","));
  return columns;
}

function parseColumn(cursor: QueryCursor, position: number): Column {
  const named = AGGREGATES.find((name) => {
    const opens = cursor.peek(1);
    return cursor.peek().text.toUpperCase() === name && opens.kind === "symbol" && opens.text === "(";
  });
  if (named === undefined) {
    const path = parsePath(cursor);
    const name = parseAlias(cursor) ?? path.at(-1) ?? `$${position}`;
    return { kind: "value", name, read: compile({ kind: "path", path }), text: path.join(".") };
  }
  cursor.next();
  cursor.expect("(");
  const counted = named === "COUNT" && cursor.take(")");
  const read: Evaluate = counted ? () => 1 : compile({ kind: "path", path: parsePath(cursor) });
  if (!counted) cursor.expect(")");
  const unnamed = cursor.undocumented["unnamed-counts"] === "named" ? named.toLowerCase() : `$${position}`;
  return { kind: "aggregate", aggregate: named, read, name: parseAlias(cursor) ?? unnamed };
}

function parseAlias(cursor: QueryCursor): string | null {
  if (!cursor.take("AS")) return null;
  const token = cursor.next();
  if ((token.kind !== "name" && token.kind !== "bracketed") || isReserved(token.text, token.kind))
    return cursor.fail("a name after AS");
  return token.text;
}

function isReserved(text: string, kind: "name" | "bracketed"): boolean {
  return kind === "name" && RESERVED.has(text.toUpperCase());
}

function parseOr(cursor: QueryCursor): Expression {
  return parseEither(cursor, () => parseNot(cursor));
}

function parseNot(cursor: QueryCursor): Expression {
  return cursor.take("NOT")
    ? { kind: "not", inner: cursor.within(() => parseNot(cursor)) }
    : parseComparison(cursor);
}

function parseComparison(cursor: QueryCursor): Expression {
  const left = parseSum(cursor);
  const operator = takeComparison(cursor);
  if (operator !== null) return { kind: "compare", operator, left, right: parseSum(cursor) };
  if (cursor.take("IN")) return { kind: "in", negated: false, subject: left, list: parseList(cursor) };
  if (cursor.take("NIN")) return { kind: "in", negated: true, subject: left, list: parseList(cursor) };
  return left;
}

function parseList(cursor: QueryCursor): readonly Expression[] {
  cursor.expect("[");
  const list: Expression[] = [];
  do {
    list.push(parseSum(cursor));
  } while (cursor.take(","));
  cursor.expect("]");
  return list;
}

function parseSum(cursor: QueryCursor): Expression {
  let left = parseProduct(cursor);
  for (;;) {
    if (cursor.take("+")) left = { kind: "calculate", operator: "+", left, right: parseProduct(cursor) };
    else if (cursor.take("-")) left = { kind: "calculate", operator: "-", left, right: parseProduct(cursor) };
    else return left;
  }
}

function parseProduct(cursor: QueryCursor): Expression {
  let left = parseOperand(cursor);
  for (;;) {
    if (cursor.take("*")) left = { kind: "calculate", operator: "*", left, right: parseOperand(cursor) };
    else if (cursor.take("/")) left = { kind: "calculate", operator: "/", left, right: parseOperand(cursor) };
    else if (cursor.take("%")) left = { kind: "calculate", operator: "%", left, right: parseOperand(cursor) };
    else return left;
  }
}

function parseOperand(cursor: QueryCursor): Expression {
  const token = cursor.peek();
  if (token.kind === "string" || token.kind === "number") {
    cursor.next();
    return { kind: "literal", value: token.kind === "string" ? token.text : token.value };
  }
  if (cursor.take("(")) {
    const inner = cursor.within(() => parseOr(cursor));
    cursor.expect(")");
    return inner;
  }
  if (cursor.take("-"))
    return {
      kind: "calculate",
      operator: "-",
      left: { kind: "literal", value: 0 },
      right: cursor.within(() => parseOperand(cursor)),
    };
  if (cursor.take("TRUE")) return { kind: "literal", value: true };
  if (cursor.take("FALSE")) return { kind: "literal", value: false };
  if (cursor.take("NULL")) return { kind: "literal", value: null };
  const called = parseCall(cursor, () => cursor.within(() => parseSum(cursor)));
  return called ?? { kind: "path", path: parsePath(cursor) };
}

function parsePath(cursor: QueryCursor): Path {
  skipCollection(cursor);
  const root = cursor.peek();
  const name =
    root.kind === "name"
      ? cursor.roots.find((known) => known.toLowerCase() === root.text.toLowerCase())
      : undefined;
  if (name === undefined)
    return cursor.fail(
      cursor.roots === JOB_ROOTS
        ? "an attribute of a device's part of a job, such as jobId or status"
        : "an attribute of a twin, such as deviceId or tags.site",
    );
  cursor.next();
  const path = [name];
  while (cursor.take(".")) {
    const segment = cursor.peek();
    if ((segment.kind !== "name" && segment.kind !== "bracketed") || isReserved(segment.text, segment.kind))
      return cursor.fail("a name after the dot, in [[ ]] if it is a reserved word");
    cursor.next();
    path.push(segment.text);
  }
  return path;
}

/** `devices.`, `devices.modules.` or `devices.jobs.` before an attribute says nothing more. */
function skipCollection(cursor: QueryCursor): void {
  if (!cursor.take("DEVICES")) return;
  cursor.expect(".");
  const opens = cursor.peek(1);
  if (opens.kind !== "symbol" || opens.text !== ".") return;
  if (cursor.take("MODULES") || cursor.take("JOBS")) cursor.expect(".");
}
