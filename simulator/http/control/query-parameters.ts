import type { JsonObject } from "../../base/json.ts";
import { ownValue } from "../../base/json.ts";

/** A parameter behind the question mark. */
export type QueryParameter = { readonly description: string } & (
  | { readonly kind: "integer" }
  | { readonly kind: "text" }
  | { readonly kind: "choice"; readonly values: readonly string[] }
);

export type Query = {
  readonly integer: (name: string, fallback: number) => number;
  /** `null`: not given. */
  readonly text: (name: string) => string | null;
};

/** Parses the query parameters by what is allowed; every mistake is reported. */
export function readQuery(
  asked: URLSearchParams,
  known: Readonly<Record<string, QueryParameter>>,
):
  | { readonly ok: true; readonly query: Query }
  | { readonly ok: false; readonly problems: readonly string[] } {
  const problems = [...new Set(asked.keys())].flatMap((name) => {
    const parameter = Object.hasOwn(known, name) ? ownValue(known, name) : undefined;
    const problem = parameter === undefined ? "is not known" : problemOf(parameter, asked.getAll(name));
    return problem === null ? [] : [`${name} ${problem}`];
  });
  if (problems.length > 0) return { ok: false, problems };
  return {
    ok: true,
    query: {
      integer: (name, fallback) => Number(asked.get(name) ?? fallback),
      text: (name) => asked.get(name),
    },
  };
}

function problemOf(parameter: QueryParameter, written: readonly string[]): string | null {
  const [value = "", more] = written;
  if (more !== undefined) return "is given more than once";
  switch (parameter.kind) {
    case "integer":
      return /^[0-9]{1,15}$/.test(value) ? null : "must be a whole number";
    case "choice":
      return parameter.values.includes(value) ? null : `must be one of ${parameter.values.join(", ")}`;
    case "text":
      return null;
  }
}

export function schemaOfParameter(parameter: QueryParameter): JsonObject {
  switch (parameter.kind) {
    case "integer":
      return { type: "integer", minimum: 0 };
    case "choice":
      return { type: "string", enum: parameter.values };
    case "text":
      return { type: "string" };
  }
}
