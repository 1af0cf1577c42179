import type { Tensor, Verification } from "../../api/model-release.ts";
import { REASONS } from "../../api/reasons.ts";
import { type Signature, sideText, type TensorInfo, tensorText } from "../onnx/tensor.ts";
import { type Asked, judged, type Run, type Step, signatureFound } from "./check.ts";
import { failed, type Judgement, passed } from "./judgement.ts";

// Signature: the model has the inputs and outputs that the release names.

export function checkSignature(run: Run, wanted: Asked<"signature">): Promise<Step> {
  return Promise.resolve(judged(judgeSignature(wanted, signatureFound(run))));
}

export function judgeSignature(wanted: NonNullable<Verification["signature"]>, model: Signature): Judgement {
  const differences = signatureDifferences(wanted, model);
  if (differences.length === 0) return passed("Signature");
  return failed("Signature", REASONS.SignatureMismatch, {
    measured: `${sideText(model.inputs)} → ${sideText(model.outputs)}`,
    bound: `${sideText(wanted.inputs)} → ${sideText(wanted.outputs)}`,
    message: differences.join("; "),
  });
}

/** Every way in which the model is not what the release specifies; order does not matter. */
export function signatureDifferences(
  wanted: NonNullable<Verification["signature"]>,
  model: Signature,
): readonly string[] {
  return [
    ...sideDifferences("input", wanted.inputs, model.inputs),
    ...sideDifferences("output", wanted.outputs, model.outputs),
  ];
}

function sideDifferences(
  side: string,
  wanted: readonly Tensor[],
  has: readonly TensorInfo[],
): readonly string[] {
  const missing = wanted.filter(({ name }) => !has.some((one) => one.name === name));
  const extra = has.filter(({ name }) => !wanted.some((one) => one.name === name));
  const differing = wanted.flatMap((want) => {
    const found = has.find(({ name }) => name === want.name);
    const why = found === undefined ? null : tensorDifference(want, found);
    return why === null ? [] : [`${side} "${want.name}" ${why}`];
  });
  return [
    ...missing.map((one) => `${side} "${one.name}" (${tensorText(one)}) is missing`),
    ...extra.map((one) => `${side} "${one.name}" (${tensorText(one)}) is not in the release`),
    ...differing,
  ];
}

function tensorDifference(want: Tensor, found: TensorInfo): string | null {
  if (want.type !== found.type) return `is ${found.type}, the release specifies ${want.type}`;
  const shapes = `${tensorText(found)}, the release specifies ${tensorText(want)}`;
  if (want.shape.length !== found.shape.length)
    return `has ${found.shape.length} axes instead of ${want.shape.length}: ${shapes}`;
  const axes = want.shape.flatMap((axis, index) => {
    const has = found.shape[index];
    const same = typeof axis === "number" ? axis === has : typeof has === "string";
    return same ? [] : [String(index)];
  });
  return axes.length === 0 ? null : `differs in axis ${axes.join(" and ")}: ${shapes}`;
}
