import { type Datum, elementCount, isTensor, isText, numberAt, type Value } from "../onnx/tensor.ts";

/** NaN and infinities in one output. */
export type FiniteCount = {
  readonly output: string;
  readonly elements: number;
  readonly nonFinite: number;
  /** The first sample that has one; -1: none has. */
  readonly first: number;
};

export type FiniteCounts = {
  readonly add: (from: number, samples: number, outputs: ReadonlyMap<string, Datum>) => void;
  /** Every output that was answered; texts and whole numbers have no elements here. */
  readonly found: () => readonly FiniteCount[];
};

/** Looks at every number of every output. */
export function createFiniteCounts(): FiniteCounts {
  const counts = new Map<string, { elements: number; nonFinite: number; first: number }>();
  return {
    add: (from, samples, outputs) => {
      for (const [output, datum] of outputs) {
        const count = counts.get(output) ?? { elements: 0, nonFinite: 0, first: -1 };
        counts.set(output, count);
        for (const tensor of tensorsIn(datum)) {
          if (isText(tensor) || !tensor.type.startsWith("float")) continue;
          const each = Math.max(1, elementCount(tensor.shape) / Math.max(1, samples));
          for (let at = 0; at < tensor.data.length; at += 1) {
            if (Number.isFinite(numberAt(tensor, at))) continue;
            count.nonFinite += 1;
            if (count.first < 0) count.first = from + Math.min(samples - 1, Math.floor(at / each));
          }
          count.elements += tensor.data.length;
        }
      }
    },
    found: () => [...counts].map(([output, count]) => ({ output, ...count })),
  };
}

function tensorsIn(datum: Datum): readonly Value[] {
  if (datum.type === "none") return [];
  return isTensor(datum) ? [datum] : (datum as { readonly elements: readonly Value[] }).elements;
}
