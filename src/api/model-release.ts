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
    type: Type.String({
      description:
        "Element type, such as float32, or what it is inside of: sequence(float32), optional(int64), optional(sequence(string)), sequence(map(int64,float32)).",
      pattern: VALUE_TYPE,
      maxLength: 64,
    }),
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

export const MEMORY_PATTERN = "^[1-9][0-9]{0,11}(Ki|Mi|Gi)?$";

const signatureSchema = Type.Object(
  {
    inputs: Type.Array(tensorSchema, { description: "All inputs of the model.", maxItems: 64 }),
    outputs: Type.Array(tensorSchema, { description: "All outputs of the model.", maxItems: 64 }),
  },
  { description: "Inputs and outputs that the model must have, no more and no fewer." },
);

const goldenSchema = Type.Object(
  {
    blob: blobSchema,
    digest: digest({ description: "sha256 of the golden set." }),
    ...goldenFields,
  },
  {
    description:
      "Samples with known answers: a numpy .npz (arrays named like the inputs, and `labels`, or `output:<name>` for known outputs), or ONNX test data (test_data_set_N/input_*.pb and output_*.pb) as .tar, .tar.gz or .zip. Without a bound they are samples only, which the other checks run the model with.",
    "x-kubernetes-validations": GOLDEN_SET_RULES,
  },
);

const latencySchema = Type.Object(
  {
    p50: Type.Optional(
      duration({ description: "50 of 100 runs must take no longer, on the verifier's CPU." }),
    ),
    p95: Type.Optional(
      duration({ description: "95 of 100 runs must take no longer, on the verifier's CPU." }),
    ),
    p99: Type.Optional(
      duration({ description: "99 of 100 runs must take no longer, on the verifier's CPU." }),
    ),
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
      description: "Threads of ONNX Runtime, for every check of the release.",
      minimum: 1,
      maximum: 64,
      default: 1,
    }),
  },
  {
    description: "A bound that catches a model which is far too slow; devices are judged by the canary.",
    "x-kubernetes-validations": [
      cel("has(self.p50) || has(self.p95) || has(self.p99)", "give a bound: p50, p95 or p99"),
    ],
  },
);

const throughputSchema = Type.Object(
  {
    minimumPerSecond: decimal({
      description: "Inferences (runs times batch size) that one second must hold, on the verifier's CPU.",
    }),
    batchSize: Type.Integer({
      description: "Size of a free first axis.",
      minimum: 1,
      maximum: 65_536,
      default: 1,
    }),
    duration: duration({
      description: "How long is measured, after a tenth of it as warm-up.",
      default: "5s",
    }),
  },
  {
    description: "How many inferences a second the model must reach, run after run without a pause.",
    "x-kubernetes-validations": [
      cel(
        whereDecimal(["minimumPerSecond"], "double(self.minimumPerSecond) > 0.0"),
        "minimumPerSecond must be above 0",
      ),
    ],
  },
);

const memorySchema = Type.Object(
  {
    maximum: Type.String({
      description:
        "Most resident memory that loading and running the model may add to that of the runtime alone, such as 512Mi.",
      pattern: MEMORY_PATTERN,
      maxLength: 16,
    }),
  },
  { description: "What the model needs in memory at its peak." },
);

const determinismSchema = Type.Object(
  {
    runs: Type.Integer({
      description: "How often the same input is run.",
      minimum: 2,
      maximum: 100,
      default: 3,
    }),
    maximumAbsoluteError: Type.Optional(
      decimal({ description: "Largest difference between two runs. Default: 0, bit for bit the same." }),
    ),
    batchSize: batchSizeField(
      "How many samples are run at once where the first axis is free. Default: that of golden, or 64; never more than the golden set has.",
    ),
  },
  {
    description: "The same input must give the same outputs.",
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
        "Name of a ModelRelease of this namespace, or `previous`: the newest older one of the same model that has passed. Compared variant by variant, by name.",
      pattern: "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$",
      maxLength: 253,
    }),
    ...parityFields,
  },
  {
    description: "How alike this release and another one must be on the same inputs.",
    "x-kubernetes-validations": PARITY_RULES,
  },
);

const variantParitySchema = Type.Object(
  {
    reference: Type.String({
      description: "Name of the variant that all others are held against.",
      maxLength: 32,
    }),
    ...parityFields,
  },
  {
    description: "How alike the variants of this release must be on the same inputs.",
    "x-kubernetes-validations": PARITY_RULES,
  },
);

const reverifySchema = Type.Object(
  {
    every: Type.Optional(duration({ description: "Time after a verdict; at least 1h." })),
    schedule: Type.Optional(
      Type.String({
        description: 'Five cron fields, such as "0 14 * * 5" for each Friday at two.',
        pattern: "^\\S+( \\S+){4}$",
        maxLength: 100,
      }),
    ),
    timeZone: Type.Optional(
      Type.String({
        description: "Time zone of the schedule, such as Europe/Berlin. Default: UTC.",
        pattern: "^[A-Za-z0-9_+/-]+$",
        maxLength: 64,
      }),
    ),
  },
  {
    description:
      "When a verified release is verified again. What is verified stays so until there is another verdict.",
    "x-kubernetes-validations": [
      cel("has(self.every) != has(self.schedule)", "give either every or schedule"),
      cel("!has(self.timeZone) || has(self.schedule)", "timeZone needs schedule"),
      cel("!has(self.every) || duration(self.every) >= duration('1h')", "every must be at least 1h"),
    ],
  },
);

/** What is checked where a release does not say: the digest, and that the model loads within this time. */
export const VERIFICATION_DEFAULTS = { timeout: "5m" as Duration } as const;

export const verificationSchema = Type.Object(
  {
    timeout: duration({
      description: "A verification that takes longer is Failed: the model hangs.",
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
    description: "What good means for this model.",
    "x-kubernetes-validations": [
      cel(
        `!has(self.golden) || ${[...GOLDEN_BOUNDS, "outputs"].map((name) => `has(self.golden.${name})`).join(" || ")} || (has(self.golden.nonFinite) && self.golden.nonFinite == 'Never') || ${["determinism", "parity", "variantParity", "latency", "throughput", "memory"].map((name) => `has(self.${name})`).join(" || ")}`,
        "nothing uses the golden set: say what good means, such as minimumAccuracy (labels known) or maximumAbsoluteError (outputs known), or ask for a check that runs the model",
      ),
    ],
  },
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
    name: oneOf(CHECK_NAMES, { description: "Which check." }),
    outcome: oneOf(CHECK_OUTCOMES, {
      description:
        "Passed and Failed are facts about the model; Error is a fact about us and is tried again.",
    }),
    measured: Type.Optional(Type.String({ description: "What was measured.", maxLength: 256 })),
    bound: Type.Optional(Type.String({ description: "What it was held against.", maxLength: 256 })),
    method: Type.Optional(Type.String({ description: "How it was measured.", maxLength: 256 })),
    message: Type.Optional(Type.String({ description: "What was found, for people.", maxLength: 2048 })),
    worst: Type.Optional(
      Type.Object(
        {
          index: Type.Integer({ description: "Which sample or run, counted from 0.", minimum: 0 }),
          where: Type.Optional(
            Type.String({ description: "Which output and which element of it.", maxLength: 256 }),
          ),
          expected: Type.String({ description: "What it should have been.", maxLength: 128 }),
          got: Type.String({ description: "What it was.", maxLength: 128 }),
        },
        { description: "The worst example." },
      ),
    ),
  },
  { description: "Result of one check." },
);

const referenceSchema = (description: string) =>
  Type.Object(
    {
      release: Type.String({ description: "Name of the ModelRelease.", maxLength: 253 }),
      variant: Type.String({ description: "Name of its variant.", maxLength: 32 }),
      digest: Type.String({ description: "Digest of that variant.", maxLength: 71 }),
    },
    { description },
  );

const comparedWithSchema = Type.Object(
  {
    parity: Type.Optional(referenceSchema("What parity was judged by.")),
    variantParity: Type.Optional(referenceSchema("What variantParity was judged by.")),
  },
  {
    description:
      "What this is compared with, as it was when the verification began; empty where there was nothing to compare with.",
  },
);

/** Why a verified release is verified again. */
export const REVERIFICATION_CAUSES = ["Requested", "Scheduled", "VerifierChanged", "Confirmation"] as const;

const progressFields = {
  reason: Type.Optional(Type.String({ description: "Why, as one word.", maxLength: 64 })),
  message: Type.Optional(Type.String({ description: "Why, for people.", maxLength: 2048 })),
  startedAt: Type.Optional(timestamp({ description: "When it was given to the verifier." })),
  comparedWith: Type.Optional(comparedWithSchema),
  attempts: Type.Optional(
    Type.Integer({
      description: "How many times in a row the verification broke off for a reason that is not the model's.",
      minimum: 1,
    }),
  ),
  retryAt: Type.Optional(timestamp({ description: "When it is tried again." })),
};

const reverificationSchema = Type.Object(
  {
    since: timestamp({ description: "When it was decided." }),
    cause: oneOf(REVERIFICATION_CAUSES, { description: "Why it is verified again." }),
    verdict: oneOf(["Pending", "Running", "Error"], { description: "Where it stands." }),
    ...progressFields,
  },
  { description: "A verification that is under way while the verdict above stands." },
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
            etag: Type.Optional(
              Type.String({
                description: "State of the blob that the verdict is bound to: other bytes have another one.",
                maxLength: 256,
              }),
            ),
            verdict: oneOf(VERDICTS, { description: "Where the verification stands." }),
            ...progressFields,
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
            key: Type.Optional(
              Type.String({ description: "What the verifier knows the verdict by.", maxLength: 128 }),
            ),
            report: Type.Optional(
              Type.Object(
                {
                  container: Type.String({ description: "Blob container.", maxLength: 63 }),
                  path: Type.String({
                    description: "Everything that was measured, as JSON.",
                    maxLength: 1100,
                  }),
                  page: Type.String({ description: "The same as a page for people.", maxLength: 1100 }),
                },
                { description: "Where the full report lies, beside the model." },
              ),
            ),
            reportError: Type.Optional(
              Type.Object(
                {
                  reason: Type.String({ description: "Why, as one word.", maxLength: 64 }),
                  message: Type.String({ description: "Why, for people.", maxLength: 1024 }),
                  attempts: Type.Integer({ description: "How often it was tried.", minimum: 1 }),
                  retryAt: Type.Optional(
                    timestamp({ description: "When it is tried again; absent: not before another verdict." }),
                  ),
                },
                { description: "Why the full report is not in the store. The verdict stands all the same." },
              ),
            ),
            reverification: Type.Optional(reverificationSchema),
          },
          { description: "Verdict on one variant." },
        ),
        "name",
        { description: "Verdict on each variant.", maxItems: 16 },
      ),
    ),
    handledRequests: Type.Optional(
      Type.Object(
        { reverify: Type.Optional(Type.String({ description: "Token.", maxLength: 256 })) },
        { description: "Tokens of the requests already served." },
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
export type Reverification = Of<typeof reverificationSchema>;
export type ComparedWith = Of<typeof comparedWithSchema>;
export type ReportError = NonNullable<VariantStatus["reportError"]>;

/** The variant for a device class: one that names the class, else the one for any class, else `null`. */
export function variantFor(variants: readonly Variant[], deviceClass: string): Variant | null {
  const named = variants.find((variant) => variant.deviceClasses?.includes(deviceClass));
  const any = variants.find((variant) => (variant.deviceClasses?.length ?? 0) === 0);
  return named ?? any ?? null;
}
