import type { JsonObject } from "../../cli/json-pointer.ts";
import { DECIMAL_FORM } from "../../src/base/decimal.ts";

// Specs of ModelReleases that break one rule each: the API server and the program on a laptop must say the same of them.

const DIGEST = `sha256:${"0123456789abcdef".repeat(4)}`;
const blob = { container: "models", path: "digits/2.1.0/model.onnx" };
const variant = (name: string, more: JsonObject = {}): JsonObject => ({
  name,
  blob,
  digest: DIGEST,
  ...more,
});

/** A spec that breaks none. */
export const soundSpec: JsonObject = { model: "digits", version: "2.1.0", variants: [variant("fp32")] };

const checks = (verification: JsonObject): JsonObject => ({ ...soundSpec, verification });
const golden = (bounds: JsonObject): JsonObject => checks({ golden: { blob, digest: DIGEST, ...bounds } });
const parity = (bounds: JsonObject): JsonObject => checks({ parity: { with: "previous", ...bounds } });

export type BrokenSpec = {
  readonly spec: JsonObject;
  /** JSON pointer of what is wrong. */
  readonly pointer: string;
  /** The rule's sentence, as the schema has it. */
  readonly rule: string;
};

export const BROKEN_SPECS: readonly BrokenSpec[] = [
  {
    spec: checks({ timeout: "five minutes" }),
    pointer: "/verification/timeout",
    rule: "must be a duration such as 90s, 10m or 1h30m",
  },
  {
    spec: { ...soundSpec, variants: [variant("fp32", { digest: "sha256:short" })] },
    pointer: "/variants/0/digest",
    rule: "must be sha256: followed by 64 lower-case hexadecimal digits; sha256sum FILE prints the digits",
  },
  {
    spec: { ...soundSpec, variants: [variant("fp32", { blob: { ...blob, path: "../model.onnx" } })] },
    pointer: "/variants/0/blob/path",
    rule: "the path must be relative to the container, without ..",
  },
  {
    spec: golden({ minimumAccuracy: "95%" }),
    pointer: "/verification/golden/minimumAccuracy",
    rule: DECIMAL_FORM,
  },
  {
    spec: golden({}),
    pointer: "/verification",
    rule: "the golden set is not used; add a bound, such as minimumAccuracy (for labels) or maximumAbsoluteError (for outputs), or a check that runs the model",
  },
  {
    spec: golden({ outputs: [{ name: "y" }] }),
    pointer: "/verification/golden/outputs/0",
    rule: "an output requires at least one bound",
  },
  {
    spec: golden({ output: "y", outputs: [{ name: "z", minimumAccuracy: 1 }] }),
    pointer: "/verification/golden/output",
    rule: "output requires at least one bound beside it",
  },
  {
    spec: golden({ output: "y", minimumAccuracy: 1, outputs: [{ name: "y", minimumAccuracy: 1 }] }),
    pointer: "/verification/golden/output",
    rule: "output must not be listed in outputs as well; specify its bounds in one place",
  },
  {
    spec: golden({ maximumAbsoluteError: 1, classes: ["cat", "dog"] }),
    pointer: "/verification/golden/classes",
    rule: "classes requires a bound that uses labels, such as minimumAccuracy",
  },
  {
    spec: golden({ maximumAbsoluteError: 1, threshold: "0.4" }),
    pointer: "/verification/golden/threshold",
    rule: "threshold requires minimumAccuracy, minimumClassAccuracy or minimumMaskIou",
  },
  {
    spec: parity({ maximumAbsoluteError: 1, threshold: "0.4" }),
    pointer: "/verification/parity/threshold",
    rule: "threshold requires minimumAgreement",
  },
  {
    spec: golden({ maximumAbsoluteError: 1, iouThreshold: "0.4" }),
    pointer: "/verification/golden/iouThreshold",
    rule: "iouThreshold and boxFormat require minimumBoxMatch",
  },
  {
    spec: golden({ minimumBoxMatch: "0.9", iouThreshold: 0 }),
    pointer: "/verification/golden/iouThreshold",
    rule: "iouThreshold must be greater than 0 and at most 1",
  },
  {
    spec: golden({ minimumAccuracy: "0.9", topK: 3 }),
    pointer: "/verification/golden/topK",
    rule: "topK requires minimumTopKAccuracy",
  },
  ...[
    "minimumAccuracy",
    "minimumTopKAccuracy",
    "minimumClassAccuracy",
    "minimumRocAuc",
    "minimumAveragePrecision",
    "minimumMaskIou",
    "minimumBoxMatch",
  ].map((name) => ({
    spec: golden({ [name]: "95" }),
    pointer: `/verification/golden/${name}`,
    rule: `${name} must be between 0 and 1: write "0.95" for 95 %`,
  })),
  {
    spec: parity({ minimumAgreement: "-0.1" }),
    pointer: "/verification/parity/minimumAgreement",
    rule: 'minimumAgreement must be between 0 and 1: write "0.95" for 95 %',
  },
  ...[
    "maximumAbsoluteError",
    "maximumRelativeError",
    "maximumRootMeanSquaredError",
    "maximumMeanAbsoluteError",
    "maximumWordErrorRate",
    "maximumCharacterErrorRate",
  ].map((name) => ({
    spec: golden({ [name]: "-1" }),
    pointer: `/verification/golden/${name}`,
    rule: `${name} must not be negative`,
  })),
  {
    spec: checks({ determinism: { maximumAbsoluteError: "-0.5" } }),
    pointer: "/verification/determinism/maximumAbsoluteError",
    rule: "maximumAbsoluteError must not be negative",
  },
  {
    spec: golden({ minimumCosineSimilarity: "1.5" }),
    pointer: "/verification/golden/minimumCosineSimilarity",
    rule: "minimumCosineSimilarity must be between -1 and 1",
  },
  {
    spec: parity({}),
    pointer: "/verification/parity",
    rule: "at least one bound is required, here or in outputs: minimumAgreement, maximumAbsoluteError, maximumRelativeError or minimumCosineSimilarity",
  },
  {
    spec: parity({ outputs: [{ name: "y" }] }),
    pointer: "/verification/parity/outputs/0",
    rule: "at least one bound is required: minimumAgreement, maximumAbsoluteError, maximumRelativeError or minimumCosineSimilarity",
  },
  {
    spec: checks({ latency: { samples: 50 } }),
    pointer: "/verification/latency",
    rule: "latency requires at least one bound: p50, p95 or p99",
  },
  {
    spec: checks({ throughput: { minimumPerSecond: 0 } }),
    pointer: "/verification/throughput/minimumPerSecond",
    rule: "minimumPerSecond must be greater than 0",
  },
  {
    spec: checks({ reverify: { every: "24h", schedule: "0 14 * * 5" } }),
    pointer: "/verification/reverify",
    rule: "exactly one of every and schedule is required",
  },
  {
    spec: checks({ reverify: { every: "24h", timeZone: "Europe/Berlin" } }),
    pointer: "/verification/reverify/timeZone",
    rule: "timeZone requires schedule",
  },
  {
    spec: checks({ reverify: { every: "59m" } }),
    pointer: "/verification/reverify/every",
    rule: "every must be at least 1h",
  },
  {
    spec: { ...soundSpec, variants: [variant("fp32"), variant("int8")] },
    pointer: "",
    rule: "at most one variant may omit deviceClasses; it is used for all other classes",
  },
  {
    spec: {
      ...soundSpec,
      variants: [
        variant("fp32", { deviceClasses: ["camera", "door"] }),
        variant("int8", { deviceClasses: ["door"] }),
      ],
    },
    pointer: "",
    rule: "a device class must not be listed by more than one variant",
  },
  {
    spec: checks({ variantParity: { reference: "fp16", minimumAgreement: 1 } }),
    pointer: "",
    rule: "variantParity.reference must be the name of one of the variants",
  },
];

/** Lists in which something is there twice: the API server says "Duplicate value". */
export const REPEATED_ITEMS: readonly {
  readonly what: string;
  readonly spec: JsonObject;
  readonly pointer: string;
  readonly message: string;
}[] = [
  {
    what: "the name of a variant",
    spec: {
      ...soundSpec,
      variants: [variant("fp32", { deviceClasses: ["a"] }), variant("fp32", { deviceClasses: ["b"] })],
    },
    pointer: "/variants/1",
    message: "is there twice: item 0 has the same name",
  },
  {
    what: "a class of devices",
    spec: { ...soundSpec, variants: [variant("fp32", { deviceClasses: ["a", "b", "a"] })] },
    pointer: "/variants/0/deviceClasses/2",
    message: "is there twice: item 0 is the same",
  },
  {
    what: "an output with bounds of its own",
    spec: golden({
      outputs: [
        { name: "y", minimumAccuracy: "0.9" },
        { name: "z", minimumAccuracy: "0.9" },
        { name: "y", minimumAccuracy: "0.1" },
      ],
    }),
    pointer: "/verification/golden/outputs/2",
    message: "is there twice: item 0 has the same name",
  },
];
