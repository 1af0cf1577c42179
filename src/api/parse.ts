import type { TSchema } from "typebox";
import { Errors } from "typebox/schema";
import { err, ok, type Result } from "../base/result.ts";
import type { Of } from "./schema.ts";

/** One way in which a value is not what its schema says; `path` is a JSON pointer, empty for the whole value. */
export type Problem = { readonly path: string; readonly message: string };

/** More than a reader can use. */
const MOST_PROBLEMS = 20;

/** The value as its schema describes it, or every problem with it. Defaults are not filled in. */
export function parse<S extends TSchema>(schema: S, raw: unknown): Result<Of<S>, readonly Problem[]> {
  const [valid, errors] = Errors(schema, raw);
  if (valid) return ok(raw as Of<S>);
  return err(
    errors.slice(0, MOST_PROBLEMS).map(({ instancePath, message }) => ({ path: instancePath, message })),
  );
}

/** Problems in one line: `/spec/steps/0/percent must be <= 100; …`. */
export function problemText(problems: readonly Problem[]): string {
  return problems.map(({ path, message }) => `${path === "" ? "the value" : path} ${message}`).join("; ");
}

/**
 * The same schema, in which no object that names its properties may have others: for messages between programs of one
 * release, where an unknown field is one that would be silently ignored.
 */
export function closed<S extends TSchema>(schema: S): S {
  return close(schema) as S;
}

function close(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(close);
  if (typeof schema !== "object" || schema === null) return schema;
  const inner = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, close(value)]));
  return "properties" in inner && !("additionalProperties" in inner)
    ? { ...inner, additionalProperties: false }
    : inner;
}
