import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ok } from "../base/result.ts";
import {
  allOf,
  anyOf,
  deviceIs,
  MAX_CONDITION_LENGTH,
  quote,
  tagBelow,
  tagEquals,
  tagPath,
  withinLength,
} from "./sql.ts";

describe("values", () => {
  test("stand in single quotes, the only ones that conditions know", () => {
    expect(quote("plant-a.resnet50")).toEqual(ok("'plant-a.resnet50'"));
  });
  test.each(["it's", 'say "x"', "a b", "a\\", "a\n", "é", "x' OR '1'='1", "[x]", "a/b", "a&b", "a<b"])(
    "%j is refused",
    (value) => {
      expect(quote(value).ok).toBe(false);
    },
  );
  test("are no longer than a string of a twin", () => {
    expect(quote("a".repeat(4096)).ok).toBe(true);
    expect(quote("a".repeat(4097)).ok).toBe(false);
  });
});

describe("paths", () => {
  test.each([
    [["edgefleet", "deployments", "inference"], "tags.edgefleet.deployments.inference"],
    [["edgefleet", "deployments", "my-module"], "tags.edgefleet.deployments.[[my-module]]"],
    [["edgefleet", "deployments", "group"], "tags.edgefleet.deployments.[[group]]"],
    [["edgefleet", "deployments", "2nd"], "tags.edgefleet.deployments.[[2nd]]"],
    [["Order"], "tags.[[Order]]"],
  ])("%j is %s", (segments, expected) => {
    expect(tagPath(...segments)).toEqual(ok(expected));
  });
  test.each(["", "a.b", "$x", "a b", "a#b", "a]]", "a[", "a'b", 'a"b', "a\\b", "é", "a\n", "x".repeat(1025)])(
    "a key such as %j is refused",
    (segment) => {
      expect(tagPath("edgefleet", segment).ok).toBe(false);
    },
  );
});

describe("conditions", () => {
  const member = tagEquals(["edgefleet", "deployments", "inference"], "plant-a.resnet50");
  test("are joined, and what is joined inside stands in parentheses", () => {
    const strata = anyOf([
      allOf([tagEquals(["edgefleet", "site"], "a"), tagBelow(["edgefleet", "bucket"], 50_000)]),
      tagEquals(["edgefleet", "site"], "b"),
    ]);
    expect(allOf([member, strata])).toEqual(
      ok(
        "tags.edgefleet.deployments.inference = 'plant-a.resnet50' AND " +
          "((tags.edgefleet.site = 'a' AND tags.edgefleet.bucket < 50000) OR tags.edgefleet.site = 'b')",
      ),
    );
  });
  test("of nothing are refused: they would match every device of the hub", () => {
    expect(allOf([]).ok).toBe(false);
    expect(anyOf([]).ok).toBe(false);
  });
  test("of one part are that part", () => {
    expect(allOf([anyOf([member])])).toEqual(member);
  });
  test("fail when one part fails", () => {
    expect(allOf([member, tagEquals(["edgefleet", "class"], "o'brien")]).ok).toBe(false);
    expect(anyOf([tagBelow(["edgefleet", "bucket"], 0.5), member]).ok).toBe(false);
  });
  test("know booleans and device ids", () => {
    expect(tagEquals(["edgefleet", "managed"], true)).toEqual(ok("tags.edgefleet.managed = true"));
    expect(deviceIs("cam-0042")).toEqual(ok("deviceId = 'cam-0042'"));
  });
  test("that the hub would find too long are refused with both lengths", () => {
    const long = withinLength(anyOf(Array.from({ length: 400 }, (_, i) => deviceIs(`camera-${i}`))));
    expect(long).toMatchObject({ ok: false, error: expect.stringContaining(String(MAX_CONDITION_LENGTH)) });
    expect(withinLength(member)).toEqual(member);
  });
});

test("no value and no key gets out of its quotes or brackets", () => {
  const any = fc.string({ maxLength: 30 });
  fc.assert(
    fc.property(any, any, (key, value) => {
      const condition = tagEquals([key], value);
      if (!condition.ok) return;
      // One path, one operator, one literal: nothing else can stand there.
      expect(condition.value).toMatch(
        /^tags\.([A-Za-z_][A-Za-z0-9_]*|\[\[[^[\]'"\s.$#\\]+\]\]) = '[^'"\\\s]*'$/,
      );
    }),
    { numRuns: 500 },
  );
});
