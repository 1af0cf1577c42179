import fc from "fast-check";
import { expect, test } from "vitest";
import { parseAnswer } from "./messages.ts";

const CLASSIFICATION = {
  output: "y",
  reading: "",
  notNumbers: 1,
  classes: 2,
  names: null,
  samples: 2,
  correct: 1,
  topK: 5,
  correctTopK: 2,
  byClass: [{ label: 0, samples: 2, correct: 1 }],
  confused: [{ expected: 0, got: -1, samples: 1 }],
  worst: { index: 0, expected: 0, got: -1, margin: Number.POSITIVE_INFINITY },
};
const COMPARISON = {
  samples: 2,
  elements: 4,
  beyond: 1,
  nonFinite: 0,
  largestAbsolute: Number.POSITIVE_INFINITY,
  largestRelative: 0,
  worst: {
    output: "y",
    index: 0,
    element: 1,
    place: "1",
    expected: "NaN",
    got: "0",
    absolute: Number.POSITIVE_INFINITY,
    relative: Number.POSITIVE_INFINITY,
  },
  lowestCosine: { output: "y", index: 0, cosine: 0.5 },
  outputs: ["y"],
  withoutCosine: [],
};
const GOLDEN = {
  ...{ samples: 2, batch: { size: 64, free: true }, notes: [], ignored: ["z"] },
  sections: [
    {
      classification: CLASSIFICATION,
      ranking: { output: "y", rocAuc: 0.5, averagePrecision: null, undefinedFor: "" },
      comparison: COMPARISON,
      figures: {
        ...{ output: "y", rootMeanSquaredError: 1, meanAbsoluteError: 1, maskIou: null, boxMatch: 1 },
        ...{ boxes: { expected: 1, got: 1, matched: 1 }, wordErrorRate: null, characterErrorRate: null },
        undefinedFor: [],
      },
    },
  ],
  finite: [{ output: "y", elements: 2, nonFinite: 0, first: -1 }],
};

test.each<[string, unknown]>([
  ["ready", { kind: "ready", runtimeVersion: "1.30.0" }],
  [
    "loaded",
    {
      kind: "loaded",
      signature: { inputs: [{ name: "x", type: "float32", shape: ["n", 4] }], outputs: [] },
      file: {
        irVersion: 8,
        producer: "",
        opsets: [{ domain: "", version: 17 }],
        operators: [{ domain: "", name: "Relu", count: 1 }],
        nodes: 1,
        parameters: 0,
      },
    },
  ],
  [
    "golden",
    {
      kind: "golden",
      measured: GOLDEN,
    },
  ],
  ["golden", { kind: "golden", measured: { ...GOLDEN, sections: [], finite: null } }],
  ["batches", { kind: "batches", found: [{ size: 1, beyond: 0, cosine: 1 }] }],
  ["determinism", { kind: "determinism", comparison: COMPARISON, input: "3 runs" }],
  ["remembered", { kind: "remembered" }],
  [
    "parity",
    {
      kind: "parity",
      measured: {
        ...{ samples: 2, input: "64 synthetic samples", ignored: [] },
        sections: [{ agreement: null, comparison: COMPARISON }],
      },
    },
  ],
  ["throughput", { kind: "throughput", inferences: 5, milliseconds: 2.5, input: "batch 1" }],
  ["memory", { kind: "memory", bytes: null, input: "batch 1" }],
  ["latency", { kind: "latency", runs: Float64Array.of(1, 2), input: "batch 1" }],
  ["refused", { kind: "refused", because: "load", message: "no" }],
  ["broken", { kind: "broken", message: "no" }],
])("an answer of kind %s is taken as it is", (_kind, answer) => {
  expect(parseAnswer(answer)).toEqual({ ok: true, value: answer });
});

test.each<[string, unknown]>([
  ["of no kind", {}],
  ["that is not an object", "ready"],
  [
    "with more right than there are",
    {
      kind: "golden",
      measured: {
        ...GOLDEN,
        sections: [{ ...GOLDEN.sections[0], classification: { ...CLASSIFICATION, correct: 3 } }],
      },
    },
  ],
  [
    "with half a comparison",
    { kind: "determinism", comparison: { ...COMPARISON, worst: { output: "y" } }, input: "" },
  ],
  ["with memory below nothing", { kind: "memory", bytes: -1, input: "" }],
  ["of a kind that every object has", { kind: "toString" }],
  ["with no runs", { kind: "latency", runs: new Float64Array(), input: "" }],
  ["with runs that took less than no time", { kind: "latency", runs: Float64Array.of(-1), input: "" }],
  ["with runs that are no numbers", { kind: "latency", runs: Float64Array.of(Number.NaN), input: "" }],
  ["with text without end", { kind: "broken", message: "x".repeat(100_000) }],
  ["with an unknown reason", { kind: "refused", because: "mood", message: "" }],
])("an answer %s is refused", (_what, answer) => {
  expect(parseAnswer(answer).ok).toBe(false);
});

test("anything else is refused without an exception (property)", () => {
  const kind = fc.constantFrom(
    "ready",
    "loaded",
    "golden",
    "parity",
    "latency",
    "memory",
    "refused",
    "broken",
  );
  const message = fc.oneof(
    fc.anything(),
    fc.record({
      kind,
      signature: fc.anything(),
      measured: fc.anything(),
      runs: fc.anything(),
      message: fc.anything(),
    }),
  );
  fc.assert(
    fc.property(message, (anything) => {
      expect(typeof parseAnswer(anything).ok).toBe("boolean");
    }),
  );
});
