import type { Verification } from "../../api/model-release.ts";
import type { Reason } from "../../api/reasons.ts";
import { type Decimal, numberOf } from "../../base/decimal.ts";
import { apart, type Comparison, type Difference, numberText } from "../score/comparison.ts";
import { outputsText, type Part, unusable } from "./judgement.ts";

// Bounds on the difference between two sets of outputs, and what was measured of it: pure.

type Golden = NonNullable<Verification["golden"]>;
export type DifferenceBounds = Pick<
  Golden,
  "maximumAbsoluteError" | "maximumRelativeError" | "minimumCosineSimilarity"
>;

/** @param suffix behind the name of each bound, such as ` of "boxes"`. */
export function differenceParts(
  bounds: DifferenceBounds,
  found: Comparison,
  reason: Reason,
  suffix = "",
): readonly Part[] {
  return [...errorParts(bounds, found, reason, suffix), ...cosineParts(bounds, found, reason, suffix)];
}

function errorParts(
  { maximumAbsoluteError: absolute, maximumRelativeError: relative }: DifferenceBounds,
  found: Comparison,
  reason: Reason,
  suffix: string,
): readonly Part[] {
  if (absolute === undefined && relative === undefined) return [];
  const { worst, beyond, elements } = found;
  const sides = [
    ...(absolute === undefined
      ? []
      : [sideOf(`maximum absolute error${suffix}`, found.largestAbsolute, absolute)]),
    ...(relative === undefined
      ? []
      : [sideOf(`maximum relative error${suffix}`, found.largestRelative, relative)]),
  ];
  const good = beyond === 0;
  return [
    {
      measured: sides.map(({ measured }) => measured).join(", "),
      bound: sides.map(({ bound }) => bound).join(" plus "),
      message: good || worst === null ? "" : differenceText(beyond, elements, worst),
      reason: good ? null : reason,
      worst: worst === null ? null : exampleOf(worst),
    },
  ];
}

function sideOf(name: string, size: number, written: Decimal) {
  const [measured, bound] = apart(size, numberOf(written));
  return { measured: `${name} ${measured}`, bound: `${name} ≤ ${bound}` };
}

function differenceText(beyond: number, elements: number, worst: Difference): string {
  const { output, index, place, expected, got } = worst;
  if (place === "shape")
    return `output "${output}" has an unexpected shape in sample ${index}: expected ${expected}, the model answers ${got}`;
  return `${beyond} of ${elements} values are outside the tolerance; the worst is in output "${output}": sample ${index}, element ${place}: expected ${expected}, got ${got}`;
}

export function exampleOf({ output, index, place, expected, got }: Difference) {
  const where = place === "shape" ? `output "${output}", its shape` : `output "${output}", element ${place}`;
  return { index, where, expected, got };
}

function cosineParts(
  { minimumCosineSimilarity: written }: DifferenceBounds,
  found: Comparison,
  reason: Reason,
  suffix: string,
): readonly Part[] {
  if (written === undefined) return [];
  const least = numberOf(written);
  const bound = `cosine similarity${suffix} ≥ ${numberText(least)}`;
  const lowest = found.lowestCosine;
  if (lowest === null)
    return [
      unusable(
        bound,
        `minimumCosineSimilarity needs an output of two numbers or more for each sample, and there is none in ${outputsText(found.outputs)}: bound the error instead`,
      ),
    ];
  const [measured, than] = apart(lowest.cosine, least);
  const good = lowest.cosine >= least;
  const without = found.withoutCosine.filter((name) => found.outputs.includes(name));
  return [
    {
      measured: `cosine similarity${suffix} ${good ? numberText(lowest.cosine) : measured}`,
      bound,
      message: good
        ? withoutText(without)
        : `sample ${lowest.index} of output "${lowest.output}" points in another direction: cosine similarity ${measured}, less than ${than}`,
      reason: good ? null : reason,
      worst: good
        ? null
        : {
            index: lowest.index,
            where: `output "${lowest.output}"`,
            expected: `cosine ≥ ${least}`,
            got: numberText(lowest.cosine),
          },
    },
  ];
}

function withoutText(names: readonly string[]): string {
  return names.length === 0
    ? ""
    : `without a cosine, because they are texts or one number: ${outputsText(names)}`;
}
