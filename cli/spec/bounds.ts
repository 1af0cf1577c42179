import type { Arguments, FlagGroups } from "../../src/base/flags.ts";
import { type Json, withValueAt } from "../json-pointer.ts";

// Bounds as flags, for those who need no file: each is one field of a release's spec.verification.

type Bound = { readonly value: string; readonly help: string; readonly pointer: string };

const GROUPS: Readonly<Record<string, Readonly<Record<string, Bound>>>> = {
  "Bounds on golden samples": {
    "minimum-accuracy": bound(
      "SHARE",
      "share of samples whose most probable class is the label",
      "/golden/minimumAccuracy",
    ),
    "minimum-top-k-accuracy": bound(
      "SHARE",
      "share whose label is among the k most probable",
      "/golden/minimumTopKAccuracy",
    ),
    "top-k": bound("N", "that k (default 5)", "/golden/topK"),
    "minimum-class-accuracy": bound(
      "SHARE",
      "the same for the weakest class",
      "/golden/minimumClassAccuracy",
    ),
    "minimum-roc-auc": bound("SHARE", "area under the ROC curve of the labels", "/golden/minimumRocAuc"),
    "minimum-average-precision": bound(
      "SHARE",
      "average precision of the labels",
      "/golden/minimumAveragePrecision",
    ),
    "maximum-absolute-error": bound(
      "NUMBER",
      "largest difference from a known output",
      "/golden/maximumAbsoluteError",
    ),
    "maximum-relative-error": bound(
      "NUMBER",
      "the same, as a share of what is expected",
      "/golden/maximumRelativeError",
    ),
    "minimum-cosine-similarity": bound(
      "NUMBER",
      "smallest cosine between an output and the known one",
      "/golden/minimumCosineSimilarity",
    ),
    "maximum-root-mean-squared-error": bound(
      "NUMBER",
      "of one known output, over all samples",
      "/golden/maximumRootMeanSquaredError",
    ),
    "maximum-mean-absolute-error": bound(
      "NUMBER",
      "of one known output, over all samples",
      "/golden/maximumMeanAbsoluteError",
    ),
    "minimum-mask-iou": bound(
      "SHARE",
      "intersection over union of a mask and the known one",
      "/golden/minimumMaskIou",
    ),
    "minimum-box-match": bound(
      "SHARE",
      "share of boxes, known and found, with a partner",
      "/golden/minimumBoxMatch",
    ),
    "iou-threshold": bound(
      "SHARE",
      "from which on two boxes are partners (default 0.5)",
      "/golden/iouThreshold",
    ),
    "box-format": bound(
      "Corners|CornerSize|CenterSize",
      "what four numbers of a box are (default Corners)",
      "/golden/boxFormat",
    ),
    "maximum-word-error-rate": bound(
      "NUMBER",
      "wrong words as a share of the known ones",
      "/golden/maximumWordErrorRate",
    ),
    "maximum-character-error-rate": bound(
      "NUMBER",
      "wrong characters as a share of the known ones",
      "/golden/maximumCharacterErrorRate",
    ),
    "non-finite": bound(
      "AsExpected|Never",
      "NaN and infinity in outputs (default AsExpected)",
      "/golden/nonFinite",
    ),
    "golden-output": bound("NAME", "the output that these bounds are about", "/golden/output"),
    threshold: bound("NUMBER", "one score above it is the second class (default 0.5)", "/golden/threshold"),
    classes: bound("NAME,NAME…", "labels of the classes, in the order of the scores", "/golden/classes"),
    "golden-batch-size": bound(
      "N",
      "samples at once, where the model's first axis is free (default 64)",
      "/golden/batchSize",
    ),
  },
  "Bounds on the difference from another model": {
    "minimum-agreement": bound(
      "SHARE",
      "share of samples for which both find the same class",
      "/parity/minimumAgreement",
    ),
    "parity-absolute-error": bound(
      "NUMBER",
      "largest difference of any element",
      "/parity/maximumAbsoluteError",
    ),
    "parity-relative-error": bound(
      "NUMBER",
      "the same, as a share of the reference",
      "/parity/maximumRelativeError",
    ),
    "parity-cosine-similarity": bound(
      "NUMBER",
      "smallest cosine between the outputs of both",
      "/parity/minimumCosineSimilarity",
    ),
    "parity-output": bound("NAME", "the output that these bounds are about", "/parity/output"),
    "parity-threshold": bound(
      "NUMBER",
      "one score above it is the second class (default 0.5)",
      "/parity/threshold",
    ),
    "parity-batch-size": bound("N", "samples at once (default as for golden samples)", "/parity/batchSize"),
  },
  "Bounds on speed, memory and chance": {
    p50: bound("DURATION", "50 of 100 runs take no longer, such as 20ms", "/latency/p50"),
    p95: bound("DURATION", "95 of 100 runs take no longer", "/latency/p95"),
    p99: bound("DURATION", "99 of 100 runs take no longer", "/latency/p99"),
    warmup: bound("N", "runs before latency is measured (default 10)", "/latency/warmup"),
    samples: bound("N", "runs of which latency is measured (default 200)", "/latency/samples"),
    "batch-size": bound("N", "size of a free first axis, for latency (default 1)", "/latency/batchSize"),
    threads: bound("N", "threads of ONNX Runtime; needs a bound on latency (default 1)", "/latency/threads"),
    "minimum-throughput": bound("NUMBER", "inferences that one second holds", "/throughput/minimumPerSecond"),
    "maximum-memory": bound(
      "SIZE",
      "memory that loading and running it adds, such as 64Mi",
      "/memory/maximum",
    ),
    determinism: bound(
      "RUNS",
      "the same input, run so many times, gives the same outputs",
      "/determinism/runs",
    ),
    "determinism-batch-size": bound(
      "N",
      "samples at once (default as for golden samples)",
      "/determinism/batchSize",
    ),
  },
  "What a model may take": {
    timeout: bound("DURATION", "a model that takes longer hangs (default 5m)", "/timeout"),
  },
};

function bound(value: string, help: string, pointer: string): Bound {
  return { value, help, pointer };
}

const BOUNDS: ReadonlyMap<string, Bound> = new Map(Object.values(GROUPS).flatMap(Object.entries<Bound>));

export const BOUND_FLAGS: FlagGroups = GROUPS;

export type Overlay = {
  /** What was there before, with the bounds of the flags in it. */
  readonly verification: Json;
  /** Which flag has written what is at a pointer. */
  readonly flagAt: ReadonlyMap<string, string>;
};

/** Bounds of flags over those of a file: flags win. */
export function overlay({ values }: Arguments, verification: Json): Overlay {
  const flagAt = new Map<string, string>();
  let written = verification;
  for (const [name, { pointer, value: kind }] of BOUNDS) {
    const [given] = values.get(name) ?? [];
    if (given === undefined) continue;
    flagAt.set(pointer, `--${name}`);
    written = withValueAt(written, pointer, writtenValue(kind, given));
  }
  return { verification: written, flagAt };
}

/** Whole numbers and lists are written as such; everything else is text, as decimals are. */
function writtenValue(kind: string, given: string): Json {
  if (kind === "NAME,NAME…") return given.split(",").map((name) => name.trim());
  return ["N", "RUNS"].includes(kind) && /^[0-9]{1,15}$/.test(given) ? Number(given) : given;
}
