import { Type } from "typebox";
import { LABEL_LIKE } from "./edge-device.ts";
import type { Resource } from "./resource.ts";
import {
  cel,
  conditionsSchema,
  decimal,
  digest,
  duration,
  listMap,
  type Of,
  oneOf,
  timestamp,
} from "./schema.ts";

/** ONNX tensor element types as ONNX Runtime names them. */
export const TENSOR_TYPES = [
  "float32",
  "float64",
  "float16",
  "int8",
  "uint8",
  "int16",
  "uint16",
  "int32",
  "uint32",
  "int64",
  "uint64",
  "bool",
  "string",
] as const;

const blobSchema = Type.Object(
  {
    container: Type.String({
      description: "Blob container.",
      pattern: "^[a-z0-9]([a-z0-9-]{1,61}[a-z0-9])$",
      maxLength: 63,
    }),
    path: Type.String({
      description: "Path of the blob in its container.",
      minLength: 1,
      maxLength: 1024,
      pattern: "^[A-Za-z0-9._/+=@-]+$",
      "x-kubernetes-validations": [
        cel(
          "!self.startsWith('/') && !self.contains('..')",
          "the path is relative to the container, without ..",
        ),
      ],
    }),
  },
  { description: "A blob of the store that the operator is configured with." },
);

const tensorSchema = Type.Object(
  {
    name: Type.String({ description: "Name of the tensor in the graph.", minLength: 1, maxLength: 256 }),
    type: oneOf(TENSOR_TYPES, { description: "Element type." }),
    shape: Type.Array(
      Type.Unsafe<number | string>({
        "x-kubernetes-int-or-string": true,
        anyOf: [{ type: "integer" }, { type: "string" }],
        description: "A fixed size, or any name for an axis whose size is free.",
      }),
      { description: "One entry for each axis.", maxItems: 16 },
    ),
  },
  { description: "One input or output of the model." },
);

export const variantSchema = Type.Object(
  {
    name: Type.String({
      description: "Name of the variant, such as fp32.",
      pattern: "^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$",
      maxLength: 32,
    }),
    deviceClasses: Type.Optional(
      Type.Array(Type.String({ description: "A device class.", pattern: LABEL_LIKE, maxLength: 63 }), {
        description: "Classes this variant is for; none means any class that no other variant names.",
        maxItems: 64,
        "x-kubernetes-list-type": "set",
      }),
    ),
    blob: blobSchema,
    digest: digest({ description: "sha256 of the file: the identity of the bytes that devices will run." }),
    executionProvider: Type.Optional(
      oneOf(["cpu", "cuda", "tensorrt"], {
        // No default in the schema: inside a list it would be drift to kubectl and Argo CD.
        description: "ONNX Runtime execution provider that devices use. Default: cpu.",
      }),
    ),
  },
  { description: "The bytes for some classes of devices." },
);

export const verificationSchema = Type.Object(
  {
    timeout: duration({
      description: "A verification that takes longer is Failed: the model hangs.",
      default: "5m",
    }),
    signature: Type.Optional(
      Type.Object(
        {
          inputs: Type.Array(tensorSchema, { description: "All inputs of the model.", maxItems: 64 }),
          outputs: Type.Array(tensorSchema, { description: "All outputs of the model.", maxItems: 64 }),
        },
        { description: "Inputs and outputs that the model must have, no more and no fewer." },
      ),
    ),
    golden: Type.Optional(
      Type.Object(
        {
          blob: blobSchema,
          digest: digest({ description: "sha256 of the golden set." }),
          minimumAccuracy: Type.Optional(
            decimal({
              description:
                "Share of samples whose most probable class is the label, 0 to 1. Needs an array `labels` in the set.",
            }),
          ),
          maximumAbsoluteError: Type.Optional(
            decimal({
              description:
                "Largest difference from the expected outputs. Needs one array `output:<name>` for each output compared.",
            }),
          ),
        },
        {
          description:
            "Samples with known answers, as a numpy .npz: arrays named like the inputs, and `labels`, or `output:<name>` for known outputs.",
          "x-kubernetes-validations": [
            cel(
              "has(self.minimumAccuracy) || has(self.maximumAbsoluteError)",
              "say what good means: minimumAccuracy (labels known), maximumAbsoluteError (outputs known), or both",
            ),
            cel(
              "!has(self.minimumAccuracy) || (double(self.minimumAccuracy) >= 0.0 && double(self.minimumAccuracy) <= 1.0)",
              'minimumAccuracy is a share from 0 to 1: write "0.95" for 95 %',
            ),
          ],
        },
      ),
    ),
    latency: Type.Optional(
      Type.Object(
        {
          p95: duration({ description: "95 of 100 runs must take no longer, on the verifier's CPU." }),
          warmup: Type.Integer({
            description: "Runs before measuring.",
            minimum: 0,
            maximum: 10_000,
            default: 10,
          }),
          samples: Type.Integer({
            description: "Measured runs.",
            minimum: 20,
            maximum: 100_000,
            default: 200,
          }),
          batchSize: Type.Integer({
            description: "Size of a free first axis.",
            minimum: 1,
            maximum: 1024,
            default: 1,
          }),
          threads: Type.Integer({
            description: "Threads of ONNX Runtime.",
            minimum: 1,
            maximum: 64,
            default: 1,
          }),
        },
        {
          description:
            "A bound that catches a model which is far too slow; devices are judged by the canary.",
        },
      ),
    ),
  },
  { description: "What good means for this model." },
);

export const modelReleaseSpecSchema = Type.Object(
  {
    model: Type.String({
      description: "Name of the model, such as resnet50.",
      pattern: LABEL_LIKE,
      maxLength: 63,
    }),
    version: Type.String({
      description: "Version of the model, such as 2.1.0.",
      pattern: LABEL_LIKE,
      maxLength: 63,
    }),
    variants: listMap(variantSchema, "name", {
      description: "The files of the release; the most specific deviceClasses match wins.",
      minItems: 1,
      maxItems: 16,
    }),
    runtimeConfig: Type.Optional(
      Type.Object(
        {
          batchSize: Type.Optional(
            Type.Integer({ description: "Batch size on the device.", minimum: 1, maximum: 1024 }),
          ),
          numThreads: Type.Optional(
            Type.Integer({ description: "Threads on the device.", minimum: 1, maximum: 256 }),
          ),
        },
        { description: "Settings that travel, roll out and roll back with the weights." },
      ),
    ),
    verification: Type.Optional(verificationSchema),
  },
  {
    description: "Immutable: a new version is a new object.",
    "x-kubernetes-validations": [
      cel("self == oldSelf", "a ModelRelease is immutable; create a new object for a new version"),
      cel(
        "self.variants.filter(v, !has(v.deviceClasses) || v.deviceClasses.size() == 0).size() <= 1",
        "at most one variant may leave deviceClasses out: it is the one for all other classes",
      ),
      cel(
        // Each pair once: looking every class up in every other list costs more than the API server allows.
        "self.variants.all(a, !has(a.deviceClasses) || self.variants.all(b, a.name >= b.name || !has(b.deviceClasses) || !sets.intersects(a.deviceClasses, b.deviceClasses)))",
        "a device class may be named by one variant only",
      ),
    ],
  },
);

export const VERDICTS = ["Pending", "Running", "Passed", "Failed", "Error"] as const;
export const CHECK_OUTCOMES = ["Passed", "Failed", "Error", "Skipped"] as const;

export const checkResultSchema = Type.Object(
  {
    name: oneOf(["Digest", "Load", "Signature", "Golden", "Latency"], { description: "Which check." }),
    outcome: oneOf(CHECK_OUTCOMES, {
      description:
        "Passed and Failed are facts about the model; Error is a fact about us and is tried again.",
    }),
    measured: Type.Optional(Type.String({ description: "What was measured.", maxLength: 256 })),
    bound: Type.Optional(Type.String({ description: "What it was held against.", maxLength: 256 })),
    message: Type.Optional(Type.String({ description: "What was found, for people.", maxLength: 2048 })),
  },
  { description: "Result of one check." },
);

export const modelReleaseStatusSchema = Type.Object(
  {
    observedGeneration: Type.Optional(
      Type.Integer({ description: "The generation this status was made for." }),
    ),
    variants: Type.Optional(
      listMap(
        Type.Object(
          {
            name: Type.String({ description: "Name of the variant." }),
            digest: Type.String({ description: "Digest that the verdict is bound to." }),
            sizeBytes: Type.Optional(Type.Integer({ description: "Size of the blob in bytes." })),
            verdict: oneOf(VERDICTS, { description: "Where the verification stands." }),
            reason: Type.Optional(Type.String({ description: "Why, as one word.", maxLength: 64 })),
            message: Type.Optional(Type.String({ description: "Why, for people.", maxLength: 2048 })),
            checks: Type.Optional(
              listMap(checkResultSchema, "name", {
                description: "Results, in the order they ran.",
                maxItems: 16,
              }),
            ),
            verifiedAt: Type.Optional(timestamp({ description: "When the verdict was reached." })),
            verifierVersion: Type.Optional(
              Type.String({ description: "Version of the verifier and its ONNX Runtime." }),
            ),
            goldenDigest: Type.Optional(Type.String({ description: "Digest of the golden set used." })),
            attempts: Type.Optional(
              Type.Integer({
                description:
                  "How many times in a row the verification broke off for a reason that is not the model's.",
                minimum: 1,
              }),
            ),
            retryAt: Type.Optional(timestamp({ description: "When it is tried again." })),
          },
          { description: "Verdict on one variant." },
        ),
        "name",
        { description: "Verdict on each variant.", maxItems: 16 },
      ),
    ),
    conditions: Type.Optional(conditionsSchema),
  },
  { description: "What the operator has found out." },
);

export type ModelReleaseSpec = Of<typeof modelReleaseSpecSchema>;
export type ModelReleaseStatus = Of<typeof modelReleaseStatusSchema>;
export type ModelRelease = Resource<ModelReleaseSpec, ModelReleaseStatus>;
export type Variant = Of<typeof variantSchema>;
export type Verification = Of<typeof verificationSchema>;
export type Tensor = Of<typeof tensorSchema>;
export type BlobReference = Of<typeof blobSchema>;
export type CheckResult = Of<typeof checkResultSchema>;
export type VariantStatus = NonNullable<ModelReleaseStatus["variants"]>[number];

/** The variant for a device class: one that names the class, else the one for any class, else `null`. */
export function variantFor(variants: readonly Variant[], deviceClass: string): Variant | null {
  const named = variants.find((variant) => variant.deviceClasses?.includes(deviceClass));
  const any = variants.find((variant) => (variant.deviceClasses?.length ?? 0) === 0);
  return named ?? any ?? null;
}
