import { describe, expect, test } from "vitest";
import type { Json } from "../json-pointer.ts";
import { namespaceFault, objectMetaProblems, objectNameFault } from "./object-meta-problems.ts";

const messages = (metadata: Json) =>
  objectMetaProblems(metadata).map(({ pointer, message }) => `${pointer} ${message}`);

test("metadata as people write it has no problems", () => {
  const metadata = {
    name: "digits-2.1.0",
    namespace: "plant-a",
    labels: { app: "digits", "example.com/line": "7", "a.b/c_d.e": "", tier: null },
    annotations: { "Example.com/Note": "anything: at all\n", "kubectl.kubernetes.io/x": "" },
    finalizers: ["example.com/keep"],
    ownerReferences: [{ apiVersion: "v1", kind: "ConfigMap", name: "x", uid: "1", controller: true }],
    creationTimestamp: null,
    deletionTimestamp: "2026-01-31T12:00:00Z",
    generation: 1,
    resourceVersion: "12",
    managedFields: [],
  };
  expect(messages(metadata)).toEqual([]);
  expect(messages({ generateName: "digits-" })).toEqual([]);
});

test.each<[string, Json, readonly unknown[]]>([
  ["no name", {}, [" needs name"]],
  ["an empty name", { name: "" }, [" needs name"]],
  ["no fields", "x", [" must be an object with fields such as name and labels"]],
  ["a misspelt field", { name: "a", lables: {} }, ["/lables is not a field; did you mean labels?"]],
  [
    "a name that YAML reads as a number",
    { name: 64 },
    ["/name must be a string, and YAML reads 64 here: put it in quotes"],
  ],
  [
    "a label that YAML reads as a boolean",
    { name: "a", labels: { on: true } },
    ["/labels/on must be a string, and YAML reads true here: put it in quotes"],
  ],
  ["labels that are a list", { name: "a", labels: [] }, ["/labels must be an object with string values"]],
  [
    "a long label",
    { name: "a", labels: { a: "x".repeat(64) } },
    ["/labels/a must not have more than 63 characters"],
  ],
  [
    "a label with a space",
    { name: "a", labels: { a: "b c" } },
    [expect.stringMatching(/^\/labels\/a must be letters/)],
  ],
  [
    "a label that ends in a dash",
    { name: "a", labels: { a: "b-" } },
    [expect.stringMatching(/^\/labels\/a must be letters/)],
  ],
  [
    "two slashes",
    { name: "a", labels: { "a/b/c": "" } },
    ["/labels/a~1b~1c its name must have no more than one /, between a domain and a name"],
  ],
  [
    "no domain",
    { name: "a", labels: { "/c": "" } },
    ["/labels/~1c its name must have a domain before its /"],
  ],
  [
    "a domain in capitals",
    { name: "a", labels: { "A.com/c": "" } },
    [expect.stringContaining("and A.com should be lower-case")],
  ],
  [
    "nothing behind the domain",
    { name: "a", annotations: { "a.com/": "" } },
    [expect.stringContaining("its name must be letters")],
  ],
  [
    "a long key",
    { name: "a", annotations: { [`a.com/${"x".repeat(64)}`]: "" } },
    [expect.stringContaining("more than 63 characters after its domain")],
  ],
  [
    "large annotations",
    { name: "a", annotations: { a: "ü".repeat(131_072) } },
    ["/annotations must not have more than 262144 bytes in all, and has 262145"],
  ],
  [
    "a finalizer with a space",
    { name: "a", finalizers: ["a b"] },
    [expect.stringMatching(/^\/finalizers\/0 must be letters/)],
  ],
  [
    "half an owner",
    { name: "a", ownerReferences: [{ kind: "X", nmae: "y" }] },
    ["/ownerReferences/0/nmae is not a field", "/ownerReferences/0 needs apiVersion, name, uid"],
  ],
  [
    "a time without a zone",
    { name: "a", creationTimestamp: "2026-01-31" },
    ["/creationTimestamp must be a time such as 2026-01-31T12:00:00Z"],
  ],
  ["a generation that is a text", { name: "a", generation: "1" }, ["/generation must be a whole number"]],
])("%s is a problem", (_, metadata, problems) => {
  expect(messages(metadata)).toEqual(problems);
});

test("there is no more than one controller", () => {
  const owner = { apiVersion: "v1", kind: "ConfigMap", name: "x", uid: "1", controller: true };
  expect(messages({ name: "a", ownerReferences: [owner, owner] })).toEqual([
    "/ownerReferences must not have more than one controller",
  ]);
});

describe("the name of an object", () => {
  test.each(["a", "0100", "a-b.c-1", "1.0.0", "x".repeat(253)])("may be %s", (name) => {
    expect(objectNameFault(name)).toBeNull();
  });
  test.each(["", "A", "a_b", "a..b", "-a", "a-", ".a", "a.-b", "a/b", "x".repeat(254)])(
    "may not be %j",
    (name) => {
      expect(objectNameFault(name)).not.toBeNull();
    },
  );
});

describe("the name of a namespace", () => {
  test.each(["a", "plant-7", "x".repeat(63)])("may be %s", (name) => {
    expect(namespaceFault(name)).toBeNull();
  });
  test.each(["a.b", "A", "-a", "x".repeat(64)])("may not be %j", (name) => {
    expect(namespaceFault(name)).not.toBeNull();
  });
});
