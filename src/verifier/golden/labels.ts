import { err, ok, type Result } from "../../base/result.ts";
import { elementCount, isText, numberAt, type Value } from "../onnx/tensor.ts";

/** Labels of some samples. */
export type Labels = {
  /** Of each label in C order: its place in the vocabulary. */
  readonly ids: Int32Array;
  /** Every label of the whole set as text, in the order of its coming: whole numbers as decimals, `-1` and `-1.0` alike. */
  readonly vocabulary: readonly string[];
  /** Axes behind that of the samples, without those of length 1; empty where there is one label for each sample. */
  readonly rest: readonly number[];
  /** Whether each sample has one 1 among zeros: it may be a class, or a label for each of several things. */
  readonly oneHot: boolean;
  /** As they are in the file, of these samples. */
  readonly raw: Value;
  /** Why they are no classes; `null`: they are. */
  readonly fault: string | null;
};

/** Numbers labels as they come, for all arrays of a set alike. */
export type Vocabulary = { readonly words: readonly string[]; readonly idOf: (word: string) => number };

export function createVocabulary(): Vocabulary {
  const words: string[] = [];
  const ids = new Map<string, number>();
  return {
    words,
    idOf: (word) => {
      const known = ids.get(word);
      if (known !== undefined) return known;
      ids.set(word, words.length);
      words.push(word);
      return words.length - 1;
    },
  };
}

/** @param name of the array, for messages. */
export function labelsOf(
  name: string,
  array: Value,
  samples: number,
  vocabulary: Vocabulary,
): Result<Labels, string> {
  if (array.shape[0] !== samples || array.data.length === 0)
    return err(`\`${name}\` must have a first axis of ${samples}, the samples, and a class for each of them`);
  const rest = array.shape.slice(1).filter((size) => size !== 1);
  const ids = new Int32Array(array.data.length);
  let fault: string | null = null;
  for (let at = 0; at < ids.length; at += 1) {
    const word = labelText(array, at);
    ids[at] = word === null ? -1 : vocabulary.idOf(word);
    if (word === null)
      fault ??= `\`${name}\` must hold whole numbers or texts to be classes, and element ${at} is neither`;
  }
  const oneHot = rest.length === 1 && isOneHot(array, samples);
  return ok({ ids, vocabulary: vocabulary.words, rest, oneHot, raw: array, fault });
}

export function labelRows(labels: Labels, from: number, to: number): Labels {
  const each = elementCount(labels.rest);
  const { raw } = labels;
  const rows = raw.data.slice(from * each, to * each);
  return {
    ...labels,
    ids: labels.ids.subarray(from * each, to * each),
    raw: { ...raw, shape: [to - from, ...raw.shape.slice(1)], data: rows } as Value,
  };
}

/** How a label or an answered class is written; `null`: it is a fraction, or no number. */
export function labelText(array: Value, at: number): string | null {
  if (isText(array)) return wholeText(array.data[at] ?? "");
  const element = array.data[at];
  if (typeof element === "bigint") return String(element);
  const number = numberAt(array, at);
  return Number.isSafeInteger(number) ? String(number === 0 ? 0 : number) : null;
}

/** `1.0` is the class `1` of a model that was trained with floats. */
function wholeText(text: string): string {
  return /^-?\d{1,15}\.0+$/.test(text) ? text.replace(/\.0+$/, "") : text;
}

function isOneHot(array: Value, samples: number): boolean {
  if (isText(array)) return false;
  const each = array.data.length / samples;
  for (let row = 0; row < samples; row += 1) {
    let ones = 0;
    for (let column = 0; column < each; column += 1) {
      const value = numberAt(array, row * each + column);
      if (value === 1) ones += 1;
      else if (value !== 0) return false;
    }
    if (ones !== 1) return false;
  }
  return true;
}
