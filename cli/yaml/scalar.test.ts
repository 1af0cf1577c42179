import { describe, expect, test } from "vitest";
import { keyText, plainScalar, scalarOf, TAG_PREFIX } from "./scalar.ts";

const plain = (text: string) => {
  const read = plainScalar(text);
  if (read.kind === "null") return null;
  return read.kind === "int" ? Number(read.value) : read.value;
};
const tagged = (text: string, tag: string) => {
  const read = scalarOf(text, `${TAG_PREFIX}${tag}`, true);
  if (!read.ok) return read;
  return read.value.kind === "null" ? null : read.value.value;
};

describe("a text without quotes", () => {
  test.each<[string, unknown]>([
    ["0100", 64],
    ["017", 15],
    ["0o100", 64],
    ["0x1F", 31],
    ["0b101", 5],
    ["0b-1", -1],
    ["1_000", 1000],
    ["+12", 12],
    ["-0100", -64],
    ["0800", 800],
    ["09.5", 9.5],
    ["1e3", 1000],
    ["1.", 1],
    [".5_0", 0.5],
    ["99999999999999999999", 1e20],
    ["yes", true],
    ["N", false],
    ["on", true],
    ["OFF", false],
    ["~", null],
    ["", null],
    ["Null", null],
    ["-.inf", Number.NEGATIVE_INFINITY],
  ])("%s is %s", (text, value) => {
    expect(plain(text)).toBe(value);
  });

  test.each([
    "1:30",
    "2001-01-01",
    "yEs",
    "_1",
    "0x",
    "0b2",
    "1e400",
    "0xFFFFFFFFFFFFFFFFF",
    "1.2.3",
    "=",
    "<<",
    "Infinity",
    "-",
    "._5",
  ])("%s is a text", (text) => {
    expect(plain(text)).toBe(text);
  });
});

describe("a tag", () => {
  test.each<[string, string, unknown]>([
    ["str", "0100", "0100"],
    ["int", "0100", 64n],
    ["float", "1", 1],
    ["bool", "on", true],
    ["null", "~", null],
    ["timestamp", "2024-2-29", "2024-2-29"],
    ["binary", "aGk=", "hi"],
    ["binary", "/2k=", "\uFFFDi"],
    ["set", "1", "1"],
  ])("!!%s makes of %s: %s", (tag, text, value) => {
    expect(tagged(text, tag)).toBe(value);
  });

  test.each([
    ["int", "1.5"],
    ["int", "x"],
    ["bool", "1"],
    ["null", "x"],
    ["float", "18446744073709551615"],
    ["timestamp", "2023-02-29"],
    ["timestamp", "noon"],
    ["binary", "a"],
  ])("!!%s refuses %s", (tag, text) => {
    expect(tagged(text, tag)).toMatchObject({ ok: false });
  });
});

test("text in quotes is text, whatever it says", () => {
  expect(scalarOf("0100", "", false)).toEqual({ ok: true, value: { kind: "text", value: "0100" } });
});

test.each([
  ["0100", "64"],
  ["yes", "true"],
  ["1.5", "1.5"],
  ["1e6", "1e+06"],
  ["123456.0", "123456"],
  ["0.00001", "1e-05"],
  [".nan", ".nan"],
  ["1e39", ".inf"],
  ["-0.0", "-0"],
  ["~", null],
  ["18446744073709551615", null],
])("the key %s is %s", (text, key) => {
  expect(keyText(plainScalar(text))).toBe(key);
});
