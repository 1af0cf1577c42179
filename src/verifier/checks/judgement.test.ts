import fc from "fast-check";
import { expect, test } from "vitest";
import { printable } from "./judgement.ts";

test("text from models is printable and short (property)", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 400 }), (text) => {
      const shown = printable(text, 100);
      expect(shown.length).toBeLessThanOrEqual(100);
      expect(shown).not.toMatch(/[\p{Cc}\p{Cf}]/u);
    }),
  );
});
