import type { Verification } from "../../api/model-release.ts";
import { type Decimal, numberOf } from "../../base/decimal.ts";
import type { ScoringOptions } from "./classes/scored-output.ts";
import type { Tolerance } from "./comparison.ts";
import type { OutputMetric, OutputMetricOptions } from "./output-metrics.ts";

// What a release asks of golden samples, output by output: pure.

type Golden = NonNullable<Verification["golden"]>;
/** Bounds as they stand in golden, and in each entry of golden.outputs. */
export type GoldenBounds = Omit<Golden, "blob" | "digest" | "output" | "outputs" | "batchSize" | "nonFinite">;

/** Bounds that are about one output, or about whichever can be meant. */
export type GoldenSection = {
  /** `null`: errors are about every known output, anything else about the only one that can be meant. */
  readonly output: string | null;
  /** Outputs with bounds of their own: not part of a section without a name. */
  readonly except: readonly string[];
  readonly scoring: ScoringOptions | null;
  readonly tolerance: Tolerance | null;
  readonly metrics: OutputMetricOptions | null;
};

export const DEFAULT_TOP_K = 5;
const DEFAULT_THRESHOLD = 0.5;
const DEFAULT_IOU = 0.5;

/** The bounds of each section, in the same order as `goldenSections`. */
export function goldenBounds(golden: Golden): readonly (GoldenBounds & { readonly output: string | null })[] {
  const { blob: _blob, digest: _digest, outputs = [], batchSize: _size, nonFinite: _finite, ...own } = golden;
  const { output = null, ...bounds } = own;
  return [
    ...(hasBound(bounds) ? [{ ...bounds, output }] : []),
    ...outputs.map(({ name, ...of }) => ({ ...of, output: name })),
  ];
}

export function goldenSections(golden: Golden): readonly GoldenSection[] {
  const except = (golden.outputs ?? []).map(({ name }) => name);
  const finiteOnly = golden.nonFinite === "Never";
  return goldenBounds(golden).map((bounds) => ({
    output: bounds.output,
    except: bounds.output === null ? except : [],
    scoring: scoringOf(bounds),
    tolerance: isGiven(bounds, ERRORS) ? toleranceOf({ ...bounds, finiteOnly }) : null,
    metrics: metricsOf(bounds),
  }));
}

const LABELLED = [
  "minimumAccuracy",
  "minimumTopKAccuracy",
  "minimumClassAccuracy",
  "minimumRocAuc",
  "minimumAveragePrecision",
] as const;
const ERRORS = ["maximumAbsoluteError", "maximumRelativeError", "minimumCosineSimilarity"] as const;
const METRICS: Readonly<Partial<Record<keyof GoldenBounds, OutputMetric>>> = {
  maximumRootMeanSquaredError: "meanError",
  maximumMeanAbsoluteError: "meanError",
  minimumMaskIou: "mask",
  minimumBoxMatch: "boxes",
  maximumWordErrorRate: "texts",
  maximumCharacterErrorRate: "texts",
};

function isGiven(bounds: GoldenBounds, names: readonly (keyof GoldenBounds)[]): boolean {
  return names.some((name) => bounds[name] !== undefined);
}

function hasBound(bounds: GoldenBounds): boolean {
  return isGiven(bounds, [...LABELLED, ...ERRORS, ...(Object.keys(METRICS) as (keyof GoldenBounds)[])]);
}

function scoringOf(bounds: GoldenBounds): ScoringOptions | null {
  if (!isGiven(bounds, LABELLED)) return null;
  return {
    output: null,
    classes: bounds.classes ?? null,
    threshold: numberOf(bounds.threshold ?? DEFAULT_THRESHOLD),
    topK: bounds.minimumTopKAccuracy === undefined ? null : (bounds.topK ?? DEFAULT_TOP_K),
    ranking: isGiven(bounds, ["minimumRocAuc", "minimumAveragePrecision"]),
  };
}

function metricsOf(bounds: GoldenBounds): OutputMetricOptions | null {
  const asked = Object.entries(METRICS).filter(([name]) => isGiven(bounds, [name as keyof GoldenBounds]));
  if (asked.length === 0) return null;
  return {
    metrics: [...new Set(asked.map(([, metric]) => metric))],
    threshold: numberOf(bounds.threshold ?? DEFAULT_THRESHOLD),
    iouThreshold: numberOf(bounds.iouThreshold ?? DEFAULT_IOU),
    boxFormat: bounds.boxFormat ?? "Corners",
  };
}

export function toleranceOf(bounds: {
  readonly maximumAbsoluteError?: Decimal | undefined;
  readonly maximumRelativeError?: Decimal | undefined;
  readonly finiteOnly?: boolean;
}): Tolerance {
  const { maximumAbsoluteError: absolute, maximumRelativeError: relative } = bounds;
  return {
    absolute: absolute === undefined ? null : numberOf(absolute),
    relative: relative === undefined ? null : numberOf(relative),
    finiteOnly: bounds.finiteOnly === true,
  };
}
