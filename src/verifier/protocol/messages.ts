import type { ModelFacts } from "../../api/verification-report.ts";
import { isRecord } from "../../base/guards.ts";
import { own } from "../../base/lookup.ts";
import { err, ok, type Result } from "../../base/result.ts";
import type { Batch } from "../golden/types.ts";
import type { Signature, TensorInfo } from "../onnx/tensor.ts";
import type { Agreement, AgreementOptions } from "../score/classes/agreement.ts";
import type { Classification } from "../score/classes/classification.ts";
import type { Ranking } from "../score/classes/ranking.ts";
import type { Comparison, Tolerance } from "../score/comparison.ts";
import type { FiniteCount } from "../score/finite.ts";
import type { OutputFigures } from "../score/output-metrics.ts";
import type { GoldenSection } from "../score/sections.ts";

// What the sidecar and the child process of a model say to each other. The child has run a foreign model when it
// answers: its answers are checked like anything else that comes from outside.

/** Where samples come from: a golden set, or synthetic (`null`). */
export type Samples = { readonly path: string; readonly limit: number } | null;

/** What is asked of the answers of two models, as golden sections are of known ones. */
export type ParitySection = {
  readonly output: string | null;
  readonly except: readonly string[];
  readonly agreement: Omit<AgreementOptions, "output"> | null;
  readonly tolerance: Tolerance | null;
};

export type Question =
  | { readonly kind: "load"; readonly path: string; readonly threads: number }
  | {
      readonly kind: "golden";
      readonly path: string;
      readonly limit: number;
      /** `null`: as many samples at once as suits. */
      readonly batchSize: number | null;
      /** None: the set is read, for its samples alone. */
      readonly sections: readonly GoldenSection[];
      /** Whether every output is looked through for NaN and infinity. */
      readonly finiteOnly: boolean;
    }
  /** Compares with known outputs again, in batches of each of these sizes. */
  | {
      readonly kind: "batches";
      readonly path: string;
      readonly limit: number;
      readonly sizes: readonly number[];
      readonly sections: readonly GoldenSection[];
    }
  /** Runs one input so many times and compares each answer with the first. */
  | {
      readonly kind: "determinism";
      readonly runs: number;
      readonly tolerance: Tolerance;
      readonly batchSize: number | null;
    }
  /** Runs the loaded model on the samples and keeps its answers, then lets the model go. */
  | {
      readonly kind: "remember";
      readonly samples: Samples;
      readonly limit: number;
      readonly batchSize: number | null;
    }
  /** Runs the loaded model on the same samples and compares with what was remembered. */
  | { readonly kind: "compare"; readonly sections: readonly ParitySection[] }
  | {
      readonly kind: "latency";
      readonly warmup: number;
      readonly samples: number;
      readonly batchSize: number;
    }
  | { readonly kind: "throughput"; readonly milliseconds: number; readonly batchSize: number }
  /** Loads and runs the model a few times in a process that has done nothing else, and reports what that took. */
  | {
      readonly kind: "memory";
      readonly path: string;
      readonly threads: number;
      readonly batchSize: number;
      readonly signature: Signature;
      readonly samples: Samples;
    };

export type SectionMeasured = {
  readonly classification: Classification | null;
  readonly ranking: Ranking | null;
  readonly comparison: Comparison | null;
  readonly figures: OutputFigures | null;
};

export type GoldenMeasured = {
  readonly samples: number;
  readonly batch: Batch;
  readonly notes: readonly string[];
  readonly sections: readonly SectionMeasured[];
  /** Of every output; `null`: it was not asked for. */
  readonly finite: readonly FiniteCount[] | null;
  /** Outputs of the model that no bound was about. */
  readonly ignored: readonly string[];
};

/** Known outputs compared again, in batches of another size. */
export type BatchFound = { readonly size: number; readonly beyond: number; readonly cosine: number };

export type ParityMeasured = {
  readonly samples: number;
  /** What was fed. */
  readonly input: string;
  readonly sections: readonly {
    /** Classes of the first model are the labels; `null`: it was not asked for. */
    readonly agreement: Agreement | null;
    readonly comparison: Comparison | null;
  }[];
  /** Outputs of the model that no bound was about. */
  readonly ignored: readonly string[];
};

/** What the file says of itself. */
export type FileFacts = Pick<
  ModelFacts,
  "irVersion" | "producer" | "opsets" | "operators" | "nodes" | "parameters"
>;

export type Answer =
  | { readonly kind: "ready"; readonly runtimeVersion: string }
  | { readonly kind: "loaded"; readonly signature: Signature; readonly file: FileFacts }
  | { readonly kind: "golden"; readonly measured: GoldenMeasured }
  | { readonly kind: "batches"; readonly found: readonly BatchFound[] }
  | { readonly kind: "determinism"; readonly comparison: Comparison; readonly input: string }
  | { readonly kind: "remembered" }
  | { readonly kind: "parity"; readonly measured: ParityMeasured }
  /** Milliseconds of each run, and what was fed. */
  | { readonly kind: "latency"; readonly runs: Float64Array; readonly input: string }
  | {
      readonly kind: "throughput";
      readonly inferences: number;
      readonly milliseconds: number;
      readonly input: string;
    }
  /** Bytes that the model added to the resident memory of the process, at most. `null`: it cannot be measured here. */
  | { readonly kind: "memory"; readonly bytes: number | null; readonly input: string }
  /** The model or the golden set is refused: a fact about the release. */
  | { readonly kind: "refused"; readonly because: RefusalKind; readonly message: string }
  /** The child itself could not do its work: a fact about us. */
  | { readonly kind: "broken"; readonly message: string };

const REFUSALS = [
  ...["load", "operator", "opset", "external", "run", "memory", "compare"],
  // About the golden set and the bounds: it cannot be read, does not fit, leaves open which output is meant, cannot bind.
  ...["golden", "misfit", "ambiguous", "bound"],
  // About us: no samples that the model takes, and a locale that this machine lacks.
  ...["input", "locale"],
] as const;
export type RefusalKind = (typeof REFUSALS)[number];

const MOST_TENSORS = 10_000;
const MOST_RUNS = 1_000_000;
const MOST_CLASSES = 1_000_000;
/** One without a name, and those of golden.outputs. */
const MOST_SECTIONS = 17;
const LONGEST_TEXT = 16_384;

/** Any message of the child, or a sentence that says what is wrong with it. */
export function parseAnswer(message: unknown): Result<Answer, string> {
  if (!isRecord(message)) return err("it is not an object");
  const kind = message["kind"];
  const is =
    typeof kind === "string" && Object.hasOwn(ANSWERS, kind) ? ANSWERS[kind as Answer["kind"]] : null;
  return is?.(message) === true ? ok(message as Answer) : err("its fields are not those of an answer");
}

type Is = (value: unknown) => boolean;

const isText: Is = (value) => typeof value === "string" && value.length <= LONGEST_TEXT;
const isCount: Is = (value) => Number.isSafeInteger(value) && Number(value) >= 0;
const isInteger: Is = (value) => Number.isSafeInteger(value);
const isNumber: Is = (value) => typeof value === "number";
const isTime: Is = (value) => typeof value === "number" && value >= 0 && Number.isFinite(value);
const orNull =
  (is: Is): Is =>
  (value) =>
    value === null || is(value);
const listOf =
  (is: Is, most: number): Is =>
  (value) =>
    Array.isArray(value) && value.length <= most && value.every(is);
const fields =
  (shape: Readonly<Record<string, Is>>): Is =>
  (value) =>
    isRecord(value) && Object.entries(shape).every(([name, is]) => is(own(value, name)));

const isTensorInfo = fields({
  name: isText,
  type: isText,
  shape: listOf((axis) => isText(axis) || isCount(axis), 64),
  keys: (keys) => keys === undefined || listOf(isText, MOST_CLASSES)(keys),
}) satisfies (value: TensorInfo) => boolean;
const isSignature = fields({
  inputs: listOf(isTensorInfo, MOST_TENSORS),
  outputs: listOf(isTensorInfo, MOST_TENSORS),
});

const agreementFields = {
  output: isText,
  classes: isCount,
  names: orNull(listOf(isText, MOST_CLASSES)),
  samples: isCount,
  correct: isCount,
  byClass: listOf(fields({ label: isInteger, samples: isCount, correct: isCount }), MOST_CLASSES),
  confused: listOf(fields({ expected: isInteger, got: isInteger, samples: isCount }), 10),
  worst: orNull(fields({ index: isCount, expected: isInteger, got: isInteger, margin: isNumber })),
};
/** Counts that cannot be are no measurement. */
const countsAdd: Is = (value) => {
  const { samples, correct } = value as Agreement;
  return samples > 0 && correct <= samples;
};
const isAgreement: Is = (value) => fields(agreementFields)(value) && countsAdd(value);
const isClassification: Is = (value) => {
  const shape = fields({
    ...agreementFields,
    reading: isText,
    topK: isCount,
    correctTopK: orNull(isCount),
    notNumbers: isCount,
  });
  if (!shape(value) || !countsAdd(value)) return false;
  const { samples, correctTopK } = value as Classification;
  return (correctTopK ?? 0) <= samples;
};
const isRanking = fields({
  output: isText,
  rocAuc: orNull(isNumber),
  averagePrecision: orNull(isNumber),
  undefinedFor: isText,
});

const isNames = listOf(isText, MOST_TENSORS);
const isComparison = fields({
  samples: isCount,
  elements: isCount,
  beyond: isCount,
  nonFinite: isCount,
  largestAbsolute: isNumber,
  largestRelative: isNumber,
  worst: orNull(
    fields({
      output: isText,
      index: isCount,
      element: isCount,
      place: isText,
      expected: isText,
      got: isText,
      absolute: isNumber,
      relative: isNumber,
    }),
  ),
  lowestCosine: orNull(fields({ output: isText, index: isCount, cosine: isNumber })),
  outputs: isNames,
  withoutCosine: isNames,
});

const isFigure = orNull(isNumber);
const isFigures = fields({
  output: isText,
  rootMeanSquaredError: isFigure,
  meanAbsoluteError: isFigure,
  maskIou: isFigure,
  boxMatch: isFigure,
  boxes: orNull(fields({ expected: isCount, got: isCount, matched: isCount })),
  wordErrorRate: isFigure,
  characterErrorRate: isFigure,
  undefinedFor: isNames,
});

const isRuns: Is = (value) =>
  value instanceof Float64Array && value.length > 0 && value.length <= MOST_RUNS && value.every(isTime);

const ANSWERS: Readonly<Record<Answer["kind"], Is>> = {
  ready: fields({ runtimeVersion: isText }),
  loaded: fields({
    signature: isSignature,
    file: fields({
      irVersion: isCount,
      producer: isText,
      opsets: listOf(fields({ domain: isText, version: isInteger }), MOST_TENSORS),
      operators: listOf(fields({ domain: isText, name: isText, count: isCount }), MOST_TENSORS),
      nodes: isCount,
      parameters: isNumber,
    }),
  }),
  golden: fields({
    measured: fields({
      samples: isCount,
      batch: fields({ size: orNull(isCount), free: (value) => typeof value === "boolean" }),
      notes: isNames,
      sections: listOf(
        fields({
          classification: orNull(isClassification),
          ranking: orNull(isRanking),
          comparison: orNull(isComparison),
          figures: orNull(isFigures),
        }),
        MOST_SECTIONS,
      ),
      finite: orNull(
        listOf(
          fields({ output: isText, elements: isCount, nonFinite: isCount, first: isInteger }),
          MOST_TENSORS,
        ),
      ),
      ignored: isNames,
    }),
  }),
  batches: fields({ found: listOf(fields({ size: isCount, beyond: isCount, cosine: isNumber }), 4) }),
  determinism: fields({ comparison: isComparison, input: isText }),
  remembered: fields({}),
  parity: fields({
    measured: fields({
      samples: isCount,
      input: isText,
      sections: listOf(
        fields({ agreement: orNull(isAgreement), comparison: orNull(isComparison) }),
        MOST_SECTIONS,
      ),
      ignored: isNames,
    }),
  }),
  latency: fields({ runs: isRuns, input: isText }),
  throughput: fields({ inferences: isCount, milliseconds: isTime, input: isText }),
  memory: fields({ bytes: orNull(isCount), input: isText }),
  refused: fields({ because: (value) => REFUSALS.some((one) => one === value), message: isText }),
  broken: fields({ message: isText }),
};
