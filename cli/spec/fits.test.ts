import fc from "fast-check";
import type { TSchema } from "typebox";
import { Check } from "typebox/schema";
import { expect, test } from "vitest";
import { modelReleaseSpecSchema } from "../../src/api/model-release.ts";
import { BROKEN_SPECS, soundSpec } from "../../test/builders/broken-specs.ts";
import { isObject, type Json } from "../json-pointer.ts";
import { withDefaults } from "./check.ts";
import { fits } from "./fits.ts";

test("a sound spec fits, and needs no library", () => {
  expect(fits(modelReleaseSpecSchema, withDefaults(modelReleaseSpecSchema, soundSpec))).toBe(true);
});

test.each(BROKEN_SPECS)("nothing fits that the library refuses: $rule", ({ spec }) => {
  if (fits(modelReleaseSpecSchema, spec)) expect(Check(modelReleaseSpecSchema, spec)).toBe(true);
});

const VALUES: readonly Json[] = [
  ...[
    null,
    true,
    0,
    -1,
    1.5,
    2 ** 60,
    "",
    "a",
    "A b",
    "10m",
    "0.5",
    "1e400",
    "é",
    "👨‍👩‍👧",
    "x".repeat(2000),
  ],
  ...[[], ["a"], {}, { a: 1 }, { constructor: 1 }],
];

test("nothing fits that the library refuses, whatever stands in any place of a spec", () => {
  fc.assert(
    fc.property(fc.nat(10_000), fc.constantFrom(...VALUES), fc.boolean(), (place, value, removed) => {
      const spec = changed(soundSpec, place, removed ? undefined : value);
      if (fits(modelReleaseSpecSchema, spec)) expect(Check(modelReleaseSpecSchema, spec)).toBe(true);
    }),
    { numRuns: 2000 },
  );
});

test("a keyword that is not known here is left to the library", () => {
  expect(fits({ type: "string", format: "date-time" } as TSchema, "2026-01-01T00:00:00Z")).toBe(false);
});

/** A copy in which the value at one place is another one, or missing. */
function changed(root: Json, place: number, value: Json | undefined): Json {
  const count = placesIn(root);
  let left = place % count;
  const walk = (at: Json): Json | undefined => {
    left -= 1;
    if (left === -1) return value;
    if (Array.isArray(at)) return at.map((item: Json) => walk(item)).filter((item) => item !== undefined);
    if (!isObject(at)) return at;
    const entries = Object.entries(at).map(([key, inner]) => [key, walk(inner)] as const);
    return Object.fromEntries(entries.filter(([, inner]) => inner !== undefined)) as Json;
  };
  return walk(root) ?? {};
}

function placesIn(value: Json): number {
  const inner = typeof value === "object" && value !== null ? Object.values<Json>(value) : [];
  return 1 + inner.reduce((sum: number, one) => sum + placesIn(one), 0);
}
