import fc from "fast-check";
import { expect, test } from "vitest";
import { canonicalJson, digestOf, hashModulo, parseDigest } from "./digest.ts";

test("a digest is sha256 in lower-case hexadecimal", () => {
  // The digest of the empty string, FIPS 180-4.
  expect(digestOf("")).toBe("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  expect(parseDigest(digestOf("x"))).toBe(digestOf("x"));
});

test.each(["", "sha256:", "sha256:ABC", `sha256:${"g".repeat(64)}`, `sha1:${"a".repeat(40)}`])(
  "%j is no digest",
  (written) => {
    expect(parseDigest(written)).toBeNull();
  },
);

test("canonical JSON does not depend on the order of keys", () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (value) => {
      const reversed = Object.fromEntries(Object.entries(value).reverse());
      expect(canonicalJson(reversed)).toBe(canonicalJson(value));
      expect(JSON.parse(canonicalJson(value))).toEqual(JSON.parse(JSON.stringify(value)));
    }),
  );
});

test("hashes spread evenly: each tenth of the range gets a tenth of ten thousand names, within 15 %", () => {
  const counts = Array.from({ length: 10 }, () => 0);
  for (let index = 0; index < 10_000; index += 1) {
    const tenth = hashModulo(`salt/device-${index}`, 10);
    counts[tenth] = (counts[tenth] ?? 0) + 1;
  }
  for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(150);
});
