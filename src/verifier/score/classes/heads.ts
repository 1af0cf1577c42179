import type { Labels } from "../../golden/labels.ts";
import {
  type Datum,
  elementCount,
  isTensor,
  isText,
  type TensorInfo,
  type Value,
} from "../../onnx/tensor.ts";

// What an output can be in a model that classifies, judged by its shape beside that of the labels: pure.

export type Head = {
  readonly output: string;
  /** One number for each class of each label; one number for each label; the class itself for each label. */
  readonly kind: "scores" | "score" | "classes";
  /** Of scores; 2 of one score. */
  readonly classes: number;
  /** Whether the axis of the classes comes before those of the labels, as in [samples, classes, height, width]. */
  readonly classesFirst: boolean;
  /** Labels are columns with a single 1. */
  readonly oneHot: boolean;
  /** Names of the classes, where the model has them. */
  readonly keys: readonly string[] | null;
};

type Shape = Pick<Head, "kind" | "classes" | "classesFirst">;

/** @param rest axes of the labels behind that of the samples. @returns `null` where it is none of them. */
export function shapeOfHead(tensor: Datum, samples: number, rest: readonly number[]): Shape | null {
  if (!isTensor(tensor)) return null;
  const axes = axesBehind(tensor, samples);
  if (axes === null) return null;
  if (sameAxes(axes, rest)) {
    const kind = isText(tensor) || isWhole(tensor) ? "classes" : "score";
    return { kind, classes: 2, classesFirst: false };
  }
  if (isText(tensor)) return null;
  const classes = tensor.data.length / (samples * elementCount(rest));
  if (!Number.isInteger(classes) || classes < 2) return null;
  const last = sameAxes(axes, [...rest, classes]);
  const first = rest.length > 0 && sameAxes(axes, [classes, ...rest]);
  return last === first ? null : { kind: "scores", classes, classesFirst: first };
}

/** Axes behind that of the samples, without those of length 1; a single sample may come without an axis. */
function axesBehind({ shape }: Value, samples: number): readonly number[] | null {
  if (shape[0] !== samples && samples !== 1) return null;
  const behind = shape[0] === samples ? shape.slice(1) : shape;
  return behind.filter((size) => size !== 1);
}

function sameAxes(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, index) => size === b[index]);
}

export function isWhole({ type }: { readonly type: string }): boolean {
  return type.includes("int") || type === "bool";
}

/** The output as labels can be held against it; one-hot labels are classes first, and labels of their own otherwise. */
export function headIn(
  output: string,
  tensor: Datum,
  samples: number,
  labels: Labels,
  infos: readonly TensorInfo[],
): Head | null {
  const keys = infos.find(({ name }) => name === output)?.keys ?? null;
  const columns = elementCount(labels.rest);
  const alone = labels.oneHot ? shapeOfHead(tensor, samples, []) : null;
  const fits = alone !== null && (alone.kind === "classes" || alone.classes === columns) ? alone : null;
  if (fits !== null) return { output, ...fits, oneHot: true, keys };
  const each = shapeOfHead(tensor, samples, labels.rest);
  return each === null ? null : { output, ...each, oneHot: false, keys };
}

/** Whether labels can mean one of two classes: 0 and 1, -1 and 1, or names that are known. */
export function isBinary(vocabulary: readonly string[], names: readonly string[] | null): boolean {
  const within = (...words: readonly string[]) => vocabulary.every((word) => words.includes(word));
  return within("0", "1") || within("-1", "1") || (names?.length === 2 && within(...names));
}

/**
 * Where each label stands among the classes of scores.
 * @param names of the classes in the order of the scores; `null`: they have none but their indices.
 * @returns an index for each word of the vocabulary, or `null` where some word is none of them.
 */
export function placesOf(
  vocabulary: readonly string[],
  names: readonly string[] | null,
  classes: number,
): readonly number[] | null {
  if (names !== null && vocabulary.every((word) => names.includes(word)))
    return vocabulary.map((word) => names.indexOf(word));
  // Where the number of a class is the name of another one, labels are names.
  const opposed = names?.some(
    (name, place) => /^\d{1,9}$/.test(name) && Number(name) < classes && Number(name) !== place,
  );
  const indices = vocabulary.map((word) => (/^\d{1,9}$/.test(word) ? Number(word) : -1));
  if (opposed !== true && indices.every((index) => index >= 0 && index < classes)) return indices;
  const signs = names === null && classes === 2 && vocabulary.every((word) => word === "-1" || word === "1");
  return signs ? vocabulary.map((word) => (word === "1" ? 1 : 0)) : null;
}

/** Up to five, and how many more. */
export function listed(names: readonly string[]): string {
  const shown = names.slice(0, 5).map((name) => `"${name}"`);
  return `${shown.join(", ")}${names.length > 5 ? `, … (${names.length})` : ""}`;
}
