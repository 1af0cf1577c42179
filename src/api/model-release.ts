import { blobSchema } from "./blob.ts";
import { LABEL_LIKE } from "./edge-device.ts";
import type { Resource } from "./resource.ts";
import {
  cel,
  digest,
  handledRequestsField,
  listMap,
  type Of,
  oneOf,
  statusSchema,
  timestamp,
} from "./schema.ts";
import { Type } from "./type.ts";
import { type tensorSchema, verificationSchema } from "./verification-spec.ts";

export const variantSchema = Type.Object(
  {
    name: Type.String({
      description: "Name of the variant, for example fp32.",
      pattern: "^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$",
      maxLength: 32,
    }),
    deviceClasses: Type.Optional(
      Type.Array(Type.String({ description: "Device class.", pattern: LABEL_LIKE, maxLength: 63 }), {
        description:
          "Device classes that this variant is for. If omitted, it is for all classes that no other variant lists.",
        maxItems: 64,
        "x-kubernetes-list-type": "set",
      }),
    ),
    blob: blobSchema,
    digest: digest({ description: "SHA-256 digest of the file, which identifies what devices run." }),
    executionProvider: Type.Optional(
      oneOf(["cpu", "cuda", "tensorrt"], {
        // No default in the schema: inside a list it would be drift to kubectl and Argo CD.
        description: "ONNX Runtime execution provider to use on devices. Defaults to cpu.",
      }),
    ),
  },
  { description: "Model file for some device classes." },
);

export const modelReleaseSpecSchema = Type.Object(
  {
    model: Type.String({
      description: "Name of the model, for example resnet50.",
      pattern: LABEL_LIKE,
      maxLength: 63,
    }),
    version: Type.String({
      description: "Version of the model, for example 2.1.0.",
      pattern: LABEL_LIKE,
      maxLength: 63,
    }),
    variants: listMap(variantSchema, "name", {
      description:
        "Variants of the release. A device uses the variant that lists its class, otherwise the one without deviceClasses.",
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
            Type.Integer({ description: "Number of threads on the device.", minimum: 1, maximum: 256 }),
          ),
        },
        { description: "Runtime settings, which are rolled out and rolled back together with the model." },
      ),
    ),
    verification: Type.Optional(verificationSchema),
  },
  {
    description: "Desired state of the release. Immutable; create a new object for a new version.",
    "x-kubernetes-validations": [
      cel("self == oldSelf", "a ModelRelease is immutable; create a new one for a new version"),
      cel(
        "self.variants.filter(v, !has(v.deviceClasses) || v.deviceClasses.size() == 0).size() <= 1",
        "at most one variant may omit deviceClasses; it is used for all other classes",
      ),
      cel(
        // Each pair once: looking every class up in every other list costs more than the API server allows.
        "self.variants.all(a, !has(a.deviceClasses) || self.variants.all(b, a.name >= b.name || !has(b.deviceClasses) || !sets.intersects(a.deviceClasses, b.deviceClasses)))",
        "a device class must not be listed by more than one variant",
      ),
      cel(
        "!has(self.verification) || !has(self.verification.variantParity) || self.variants.exists(v, v.name == self.verification.variantParity.reference)",
        "variantParity.reference must be the name of one of the variants",
      ),
    ],
  },
);

export const VERDICTS = ["Pending", "Running", "Passed", "Failed", "Error"] as const;
export const CHECK_OUTCOMES = ["Passed", "Failed", "Error", "Skipped"] as const;

/** In the order in which they are made. */
export const CHECK_NAMES = [
  "Digest",
  "Load",
  "Signature",
  "Golden",
  "Determinism",
  "Parity",
  "VariantParity",
  "Latency",
  "Throughput",
  "Memory",
] as const;

export const checkResultSchema = Type.Object(
  {
    name: oneOf(CHECK_NAMES, { description: "Name of the check." }),
    outcome: oneOf(CHECK_OUTCOMES, {
      description:
        "Outcome of the check. Passed and Failed are results for the model. Error means that the check could not be completed; it will be retried automatically.",
    }),
    measured: Type.Optional(Type.String({ description: "Measured value.", maxLength: 256 })),
    bound: Type.Optional(
      Type.String({ description: "Bound that the value was compared with.", maxLength: 256 }),
    ),
    method: Type.Optional(Type.String({ description: "How the value was measured.", maxLength: 256 })),
    message: Type.Optional(Type.String({ description: "Human-readable result.", maxLength: 2048 })),
    worst: Type.Optional(
      Type.Object(
        {
          index: Type.Integer({ description: "Index of the sample or run, starting from 0.", minimum: 0 }),
          where: Type.Optional(Type.String({ description: "Output and element.", maxLength: 256 })),
          expected: Type.String({ description: "Expected value.", maxLength: 128 }),
          got: Type.String({ description: "Actual value.", maxLength: 128 }),
        },
        { description: "Sample or run that deviates most." },
      ),
    ),
  },
  { description: "Result of one check." },
);

const referenceSchema = (description: string) =>
  Type.Object(
    {
      release: Type.String({ description: "Name of the ModelRelease.", maxLength: 253 }),
      variant: Type.String({ description: "Name of the variant.", maxLength: 32 }),
      digest: Type.String({ description: "Digest of the variant.", maxLength: 71 }),
    },
    { description },
  );

const comparedWithSchema = Type.Object(
  {
    parity: Type.Optional(referenceSchema("Variant that parity compares with.")),
    variantParity: Type.Optional(referenceSchema("Variant that variantParity compares with.")),
  },
  {
    description:
      "Variants that the model is compared with, determined when the verification started. Empty if there was nothing to compare with.",
  },
);

/** Why a verified release is verified again. */
export const REVERIFICATION_CAUSES = ["Requested", "Scheduled", "VerifierChanged", "Confirmation"] as const;

const progressFields = {
  reason: Type.Optional(
    Type.String({ description: "Machine-readable reason, in CamelCase.", maxLength: 64 }),
  ),
  message: Type.Optional(Type.String({ description: "Human-readable explanation.", maxLength: 2048 })),
  startedAt: Type.Optional(
    timestamp({ description: "Time at which the verification was submitted to the verifier." }),
  ),
  comparedWith: Type.Optional(comparedWithSchema),
  attempts: Type.Optional(
    Type.Integer({
      description:
        "Number of consecutive verifications that could not be completed for a reason other than the model.",
      minimum: 1,
    }),
  ),
  retryAt: Type.Optional(timestamp({ description: "Time of the next attempt." })),
};

const reverificationSchema = Type.Object(
  {
    since: timestamp({ description: "Time at which the verification was requested or became due." }),
    cause: oneOf(REVERIFICATION_CAUSES, { description: "Why the release is verified again." }),
    verdict: oneOf(["Pending", "Running", "Error"], { description: "State of the verification." }),
    ...progressFields,
  },
  { description: "Verification in progress, while the previous verdict remains in effect." },
);

export const modelReleaseStatusSchema = statusSchema(
  {
    variants: Type.Optional(
      listMap(
        Type.Object(
          {
            name: Type.String({ description: "Name of the variant." }),
            digest: Type.String({ description: "Digest that the verdict applies to." }),
            sizeBytes: Type.Optional(Type.Integer({ description: "Size of the blob, in bytes." })),
            etag: Type.Optional(
              Type.String({
                description: "ETag of the blob that the verdict applies to.",
                maxLength: 256,
              }),
            ),
            verdict: oneOf(VERDICTS, { description: "State of the verification." }),
            ...progressFields,
            checks: Type.Optional(
              listMap(checkResultSchema, "name", {
                description: "Results of the checks, in the order in which they ran.",
                maxItems: 16,
              }),
            ),
            verifiedAt: Type.Optional(timestamp({ description: "Time at which the verdict was reached." })),
            verifierVersion: Type.Optional(
              Type.String({ description: "Version of the verifier and of its ONNX Runtime." }),
            ),
            goldenDigest: Type.Optional(
              Type.String({ description: "Digest of the golden set that was used." }),
            ),
            key: Type.Optional(
              Type.String({
                description: "Key under which the verifier stores the verdict.",
                maxLength: 128,
              }),
            ),
            report: Type.Optional(
              Type.Object(
                {
                  container: Type.String({ description: "Blob container.", maxLength: 63 }),
                  path: Type.String({
                    description: "Path of the JSON report.",
                    maxLength: 1100,
                  }),
                  page: Type.String({ description: "Path of the HTML report.", maxLength: 1100 }),
                },
                { description: "Location of the full report, which is stored beside the model." },
              ),
            ),
            reportError: Type.Optional(
              Type.Object(
                {
                  reason: Type.String({
                    description: "Machine-readable reason, in CamelCase.",
                    maxLength: 64,
                  }),
                  message: Type.String({ description: "Human-readable explanation.", maxLength: 1024 }),
                  attempts: Type.Integer({ description: "Number of attempts.", minimum: 1 }),
                  retryAt: Type.Optional(
                    timestamp({
                      description:
                        "Time of the next attempt. If omitted, there is none before the next verdict.",
                    }),
                  ),
                },
                { description: "Why the full report could not be stored. The verdict is not affected." },
              ),
            ),
            reverification: Type.Optional(reverificationSchema),
          },
          { description: "Verification status of one variant." },
        ),
        "name",
        { description: "Verification status of each variant.", maxItems: 16 },
      ),
    ),
    handledRequests: handledRequestsField(["reverify"]),
  },
  "Observed state of the release.",
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
export type Reverification = Of<typeof reverificationSchema>;
export type ComparedWith = Of<typeof comparedWithSchema>;
export type ReportError = NonNullable<VariantStatus["reportError"]>;

/** The variant for a device class: one that names the class, else the one for any class, else `null`. */
export function variantFor(variants: readonly Variant[], deviceClass: string): Variant | null {
  const named = variants.find((variant) => variant.deviceClasses?.includes(deviceClass));
  const any = variants.find((variant) => (variant.deviceClasses?.length ?? 0) === 0);
  return named ?? any ?? null;
}
