import fc from "fast-check";
import { expect, test } from "vitest";
import { parseAnswer } from "./model-messages.ts";

test.each<[string, unknown]>([
  ["ready", { kind: "ready", runtimeVersion: "1.30.0" }],
  [
    "loaded",
    { kind: "loaded", signature: { inputs: [{ name: "x", type: "float32", shape: ["n", 4] }], outputs: [] } },
  ],
  [
    "golden",
    {
      kind: "golden",
      measured: {
        accuracy: {
          output: "y",
          samples: 2,
          correct: 1,
          worst: { index: 0, expected: 1, got: 0, margin: 0.5 },
        },
        largestError: {
          error: Number.POSITIVE_INFINITY,
          output: "y",
          index: 0,
          element: 0,
          expected: Number.NaN,
          got: 0,
        },
      },
    },
  ],
  ["latency", { kind: "latency", runs: Float64Array.of(1, 2), input: "batch 1" }],
  ["refused", { kind: "refused", because: "load", message: "no" }],
  ["broken", { kind: "broken", message: "no" }],
])("an answer of kind %s is taken as it is", (_kind, answer) => {
  expect(parseAnswer(answer)).toEqual({ ok: true, value: answer });
});

test.each<[string, unknown]>([
  ["of no kind", {}],
  ["that is no object", "ready"],
  [
    "with more right than there are",
    {
      kind: "golden",
      measured: { accuracy: { output: "y", samples: 1, correct: 2, worst: null }, largestError: null },
    },
  ],
  ["with no runs", { kind: "latency", runs: new Float64Array(), input: "" }],
  ["with runs that took less than no time", { kind: "latency", runs: Float64Array.of(-1), input: "" }],
  ["with runs that are no numbers", { kind: "latency", runs: Float64Array.of(Number.NaN), input: "" }],
  ["with text without end", { kind: "broken", message: "x".repeat(100_000) }],
  ["with a reason that nobody knows", { kind: "refused", because: "mood", message: "" }],
])("an answer %s is refused", (_what, answer) => {
  expect(parseAnswer(answer).ok).toBe(false);
});

test("anything else is refused without an exception (property)", () => {
  const kind = fc.constantFrom("ready", "loaded", "golden", "latency", "refused", "broken");
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
