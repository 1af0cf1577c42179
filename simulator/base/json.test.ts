import { expect, test } from "vitest";
import { ownValue, parseJson, setKey } from "./json.ts";

test("what is nested deeper than 64 levels is refused, and a hundred thousand brackets end no stack", () => {
  const nested = (levels: number) => `${"[".repeat(levels)}${"]".repeat(levels)}`;
  expect(parseJson(nested(64)).ok).toBe(true);
  expect(parseJson(nested(65))).toEqual({ ok: false, problem: "nested deeper than 64 levels" });
  expect(parseJson(nested(100_000)).ok).toBe(false);
  expect(parseJson('{"a":'.repeat(100_000)).ok).toBe(false);
});

test("brackets in strings and brackets side by side are no nesting", () => {
  expect(parseJson(JSON.stringify({ a: `"\\${"[".repeat(500)}` })).ok).toBe(true);
  expect(parseJson(`[${"[],".repeat(500)}{}]`).ok).toBe(true);
});

test("text that is no JSON is a value and not an exception", () => {
  expect(parseJson("{")).toEqual({ ok: false, problem: "not JSON" });
});

test("keys that every object inherits are keys like others", () => {
  const target: Record<string, unknown> = {};
  setKey(target, "__proto__", { polluted: true });
  expect(Object.keys(target)).toEqual(["__proto__"]);
  expect(Object.getPrototypeOf(target)).toBe(Object.prototype);
  expect(ownValue(target, "constructor")).toBeUndefined();
  expect(JSON.stringify(target)).toBe('{"__proto__":{"polluted":true}}');
});
