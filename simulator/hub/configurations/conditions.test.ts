import fc from "fast-check";
import { expect, test } from "vitest";
import type { JsonObject } from "../../base/json.ts";
import { NO_ACTIVITY, twinRow } from "../query/document.ts";
import { parseDraft } from "../registry/identity.ts";
import { newTwin } from "../twins/twin.ts";
import { parseTargetCondition } from "./conditions.ts";

function rowOf(tags: JsonObject, reported: JsonObject = {}) {
  const draft = parseDraft({}, () => Buffer.alloc(32).toString("base64"));
  if (!draft.ok) throw new Error(draft.refusal.message);
  const twin = newTwin("cam-1", null, "2026-03-01T12:00:00Z");
  const identity = {
    ...draft.value,
    deviceId: "cam-1",
    moduleId: null,
    generationId: "1",
    etag: "e",
    statusUpdatedTime: "",
  };
  return twinRow(
    identity,
    { ...twin, tags, reported: { ...twin.reported, value: reported } },
    () => NO_ACTIVITY,
  );
}

function matches(text: string, tags: JsonObject, reported?: JsonObject): boolean {
  const parsed = parseTargetCondition(text);
  if (!parsed.ok) throw new Error(parsed.refusal.message);
  return parsed.value.matches(rowOf(tags, reported));
}

const TAGS = {
  edgefleet: {
    deployments: { inference: "plant-a.resnet50", "odd-name": "x" },
    iotEdge: true,
    class: "jetson-nano",
    site: "plant-a",
    bucket: 100,
  },
};

test("the operator's conditions are understood", () => {
  const text =
    "tags.edgefleet.deployments.inference = 'plant-a.resnet50' AND tags.edgefleet.iotEdge = true AND ((tags.edgefleet.class = 'jetson-nano' AND tags.edgefleet.site = 'plant-a' AND tags.edgefleet.bucket < 51234) OR (tags.edgefleet.class = 'orin'))";
  expect(matches(text, TAGS)).toBe(true);
  expect(matches(text, { edgefleet: { ...TAGS.edgefleet, bucket: 51234 } })).toBe(false);
  expect(matches("tags.edgefleet.deployments.[[odd-name]] = 'x'", TAGS)).toBe(true);
});

test.each<[string, boolean]>([
  ["", false],
  ["*", true],
  ["deviceId = 'cam-1'", true],
  ["DEVICEID = 'cam-1' and not tags.edgefleet.site != 'plant-a'", true],
  ["tags.edgefleet.bucket = '100'", false],
  ["tags.edgefleet.bucket < '200'", false],
  ["NOT tags.edgefleet.bucket = '100'", false],
  ["NOT tags.missing = 'x'", false],
  ["NOT IS_DEFINED(tags.missing)", true],
  ["tags.missing = 'x' OR tags.edgefleet.bucket >= 100", true],
  ["tags.edgefleet.bucket <> 99 AND tags.edgefleet.bucket > -5", true],
  ["properties.reported.fw = '1.0'", true],
  ["'plant-a' = tags.edgefleet.site", true],
])("%s", (text, wanted) => {
  expect(matches(text, TAGS, { fw: "1.0" })).toBe(wanted);
});

test.each([
  "tags.site IN ['a', 'b']",
  'tags.site = "a"',
  "properties.desired.x = 1",
  "capabilities.iotEdge = true",
  "moduleId = 'x'",
  "tags.site",
  "tags.site = 'a b'",
  "tags.site = 'a",
  "tags.a-b = 1",
  "tags.site = 'a' AND",
  "(tags.site = 'a'",
  "STARTSWITH(deviceId, 'cam')",
  "tags.n + 1 = 2",
  "tags = 'x'",
  `tags.a = '${"x".repeat(8200)}'`,
])("refused: %s", (text) => {
  expect(parseTargetCondition(text)).toMatchObject({
    ok: false,
    refusal: { status: 400, code: "InvalidConfigurationTargetCondition" },
  });
});

type Truth = boolean | undefined;
const not = (value: Truth): Truth => (value === undefined ? undefined : !value);
const all = (a: Truth, b: Truth): Truth => (a === false || b === false ? false : a && b);

type Tree = { readonly text: string; readonly value: boolean | undefined };
const atom: fc.Arbitrary<Tree> = fc.constantFrom(
  { text: "tags.t = 1", value: true },
  { text: "tags.t != 1", value: false },
  { text: "tags.gone = 1", value: undefined },
  { text: "IS_DEFINED(tags.t)", value: true },
);
const tree: fc.Arbitrary<Tree> = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 5 },
    atom,
    tie("tree").map(({ text, value }) => ({
      text: `NOT (${text})`,
      value: not(value),
    })),
    fc.tuple(tie("tree"), tie("tree")).map(([a, b]) => ({
      text: `(${a.text}) AND (${b.text})`,
      value: all(a.value, b.value),
    })),
    fc.tuple(tie("tree"), tie("tree")).map(([a, b]) => ({
      text: `(${a.text}) OR (${b.text})`,
      value: not(all(not(a.value), not(b.value))),
    })),
  ),
})).tree;

test("AND, OR and NOT are those of three-valued logic, and what is not known does not match", () => {
  fc.assert(
    fc.property(tree, ({ text, value }) => {
      expect(matches(text, { t: 1 })).toBe(value === true);
    }),
  );
});

test("AND binds tighter than OR, and NOT tighter than both", () => {
  expect(matches("tags.t = 1 OR tags.t = 2 AND tags.t = 3", { t: 1 })).toBe(true);
  expect(matches("NOT tags.t = 2 AND tags.t = 1", { t: 1 })).toBe(true);
});
