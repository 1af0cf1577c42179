import type { Duration } from "../base/time.ts";
import { blobSchema } from "./blob.ts";
import {
  batchSizeField,
  GOLDEN_BOUNDS,
  GOLDEN_SET_RULES,
  goldenFields,
  PARITY_RULES,
  parityFields,
} from "./output-bounds.ts";
import { cel, decimal, decimalRule, digest, duration } from "./schema.ts";
import { Type } from "./type.ts";

// What a ModelRelease asks of its model: one schema for each check of the verifier.

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

export const tensorSchema = Type.Object(
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

/** Checks that run the model: a golden set without bounds is what they feed it. */
export const RUNNING_CHECKS = [
  "determinism",
  "parity",
  "variantParity",
  "latency",
  "throughput",
  "memory",
] as const;

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
    "x-kubernetes-validations": [decimalRule("minimumPerSecond", "greater than 0")],
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
    "x-kubernetes-validations": [decimalRule("maximumAbsoluteError", "not negative")],
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
