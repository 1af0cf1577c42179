import { err, ok, type Result } from "../../base/result.ts";
import type { Labels } from "../golden/labels.ts";
import type { GoldenRun } from "../golden/types.ts";
import { type Datum, isTensor, isText, type TensorInfo } from "../onnx/tensor.ts";
import type { ParityMeasured, ParitySection, RefusalKind, SectionMeasured } from "../protocol/messages.ts";
import { type AgreementAccumulator, createAgreementAccumulator } from "../score/classes/agreement.ts";
import { listed } from "../score/classes/heads.ts";
import { createScoring, type Scoring } from "../score/classes/scoring.ts";
import type { Unfit } from "../score/classes/unfit.ts";
import { createComparisonAccumulator } from "../score/comparison.ts";
import {
  createOutputAccumulator,
  type OutputAccumulator,
  type OutputMetricOptions,
} from "../score/output-metrics.ts";
import type { GoldenSection } from "../score/sections.ts";

// What is asked of one output, or of all of them, run by run: pure.

type Outputs = ReadonlyMap<string, Datum>;
type Problem = { readonly because: RefusalKind; readonly message: string };

export type SectionAccumulator = {
  /** Adds one run, or says what is wrong with what was asked. */
  readonly add: (run: GoldenRun, outputs: Outputs) => Unfit | null;
  readonly found: () => Result<SectionMeasured, Unfit>;
};

export function createSectionAccumulator(
  section: GoldenSection,
  infos: readonly TensorInfo[],
): SectionAccumulator {
  const { output, except, metrics } = section;
  let scoring: Scoring | null = null;
  const comparing =
    section.tolerance === null ? null : createComparisonAccumulator(section.tolerance, infos, true);
  let measuring: { readonly output: string; readonly of: OutputAccumulator } | null = null;

  function addScores({ labels, samples }: GoldenRun, outputs: Outputs): Unfit | null {
    if (section.scoring === null) return null;
    const meant = labelsFor(labels, output);
    if (!meant.ok) return meant.error;
    scoring ??= createScoring({ ...section.scoring, output: meant.value.output }, infos);
    return scoring.add(without(outputs, except), meant.value.labels, samples);
  }

  function addErrors(run: GoldenRun, outputs: Outputs): Unfit | null {
    if (comparing === null) return null;
    const names =
      output === null ? [...run.expected.keys()].filter((name) => !except.includes(name)) : [output];
    if (names.length === 0)
      return misfit("every known output has bounds of its own: the general bounds apply to nothing");
    for (const name of names) {
      const expected = run.expected.get(name);
      if (expected === undefined) return misfit(`the golden set has no values for output "${name}"`);
      const problem = comparing.add(run, name, expected, outputs.get(name));
      if (problem !== null) return misfit(problem);
    }
    return null;
  }

  function addFigures(run: GoldenRun, outputs: Outputs): Unfit | null {
    if (metrics === null) return null;
    if (measuring === null) {
      const chosen = output === null ? chooseMeasured(run, outputs, { except, metrics }) : ok(output);
      if (!chosen.ok) return chosen.error;
      measuring = { output: chosen.value, of: createOutputAccumulator(chosen.value, metrics) };
    }
    const { labels } = run;
    const expected =
      run.expected.get(measuring.output) ?? labels.get(measuring.output)?.raw ?? labels.get("")?.raw;
    if (expected === undefined)
      return misfit(`the golden set has no values for output "${measuring.output}"`);
    const problem = measuring.of.add(run.samples, expected, outputs.get(measuring.output));
    return problem === null ? null : misfit(problem);
  }

  return {
    add: (run, outputs) => addScores(run, outputs) ?? addErrors(run, outputs) ?? addFigures(run, outputs),
    found: () => {
      const scored = scoring?.found() ?? ok(null);
      if (!scored.ok) return scored;
      return ok({
        classification: scored.value?.classification ?? null,
        ranking: scored.value?.ranking ?? null,
        comparison: comparing?.found() ?? null,
        figures: measuring?.of.found() ?? null,
      });
    },
  };
}

/** Labels that are for one output say that it is the one that is scored. */
function labelsFor(
  all: GoldenRun["labels"],
  output: string | null,
): Result<{ readonly labels: Labels; readonly output: string | null }, Unfit> {
  const labels = all.get(output ?? "") ?? all.get("");
  if (labels !== undefined) return ok({ labels, output });
  const [only, more] = all;
  if (only === undefined) return err(misfit("the golden set has no labels"));
  const names = listed([...all.keys()]);
  if (output !== null)
    return err(misfit(`the golden set has no labels of output "${output}"; it has labels of ${names}`));
  if (more !== undefined)
    return err(
      misfit(
        `the golden set has labels of several outputs (${names}): name the one that is scored (golden.output, --golden-output)`,
      ),
    );
  return ok({ labels: only[1], output: only[0] });
}

/** Outputs with bounds of their own are not what the others are about. */
function without(outputs: Outputs, except: readonly string[]): Outputs {
  return except.length === 0 ? outputs : new Map([...outputs].filter(([name]) => !except.includes(name)));
}

function misfit(message: string): Unfit {
  return { because: "misfit", message };
}

/** The only known output of the kind that is measured; with labels alone, the only output of the model. */
function chooseMeasured(
  run: GoldenRun,
  outputs: Outputs,
  about: { readonly except: readonly string[]; readonly metrics: OutputMetricOptions },
): Result<string, Unfit> {
  const { metrics } = about.metrics;
  const isMeant = (datum: Datum) => {
    if (!isTensor(datum) || isText(datum) !== metrics.includes("texts")) return false;
    return !metrics.includes("boxes") || datum.shape.at(-1) === 4;
  };
  const known = run.expected.size > 0 ? run.expected : outputs;
  const names = [...known].filter(([name, datum]) => !about.except.includes(name) && isMeant(datum));
  const [only, more] = names.map(([name]) => name);
  if (only === undefined)
    return err(
      misfit(
        metrics.includes("texts")
          ? "error rates are of texts, and there is no such output"
          : "there is no output of the kind that the bounds are about",
      ),
    );
  if (more !== undefined)
    return err({
      because: "ambiguous",
      message: `more than one output is possible: ${listed(names.map(([name]) => name))}; name the one that is measured (golden.output, --golden-output)`,
    });
  return ok(only);
}

export type ParityAccumulator = {
  readonly add: (
    run: { readonly from: number; readonly samples: number; readonly outputs: Outputs },
    outputs: Outputs,
  ) => Problem | null;
  readonly found: () => ParityMeasured["sections"][number];
};

/** Outputs are matched by their names. */
export function createParityAccumulator(
  section: ParitySection,
  infos: readonly TensorInfo[],
): ParityAccumulator {
  const { output, except } = section;
  const agreeing: AgreementAccumulator | null =
    section.agreement === null ? null : createAgreementAccumulator({ ...section.agreement, output }, infos);
  const comparing = section.tolerance === null ? null : createComparisonAccumulator(section.tolerance, infos);

  function addErrors(
    run: { readonly from: number; readonly samples: number; readonly outputs: Outputs },
    outputs: Outputs,
  ): string | null {
    if (comparing === null) return null;
    const names =
      output === null ? [...run.outputs.keys()].filter((name) => !except.includes(name)) : [output];
    for (const name of names) {
      const expected = run.outputs.get(name);
      const problem =
        expected === undefined
          ? `what it is compared with has no output "${name}"`
          : comparing.add(run, name, expected, outputs.get(name));
      if (problem !== null) return problem;
    }
    return names.length === 0 ? "no output is left to compare" : null;
  }

  return {
    add: (run, outputs) => {
      const agreed =
        agreeing?.add(run.samples, without(run.outputs, except), without(outputs, except)) ?? null;
      if (agreed !== null)
        return { ...agreed, because: agreed.because === "misfit" ? "compare" : agreed.because };
      const differs = addErrors(run, outputs);
      return differs === null ? null : { because: "compare", message: differs };
    },
    found: () => ({ agreement: agreeing?.found() ?? null, comparison: comparing?.found() ?? null }),
  };
}
