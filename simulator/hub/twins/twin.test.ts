import fc from "fast-check";
import { expect, test } from "vitest";
import { isObject, type JsonObject, type JsonValue, sameJson } from "../../base/json.ts";
import { mergePatch } from "./merge-patch.ts";
import { checkPatch, mergeSection, newTwin, sizeOf } from "./twin.ts";
import { createTwins } from "./twins.ts";

const NOW = "2026-03-01T12:00:00.000Z";

const leaf = fc.oneof(
  fc.boolean(),
  fc.integer(),
  fc.string({ maxLength: 5 }),
  fc.array(fc.integer(), { maxLength: 2 }),
);
const key = fc.constantFrom("a", "b", "c", "d");
const tree = fc.letrec<{ node: JsonObject; value: JsonValue }>((tie) => ({
  node: fc.dictionary(key, tie("value"), { maxKeys: 3 }),
  value: fc.oneof({ depthSize: "small" }, leaf, tie("node")),
}));
const patchTree = fc.letrec<{ node: JsonObject; value: JsonValue }>((tie) => ({
  node: fc.dictionary(key, tie("value"), { maxKeys: 3 }),
  value: fc.oneof({ depthSize: "small" }, fc.constant(null), leaf, tie("node")),
}));

/** RFC 7396, as it is written there. */
function reference(target: JsonValue | undefined, patch: JsonValue): JsonValue {
  if (!isObject(patch)) return patch;
  const merged: Record<string, JsonValue> = isObject(target) ? { ...target } : {};
  for (const [name, value] of Object.entries(patch))
    if (value === null) delete merged[name];
    else merged[name] = reference(merged[name], value);
  return merged;
}

test("merging is RFC 7396, and a version goes by", () => {
  fc.assert(
    fc.property(tree.node, patchTree.node, (value, patch) => {
      const start = mergeSection(newTwin("d", null, NOW).desired, value, NOW, true);
      const merged = mergeSection(start, patch, NOW, true);
      expect(merged.value).toEqual(reference(start.value, patch));
      expect(merged.version).toBe(start.version + 1);
    }),
  );
});

test("every value has its time beside it, and nothing that is gone keeps one", () => {
  const covers = (value: JsonObject, metadata: JsonValue | undefined): boolean => {
    if (!isObject(metadata) || typeof metadata["$lastUpdated"] !== "string") return false;
    const names = Object.keys(metadata).filter((name) => !name.startsWith("$"));
    return (
      names.length === Object.keys(value).length &&
      Object.entries(value).every(([name, inner]) =>
        isObject(inner)
          ? covers(inner, metadata[name])
          : isObject(metadata[name]) && Object.keys(metadata[name]).every((one) => one.startsWith("$")),
      )
    );
  };
  fc.assert(
    fc.property(fc.array(patchTree.node, { maxLength: 5 }), (patches) => {
      let section = newTwin("d", null, NOW).desired;
      for (const patch of patches) section = mergeSection(section, patch, NOW, true);
      expect(covers(section.value, section.metadata)).toBe(true);
    }),
  );
});

test("the difference of two documents, merged into the first, is the second", () => {
  fc.assert(
    fc.property(tree.node, tree.node, (from, to) => {
      expect(reference(from, mergePatch(from, to))).toEqual(to);
      if (sameJson(from, to)) expect(mergePatch(from, to)).toEqual({});
    }),
  );
});

test.each<[string, JsonObject, string | null]>([
  ["a dot in a key", { "a.b": 1 }, "tags.a.b"],
  ["a dollar in a key", { a: { $x: 1 } }, "tags.a.$x"],
  ["a blank in a key", { "a b": 1 }, "tags.a b"],
  ["a long string", { a: "x".repeat(4097) }, "tags.a is longer than 4096"],
  ["a string of just the length", { a: "x".repeat(4096) }, null],
  ["an integer out of range", { a: 4_503_599_627_370_496 }, "tags.a is an integer out of range"],
  ["the largest integer", { a: 4_503_599_627_370_495 }, null],
  ["null in an array", { a: [1, null] }, "tags.a[1] is null"],
  ["ten objects in one another, with a value", JSON.parse(`${'{"a":'.repeat(11)}1${"}".repeat(11)}`), null],
  ["eleven objects", JSON.parse(`${'{"a":'.repeat(11)}{}${"}".repeat(11)}`), "deeper than 10"],
  ["arrays as deep", { a: JSON.parse(`${"[".repeat(11)}${"]".repeat(11)}`) }, "deeper than 10"],
])("%s", (_, patch, problem) => {
  const checked = checkPatch("tags", patch);
  if (problem === null) expect(checked.ok).toBe(true);
  else expect(checked).toMatchObject({ refusal: { status: 400, message: expect.stringContaining(problem) } });
});

test("a section that would become too large is refused whole", () => {
  const twins = createTwins(() => 0);
  twins.create("d", null);
  const chunk = (name: string) => ({ [name]: "x".repeat(4000) });
  const write = (tags: JsonObject) => twins.patch("d", { tags, desired: null }, null);
  expect(write(chunk("a")).ok).toBe(true);
  expect(write(chunk("b")).ok).toBe(true);
  expect(write(chunk("c"))).toMatchObject({ ok: false, refusal: { status: 400 } });
  expect(Object.keys(twins.get("d")!.tags)).toEqual(["a", "b"]);
  expect(sizeOf({ aé: ["xx", 1, true] })).toBe(3 + 2 + 8 + 4);
});

test("a patch of nothing still counts; tags do not move the desired version; reports move neither", () => {
  const twins = createTwins(() => 0);
  twins.create("d", null);
  const versions = () => {
    const twin = twins.get("d")!;
    return [twin.counter, twin.desired.version, twin.reported.version];
  };
  expect(versions()).toEqual([1, 1, 1]);
  twins.patch("d", { tags: null, desired: { a: 1 } }, null);
  twins.patch("d", { tags: null, desired: { a: 1 } }, null);
  expect(versions()).toEqual([3, 3, 1]);
  twins.patch("d", { tags: { a: 1 }, desired: null }, null);
  expect(versions()).toEqual([4, 3, 1]);
  twins.report("d", { x: 1 });
  expect(versions()).toEqual([4, 3, 2]);
});
