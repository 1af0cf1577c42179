import type { Verification } from "../../api/model-release.ts";
import { REASONS } from "../../api/reasons.ts";
import type { Batch } from "../golden/types.ts";
import type { BatchFound, GoldenMeasured, SectionMeasured } from "../protocol/messages.ts";
import { goldenBounds, goldenSections } from "../score/sections.ts";
import { ask } from "./ask.ts";
import { type Asked, fileOf, judged, type Run, type Step } from "./check.ts";
import { finitePart, sectionParts } from "./golden-bounds.ts";
import { type Judgement, notJudged, outputsText, together } from "./judgement.ts";
import { withLessMemory } from "./less-memory.ts";

// Golden: the model's outputs for the golden samples keep the release's bounds, output by output.

const MOST_AT_ONCE = 4096;

export async function checkGolden(run: Run, bounds: Asked<"golden">): Promise<Step> {
  const sections = goldenSections(bounds);
  const finiteOnly = bounds.nonFinite === "Never";
  const { memoryBytes: limit } = run.deps;
  const path = fileOf(run, "golden");
  const isFree = bounds.batchSize === undefined;
  const { answered, remark } = await withLessMemory(run, isFree, (child, least) => {
    const batchSize = least ?? bounds.batchSize ?? null;
    return ask(run, child, "Golden", { kind: "golden", path, limit, batchSize, sections, finiteOnly });
  });
  if (!answered.ok) return answered.error;
  const { measured } = answered.value;
  if (sections.length === 0 && !finiteOnly)
    return {
      kind: "skipped",
      because: `no bound is about the ${measured.samples} golden samples: they are what other checks run the model with`,
    };
  const first = judgeGolden(bounds, measured, [], remark);
  if (first.reason !== REASONS.OutputsDiffer) return judged(first);
  return judged(judgeGolden(bounds, measured, await otherBatches(run, sections, measured), remark));
}

/** Outputs that differ may have been computed in batches of another size. Whatever goes wrong here, the verdict stands. */
async function otherBatches(
  run: Run,
  sections: ReturnType<typeof goldenSections>,
  { batch, samples }: GoldenMeasured,
): Promise<readonly BatchFound[]> {
  if (!batch.free || run.child === null) return [];
  const sizes = [...new Set([1, Math.min(samples, MOST_AT_ONCE)])].filter(
    (size) => size !== Math.min(batch.size ?? 0, samples),
  );
  const { memoryBytes: limit } = run.deps;
  const found: BatchFound[] = [];
  for (const size of sizes) {
    const question = {
      kind: "batches",
      path: fileOf(run, "golden"),
      limit,
      sizes: [size],
      sections,
    } as const;
    const answered = await ask(run, run.child, "Golden", question);
    if (!answered.ok) return found;
    found.push(...answered.value.found);
  }
  return found;
}

/**
 * @param others known outputs compared again in batches of other sizes, where they differ.
 * @param remark how it was measured otherwise than asked; empty: as asked.
 */
export function judgeGolden(
  wanted: NonNullable<Verification["golden"]>,
  measured: GoldenMeasured,
  others: readonly BatchFound[] = [],
  remark = "",
): Judgement {
  const { sections, finite, notes, ignored, samples, batch } = measured;
  const bounds = goldenBounds(wanted);
  const parts = sections.flatMap((section, index) => {
    const of = bounds[index];
    if (of === undefined) return [];
    const suffix = bounds.length > 1 && of.output !== null ? ` of "${of.output}"` : "";
    return sectionParts(of, section, suffix);
  });
  const finiteParts = finite === null ? [] : [finitePart(finite)];
  // Where NaN is why labels are not found, NaN is the reason.
  const causes = sections.some(({ classification }) => (classification?.notNumbers ?? 0) > 0);
  const all = causes ? [...finiteParts, ...parts] : [...parts, ...finiteParts];
  const failed = all.some(({ reason }) => reason !== null);
  const how = [
    `${samples} golden samples${batchText(batch, samples)}`,
    ...sections.flatMap(usedText),
    remark,
  ];
  const [first] = sections;
  return together("Golden", all, {
    method: how.filter((text) => text !== "").join("; "),
    notes: [
      ...(failed ? batchHint(measured, others) : sections.flatMap(notNumbersText)),
      ...notes,
      ...notJudged(finite === null ? ignored : []),
    ],
    // The figures of the bounds without a name stand where they have always stood.
    details: {
      ...measured,
      classification: first?.classification ?? null,
      comparison: first?.comparison ?? null,
    },
  });
}

/** A bound below 1 may be kept all the same. */
function notNumbersText({ classification }: SectionMeasured): readonly string[] {
  return classification === null || classification.notNumbers === 0
    ? []
    : [
        `a score of output "${classification.output}" is NaN in ${classification.notNumbers} of ${classification.samples} samples, and none of these counts as right`,
      ];
}

function batchText({ size, free }: Batch, samples: number): string {
  if (size === null) return ", each data set at once";
  if (!free)
    return size === 1
      ? ", one at a time, as the model takes them"
      : `, ${size} at a time, as the model takes them`;
  return samples <= size ? " at once" : ` in batches of ${size}`;
}

/** Which output was scored, and how: said of every verdict. */
function usedText({ classification, ranking, comparison, figures }: SectionMeasured): readonly string[] {
  const scored = classification ?? ranking;
  const reading = classification?.reading ?? "";
  return [
    ...(scored === null ? [] : [`scored: output "${scored.output}"${reading === "" ? "" : ` ${reading}`}`]),
    ...(comparison === null ? [] : [`compared: ${outputsText(comparison.outputs)}`]),
    ...(figures === null ? [] : [`measured: output "${figures.output}"`]),
  ];
}

function batchHint({ batch, sections }: GoldenMeasured, others: readonly BatchFound[]): readonly string[] {
  const beyond = sections.reduce((sum, { comparison }) => sum + (comparison?.beyond ?? 0), 0);
  const right = others.find((one) => one.beyond === 0);
  if (right !== undefined && beyond > 0)
    return [
      `the model's answers depend on the batch: in batches of ${right.size} they are as expected, so the expected outputs were computed that way; say so with golden.batchSize (--golden-batch-size)`,
    ];
  const counts = [...new Set([beyond, ...others.map((one) => one.beyond)])];
  return counts.length > 1
    ? [
        `the model's answers depend on the batch: ${others.map((one) => `${one.beyond} values are off in batches of ${one.size}`).join(", ")}, ${beyond} in batches of ${batch.size}; golden.batchSize (--golden-batch-size) says how the expected outputs were computed`,
      ]
    : [];
}
