import { elementCount, numberAt, type TensorValue } from "../onnx/tensor.ts";
import { type Box, type BoxFormat, isBox, matchedBoxes } from "./box-match.ts";

/** Boxes of one output beside those that are expected, added up run by run. */
export function createBoxCounts(format: BoxFormat, iouThreshold: number) {
  const boxes = { expected: 0, got: 0, matched: 0 };
  return {
    /** Whether both are boxes of so many samples. */
    add: (samples: number, expected: TensorValue, got: TensorValue): boolean => {
      const wanted = boxesIn(expected, samples);
      const has = boxesIn(got, samples);
      if (wanted === null || has === null) return false;
      for (const [sample, own] of wanted.entries()) {
        const left = own.filter((box) => isBox(box, format));
        const right = (has[sample] ?? []).filter((box) => isBox(box, format));
        boxes.expected += left.length;
        boxes.got += right.length;
        boxes.matched += matchedBoxes(left, right, format, iouThreshold);
      }
      return true;
    },
    /** `match` is twice the pairs among all boxes; `null`: there is no box on either side. */
    found: () => {
      const all = boxes.expected + boxes.got;
      return { boxes: { ...boxes }, match: all === 0 ? null : (2 * boxes.matched) / all };
    },
  };
}

/** Boxes of each sample; `null` where the last axis is not one of four. */
function boxesIn({ shape, ...tensor }: TensorValue, samples: number): readonly (readonly Box[])[] | null {
  if (shape.at(-1) !== 4) return null;
  const apart = shape[0] === samples && shape.length > 2;
  if (!apart && samples !== 1 && shape[0] !== samples) return null;
  const each = elementCount(shape) / 4 / samples;
  const value = (at: number) => numberAt({ ...tensor, shape }, at);
  return Array.from({ length: samples }, (_, sample) =>
    Array.from({ length: each }, (_one, row): Box => {
      const at = (sample * each + row) * 4;
      return [value(at), value(at + 1), value(at + 2), value(at + 3)];
    }),
  );
}
