import type { Verification } from "../../api/model-release.ts";
import { REASONS } from "../../api/reasons.ts";
import { numberOf } from "../../base/decimal.ts";
import { type Comparison, numberText } from "../score/comparison.ts";
import { toleranceOf } from "../score/sections.ts";
import { ask } from "./ask.ts";
import { type Asked, judged, type Run, type Step } from "./check.ts";
import { exampleOf } from "./differences.ts";
import { failed, type Judgement, passed } from "./judgement.ts";
import { withLessMemory } from "./less-memory.ts";

// Determinism: the same samples, run several times, give the same outputs.

export async function checkDeterminism(run: Run, wanted: Asked<"determinism">): Promise<Step> {
  const tolerance = toleranceOf({ maximumAbsoluteError: wanted.maximumAbsoluteError ?? 0 });
  const { runs } = wanted;
  const asked = wanted.batchSize ?? run.request.checks.golden?.batchSize;
  const { answered, remark } = await withLessMemory(run, asked === undefined, (child, least) =>
    ask(run, child, "Determinism", {
      kind: "determinism",
      runs,
      tolerance,
      batchSize: least ?? asked ?? null,
    }),
  );
  if (!answered.ok) return answered.error;
  const { comparison, input } = answered.value;
  return judged(judgeDeterminism(wanted, comparison, remark === "" ? input : `${input} (${remark})`));
}

export function judgeDeterminism(
  wanted: NonNullable<Verification["determinism"]>,
  comparison: Comparison,
  input: string,
): Judgement {
  const bound = numberOf(wanted.maximumAbsoluteError ?? 0);
  const good = comparison.beyond === 0;
  const { worst } = comparison;
  const facts = {
    measured: `maximum difference ${numberText(comparison.largestAbsolute)}`,
    bound: bound === 0 ? "no difference" : `maximum difference ≤ ${numberText(bound)}`,
    method: input,
  };
  if (good || worst === null) return { ...passed("Determinism", facts), details: comparison };
  const example = exampleOf(worst);
  return {
    ...failed("Determinism", REASONS.NotDeterministic, {
      ...facts,
      worst: example,
      message: `the same input gave different outputs: run ${worst.index} answered ${worst.got} in output "${worst.output}", ${worst.place === "shape" ? "its shape" : `element ${worst.place}`}, the first run ${worst.expected}`,
    }),
    details: comparison,
  };
}
