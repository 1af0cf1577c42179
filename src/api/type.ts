import type { TSchema, Type as TypeBox } from "typebox";

// Schemas as TypeBox describes them, of which its types are used and not its code: loading that takes longer than
// everything else that edgefleet does before it verifies. type.test.ts holds the two to each other.

type Builders = Pick<
  typeof TypeBox,
  | "Array"
  | "Boolean"
  | "Integer"
  | "Literal"
  | "Number"
  | "Object"
  | "Optional"
  | "String"
  | "Union"
  | "Unsafe"
>;

type Keywords = Readonly<Record<string, unknown>>;

const OPTIONAL = Symbol("optional");

/** Fields that are not wrapped in `Type.Optional` are required. */
function object(properties: Readonly<Record<string, TSchema>>, options: Keywords = {}): Keywords {
  const required = Object.entries(properties).flatMap(([name, schema]) => (OPTIONAL in schema ? [] : [name]));
  return { type: "object", ...(required.length > 0 ? { required } : {}), properties, ...options };
}

function optional(schema: TSchema): Keywords {
  // Not enumerable: it is no keyword, and a schema that is made from this one is not optional for it.
  return Object.defineProperty({ ...schema }, OPTIONAL, { value: true });
}

function of(type: string): (options?: Keywords) => Keywords {
  return (options = {}) => ({ type, ...options });
}

const builders: Readonly<Record<keyof Builders, unknown>> = {
  Array: (items: TSchema, options: Keywords = {}) => ({ type: "array", items, ...options }),
  Boolean: of("boolean"),
  Integer: of("integer"),
  Literal: (value: unknown, options: Keywords = {}) => ({ type: typeof value, const: value, ...options }),
  Number: of("number"),
  Object: object,
  Optional: optional,
  String: of("string"),
  Union: (anyOf: readonly TSchema[], options: Keywords = {}) => ({ anyOf, ...options }),
  Unsafe: (schema: Keywords) => schema,
};

export const Type = builders as unknown as Builders;
