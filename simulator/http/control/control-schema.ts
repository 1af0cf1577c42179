import { type TProperties, type TSchema, Type } from "typebox";

// Schemas of what the control API takes and answers, for its OpenAPI document.

/** An object without other properties than these: what is answered beyond the document is a mistake. */
export function object(properties: TProperties, options: { readonly description?: string } = {}) {
  return Type.Object(properties, { additionalProperties: false, ...options });
}

export function nullable(schema: TSchema) {
  return Type.Union([schema, Type.Null()]);
}

export function oneOf(values: readonly string[]) {
  return Type.Unsafe<string>({ type: "string", enum: [...values] });
}

export const TIME = Type.String({ description: "RFC 3339, by the simulator's clock", format: "date-time" });
export const COUNT = Type.Integer({ minimum: 0 });
export const COUNTS = Type.Record(Type.String(), COUNT);
/** Anything that JSON can say. */
export const ANYTHING = Type.Unknown();
export const ANY_OBJECT = Type.Record(Type.String(), Type.Unknown());

export const DURATION = Type.Union(
  [
    Type.Number(),
    Type.String({
      pattern: "^[-+]?([0-9]+(\\.[0-9]+)?(ms|s|m|h|d))+$",
      examples: ["30s", "250ms", "1h30m", "3d"],
    }),
  ],
  { description: "milliseconds, or a text such as 30s" },
);

/** A length of time: it is not negative. */
export const SPAN = Type.Union(
  [
    Type.Number({ minimum: 0 }),
    Type.String({ pattern: "^[+]?([0-9]+(\\.[0-9]+)?(ms|s|m|h|d))+$", examples: ["30s", "3d"] }),
  ],
  { description: "milliseconds, or a text such as 30s" },
);

export const REFUSAL = object({
  error: Type.String({ description: "all problems in one line" }),
  problems: Type.Array(Type.String()),
});
