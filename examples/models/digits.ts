import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { seededRandom } from "../../test/builders/verifier/onnx-model.ts";

export const SIDE = 8;
export const PIXELS = SIDE * SIDE;
/** The brightest pixel: ink. */
export const INK = 16;
export const CLASSES = 10;

/** A real handwritten digit: 8 × 8 pixels from 0 to 16, row by row, and what it shows. */
export type Digit = { readonly pixels: readonly number[]; readonly label: number };

/** All 1,797 digits of data/digits.csv.gz, in the order of the file. */
export async function loadDigits(): Promise<readonly Digit[]> {
  const packed = await readFile(join(import.meta.dirname, "data/digits.csv.gz"));
  const lines = gunzipSync(packed).toString("utf8").trim().split("\n");
  return lines.map((line, index) => {
    const values = line.split(",").map(Number);
    const label = values[PIXELS];
    if (
      values.length !== PIXELS + 1 ||
      label === undefined ||
      values.some((value) => !Number.isInteger(value))
    )
      throw new Error(`digits.csv.gz: line ${index + 1} is not ${PIXELS} pixels and a label`);
    return { pixels: values.slice(0, PIXELS), label };
  });
}

/** Two thirds to learn from, one third that no training ever sees: the same split for the same seed. */
export function split(
  digits: readonly Digit[],
  seed: number,
): { readonly training: readonly Digit[]; readonly heldOut: readonly Digit[] } {
  const mixed = shuffled(digits, seededRandom(seed));
  const cut = Math.round((mixed.length * 2) / 3);
  return { training: mixed.slice(0, cut), heldOut: mixed.slice(cut) };
}

/** A new array in another order (Fisher and Yates). */
export function shuffled<T>(items: readonly T[], random: () => number): readonly T[] {
  const mixed = [...items];
  for (let last = mixed.length - 1; last > 0; last -= 1) {
    const other = Math.floor(random() * (last + 1));
    const [a, b] = [mixed[last], mixed[other]];
    if (a !== undefined && b !== undefined) {
      mixed[last] = b;
      mixed[other] = a;
    }
  }
  return mixed;
}
