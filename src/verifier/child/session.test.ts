import { expect, test } from "vitest";
import { modelFile, node, tensorInfo } from "../../../test/builders/verifier/onnx-model.ts";
import { openModel, refusedBy } from "./session.ts";

test.each([
  [
    "Failed to construct locale with name:en_US.UTF-8:locale::facet::_S_create_c_locale name not valid:Please, install necessary language-pack-XX",
    "locale",
    /^StringNormalizer needs the locale en_US\.UTF-8, which this machine does not have: run the verifier from its image/,
  ],
  ["indices element out of data bounds, idx=1", "run", /^indices element out of data bounds, idx=1$/],
])("what was thrown is a fact about the machine, or about the run: %s", (thrown, because, message) => {
  expect(refusedBy(new Error(thrown))).toMatchObject({ because, message: expect.stringMatching(message) });
});

test("an operator whose kernels are gone is reported with the opset to export with", async () => {
  const file = modelFile(
    {
      nodes: [node("Relu", ["x"], ["y"])],
      inputs: [tensorInfo("x", ["n", 4])],
      outputs: [tensorInfo("y", ["n", 4])],
    },
    { opset: 5 },
  );
  expect(await openModel({ source: file, adapted: null }, 1)).toMatchObject({
    ok: false,
    error: { because: "operator", message: expect.stringContaining("export the model again with opset ≥ 7") },
  });
});
