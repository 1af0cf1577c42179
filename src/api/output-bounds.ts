import { cel, decimal, decimalRule, listMap, oneOf, whereDecimal } from "./schema.ts";
import { Type } from "./type.ts";

// Bounds on what a model answers, as they stand in golden, parity and variantParity.

const outputName = (description: string) => Type.String({ description, minLength: 1, maxLength: 256 });

/** Bounds on the difference between two sets of outputs; what is not given is not judged. */
const differenceFields = {
  maximumAbsoluteError: Type.Optional(
    decimal({
      description:
        "Maximum absolute error of any element. If maximumRelativeError is set as well, they are combined as in numpy.allclose: an element may differ by absolute + relative * |expected|.",
    }),
  ),
  maximumRelativeError: Type.Optional(
    decimal({ description: "Maximum error of any element, relative to the expected value." }),
  ),
  minimumCosineSimilarity: Type.Optional(
    decimal({
      description:
        "Minimum cosine similarity of an output and the expected output, for each sample, from -1 to 1. Requires outputs with at least two elements per sample.",
    }),
  ),
};

/** Bounds that hold an output against labels, and how the labels are read. */
const labelFields = {
  classes: Type.Optional(
    Type.Array(Type.String({ description: "Name of a class, as used in labels.", maxLength: 128 }), {
      description:
        "Names of the classes in the order of the scores, if the labels are not their indices. With a single score and a threshold, the second class is the one above the threshold.",
      minItems: 2,
      maxItems: 4096,
    }),
  ),
  threshold: Type.Optional(
    decimal({
      description:
        "Threshold above which a single score selects the second class, and above which an element belongs to the mask. Defaults to 0.5.",
    }),
  ),
  minimumAccuracy: Type.Optional(
    decimal({
      description:
        "Minimum accuracy, from 0 to 1. The predicted class is taken from the label output of the model, from its most probable class, or from a single score and the threshold. Requires an array `labels` in the golden set.",
    }),
  ),
  topK: Type.Optional(
    Type.Integer({
      description: "Number of most probable classes considered by minimumTopKAccuracy. Defaults to 5.",
      minimum: 2,
      maximum: 1000,
    }),
  ),
  minimumTopKAccuracy: Type.Optional(
    decimal({
      description:
        "Minimum share of samples whose label is among the topK most probable classes, from 0 to 1. Requires more classes than topK.",
    }),
  ),
  minimumClassAccuracy: Type.Optional(
    decimal({ description: "Minimum accuracy for every single class, from 0 to 1." }),
  ),
  minimumRocAuc: Type.Optional(
    decimal({
      description:
        "Minimum area under the ROC curve, from 0 to 1. With more than two classes, the one-vs-rest mean is used. Requires `labels`.",
    }),
  ),
  minimumAveragePrecision: Type.Optional(
    decimal({
      description:
        "Minimum average precision, from 0 to 1. With more than two classes, the one-vs-rest mean is used. Requires `labels`.",
    }),
  ),
};

/** Bounds on one known output as a whole. */
const metricFields = {
  maximumRootMeanSquaredError: Type.Optional(
    decimal({
      description:
        "Maximum root mean squared error over the samples, averaged over the columns of the output.",
    }),
  ),
  maximumMeanAbsoluteError: Type.Optional(
    decimal({ description: "Maximum mean absolute error over all elements of the output." }),
  ),
  minimumMaskIou: Type.Optional(
    decimal({
      description:
        "Minimum intersection over union of the elements above the threshold, over all samples (the Jaccard index), from 0 to 1.",
    }),
  ),
  minimumBoxMatch: Type.Optional(
    decimal({
      description:
        "Minimum F1 score of the boxes, from 0 to 1. An expected and a detected box match if their intersection over union is at least iouThreshold.",
    }),
  ),
  iouThreshold: Type.Optional(
    decimal({ description: "Minimum intersection over union at which two boxes match. Defaults to 0.5." }),
  ),
  boxFormat: Type.Optional(
    oneOf(["Corners", "CornerSize", "CenterSize"], {
      description:
        "Format of a box: two opposite corners (Corners), a corner and the size (CornerSize), or the center and the size (CenterSize). Defaults to Corners.",
    }),
  ),
  maximumWordErrorRate: Type.Optional(
    decimal({
      description:
        "Maximum word error rate: words to insert, delete and replace, relative to the number of expected words.",
    }),
  ),
  maximumCharacterErrorRate: Type.Optional(
    decimal({
      description:
        "Maximum character error rate: characters to insert, delete and replace, relative to the number of expected characters.",
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
      `${name} must be between 0 and 1: write "0.95" for 95 %`,
    ),
  );

const positiveRules = (...names: readonly string[]) => names.map((name) => decimalRule(name, "not negative"));

const DIFFERENCE_RULES = [
  ...positiveRules("maximumAbsoluteError", "maximumRelativeError"),
  cel(
    whereDecimal(
      ["minimumCosineSimilarity"],
      "double(self.minimumCosineSimilarity) >= -1.0 && double(self.minimumCosineSimilarity) <= 1.0",
    ),
    "minimumCosineSimilarity must be between -1 and 1",
  ),
];

/** Of a golden set as a whole and of one output of it alike. */
const GOLDEN_RULES = [
  cel("!has(self.topK) || has(self.minimumTopKAccuracy)", "topK requires minimumTopKAccuracy"),
  cel(
    `!has(self.classes) || ${anyOf(LABEL_BOUNDS)}`,
    "classes requires a bound that uses labels, such as minimumAccuracy",
  ),
  cel(
    `!has(self.threshold) || ${anyOf(["minimumAccuracy", "minimumClassAccuracy", "minimumMaskIou"])}`,
    "threshold requires minimumAccuracy, minimumClassAccuracy or minimumMaskIou",
  ),
  cel(
    "(!has(self.iouThreshold) && !has(self.boxFormat)) || has(self.minimumBoxMatch)",
    "iouThreshold and boxFormat require minimumBoxMatch",
  ),
  cel(
    whereDecimal(["iouThreshold"], "double(self.iouThreshold) > 0.0 && double(self.iouThreshold) <= 1.0"),
    "iouThreshold must be greater than 0 and at most 1",
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
  "output must not be listed in outputs as well; specify its bounds in one place",
);

export const batchSizeField = (description: string) =>
  Type.Optional(Type.Integer({ description, minimum: 1, maximum: 65_536 }));

const goldenOutputSchema = Type.Object(
  { name: outputName("Name of the output."), ...labelFields, ...differenceFields, ...metricFields },
  {
    description: "Bounds on one output.",
    "x-kubernetes-validations": [
      cel(anyOf(GOLDEN_BOUNDS), "an output requires at least one bound"),
      ...GOLDEN_RULES,
    ],
  },
);

/** The fields of golden beside the file, and its rules. */
export const goldenFields = {
  output: Type.Optional(
    outputName(
      "Name of the output that the bounds apply to. If omitted, the bounds on errors and cosine similarity apply to every expected output, and all others to the only suitable output.",
    ),
  ),
  batchSize: batchSizeField(
    "Batch size for the samples of an .npz file, if the first axis of the model is dynamic. Defaults to 64.",
  ),
  ...labelFields,
  ...differenceFields,
  ...metricFields,
  outputs: Type.Optional(
    listMap(goldenOutputSchema, "name", {
      description:
        "Bounds for individual outputs. The bounds beside this list do not apply to these outputs.",
      maxItems: 16,
    }),
  ),
  nonFinite: Type.Optional(
    oneOf(["AsExpected", "Never"], {
      description:
        "How to treat NaN and infinity in outputs. AsExpected: correct where the same is expected, and an infinite error elsewhere. Never: an error in any output of the model. Defaults to AsExpected.",
    }),
  ),
};

export const GOLDEN_SET_RULES = [
  cel(`!has(self.output) || ${anyOf(GOLDEN_BOUNDS)}`, "output requires at least one bound beside it"),
  SEPARATE_RULE,
  ...GOLDEN_RULES,
];

const agreementFields = {
  minimumAgreement: Type.Optional(
    decimal({
      description: "Minimum share of samples for which both models predict the same class, from 0 to 1.",
    }),
  ),
  threshold: Type.Optional(
    decimal({
      description: "Threshold above which a single score selects the second class. Defaults to 0.5.",
    }),
  ),
};

const PARITY_BOUND_RULES = [
  cel(
    anyOf(PARITY_BOUNDS),
    "at least one bound is required: minimumAgreement, maximumAbsoluteError, maximumRelativeError or minimumCosineSimilarity",
  ),
  cel("!has(self.threshold) || has(self.minimumAgreement)", "threshold requires minimumAgreement"),
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
      "Name of the output that the bounds apply to. If omitted, the bounds on errors and cosine similarity apply to every output of the other model, and minimumAgreement to the only suitable output.",
    ),
  ),
  batchSize: batchSizeField("Batch size, if the first axis is dynamic. Defaults to that of golden, or 64."),
  ...agreementFields,
  ...differenceFields,
  outputs: Type.Optional(
    listMap(parityOutputSchema, "name", {
      description:
        "Bounds for individual outputs. The bounds beside this list do not apply to these outputs.",
      maxItems: 16,
    }),
  ),
};

export const PARITY_RULES = [
  cel(
    `has(self.outputs) || ${anyOf(PARITY_BOUNDS)}`,
    "at least one bound is required, here or in outputs: minimumAgreement, maximumAbsoluteError, maximumRelativeError or minimumCosineSimilarity",
  ),
  cel(`!has(self.output) || ${anyOf(PARITY_BOUNDS)}`, "output requires at least one bound beside it"),
  SEPARATE_RULE,
  ...PARITY_BOUND_RULES.slice(1),
];
