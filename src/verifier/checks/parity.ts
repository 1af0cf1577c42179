import { join, relative as relativePath } from "node:path";
import type { Verification } from "../../api/model-release.ts";
import { REASONS } from "../../api/reasons.ts";
import { decimalText, numberOf } from "../../base/decimal.ts";
import type { Reference } from "../../verification/verification.ts";
import { type Signature, sideText, type TensorInfo } from "../onnx/tensor.ts";
import type { ParityMeasured, ParitySection } from "../protocol/messages.ts";
import type { Agreement } from "../score/classes/agreement.ts";
import { classText, shareText } from "../score/classes/classification.ts";
import { toleranceOf } from "../score/sections.ts";
import { ask, endText, unexpected } from "./ask.ts";
import {
  type Asked,
  error,
  fileOf,
  judged,
  type Run,
  type Step,
  samplesOf,
  signatureFound,
  startProcess,
  threadsOf,
} from "./check.ts";
import { differenceParts } from "./differences.ts";
import { failed, type Judgement, notJudged, outputsText, type Part, together } from "./judgement.ts";
import { isOutOfMemory } from "./less-memory.ts";

// Parity and VariantParity: the model answers like the release, or the variant, that it is compared with.

export type ParityWanted = Omit<NonNullable<Verification["parity"]>, "with">;
type ParityBounds = Omit<ParityWanted, "output" | "outputs" | "batchSize">;

const ERRORS = ["maximumAbsoluteError", "maximumRelativeError", "minimumCosineSimilarity"] as const;
const BOUNDS = ["minimumAgreement", ...ERRORS] as const;

export async function checkParity(
  run: Run,
  name: "Parity" | "VariantParity",
  wanted: Asked<"parity"> | Asked<"variantParity">,
  reference: Reference | null,
): Promise<Step> {
  if (reference === null) return { kind: "skipped", because: "there is no model to compare with" };
  const lacking = lackingOf(reference);
  if (reference.sizeBytes > run.deps.memoryBytes) return lacking("it is larger than the memory it may use");
  const got = await run.deps.fetch(reference, join(run.directory, `${name}.onnx`), run.signal);
  if (!got.ok) return lacking(got.error.message);
  if (got.value.digest !== reference.digest)
    return lacking(`its file has digest ${got.value.digest}, expected ${reference.digest}`);
  const asked = wanted.batchSize ?? run.request.checks.golden?.batchSize ?? null;
  const path = relativePath(run.session.cwd, got.value.path);
  const about = { name, wanted, reference, path };
  const first = await compareWith(run, about, asked);
  if (asked !== null || !first.outOfMemory) return first.step;
  const again = await compareWith(run, about, 1);
  return again.outOfMemory ? first.step : again.step;
}

function lackingOf({ name }: Reference): (message: string) => Step {
  return (message) => error(REASONS.ReferenceUnavailable, `reference ${name}: ${message}`);
}

/** In a process of its own, which has two models: what it takes is not what the model takes. */
async function compareWith(
  run: Run,
  about: {
    readonly name: "Parity" | "VariantParity";
    readonly wanted: Asked<"parity"> | Asked<"variantParity">;
    readonly reference: Reference;
    readonly path: string;
  },
  batchSize: number | null,
): Promise<{ readonly step: Step; readonly outOfMemory: boolean }> {
  const { name, reference, path } = about;
  const { with: _with, reference: _reference, ...wanted } = { with: "", reference: "", ...about.wanted };
  const lacking = lackingOf(reference);
  const ends = (step: Step, outOfMemory = isOutOfMemory(step)) => ({ step, outOfMemory });
  const started = await startProcess(run);
  if (!started.ok) return ends(error(REASONS.VerificationError, endText(started.error)));
  const child = started.value;
  try {
    const threads = threadsOf(run.request);
    const limit = run.deps.memoryBytes;
    const first = [
      { kind: "load", path, threads },
      { kind: "remember", samples: samplesOf(run), limit, batchSize },
    ] as const;
    for (const question of first) {
      const answered = await child.ask(question);
      if (!answered.ok)
        return ends(
          lacking(`it could not be run: ${endText(answered.error)}`),
          answered.error.kind === "outOfMemory",
        );
      const { value: said } = answered;
      if (said.kind === "refused" && ["compare", "input"].includes(said.because))
        return ends(unexpected(name, said));
      if (said.kind === "refused" || said.kind === "broken")
        return ends(
          lacking(`it could not be run: ${said.message}`),
          said.kind === "refused" && said.because === "memory",
        );
      const other = said.kind === "loaded" ? inputsDifference(signatureFound(run), said.signature) : null;
      if (other !== null) return ends(judged(failed(name, REASONS.NotComparable, { message: other })));
    }
    const loaded = await ask(run, child, name, { kind: "load", path: fileOf(run, "model"), threads });
    if (!loaded.ok) return ends(loaded.error);
    const sections = paritySections(wanted);
    const compared = await ask(run, child, name, { kind: "compare", sections });
    return ends(
      compared.ok
        ? judged(judgeParity(name, wanted, compared.value.measured, reference.name))
        : compared.error,
    );
  } finally {
    await child.end();
  }
}

/** Why the two cannot be fed with the same samples; `null` where they can. */
export function inputsDifference(model: Signature, other: Signature): string | null {
  const names = ({ inputs }: Signature) => inputs.map(({ name }) => name);
  const [ours, theirs] = [names(model), names(other)];
  if (ours.length !== theirs.length || !ours.every((name) => theirs.includes(name)))
    return `the inputs differ: it takes ${ours.join(", ")}, the other one ${theirs.join(", ")}`;
  const differing = model.inputs.flatMap((input) => {
    const same = other.inputs.find(({ name }) => name === input.name) ?? input;
    return takesTheSame(input, same) ? [] : [`${sideText([input])} here, ${sideText([same])} there`];
  });
  return differing.length === 0 ? null : `the inputs differ: ${differing.join("; ")}`;
}

/** Whether something can be of both types and shapes: a free axis may have any size. */
function takesTheSame(one: TensorInfo, other: TensorInfo): boolean {
  const isFree = (axis: number | string | undefined) => typeof axis === "string";
  return (
    one.type === other.type &&
    one.shape.length === other.shape.length &&
    one.shape.every(
      (axis, index) => isFree(axis) || isFree(other.shape[index]) || axis === other.shape[index],
    )
  );
}

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
        : { threshold: bounds.threshold === undefined ? null : numberOf(bounds.threshold) },
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
        : `it agrees with ${other} on the class of ${correct} of ${samples} samples, which is ${shareText(share, bound)}; they differ most in sample ${worst.index}: ${classText(found, worst.expected)} there, ${classText(found, worst.got)} here`,
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
