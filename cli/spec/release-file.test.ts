import { describe, expect, test } from "vitest";
import { CHOSEN_MANIFESTS } from "../../test/builders/random-manifest.ts";
import { documentsIn } from "../yaml/documents.ts";
import { releaseIn } from "./release-file.ts";

function read(text: string) {
  const documents = documentsIn("f.yaml", text);
  return documents.ok ? releaseIn("f.yaml", documents.value.documents) : documents;
}

const sound = CHOSEN_MANIFESTS.find(({ what }) => what === "a byte order mark")?.text.slice(1) ?? "";

describe("a ModelRelease of a file", () => {
  test.each(CHOSEN_MANIFESTS)("with $what is what kubectl makes of it", ({ text, samples }) => {
    const found = read(text);
    expect(found.ok ? found.value.spec.verification?.latency?.samples : null).toBe(samples);
  });

  test("is found in a list, and in a list of lists, with its places", () => {
    const list = `apiVersion: v1\nkind: List\nitems:\n- ${sound.replace("samples: 100", "samples: 1").trimEnd().replaceAll("\n", "\n  ")}\n`;
    const twice = `apiVersion: v1\nkind: List\nitems:\n- ${list.trimEnd().replaceAll("\n", "\n  ")}\n`;
    expect(read(list)).toEqual({
      ok: false,
      error: ["f.yaml:16:30: spec.verification.latency.samples must be >= 20"],
    });
    expect(read(twice)).toEqual({
      ok: false,
      error: ["f.yaml:19:32: spec.verification.latency.samples must be >= 20"],
    });
  });

  test("is not found in a list that kubectl does not know", () => {
    const list = `apiVersion: v1\nkind: ReleaseList\nitems:\n- ${sound.trimEnd().replaceAll("\n", "\n  ")}\n`;
    expect(read(list)).toEqual({
      ok: false,
      error: ["f.yaml: there is no ModelRelease in it, but ReleaseList"],
    });
  });

  test("has every mistake reported at its place: in metadata, in status, and beside them", () => {
    const text = sound
      .replace(/name: m-.*\n/, "name: Digits\n  labels: { on: yes, 1.0: a b }\n")
      .replace("spec:", "extra: 1\nspec:")
      .concat("status: { extra: 1 }\n");
    expect(read(text)).toEqual({
      ok: false,
      error: [
        "f.yaml:6:1: extra is not a field",
        expect.stringContaining("f.yaml:4:3: metadata.name must be lower-case letters"),
        expect.stringContaining("f.yaml:5:22: metadata.labels[1] must be letters"),
        "f.yaml:5:13: metadata.labels.true must be a string, and YAML reads true here: put it in quotes",
        "f.yaml:16:11: status.extra is not a field",
      ],
    });
  });
});
