import { Type } from "typebox";
import { expect, test } from "vitest";
import { closed, parse, problemText } from "./parse.ts";

const schema = Type.Object({
  name: Type.String(),
  inner: Type.Optional(Type.Object({ size: Type.Integer() })),
});

test("a value that its schema describes is returned as it is", () => {
  expect(parse(schema, { name: "a", inner: { size: 1 } })).toEqual({
    ok: true,
    value: { name: "a", inner: { size: 1 } },
  });
});

test("every problem is told, with its place, in one line", () => {
  const parsed = parse(schema, { inner: { size: "1" } });
  expect(!parsed.ok && problemText(parsed.error)).toBe(
    "the value must have required properties name; /inner/size must be integer",
  );
});

test("a closed schema lets no unknown field through, at any depth", () => {
  expect(parse(schema, { name: "a", inner: { size: 1, more: 2 } }).ok).toBe(true);
  expect(parse(closed(schema), { name: "a", inner: { size: 1 } }).ok).toBe(true);
  expect(parse(closed(schema), { name: "a", inner: { size: 1, more: 2 } }).ok).toBe(false);
  expect(parse(closed(schema), { name: "a", more: 2 }).ok).toBe(false);
});
