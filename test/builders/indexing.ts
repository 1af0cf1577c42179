import { dictionary } from "../../src/base/lookup.ts";

// What indexing.test.ts must find, and what it must leave alone. It is compiled and never run.

export function found(name: string, byName: Record<string, number>, maybe?: Record<string, number>) {
  const untyped = JSON.parse("{}");
  const written: Record<string, number> = {};
  written[name] = 1;
  return [byName[name], byName[name.trim()], maybe?.[name], untyped[name], name in byName];
}

export function leftAlone(key: "a" | "b", index: number, list: readonly number[]) {
  const bare = dictionary([["a", 1]]);
  const name: string = key;
  return [{ a: 1, b: 2 }[key], list[index], bare[name], "a" in bare];
}
