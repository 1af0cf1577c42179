import type { Duration } from "../base/time.ts";
import { LABEL_LIKE } from "./edge-device.ts";
import {
  batchSizeField,
  GOLDEN_BOUNDS,
  GOLDEN_SET_RULES,
  goldenFields,
  PARITY_RULES,
  parityFields,
} from "./output-bounds.ts";
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
  whereDecimal,
} from "./schema.ts";
import { Type } from "./type.ts";

/** ONNX tensor element types as ONNX Runtime names them. */
const TENSOR_TYPES = [
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
  "bfloat16",
  "float8e4m3fn",
  "float8e4m3fnuz",
  "float8e5m2",
  "float8e5m2fnuz",
  "float8e8m0",
  "float4e2m1",
  "int4",
  "uint4",
  "int2",
  "uint2",
];

/** An element type, or one inside of `sequence()`, `optional()`, `map(key,)`. */
const VALUE_TYPE = `^(optional\\()?(sequence\\()?(map\\((int64|string),)?(${TENSOR_TYPES.join("|")})\\)*$`;

const blobSchema = Type.Object(
  {
    container: Type.String({
      description: "Blob container.",
      pattern: "^[a-z0-9]([a-z0-9-]{1,61}[a-z0-9])$",
      maxLength: 63,
    }),
    path: Type.String({
      description: "Path of the blob in the container.",
      minLength: 1,
      maxLength: 1024,
      pattern: "^[A-Za-z0-9._/+=@-]+$",
      "x-kubernetes-validations": [
        cel(
          "!self.startsWith('/') && !self.contains('..')",
          "the path must be relative to the container, without ..",
        ),
      ],
    }),
  },
  { description: "Blob in the storage account that the operator is configured with." },
);

const tensorSchema = Type.Object(
  {
    name: Type.String({ description: "Name of the tensor in the graph.", minLength: 1, maxLength: 256 }),
    type: Type.String({
      description:
        "Element type, for example float32, or a type that contains it: sequence(float32), optional(int64), optional(sequence(string)) or sequence(map(int64,float32)).",
      pattern: VALUE_TYPE,
      maxLength: 64,
    }),
    shape: Type.Array(
      Type.Unsafe<number | string>({
        "x-kubernetes-int-or-string": true,
        anyOf: [{ type: "integer" }, { type: "string" }],
        description: "Fixed size, or any name for a dynamic axis.",
      }),
      { description: "Size of each axis.", maxItems: 16 },
    ),
  },
  { description: "Input or output of the model." },
);

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

export const MEMORY_PATTERN = "^[1-9][0-9]{0,11}(Ki|Mi|Gi)?$";

const signatureSchema = Type.Object(
  {
    inputs: Type.Array(tensorSchema, { description: "Inputs of the model.", maxItems: 64 }),
    outputs: Type.Array(tensorSchema, { description: "Outputs of the model.", maxItems: 64 }),
  },
  { description: "Exact inputs and outputs that the model must have." },
);

const goldenSchema = Type.Object(
  {
    blob: blobSchema,
    digest: digest({ description: "SHA-256 digest of the golden set." }),
    ...goldenFields,
  },
  {
    description:
      "Samples with known answers: a NumPy .npz file (arrays named after the inputs, with `labels`, or `output:<name>` for expected outputs), or ONNX test data (test_data_set_N/input_*.pb and output_*.pb) as .tar, .tar.gz or .zip. Without bounds, the samples are used only as inputs for the other checks.",
    "x-kubernetes-validations": GOLDEN_SET_RULES,
  },
);

const latencySchema = Type.Object(
  {
    p50: Type.Optional(duration({ description: "Maximum median latency on the CPU of the verifier." })),
    p95: Type.Optional(
      duration({ description: "Maximum 95th percentile of the latency on the CPU of the verifier." }),
    ),
    p99: Type.Optional(
      duration({ description: "Maximum 99th percentile of the latency on the CPU of the verifier." }),
    ),
    warmup: Type.Integer({
      description: "Number of runs before measuring.",
      minimum: 0,
      maximum: 10_000,
      default: 10,
    }),
    samples: Type.Integer({
      description: "Number of measured runs.",
      minimum: 20,
      maximum: 100_000,
      default: 200,
    }),
    batchSize: Type.Integer({
      description: "Batch size, if the first axis is dynamic.",
      minimum: 1,
      maximum: 1024,
      default: 1,
    }),
    threads: Type.Integer({
      description: "Number of ONNX Runtime threads, for every check of the release.",
      minimum: 1,
      maximum: 64,
      default: 1,
    }),
  },
  {
    description:
      "Bounds on latency, meant to catch a model that is far too slow. Latency on devices is analyzed during the rollout.",
    "x-kubernetes-validations": [
      cel(
        "has(self.p50) || has(self.p95) || has(self.p99)",
        "latency requires at least one bound: p50, p95 or p99",
      ),
    ],
  },
);

const throughputSchema = Type.Object(
  {
    minimumPerSecond: decimal({
      description:
        "Minimum number of inferences per second (runs times batch size) on the CPU of the verifier.",
    }),
    batchSize: Type.Integer({
      description: "Batch size, if the first axis is dynamic.",
      minimum: 1,
      maximum: 65_536,
      default: 1,
    }),
    duration: duration({
      description: "Duration of the measurement. A tenth of it is added as warm-up.",
      default: "5s",
    }),
  },
  {
    description: "Bound on throughput, measured without pauses between runs.",
    "x-kubernetes-validations": [
      cel(
        whereDecimal(["minimumPerSecond"], "double(self.minimumPerSecond) > 0.0"),
        "minimumPerSecond must be greater than 0",
      ),
    ],
  },
);

const memorySchema = Type.Object(
  {
    maximum: Type.String({
      description:
        "Maximum resident memory that loading and running the model may add to that of the runtime, for example 512Mi.",
      pattern: MEMORY_PATTERN,
      maxLength: 16,
    }),
  },
  { description: "Bound on the peak memory of the model." },
);

const determinismSchema = Type.Object(
  {
    runs: Type.Integer({
      description: "Number of runs with the same input.",
      minimum: 2,
      maximum: 100,
      default: 3,
    }),
    maximumAbsoluteError: Type.Optional(
      decimal({
        description:
          "Maximum absolute difference between two runs. Defaults to 0, which requires identical outputs.",
      }),
    ),
    batchSize: batchSizeField(
      "Batch size, if the first axis is dynamic, limited to the number of samples in the golden set. Defaults to that of golden, or 64.",
    ),
  },
  {
    description: "Requires the same input to yield the same outputs.",
    "x-kubernetes-validations": [
      cel(
        whereDecimal(["maximumAbsoluteError"], "double(self.maximumAbsoluteError) >= 0.0"),
        "maximumAbsoluteError must not be negative",
      ),
    ],
  },
);

const paritySchema = Type.Object(
  {
    with: Type.String({
      description:
        "Name of the ModelRelease in the same namespace to compare with, or `previous` for the most recent earlier release of the same model that has passed. Variants are compared by name.",
      pattern: "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$",
      maxLength: 253,
    }),
    ...parityFields,
  },
  {
    description: "Bounds on the differences between this release and another one, on the same inputs.",
    "x-kubernetes-validations": PARITY_RULES,
  },
);

const variantParitySchema = Type.Object(
  {
    reference: Type.String({
      description: "Name of the variant that all others are compared with.",
      maxLength: 32,
    }),
    ...parityFields,
  },
  {
    description: "Bounds on the differences between the variants of this release, on the same inputs.",
    "x-kubernetes-validations": PARITY_RULES,
  },
);

const reverifySchema = Type.Object(
  {
    every: Type.Optional(
      duration({ description: "Interval between verifications, for example 168h. At least 1h." }),
    ),
    schedule: Type.Optional(
      Type.String({
        description:
          'Schedule in cron format with five fields, for example "0 14 * * 5" for every Friday at 14:00.',
        pattern: "^\\S+( \\S+){4}$",
        maxLength: 100,
      }),
    ),
    timeZone: Type.Optional(
      Type.String({
        description: "Time zone of the schedule, for example Europe/Berlin. Defaults to UTC.",
        pattern: "^[A-Za-z0-9_+/-]+$",
        maxLength: 64,
      }),
    ),
  },
  {
    description:
      "When to verify a verified release again. The release remains verified until there is a new verdict.",
    "x-kubernetes-validations": [
      cel("has(self.every) != has(self.schedule)", "exactly one of every and schedule is required"),
      cel("!has(self.timeZone) || has(self.schedule)", "timeZone requires schedule"),
      cel("!has(self.every) || duration(self.every) >= duration('1h')", "every must be at least 1h"),
    ],
  },
);

/** What is checked where a release does not say: the digest, and that the model loads within this time. */
export const VERIFICATION_DEFAULTS = { timeout: "5m" as Duration } as const;

/** Checks that run the model: a golden set without bounds is what they feed it. */
export const RUNNING_CHECKS = [
  "determinism",
  "parity",
  "variantParity",
  "latency",
  "throughput",
  "memory",
] as const;

export const verificationSchema = Type.Object(
  {
    timeout: duration({
      description: "Duration after which a verification is considered to hang, and fails.",
      default: VERIFICATION_DEFAULTS.timeout,
    }),
    signature: Type.Optional(signatureSchema),
    golden: Type.Optional(goldenSchema),
    determinism: Type.Optional(determinismSchema),
    parity: Type.Optional(paritySchema),
    variantParity: Type.Optional(variantParitySchema),
    latency: Type.Optional(latencySchema),
    throughput: Type.Optional(throughputSchema),
    memory: Type.Optional(memorySchema),
    reverify: Type.Optional(reverifySchema),
  },
  {
    description: "Checks that the model must pass.",
    "x-kubernetes-validations": [
      cel(
        `!has(self.golden) || ${[...GOLDEN_BOUNDS, "outputs"].map((name) => `has(self.golden.${name})`).join(" || ")} || (has(self.golden.nonFinite) && self.golden.nonFinite == 'Never') || ${RUNNING_CHECKS.map((name) => `has(self.${name})`).join(" || ")}`,
        "the golden set is not used; add a bound, such as minimumAccuracy (for labels) or maximumAbsoluteError (for outputs), or a check that runs the model",
      ),
    ],
  },
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

export const modelReleaseStatusSchema = Type.Object(
  {
    observedGeneration: Type.Optional(
      Type.Integer({ description: "Generation that was most recently reconciled." }),
    ),
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
    handledRequests: Type.Optional(
      Type.Object(
        {
          reverify: Type.Optional(
            Type.String({ description: "Token of the last request that was handled.", maxLength: 256 }),
          ),
        },
        { description: "Requests that have been handled." },
      ),
    ),
    conditions: Type.Optional(conditionsSchema),
  },
  { description: "Observed state of the release." },
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
