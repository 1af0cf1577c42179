import { describe, expect, test } from "vitest";
import type { Tensor } from "../../api/model-release.ts";
import type { TensorInfo } from "../onnx/tensor.ts";
import { signatureDifferences } from "./signature.ts";

describe("a signature", () => {
  const want = (over: Partial<Tensor> = {}): Tensor => ({
    name: "x",
    type: "float32",
    shape: ["n", 4],
    ...over,
  });
  const has = (over: Partial<TensorInfo> = {}): TensorInfo => ({
    name: "x",
    type: "float32",
    shape: ["batch", 4],
    ...over,
  });
  const differences = (wanted: readonly Tensor[], found: readonly TensorInfo[]) =>
    signatureDifferences({ inputs: [...wanted], outputs: [] }, { inputs: found, outputs: [] });

  test.each<[string, Tensor, TensorInfo, string | null]>([
    ["any name stands for a free axis", want(), has(), null],
    ["an axis without a name is free too", want(), has({ shape: ["", 4] }), null],
    ["a number is that number only", want({ shape: ["n", 5] }), has(), "differs in axis 1"],
    ["a number is no free axis", want({ shape: [1, 4] }), has(), "differs in axis 0"],
    ["a name is no number", want({ shape: ["n", "m"] }), has(), "differs in axis 1"],
    ["the type counts", want({ type: "float16" }), has(), "is float32, the release specifies float16"],
    ["the rank counts", want({ shape: ["n"] }), has(), "has 2 axes instead of 1"],
    ["a sequence is not a tensor", want(), has({ type: "not a tensor", shape: [] }), "is not a tensor"],
  ])("%s", (_what, wanted, found, difference) => {
    const all = differences([wanted], [found]);
    if (difference === null) expect(all).toEqual([]);
    else expect(all).toEqual([expect.stringContaining(difference)]);
  });

  test("names what is missing and what is too much, in any order", () => {
    expect(
      differences([want({ name: "a" }), want({ name: "b" })], [has({ name: "b" }), has({ name: "c" })]),
    ).toEqual(['input "a" (float32[n,4]) is missing', 'input "c" (float32[batch,4]) is not in the release']);
    expect(
      differences([want({ name: "a" }), want({ name: "b" })], [has({ name: "b" }), has({ name: "a" })]),
    ).toEqual([]);
  });
});
