import type { TSchema } from "typebox";
import { own } from "../../src/base/lookup.ts";
import { isObject, type Json } from "../json-pointer.ts";

type Keywords = Readonly<Record<string, unknown>>;
type Holds = (value: Json, wanted: never) => boolean;

/** Longer texts and other characters may count otherwise: by what people see as one. */
const PLAIN = /^[\x20-\x7e]*$/;

const always: Holds = () => true;

const KEYWORDS: Readonly<Record<string, Holds>> = {
  default: always,
  description: always,
  "x-kubernetes-int-or-string": always,
  "x-kubernetes-list-map-keys": always,
  "x-kubernetes-list-type": always,
  // Rules are held against the value elsewhere.
  "x-kubernetes-validations": always,
  type: (value, wanted: string) => own(TYPES, wanted)?.(value) === true,
  enum: (value, wanted: readonly Json[]) => wanted.includes(value),
  pattern: (value, wanted: string) => typeof value !== "string" || new RegExp(wanted, "u").test(value),
  minLength: (value, wanted: number) =>
    typeof value !== "string" || (PLAIN.test(value) && value.length >= wanted),
  maxLength: (value, wanted: number) => typeof value !== "string" || value.length <= wanted,
  minimum: (value, wanted: number) => typeof value !== "number" || value >= wanted,
  maximum: (value, wanted: number) => typeof value !== "number" || value <= wanted,
  minItems: (value, wanted: number) => !Array.isArray(value) || value.length >= wanted,
  maxItems: (value, wanted: number) => !Array.isArray(value) || value.length <= wanted,
  items: (value, wanted: TSchema) => !Array.isArray(value) || value.every((item: Json) => fits(wanted, item)),
  anyOf: (value, wanted: readonly TSchema[]) => wanted.some((schema) => fits(schema, value)),
  required: (value, wanted: readonly string[]) =>
    !isObject(value) || wanted.every((name) => Object.hasOwn(value, name)),
  properties: (value, wanted: Readonly<Record<string, TSchema>>) =>
    !isObject(value) ||
    Object.entries(value).every(([name, inner]) => {
      const schema = own(wanted, name);
      return schema === undefined || fits(schema, inner);
    }),
};

const TYPES: Readonly<Record<string, (value: Json) => boolean>> = {
  object: isObject,
  array: (value) => Array.isArray(value),
  string: (value) => typeof value === "string",
  boolean: (value) => typeof value === "boolean",
  number: (value) => Number.isFinite(value),
  integer: (value) => Number.isSafeInteger(value),
};

/**
 * Whether the value is certainly what the schema asks for: where it is not, or the schema has keywords that are not
 * known here, a library has to say what is wrong, and takes a tenth of a second to be loaded.
 */
export function fits(schema: TSchema, value: Json): boolean {
  return Object.entries(schema as Keywords).every(
    ([keyword, wanted]) => own(KEYWORDS, keyword)?.(value, wanted as never) === true,
  );
}
