import { err, ok, type Result } from "../../../base/result.ts";
import { labelText } from "../../golden/labels.ts";
import {
  type Datum,
  isTensor,
  isText,
  numberAt,
  type TensorInfo,
  type TensorValue,
  type Value,
} from "../../onnx/tensor.ts";
import { createClassCounts, NAN } from "./class-counts.ts";
import type { Classification } from "./classification.ts";
import { type Head, listed, shapeOfHead } from "./heads.ts";
import { type Unfit, unfit } from "./unfit.ts";

// How often two models find the same class: pure, and added up run by run. Classes of the first model are the labels.

export type Agreement = Omit<Classification, "reading" | "correctTopK" | "topK" | "notNumbers">;

export type AgreementOptions = {
  /** `null`: the only one that both models have and that can be meant. */
  readonly output: string | null;
  /** `null`: nothing was said of it, and 0.5 counts where there is one score. */
  readonly threshold: number | null;
};

export type AgreementAccumulator = {
  /** Adds one run: what the first model answers, and the second. */
  readonly add: (
    samples: number,
    first: ReadonlyMap<string, Datum>,
    second: ReadonlyMap<string, Datum>,
  ) => Unfit | null;
  /** `null` before the first run. */
  readonly found: () => Agreement | null;
};

const DEFAULT_THRESHOLD = 0.5;

type Reading = Pick<Head, "kind" | "classes">;

export function createAgreementAccumulator(
  options: AgreementOptions,
  infos: readonly TensorInfo[],
): AgreementAccumulator {
  let output: string | null = null;
  let samples = 0;
  let classes = 0;
  const counts = createClassCounts();
  return {
    add: (count, first, second) => {
      if (output === null) {
        const choice = choose(count, first, second, options.output);
        if (!choice.ok) return choice.error;
        output = choice.value;
      }
      const [a, b] = [first.get(output), second.get(output)];
      if (a === undefined || b === undefined || !isTensor(a) || !isTensor(b)) return notComparable(output);
      const [left, right] = [readingOf(a, count), readingOf(b, count)];
      if (left === null || right === null || left.kind !== right.kind || left.classes !== right.classes)
        return notComparable(output);
      if (options.threshold !== null && left.kind !== "score")
        return unfit(
          "bound",
          `threshold is for one score for each sample, and output "${output}" has ${left.kind === "scores" ? "one score for each class" : "classes"}: leave it out`,
        );
      const threshold = options.threshold ?? DEFAULT_THRESHOLD;
      const keys = infos.find(({ name }) => name === output)?.keys ?? null;
      const places = left.kind === "scores" ? a.data.length / left.classes : a.data.length;
      const each = places / count;
      if (b.data.length !== a.data.length) return notComparable(output);
      classes = left.classes;
      for (let at = 0; at < places; at += 1) {
        const index = samples + Math.floor(at / each);
        const expected = wordAt(a, left, at, threshold, keys);
        const got = wordAt(b, right, at, threshold, keys);
        if (expected === NAN)
          return {
            because: "misfit",
            message: `the model that it is compared with answers NaN for sample ${index} in output "${output}"`,
          };
        const margin =
          left.kind === "scores" ? marginAt(b as TensorValue, left.classes, at, a as TensorValue) : 0;
        counts.add(index, expected, got, margin);
      }
      samples += count;
      return null;
    },
    found: () => (output === null ? null : { output, ...counts.found(classes) }),
  };
}

function notComparable(output: string): Unfit {
  return {
    because: "misfit",
    message: `output "${output}" has not one class, one score, or one score for each class of each sample in both models`,
  };
}

/** Outputs that both models have and that say which class it is; scores come before classes that are answered. */
function choose(
  samples: number,
  first: ReadonlyMap<string, Datum>,
  second: ReadonlyMap<string, Datum>,
  named: string | null,
): Result<string, Unfit> {
  if (named !== null) {
    for (const [whose, outputs] of [
      ["what it is compared with", first],
      ["the model", second],
    ] as const)
      if (!outputs.has(named))
        return err({
          because: "misfit",
          message: `${whose} has no output "${named}"; it has ${listed([...outputs.keys()])}`,
        });
    return ok(named);
  }
  const kinds = [...first].flatMap(([output, datum]) => {
    const shape = shapeOfHead(datum, samples, []);
    return shape === null ? [] : [{ output, kind: shape.kind }];
  });
  const scores = kinds.filter(({ kind }) => kind === "scores");
  const meant = scores.length > 0 ? scores : kinds.filter(({ kind }) => kind === "classes");
  const [only, more] = meant;
  if (only === undefined)
    return err({
      because: "misfit",
      message:
        "minimumAgreement needs an output with one score for each class of each sample, in both models; one score with a threshold must be named (parity.output, --parity-output)",
    });
  if (more !== undefined)
    return err({
      because: "ambiguous",
      message: `more than one output is possible: ${listed(meant.map(({ output }) => output))}; name the one that is compared (parity.output, --parity-output)`,
    });
  if (!second.has(only.output))
    return err({
      because: "misfit",
      message: `the model has no output "${only.output}", which what it is compared with has`,
    });
  return ok(only.output);
}

/** A named output may have one class for each of several things in a sample: scores are along its last axis then. */
function readingOf(tensor: Value, samples: number): Reading | null {
  const shape = shapeOfHead(tensor, samples, []);
  if (shape !== null) return shape;
  if (isText(tensor) || tensor.type.includes("int") || tensor.type === "bool")
    return { kind: "classes", classes: 2 };
  const last = tensor.shape.at(-1) ?? 1;
  return last > 1 && tensor.shape.length > 1
    ? { kind: "scores", classes: last }
    : { kind: "score", classes: 2 };
}

function wordAt(
  tensor: Value,
  { kind, classes }: Reading,
  at: number,
  threshold: number,
  keys: readonly string[] | null,
): string {
  if (kind === "classes" || isText(tensor)) return labelText(tensor, at) ?? NAN;
  if (kind === "score") {
    const score = numberAt(tensor, at);
    return Number.isNaN(score) ? NAN : String(Number(score > threshold));
  }
  let place = 0;
  for (let index = 0; index < classes; index += 1) {
    const value = numberAt(tensor, at * classes + index);
    if (Number.isNaN(value)) return NAN;
    if (value > numberAt(tensor, at * classes + place)) place = index;
  }
  return keys?.[place] ?? String(place);
}

/** By how much the model prefers its class to that of the other one. */
function marginAt(own: TensorValue, classes: number, at: number, other: TensorValue): number {
  const row = (tensor: TensorValue) =>
    Array.from({ length: classes }, (_, index) => numberAt(tensor, at * classes + index));
  const [mine, theirs] = [row(own), row(other)];
  const margin = Math.max(...mine) - (mine[theirs.indexOf(Math.max(...theirs))] ?? 0);
  return Number.isNaN(margin) ? Number.POSITIVE_INFINITY : margin;
}
