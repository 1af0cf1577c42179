import {
  type Datum,
  elementCount,
  float16,
  isTensor,
  isText,
  numberAt,
  type TensorInfo,
  type TensorValue,
  tensorText,
  type Value,
} from "../onnx/tensor.ts";

// How far outputs are from the expected ones: pure, and added up run by run.

/** What an element may be off by: `|got - expected| <= absolute + relative * |expected|`, as numpy.allclose has it. */
export type Tolerance = {
  /** `null`: not judged by it; infinite where both are. */
  readonly absolute: number | null;
  readonly relative: number | null;
  /** Whether NaN and infinity are wrong even where they are expected. */
  readonly finiteOnly: boolean;
};

/** One element; `index` counts samples, `element` counts within the sample. Values as text: some are no numbers. */
export type Difference = {
  readonly output: string;
  readonly index: number;
  readonly element: number;
  /** The element's indices within the sample, such as `[2,0]`; one number where there is one axis. */
  readonly place: string;
  readonly expected: string;
  readonly got: string;
  readonly absolute: number;
  readonly relative: number;
};

export type Comparison = {
  readonly samples: number;
  readonly elements: number;
  /** Elements further off than the tolerance. */
  readonly beyond: number;
  /** Elements that are NaN or infinite in what the model answered. */
  readonly nonFinite: number;
  readonly largestAbsolute: number;
  readonly largestRelative: number;
  /** The element furthest beyond the tolerance, or furthest off at all where none is; `null`: all are equal. */
  readonly worst: Difference | null;
  /** The sample and output whose direction differs most; `null`: there was none with two numbers or more. */
  readonly lowestCosine: { readonly output: string; readonly index: number; readonly cosine: number } | null;
  /** The outputs that were compared, and those of them without a direction: texts, or one number for each sample. */
  readonly outputs: readonly string[];
  readonly withoutCosine: readonly string[];
};

export type ComparisonAccumulator = {
  /**
   * Adds one run.
   * @param from number of its first sample. @param samples how many it has, along the first axis.
   * @returns what is wrong where the two cannot be compared.
   */
  readonly add: (
    run: { readonly from: number; readonly samples: number },
    output: string,
    expected: Datum,
    got: Datum | undefined,
  ) => string | null;
  /** Adds an answer that `add` cannot compare, as one that is not as expected. */
  readonly differs: (from: number, output: string, expected: Datum, got: Datum | undefined) => void;
  readonly found: () => Comparison;
};

/**
 * @param infos of the outputs: two answers may differ in the size of axes that are free, and are then infinitely far off.
 * @param exact whether axes of length 1 count.
 */
export function createComparisonAccumulator(
  tolerance: Tolerance,
  infos: readonly TensorInfo[] = [],
  exact = false,
): ComparisonAccumulator {
  const tally = createTally(tolerance);

  function addTensors(place: Place, output: string, expected: Value, got: Value): string | null {
    const { from, samples: count } = place;
    const info = infos.find(({ name }) => name === output) ?? null;
    const fits = isText(expected) === isText(got) ? fitOf(expected, got, place, { info, exact }) : "no";
    if (fits === "no")
      return `output "${output}" should be ${tensorText(expected)} for ${count} samples, the model answers ${tensorText(got)}`;
    tally.begin(output, from + count);
    if (fits === "size") {
      const texts = { expected: `[${expected.shape.join(",")}]`, got: `[${got.shape.join(",")}]` };
      tally.other({ output, index: from, element: 0, place: "shape" }, texts);
      tally.cosine({ output, index: from, cosine: -1 }, true);
      return null;
    }
    const perSample = Math.max(1, elementCount(expected.shape) / Math.max(1, count));
    const rows = { from, perSample, axes: got.shape[0] === count ? got.shape.slice(1) : got.shape };
    if (isText(expected) || isText(got)) addTexts(tally, rows, output, expected, got);
    else addNumbers(tally, rows, output, expected, got);
    return null;
  }

  /** Sequences and optionals: what differs in kind or length is infinitely wrong. */
  function addOthers({ from }: Place, output: string, expected: Datum, got: Datum): void {
    tally.begin(output, from + 1);
    const same =
      expected.type === "sequence" && got.type === "sequence"
        ? expected.elements.length === got.elements.length
        : expected.type === got.type;
    if (!same) {
      const texts = { expected: kindText(expected), got: kindText(got) };
      tally.other({ output, index: from, element: 0, place: "0" }, texts);
      tally.cosine({ output, index: from, cosine: -1 }, true);
    }
    if (!same || expected.type !== "sequence" || got.type !== "sequence") return;
    for (const [at, element] of expected.elements.entries()) {
      const has = got.elements[at] ?? element;
      const wrong = addTensors({ from, samples: 1 }, `${output}[${at}]`, element, has);
      if (wrong === null) continue;
      const texts = { expected: tensorText(element), got: tensorText(has) };
      tally.other({ output: `${output}[${at}]`, index: from, element: 0, place: "shape" }, texts);
    }
  }

  return {
    add: (place, output, expected, got) => {
      if (got === undefined) return `the model answers no output "${output}" that can be read`;
      if (isTensor(expected) && isTensor(got)) return addTensors(place, output, expected, got);
      addOthers(place, output, expected, got);
      return null;
    },
    differs: (from, output, expected, got) => {
      tally.begin(output, from + 1);
      const texts = { expected: kindText(expected), got: got === undefined ? "no value" : kindText(got) };
      tally.other({ output, index: from, element: 0, place: "shape" }, texts);
    },
    found: tally.found,
  };
}

type Where = Pick<Difference, "output" | "index" | "element" | "place">;
type Pair = { readonly expected: string; readonly got: string };
type Off = { readonly absolute: number; readonly relative: number; readonly excess: number };
type Tally = ReturnType<typeof createTally>;

/** What was found so far, and the worst of it. */
function createTally(tolerance: Tolerance) {
  const judged = tolerance.absolute !== null || tolerance.relative !== null;
  const outputs = new Set<string>();
  const withoutCosine = new Set<string>();
  let worst: (Difference & { readonly excess: number }) | null = null;
  let lowestCosine: Comparison["lowestCosine"] = null;
  const sums = { samples: 0, elements: 0, beyond: 0, nonFinite: 0, largestAbsolute: 0, largestRelative: 0 };

  function difference(where: Where, pair: Pair, off: Off): void {
    if (judged && off.excess > 0) sums.beyond += 1;
    sums.largestAbsolute = Math.max(sums.largestAbsolute, off.absolute);
    sums.largestRelative = Math.max(sums.largestRelative, off.relative);
    const size = judged ? off.excess : off.absolute;
    if (off.absolute > 0 && (worst === null || size > worst.excess))
      worst = { ...where, ...pair, absolute: off.absolute, relative: off.relative, excess: size };
  }

  return {
    tolerance,
    /** @param samples how many there are so far. */
    begin: (output: string, samples: number) => {
      outputs.add(output);
      sums.samples = Math.max(sums.samples, samples);
    },
    elements: (count: number) => {
      sums.elements += count;
    },
    nonFinite: () => {
      sums.nonFinite += 1;
    },
    difference,
    /** What is no number and not as expected counts as one element. */
    other: (where: Where, pair: Pair) => {
      sums.elements += 1;
      difference(where, pair, OTHER);
    },
    /** The lowest stays, unless there was nothing that could be compared at all. */
    cosine: (found: NonNullable<Comparison["lowestCosine"]>, always = false) => {
      if (always || lowestCosine === null || found.cosine < lowestCosine.cosine) lowestCosine = found;
    },
    withoutCosine: (output: string) => {
      withoutCosine.add(output);
    },
    found: (): Comparison => {
      const { excess: _, ...rest } = worst ?? { excess: 0 };
      return {
        ...{ ...sums, lowestCosine },
        worst: worst === null ? null : (rest as Difference),
        outputs: [...outputs],
        withoutCosine: [...withoutCosine],
      };
    },
  };
}

function addNumbers(
  tally: Tally,
  { from, perSample, axes }: Rows,
  output: string,
  expected: TensorValue,
  got: TensorValue,
): void {
  const { finiteOnly, absolute, relative } = tally.tolerance;
  tally.elements(expected.data.length);
  for (let at = 0; at < expected.data.length; at += 1) {
    const finite = Number.isFinite(numberAt(got, at));
    if (!finite) tally.nonFinite();
    const off = errorAt(expected, got, at);
    if (off === 0 && (finite || !finiteOnly)) continue;
    const size = Math.abs(numberAt(expected, at));
    const error = !finite && finiteOnly ? Number.POSITIVE_INFINITY : off;
    const allowed = (absolute ?? 0) + ((relative ?? 0) === 0 ? 0 : (relative ?? 0) * size);
    tally.difference(placeAt(output, { from, perSample, axes }, at), elementTexts(expected, got, at), {
      absolute: error,
      relative: error === Number.POSITIVE_INFINITY ? error : error / size,
      excess: error === Number.POSITIVE_INFINITY ? error : error - allowed,
    });
  }
  if (perSample < 2) tally.withoutCosine(output);
  else
    for (let row = 0; row * perSample < expected.data.length; row += 1)
      tally.cosine({
        output,
        index: from + row,
        cosine: cosineOf(expected, got, row * perSample, perSample),
      });
}

function addTexts(tally: Tally, rows: Rows, output: string, expected: Value, got: Value): void {
  tally.elements(expected.data.length);
  tally.withoutCosine(output);
  for (const [at, wanted] of (expected.data as readonly string[]).entries()) {
    const has = String(got.data[at]);
    if (has === wanted) continue;
    const texts = { expected: JSON.stringify(wanted), got: JSON.stringify(has) };
    tally.difference(placeAt(output, rows, at), texts, OTHER);
  }
}

type Place = { readonly from: number; readonly samples: number };
type Rows = { readonly from: number; readonly perSample: number; readonly axes: readonly number[] };

function placeAt(output: string, { from, perSample, axes }: Rows, at: number) {
  const element = at % perSample;
  return { output, index: from + Math.floor(at / perSample), element, place: placeText(element, axes) };
}

function placeText(element: number, axes: readonly number[]): string {
  if (axes.length < 2 || elementCount(axes) <= element) return String(element);
  const indices: number[] = [];
  let rest = element;
  for (const size of [...axes].reverse()) {
    indices.unshift(rest % size);
    rest = Math.floor(rest / size);
  }
  return `[${indices.join(",")}]`;
}

/**
 * Whether two can be compared element by element: they have the same shape, or differ in the size of axes that are free
 * ("size"), or they cannot ("no").
 */
function fitOf(
  expected: Value,
  got: Value,
  { samples }: Place,
  { info, exact }: { readonly info: TensorInfo | null; readonly exact: boolean },
): "same" | "size" | "no" {
  // A model without an axis for samples is run once for each of them.
  const alone = samples === 1 && expected.shape.length === got.shape.length + 1 && expected.shape[0] === 1;
  const wanted = alone ? expected.shape.slice(1) : expected.shape;
  const sameRank = wanted.length === got.shape.length;
  const differing = wanted.flatMap((size, axis) => (size === got.shape[axis] ? [] : [axis]));
  if (sameRank && differing.length === 0) return "same";
  if (!exact && longAxes(expected) === longAxes(got)) return "same";
  if (!sameRank || info === null) return "no";
  const isFree = (axis: number) => info.shape.length === 0 || typeof info.shape[axis] === "string";
  return differing.every(isFree) ? "size" : "no";
}

/** What is not the same and has no distance. */
const OTHER = {
  absolute: Number.POSITIVE_INFINITY,
  relative: Number.POSITIVE_INFINITY,
  excess: Number.POSITIVE_INFINITY,
};

function longAxes({ shape }: Value): string {
  return shape.filter((size) => size !== 1).join();
}

function kindText(datum: Datum): string {
  if (datum.type === "none") return "no value";
  return datum.type === "sequence" ? `a sequence of ${datum.elements.length}` : tensorText(datum as Value);
}

/** NaN equals NaN and an infinity the same infinity; where only one of two is not finite, the error is infinite. */
export function errorAt(expected: TensorValue, got: TensorValue, at: number): number {
  const a = expected.data[at];
  const b = got.data[at];
  if (typeof a === "bigint" && typeof b === "bigint") return Number(a > b ? a - b : b - a);
  const wanted = expected.type === "float16" ? float16(Number(a)) : Number(a);
  const has = got.type === "float16" ? float16(Number(b)) : Number(b);
  if (Object.is(wanted, has) || wanted === has) return 0;
  const error = Math.abs(wanted - has);
  return Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
}

/** 1 for two that are zero or equal throughout, -1 where one is not finite and the other is. */
function cosineOf(expected: TensorValue, got: TensorValue, start: number, count: number): number {
  let dot = 0;
  let a = 0;
  let b = 0;
  let differs = false;
  for (let at = start; at < start + count; at += 1) {
    if (errorAt(expected, got, at) === 0) {
      const both = numberAt(expected, at);
      if (!Number.isFinite(both)) continue;
      dot += both * both;
      a += both * both;
      b += both * both;
      continue;
    }
    differs = true;
    const [wanted, has] = [numberAt(expected, at), numberAt(got, at)];
    dot += wanted * has;
    a += wanted * wanted;
    b += has * has;
  }
  if (!differs) return 1;
  const cosine = dot / (Math.sqrt(a) * Math.sqrt(b));
  if (Number.isFinite(cosine)) return Math.max(-1, Math.min(1, cosine));
  return Number.isFinite(a) && Number.isFinite(b) ? 0 : -1;
}

/** Both with as many digits as it takes to see that they differ. */
function elementTexts(expected: TensorValue, got: TensorValue, at: number) {
  const [a, b] = [expected.data[at], got.data[at]];
  if (typeof a === "bigint" && typeof b === "bigint") return { expected: String(a), got: String(b) };
  const [wanted, has] = apart(numberAt(expected, at), numberAt(got, at));
  return { expected: wanted, got: has };
}

/** Two numbers as text: six digits, or as many more as it takes to see that they differ. */
export function apart(a: number, b: number): readonly [string, string] {
  for (let digits = 6; digits < 17; digits += 1) {
    const [first, second] = [numberText(a, digits), numberText(b, digits)];
    if (first !== second || Object.is(a, b)) return [first, second];
  }
  return [String(a), String(b)];
}

export function numberText(value: number, digits = 6): string {
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(digits)));
}
