import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  ADOPT_ANNOTATION,
  ALLOW_DELETIONS_ANNOTATION,
  adoptionRefusal,
  BLOBS_ANNOTATION,
  blobRefusal,
  CLOSED_GRANT,
  DEVICES_ANNOTATION,
  deviceRefusal,
  grantOf,
  mayAdopt,
  mayUseBlob,
  mayUseDevice,
  OPEN_GRANT,
} from "./tenancy.ts";

const blobs = (text: string, container: string, path: string) =>
  mayUseBlob(grantOf({ [BLOBS_ANNOTATION]: text }), { container, path });
const ids = (text: string, id: string) => mayUseDevice(grantOf({ [DEVICES_ANNOTATION]: text }), id);

describe("without an annotation", () => {
  test("a namespace may use nothing", () => {
    for (const grant of [CLOSED_GRANT, grantOf({}), grantOf({ [BLOBS_ANNOTATION]: " , " })]) {
      expect(mayUseBlob(grant, { container: "models", path: "a" })).toBe(false);
      expect(mayUseDevice(grant, "cam-1")).toBe(false);
      expect(mayAdopt(grant, "cam-1")).toBe(false);
    }
  });

  test("a single tenant may use everything", () => {
    expect(mayUseBlob(OPEN_GRANT, { container: "models", path: "a//b" })).toBe(true);
    expect(mayAdopt(OPEN_GRANT, "cam-1")).toBe(true);
  });
});

describe("a prefix of blobs", () => {
  test.each<[string, string, string, boolean]>([
    ["models/team-a/", "models", "team-a/1/model.onnx", true],
    ["models/team-a", "models", "team-a/1/model.onnx", true],
    ["models/team-a", "models", "team-a", true],
    ["models/team-a", "models", "team-ab/model.onnx", false],
    ["models/team-a/", "models", "team-ab", false],
    ["models/team-a/m.onnx", "models", "team-a/m.onnx.verification/1.json", false],
    ["models/", "models", "any/thing", true],
    ["models", "models", "any/thing", true],
    ["models", "models-b", "any/thing", false],
    ["models/team-a/", "Models", "team-a/x", false],
    ["models/team-a/", "models", "Team-A/x", false],
    ["models/team-a/", "models", "team-a/../team-b/x", false],
    ["models/team-a/", "models", "team-a/./x", false],
    ["models/team-a/", "models", "team-a//x", false],
    ["models/team-a/", "models", "./team-a/x", false],
    ["models/team-a/", "models", "/team-a/x", false],
    ["models/team-a/", "models", "team-a/x/", false],
    ["models/team-a/", "models", "team-a/%2e%2e/x", false],
    ["models/team-a/", "models", "team-a\\x", false],
    [" models/team-b/ ,\tmodels/team-a/ ", "models", "team-a/x", true],
    ["models/a\\,b/", "models", "a,b/x", true],
    ["models/a\\*/", "models", "a*/x", true],
    ["models/team-*", "models", "team-a/x", false],
    ["*", "whatever", "x", true],
    ["\\*", "whatever", "x", false],
    ["/team-a", "models", "team-a", false],
    ["models/../x", "models", "x", false],
  ])("%s and %s/%s: %s", (text, container, path, allowed) => {
    expect(blobs(text, container, path)).toBe(allowed);
  });

  test("that is not understood grants nothing, leaves the others and is named in what a refusal says", () => {
    const grant = grantOf({ [BLOBS_ANNOTATION]: "models/team-*, shared/" });
    expect(mayUseBlob(grant, { container: "shared", path: "x" })).toBe(true);
    expect(blobRefusal("team-a", grant, { container: "models", path: "team-a/x" })).toContain(
      'part of it is invalid: "models/team-*" contains a *',
    );
  });
});

describe("a pattern of device ids", () => {
  test.each<[string, string, boolean]>([
    ["team-a-*, cam-*", "cam-7", true],
    ["team-a-*, cam-*", "team-a-", true],
    ["team-a-*", "team-ab", false],
    ["team-a-*", "TEAM-A-1", false],
    ["cam-1", "cam-10", false],
    ["cam-?", "cam-1", false],
    ["*-a", "cam-a", true],
    ["*-a", "cam-ab", false],
    ["a*b*c", "a-x-b-c-c", true],
    ["a*b*c", "acb", false],
    ["*", "any", true],
    ["**", "any", true],
    ["\\*", "any", false],
    ["\\*", "*", true],
    ["a\\,b", "a,b", true],
    ["a\\,b", "a", false],
    [".*", "x", false],
    ["(a|b)", "a", false],
    ["", "", false],
  ])("%s and %s: %s", (text, id, allowed) => {
    expect(ids(text, id)).toBe(allowed);
  });

  test("with many wildcards is no way to keep the operator busy", () => {
    expect(ids(`${"*a".repeat(2000)}b`, "a".repeat(128))).toBe(false);
  });
});

describe("adoption", () => {
  test.each<[string | undefined, string, boolean]>([
    [undefined, "cam-1", false],
    ["false", "cam-1", false],
    ["true", "cam-1", true],
    ["true", "other-1", false],
    ["cam-1*", "cam-12", true],
    ["cam-1*", "cam-2", false],
    ["*", "other-1", false],
  ])("%s of %s: %s", (adopt, id, allowed) => {
    const grant = grantOf({
      [DEVICES_ANNOTATION]: "cam-*",
      ...(adopt === undefined ? {} : { [ADOPT_ANNOTATION]: adopt }),
    });
    expect(mayAdopt(grant, id)).toBe(allowed);
  });
});

test("a time until which deletions are allowed is a timestamp, and anything else is a mistake", () => {
  const at = "2026-12-01T10:00:00Z";
  expect(grantOf({ [ALLOW_DELETIONS_ANNOTATION]: at }).allowDeletionsUntil).toBe(Date.parse(at));
  for (const text of ["yes", "1", "2099", "20"]) {
    const wrong = grantOf({ [ALLOW_DELETIONS_ANNOTATION]: text });
    expect(wrong.allowDeletionsUntil).toBeNull();
    expect(wrong.mistakes[ALLOW_DELETIONS_ANNOTATION]).toContain("not a time");
  }
});

test("a refusal names the annotation and what to ask for, and nothing of what exists", () => {
  const grant = grantOf({});
  expect([
    blobRefusal("team-b", grant, { container: "models", path: "team-a/x" }),
    deviceRefusal("team-b", grant, "cam-1"),
    adoptionRefusal("team-b", grant, "cam-1"),
  ]).toEqual([
    "namespace team-b is not permitted to use blob models/team-a/x: ask its administrator to add a prefix of it to its annotation edgefleet.dev/blob-prefixes",
    "namespace team-b is not permitted to use device id cam-1: ask its administrator to add a pattern that matches it to its annotation edgefleet.dev/device-ids",
    'namespace team-b is not permitted to use an identity cam-1 that was not created for this EdgeDevice: ask its administrator to add "true" or a pattern that matches it to its annotation edgefleet.dev/adopt-identities',
  ]);
});

// ── properties ──

const idText = fc.string({ unit: fc.constantFrom(..."ab*?,\\.-"), maxLength: 12 });
const escaped = (text: string) => text.replace(/[\\,*]/g, "\\$&");

test("an escaped id matches itself and nothing else", () => {
  fc.assert(
    fc.property(idText, idText, (granted, id) => {
      fc.pre(granted !== "");
      expect(ids(escaped(granted), id)).toBe(granted === id);
    }),
  );
});

test("no id outside of its prefix ever matches, whatever else the id is made of", () => {
  fc.assert(
    fc.property(idText, idText, (prefix, id) => {
      fc.pre(prefix !== "");
      expect(ids(`${escaped(prefix)}*`, id)).toBe(id.startsWith(prefix));
    }),
  );
});

test("a pattern matches as the plain definition says", () => {
  const parts = fc.array(fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 2 }), {
    minLength: 1,
    maxLength: 4,
  });
  const plain = (pieces: readonly string[], id: string): boolean => {
    const [first = "", ...rest] = pieces;
    if (!id.startsWith(first)) return false;
    const after = id.slice(first.length);
    if (rest.length === 0) return after === "";
    return Array.from(after, (_, index) => index)
      .concat(after.length)
      .some((index) => plain(rest, after.slice(index)));
  };
  fc.assert(
    fc.property(parts, fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 8 }), (pieces, id) => {
      const text = pieces.join("*");
      fc.pre(text !== "");
      expect(ids(text, id)).toBe(plain(pieces, id));
    }),
  );
});

test("no blob outside of the granted folder is ever allowed, whatever path is made up", () => {
  const path = fc
    .array(fc.constantFrom("team-a", "team-ab", "team-b", "..", ".", "", "TEAM-A", "%2e%2e", "x"), {
      minLength: 1,
      maxLength: 6,
    })
    .map((segments) => segments.join("/"));
  fc.assert(
    fc.property(path, fc.constantFrom("models", "models2", "model"), (asked, container) => {
      fc.pre(blobs("models/team-a/", container, asked));
      // What a URL parser makes of it is still below the folder.
      const { pathname } = new URL(`https://store.invalid/${container}/${asked}`);
      expect(pathname === "/models/team-a" || pathname.startsWith("/models/team-a/")).toBe(true);
      expect(pathname).toBe(`/${container}/${asked}`);
    }),
  );
});

test("no annotation whatsoever makes reading it throw", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 60 }), (text) => {
      const grant = grantOf({
        [BLOBS_ANNOTATION]: text,
        [DEVICES_ANNOTATION]: text,
        [ADOPT_ANNOTATION]: text,
        [ALLOW_DELETIONS_ANNOTATION]: text,
      });
      expect(mayAdopt(grant, "x") && !mayUseDevice(grant, "x")).toBe(false);
    }),
  );
});
