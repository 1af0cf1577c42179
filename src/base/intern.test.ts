import { expect, test } from "vitest";
import { createIntern } from "./intern.ts";

test("interning forgets what it knows rather than growing without bound", () => {
  const intern = createIntern();
  const made = (n: number) => ["made", "up", n].join("-");
  const first = made(0);
  expect(intern(first)).toBe(first);
  for (let n = 1; n < 25_000; n += 1) intern(made(n));
  expect(intern(made(24_999))).toBe("made-up-24999");
});
