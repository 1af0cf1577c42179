import fc from "fast-check";
import { expect, test } from "vitest";
import { globMatcher } from "./glob.ts";

test("a star is any text, a question mark one character, and everything else is itself", () => {
  const glob = fc.string({ unit: fc.constantFrom("a", "b", ".", "*", "?"), maxLength: 8 });
  const text = fc.string({ unit: fc.constantFrom("a", "b", "."), maxLength: 8 });
  fc.assert(
    fc.property(glob, text, (written, given) => {
      const source = written.replaceAll(".", "\\.").replaceAll("*", ".*").replaceAll("?", ".");
      expect(globMatcher(written)(given)).toBe(new RegExp(`^${source}$`).test(given));
    }),
    { numRuns: 2000 },
  );
});

test("sixty stars are answered at once", () => {
  const matches = globMatcher(`${"*a".repeat(60)}b`);
  const started = performance.now();
  expect(matches("a".repeat(128))).toBe(false);
  expect(performance.now() - started).toBeLessThan(1000);
});
