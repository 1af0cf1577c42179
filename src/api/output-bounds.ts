import { cel, decimal, listMap, oneOf, whereDecimal } from "./schema.ts";
import { Type } from "./type.ts";

// Bounds on what a model answers, as they stand in golden, parity and variantParity.

const outputName = (description: string) => Type.String({ description, minLength: 1, maxLength: 256 });

/** Bounds on the difference between two sets of outputs; what is not given is not judged. */
const differenceFields = {
  maximumAbsoluteError: Type.Optional(
    decimal({
      description:
        "Largest difference of any element. Together with maximumRelativeError as in numpy.allclose: an element may differ by absolute + relative * |expected|.",
    }),
  ),
  maximumRelativeError: Type.Optional(
    decimal({ description: "Largest difference of any element as a share of the expected value." }),
  ),
  minimumCosineSimilarity: Type.Optional(
    decimal({
      description:
        "Smallest cosine of the angle between an output and the expected one, sample by sample, -1 to 1. Needs outputs of two numbers or more for each sample.",
    }),
  ),
};

/** Bounds that hold an output against labels, and how the labels are read. */
const labelFields = {
  classes: Type.Optional(
    Type.Array(Type.String({ description: "A class as labels name it.", maxLength: 128 }), {
      description:
        "Names of the classes in the order of the scores, where labels are not their indices; of two for one score with a threshold, the one above it comes second.",
      minItems: 2,
      maxItems: 4096,
    }),
  ),
  threshold: Type.Optional(
    decimal({
      description:
        "One score above this means the second class, and one element above it a part of the mask. Default: 0.5.",
    }),
  ),
  minimumAccuracy: Type.Optional(
    decimal({
      description:
        "Share of labels that the model finds, 0 to 1: by its own label output, its most probable class, or one score and the threshold. Needs an array `labels` in the set.",
    }),
  ),
  topK: Type.Optional(
    Type.Integer({
      description: "How many of the most probable classes count for minimumTopKAccuracy. Default: 5.",
      minimum: 2,
      maximum: 1000,
    }),
  ),
  minimumTopKAccuracy: Type.Optional(
    decimal({
      description:
        "Share of samples whose label is among the topK most probable classes, 0 to 1. Needs more classes than topK.",
    }),
  ),
  minimumClassAccuracy: Type.Optional(
    decimal({ description: "Smallest share of right samples of any one class, 0 to 1." }),
  ),
  minimumRocAuc: Type.Optional(
    decimal({
      description:
        "Area under the ROC curve, 0 to 1; of more than two classes the mean over one class against the rest. Needs `labels`.",
    }),
  ),
  minimumAveragePrecision: Type.Optional(
    decimal({
      description:
        "Average precision, 0 to 1; of more than two classes the mean over one class against the rest. Needs `labels`.",
    }),
  ),
};

/** Bounds on one known output as a whole. */
const metricFields = {
  maximumRootMeanSquaredError: Type.Optional(
    decimal({ description: "Root mean squared error over the samples, the mean over the output's columns." }),
  ),
  maximumMeanAbsoluteError: Type.Optional(
    decimal({ description: "Mean absolute error over all elements of the output." }),
  ),
  minimumMaskIou: Type.Optional(
    decimal({
      description:
        "Intersection over union of the elements above the threshold, 0 to 1, over all samples (the Jaccard index).",
    }),
  ),
  minimumBoxMatch: Type.Optional(
    decimal({
      description:
        "Share of boxes, expected and found, that have a partner on the other side, 0 to 1 (the F1 score): two boxes are partners where their intersection over union is at least iouThreshold.",
    }),
  ),
  iouThreshold: Type.Optional(
    decimal({ description: "Intersection over union from which on two boxes match. Default: 0.5." }),
  ),
  boxFormat: Type.Optional(
    oneOf(["Corners", "CornerSize", "CenterSize"], {
      description:
        "What the four numbers of a box are: two opposite corners (the default), a corner and the size, or the centre and the size.",
    }),
  ),
  maximumWordErrorRate: Type.Optional(
    decimal({ description: "Words to insert, delete and replace, as a share of the expected words." }),
  ),
  maximumCharacterErrorRate: Type.Optional(
    decimal({
      description: "Characters to insert, delete and replace, as a share of the expected characters.",
    }),
  ),
};

export const LABEL_BOUNDS = [
  "minimumAccuracy",
  "minimumTopKAccuracy",
  "minimumClassAccuracy",
  "minimumRocAuc",
  "minimumAveragePrecision",
];
const ON_OUTPUTS = ["maximumAbsoluteError", "maximumRelativeError", "minimumCosineSimilarity"];
const ON_ONE_OUTPUT = [
  "maximumRootMeanSquaredError",
  "maximumMeanAbsoluteError",
  "minimumMaskIou",
  "minimumBoxMatch",
  "maximumWordErrorRate",
  "maximumCharacterErrorRate",
];
export const GOLDEN_BOUNDS = [...LABEL_BOUNDS, ...ON_OUTPUTS, ...ON_ONE_OUTPUT];
export const PARITY_BOUNDS = ["minimumAgreement", ...ON_OUTPUTS];

const anyOf = (names: readonly string[], self = "self") =>
  names.map((name) => `has(${self}.${name})`).join(" || ");

const shareRules = (...names: readonly string[]) =>
  names.map((name) =>
    cel(
      whereDecimal([name], `double(self.${name}) >= 0.0 && double(self.${name}) <= 1.0`),
      `${name} is a share from 0 to 1: write "0.95" for 95 %`,
    ),
  );

const positiveRules = (...names: readonly string[]) =>
  names.map((name) =>
    cel(whereDecimal([name], `double(self.${name}) >= 0.0`), `${name} must not be negative`),
  );

const DIFFERENCE_RULES = [
  ...positiveRules("maximumAbsoluteError", "maximumRelativeError"),
  cel(
    whereDecimal(
      ["minimumCosineSimilarity"],
      "double(self.minimumCosineSimilarity) >= -1.0 && double(self.minimumCosineSimilarity) <= 1.0",
    ),
    "minimumCosineSimilarity is a cosine, from -1 to 1",
  ),
];

/** Of a golden set as a whole and of one output of it alike. */
const GOLDEN_RULES = [
  cel("!has(self.topK) || has(self.minimumTopKAccuracy)", "topK needs minimumTopKAccuracy"),
  cel(
    `!has(self.classes) || ${anyOf(LABEL_BOUNDS)}`,
    "classes say how labels are read, and no bound needs labels",
  ),
  cel(
    `!has(self.threshold) || ${anyOf(["minimumAccuracy", "minimumClassAccuracy", "minimumMaskIou"])}`,
    "threshold needs minimumAccuracy, minimumClassAccuracy or minimumMaskIou",
  ),
  cel(
    "(!has(self.iouThreshold) && !has(self.boxFormat)) || has(self.minimumBoxMatch)",
    "iouThreshold and boxFormat need minimumBoxMatch",
  ),
  cel(
    whereDecimal(["iouThreshold"], "double(self.iouThreshold) > 0.0 && double(self.iouThreshold) <= 1.0"),
    "iouThreshold is above 0 and at most 1",
  ),
  ...shareRules(...LABEL_BOUNDS, "minimumMaskIou", "minimumBoxMatch"),
  ...DIFFERENCE_RULES,
  ...positiveRules(
    "maximumRootMeanSquaredError",
    "maximumMeanAbsoluteError",
    "maximumWordErrorRate",
    "maximumCharacterErrorRate",
  ),
];

const SEPARATE_RULE = cel(
  "!has(self.output) || !has(self.outputs) || !self.outputs.exists(one, one.name == self.output)",
  "output is among outputs too: give its bounds in one place",
);

export const batchSizeField = (description: string) =>
  Type.Optional(Type.Integer({ description, minimum: 1, maximum: 65_536 }));

const goldenOutputSchema = Type.Object(
  { name: outputName("Name of the output."), ...labelFields, ...differenceFields, ...metricFields },
  {
    description: "Bounds on one output.",
    "x-kubernetes-validations": [
      cel(anyOf(GOLDEN_BOUNDS), "say what good means for this output: give it a bound"),
      ...GOLDEN_RULES,
    ],
  },
);

/** The fields of golden beside the file, and its rules. */
export const goldenFields = {
  output: Type.Optional(
    outputName(
      "Name of the output that the bounds here are about. Without it, errors and cosine are about every known output, and all others about the only output that can be meant.",
    ),
  ),
  batchSize: batchSizeField(
    "How many samples of an .npz are run at once where the model's first axis is free; a part of what the set means where answers depend on it. Default: 64.",
  ),
  ...labelFields,
  ...differenceFields,
  ...metricFields,
  outputs: Type.Optional(
    listMap(goldenOutputSchema, "name", {
      description: "Outputs with bounds of their own; the bounds beside this list are not about them.",
      maxItems: 16,
    }),
  ),
  nonFinite: Type.Optional(
    oneOf(["AsExpected", "Never"], {
      description:
        "NaN and infinity in outputs: right where the same is expected and infinitely wrong elsewhere (AsExpected, the default), or wrong in every output of the model, known or not (Never).",
    }),
  ),
};

export const GOLDEN_SET_RULES = [
  cel(
    `!has(self.output) || ${anyOf(GOLDEN_BOUNDS)}`,
    "output says what the bounds beside it are about, and there are none",
  ),
  SEPARATE_RULE,
  ...GOLDEN_RULES,
];

const agreementFields = {
  minimumAgreement: Type.Optional(
    decimal({
      description: "Share of samples, 0 to 1, for which both models find the same class most probable.",
    }),
  ),
  threshold: Type.Optional(
    decimal({
      description:
        "One score above this means the second class, where minimumAgreement is about one. Default: 0.5.",
    }),
  ),
};

const PARITY_BOUND_RULES = [
  cel(
    anyOf(PARITY_BOUNDS),
    "say how alike they must be: minimumAgreement, maximumAbsoluteError, maximumRelativeError or minimumCosineSimilarity",
  ),
  cel("!has(self.threshold) || has(self.minimumAgreement)", "threshold needs minimumAgreement"),
  ...shareRules("minimumAgreement"),
  ...DIFFERENCE_RULES,
];

const parityOutputSchema = Type.Object(
  { name: outputName("Name of the output."), ...agreementFields, ...differenceFields },
  { description: "Bounds on one output.", "x-kubernetes-validations": PARITY_BOUND_RULES },
);

export const parityFields = {
  output: Type.Optional(
    outputName(
      "Name of the output that the bounds here are about. Without it, errors and cosine are about every output of the other model, and minimumAgreement about the only one that can be meant.",
    ),
  ),
  batchSize: batchSizeField(
    "How many samples are run at once where the first axis is free. Default: that of golden, or 64.",
  ),
  ...agreementFields,
  ...differenceFields,
  outputs: Type.Optional(
    listMap(parityOutputSchema, "name", {
      description: "Outputs with bounds of their own; the bounds beside this list are not about them.",
      maxItems: 16,
    }),
  ),
};

export const PARITY_RULES = [
  cel(
    `has(self.outputs) || ${anyOf(PARITY_BOUNDS)}`,
    "say how alike they must be: minimumAgreement, maximumAbsoluteError, maximumRelativeError or minimumCosineSimilarity, here or in outputs",
  ),
  cel(
    `!has(self.output) || ${anyOf(PARITY_BOUNDS)}`,
    "output says what the bounds beside it are about, and there are none",
  ),
  SEPARATE_RULE,
  ...PARITY_BOUND_RULES.slice(1),
];
