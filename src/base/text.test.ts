import fc from "fast-check";
import { expect, test } from "vitest";
import { redacted } from "./redact.ts";
import { clip, cut } from "./text.ts";

const anyText = fc.string({ unit: fc.constantFrom("a", "ö", "😀", "\ud83d", "\ude00", " ") });

test("text is cut to its limit, and says so", () => {
  expect(cut("abcdef", 6)).toBe("abcdef");
  expect(cut("abcdefg", 6)).toBe("abcde…");
  expect(clip("abcdefg", 6)).toBe("abcdef");
  expect(cut("abc😀", 4)).toBe("abc…");
  expect(cut("ab😀c", 4)).toBe("ab…");
  expect(clip("ab😀", 3)).toBe("ab");
});

test.each([["clip", clip] as const, ["cut", cut] as const, ["redacted", redacted] as const])(
  "property: %s gives well-formed text of at most its limit, and nothing more the second time",
  (_, shorten) => {
    fc.assert(
      fc.property(anyText, fc.integer({ min: 1, max: 12 }), (text, limit) => {
        const short = shorten(text, limit);
        expect(short.isWellFormed()).toBe(true);
        expect(short.length).toBeLessThanOrEqual(limit);
        expect(shorten(short, limit)).toBe(short);
      }),
    );
  },
);
