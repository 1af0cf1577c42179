import { err, ok, type Result } from "../base/result.ts";

// Text of target conditions and queries, written so that no value of a custom resource can change what they mean.
// Target conditions understand less than queries: no IN, no functions, single quotes only, tags and deviceId only.

/** Longest text of a query that the hub accepts. */
export const MAX_QUERY_LENGTH = 8192;
/** Longest target condition: the hub wraps it into the queries of its own metrics, which must fit as well. */
export const MAX_CONDITION_LENGTH = MAX_QUERY_LENGTH - 512;

const VALUE = /^[A-Za-z0-9:.+%_#*?!(),=@;$-]*$/;
// Printable ASCII without what the hub refuses in keys (. $ #) and what would end a bracket or a literal.
const KEY = /^(?![\s\S]*[.$#[\]'"\\])[!-~]+$/;
const PLAIN_SEGMENT = /^[A-Za-z_][A-Za-z0-9_]*$/;
const MAX_VALUE_BYTES = 4096;
const MAX_KEY_BYTES = 1024;
// A path segment that is one of these words is read as the word, unless it stands in double brackets.
const RESERVED = new Set(
  "all and array_contains as asc avg between by case count desc devices distinct else end exists false from group having in is_defined is_null join jobs like limit max min modules nin not null offset on or order select sum then top true undefined value when where".split(
    " ",
  ),
);

/** A string literal, such as `'plant-a.resnet50'`. Refused: characters that the hub does not allow in conditions. */
export function quote(value: string): Result<string, string> {
  if (Buffer.byteLength(value) > MAX_VALUE_BYTES)
    return err("a value is longer than the 4 KB of a twin's string");
  if (!VALUE.test(value))
    return err(`${JSON.stringify(value)} has characters that the hub does not allow in a condition`);
  return ok(`'${value}'`);
}

/** `tags.edgefleet.deployments.[[my-module]]`: segments that are no plain words stand in double brackets. */
export function tagPath(...segments: readonly string[]): Result<string, string> {
  const written: string[] = ["tags"];
  for (const segment of segments) {
    if (!isKey(segment)) return err(`${JSON.stringify(segment)} cannot be a key of a twin`);
    const plain = PLAIN_SEGMENT.test(segment) && !RESERVED.has(segment.toLowerCase());
    written.push(plain ? segment : `[[${segment}]]`);
  }
  return ok(written.join("."));
}

export type Condition = Result<string, string>;

/** `path = 'value'` for a tag. */
export function tagEquals(segments: readonly string[], value: string | boolean): Condition {
  const path = tagPath(...segments);
  if (!path.ok) return path;
  if (typeof value === "boolean") return ok(`${path.value} = ${value}`);
  const literal = quote(value);
  return literal.ok ? ok(`${path.value} = ${literal.value}`) : literal;
}

/** `path < bound` for a tag that is an integer. */
export function tagBelow(segments: readonly string[], bound: number): Condition {
  const path = tagPath(...segments);
  if (!path.ok) return path;
  if (!Number.isSafeInteger(bound)) return err(`${bound} is not an integer`);
  return ok(`${path.value} < ${bound}`);
}

/** Every one of them. A condition of nothing would match every device of the hub, so there must be one. */
export function allOf(conditions: readonly Condition[]): Condition {
  return joined(conditions, "AND");
}

/** At least one of them. There must be one. */
export function anyOf(conditions: readonly Condition[]): Condition {
  return joined(conditions, "OR");
}

/** `deviceId = 'cam-0042'`. */
export function deviceIs(device: string): Condition {
  const literal = quote(device);
  return literal.ok ? ok(`deviceId = ${literal.value}`) : literal;
}

/** Refuses a condition that the hub would refuse for its length. */
export function withinLength(condition: Condition): Condition {
  if (!condition.ok || condition.value.length <= MAX_CONDITION_LENGTH) return condition;
  return err(
    `the condition has ${condition.value.length} characters; the hub accepts ${MAX_CONDITION_LENGTH}`,
  );
}

function joined(conditions: readonly Condition[], operator: "AND" | "OR"): Condition {
  const texts: string[] = [];
  for (const condition of conditions) {
    if (!condition.ok) return condition;
    texts.push(condition.value);
  }
  const [only, ...others] = texts;
  if (only === undefined) return err("a condition needs at least one part");
  if (others.length === 0) return ok(only);
  return ok(texts.map((text) => (isCompound(text) ? `(${text})` : text)).join(` ${operator} `));
}

/** Whether AND or OR stands outside of literals: they hold neither spaces nor quotes, so a plain look is exact. */
function isCompound(text: string): boolean {
  return / (AND|OR) /.test(text);
}

function isKey(segment: string): boolean {
  return KEY.test(segment) && Buffer.byteLength(segment) <= MAX_KEY_BYTES;
}
