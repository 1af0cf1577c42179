import type { Verification } from "../../api/model-release.ts";
import { REASONS } from "../../api/reasons.ts";
import { decimalText, numberOf } from "../../base/decimal.ts";
import type { ParityMeasured, ParitySection } from "../protocol/messages.ts";
import type { Agreement } from "../score/agreement.ts";
import { classText, shareText } from "../score/classification.ts";
import { toleranceOf } from "../score/sections.ts";
import { differenceParts } from "./differences.ts";
import { type Judgement, notJudged, outputsText, type Part, together } from "./judgement.ts";

// How alike two models are, beside what the release asks for: pure.

export type ParityWanted = Omit<NonNullable<Verification["parity"]>, "reference">;
type ParityBounds = Omit<ParityWanted, "output" | "outputs" | "batchSize">;

const ERRORS = ["maximumAbsoluteError", "maximumRelativeError", "minimumCosineSimilarity"] as const;
const BOUNDS = ["minimumAgreement", ...ERRORS] as const;
const DEFAULT_THRESHOLD = 0.5;

function boundsOf(wanted: ParityWanted): readonly (ParityBounds & { readonly output: string | null })[] {
  const { outputs = [], batchSize: _size, output = null, ...own } = wanted;
  return [
    ...(BOUNDS.some((name) => own[name] !== undefined) ? [{ ...own, output }] : []),
    ...outputs.map(({ name, ...of }) => ({ ...of, output: name })),
  ];
}

export function paritySections(wanted: ParityWanted): readonly ParitySection[] {
  const except = (wanted.outputs ?? []).map(({ name }) => name);
  return boundsOf(wanted).map((bounds) => ({
    output: bounds.output,
    except: bounds.output === null ? except : [],
    agreement:
      bounds.minimumAgreement === undefined
        ? null
        : { threshold: numberOf(bounds.threshold ?? DEFAULT_THRESHOLD) },
    tolerance: ERRORS.some((name) => bounds[name] !== undefined) ? toleranceOf(bounds) : null,
  }));
}

/** @param other what the model is compared with, by name. */
export function judgeParity(
  name: "Parity" | "VariantParity",
  wanted: ParityWanted,
  measured: ParityMeasured,
  other: string,
): Judgement {
  const { sections, input, ignored } = measured;
  const bounds = boundsOf(wanted);
  const parts = sections.flatMap(({ agreement, comparison }, index): readonly Part[] => {
    const of = bounds[index];
    if (of === undefined) return [];
    const suffix = bounds.length > 1 && of.output !== null ? ` of "${of.output}"` : "";
    return [
      ...(agreement === null || of.minimumAgreement === undefined
        ? []
        : [agreementPart(numberOf(of.minimumAgreement), agreement, { other, suffix })]),
      ...(comparison === null ? [] : differenceParts(of, comparison, REASONS.ParityTooLow, suffix)),
    ];
  });
  const used = sections.flatMap(({ agreement, comparison }) => [
    ...(agreement === null ? [] : [`agreement by output "${agreement.output}"`]),
    ...(comparison === null ? [] : [`compared: ${outputsText(comparison.outputs)}`]),
  ]);
  const [first] = sections;
  return together(name, parts, {
    method: [`${input}, compared with ${other}`, ...used].join("; "),
    notes: notJudged(ignored),
    details: { ...measured, agreement: first?.agreement ?? null, comparison: first?.comparison ?? null },
  });
}

function agreementPart(
  bound: number,
  found: Agreement,
  { other, suffix }: { readonly other: string; readonly suffix: string },
): Part {
  const { samples, correct, worst } = found;
  const share = correct / samples;
  const good = share >= bound;
  return {
    measured: `agreement${suffix} ${decimalText(share)} (${correct} of ${samples})`,
    bound: `agreement${suffix} ≥ ${decimalText(bound)}`,
    message:
      good || worst === null
        ? ""
        : `for ${correct} of ${samples} samples it finds the same class as ${other}, which is ${shareText(share, bound)}; they differ most in sample ${worst.index}: ${classText(found, worst.expected)} there, ${classText(found, worst.got)} here`,
    reason: good ? null : REASONS.ParityTooLow,
    worst:
      good || worst === null
        ? null
        : {
            index: worst.index,
            where: found.output,
            expected: classText(found, worst.expected),
            got: classText(found, worst.got),
          },
  };
}
