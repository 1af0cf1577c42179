import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { HOSTILE_TEXTS } from "../../test/builders/random-manifest.ts";
import { documentsIn } from "./documents.ts";
import { isPlainText } from "./is-plain-text.ts";

/** As libraries of both versions, and kubectl, read a text without quotes. */
function readings(text: string): readonly unknown[] {
  const written = `a: ${text}\nb: [${text}]\n`;
  const kubectl = documentsIn("f.yaml", written);
  return [
    parse(written, { version: "1.1" }),
    parse(written, { version: "1.2" }),
    kubectl.ok ? kubectl.value.documents[0]?.value : null,
  ];
}

describe("a text that stands without quotes is read as that text by everyone", () => {
  test.each(HOSTILE_TEXTS.filter(isPlainText))("%s", (text) => {
    for (const read of readings(text)) expect(read).toEqual({ a: text, b: [text] });
  });

  test("whatever it is", () => {
    const word = fc.stringMatching(/^[-+.:_0-9a-fA-FxXoOyYnN]{1,8}$/);
    fc.assert(
      fc.property(word.filter(isPlainText), (text) => {
        for (const read of readings(text)) expect(read).toEqual({ a: text, b: [text] });
      }),
    );
  });
});

test.each([
  "0100",
  "1_000",
  "yes",
  "N",
  "y",
  "1e3",
  "null",
  "0x10",
  "0o17",
  "2001-01-01",
  "1:30",
  "2.0",
  "~",
  "",
  "=",
  "a b",
  "a: b",
  "x?",
  "-1",
])("%j needs quotes", (text) => {
  expect(isPlainText(text)).toBe(false);
});

test.each(["digits", "2.0.0", "20ms", "digits-2.0.0", "sha256:00ff", "models/a.onnx", "batch"])(
  "%s needs none",
  (text) => {
    expect(isPlainText(text)).toBe(true);
  },
);
