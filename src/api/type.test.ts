import { Type as TypeBox } from "typebox";
import { expect, test } from "vitest";
import { Type } from "./type.ts";

test.each<[string, (type: typeof Type) => unknown]>([
  ["lists", (type) => type.Array(type.String({ maxLength: 3 }), { maxItems: 2 })],
  ["booleans", (type) => type.Boolean({ default: true })],
  ["whole numbers", (type) => type.Integer({ minimum: 0 })],
  ["literals", (type) => [type.Literal("a"), type.Literal(1), type.Literal(true)]],
  ["numbers", (type) => type.Number()],
  ["objects", (type) => type.Object({ a: type.String(), b: type.Number() }, { description: "c" })],
  [
    "fields that may be missing",
    (type) => type.Object({ a: type.Optional(type.String()), b: type.Number() }),
  ],
  ["objects without a field that is needed", (type) => type.Object({ a: type.Optional(type.String()) })],
  ["unions", (type) => type.Union([type.Literal("a"), type.Integer()], { description: "c" })],
  ["what is said of a type", (type) => type.Unsafe({ type: "string", enum: ["a"] })],
])("%s are written as TypeBox writes them", (_what, schema) => {
  expect(JSON.stringify(schema(Type))).toBe(JSON.stringify(schema(TypeBox as unknown as typeof Type)));
});
