// What ONNX operators compute, by their definitions in the specification and by the shortest way there: for tests that
// need an answer that no runtime had a part in. Sums are float64, results float32.

export type Numbers = { readonly shape: readonly number[]; readonly data: Float32Array };

export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

export function numbers(
  shape: readonly number[],
  values: ArrayLike<number> | ((at: number) => number),
): Numbers {
  const data =
    typeof values === "function"
      ? Float32Array.from({ length: sizeOf(shape) }, (_, at) => values(at))
      : Float32Array.from(values);
  if (data.length !== sizeOf(shape)) throw new Error(`${data.length} values for [${shape.join(",")}]`);
  return { shape, data };
}

/** Indices of the element at `at`, in C order. */
function placeOf(shape: readonly number[], at: number): number[] {
  const place: number[] = new Array(shape.length).fill(0);
  let rest = at;
  for (let axis = shape.length - 1; axis >= 0; axis -= 1) {
    place[axis] = rest % (shape[axis] ?? 1);
    rest = Math.floor(rest / (shape[axis] ?? 1));
  }
  return place;
}

function elementAt(tensor: Numbers, place: readonly number[]): number {
  const offset = tensor.shape.reduce((sum, size, axis) => sum * size + (place[axis] ?? 0), 0);
  return tensor.data[offset] ?? Number.NaN;
}

function from(shape: readonly number[], element: (place: readonly number[]) => number): Numbers {
  return numbers(shape, (offset) => element(placeOf(shape, offset)));
}

const replaced = (place: readonly number[], axis: number, index: number) => place.with(axis, index);

export function map(x: Numbers, of: (value: number) => number): Numbers {
  return numbers(x.shape, (offset) => of(x.data[offset] ?? Number.NaN));
}

/** Of two of equal shape, or of one and a single number. */
export function zip(a: Numbers, b: Numbers, of: (a: number, b: number) => number): Numbers {
  const only = b.data.length === 1;
  return numbers(a.shape, (offset) =>
    of(a.data[offset] ?? Number.NaN, b.data[only ? 0 : offset] ?? Number.NaN),
  );
}

/** Of the last two axes of `a` and a matrix. */
export function matMul(a: Numbers, b: Numbers): Numbers {
  const last = a.shape.length - 1;
  const inner = a.shape[last] ?? 0;
  return from([...a.shape.slice(0, last), b.shape[1] ?? 0], (place) => {
    let sum = 0;
    for (let k = 0; k < inner; k += 1)
      sum += elementAt(a, replaced(place, last, k)) * elementAt(b, [k, place[last] ?? 0]);
    return sum;
  });
}

export function gemm(
  a: Numbers,
  b: Numbers,
  c: Numbers,
  { alpha, beta, transB }: { readonly alpha: number; readonly beta: number; readonly transB: boolean },
): Numbers {
  const product = matMul(a, transB ? transpose(b, [1, 0]) : b);
  const width = product.shape[1] ?? 1;
  return numbers(
    product.shape,
    (offset) => alpha * (product.data[offset] ?? 0) + beta * (c.data[offset % width] ?? 0),
  );
}

export type Window = { readonly kernel: number; readonly stride: number; readonly pad: number };

function windowed(x: Numbers, channels: number, { kernel, stride, pad }: Window): readonly number[] {
  const along = (size: number) => Math.floor((size + 2 * pad - kernel) / stride) + 1;
  return [x.shape[0] ?? 0, channels, along(x.shape[2] ?? 0), along(x.shape[3] ?? 0)];
}

/** The values of a channel under the window at one place of the output; those in the padding are left out. */
function under(x: Numbers, [n, channel, row, column]: readonly number[], window: Window) {
  const found: { readonly i: number; readonly j: number; readonly value: number }[] = [];
  for (let i = 0; i < window.kernel; i += 1)
    for (let j = 0; j < window.kernel; j += 1) {
      const h = (row ?? 0) * window.stride + i - window.pad;
      const w = (column ?? 0) * window.stride + j - window.pad;
      if (h < 0 || w < 0 || h >= (x.shape[2] ?? 0) || w >= (x.shape[3] ?? 0)) continue;
      found.push({ i, j, value: elementAt(x, [n ?? 0, channel ?? 0, h, w]) });
    }
  return found;
}

export function conv(x: Numbers, weights: Numbers, bias: Numbers, window: Window, group: number): Numbers {
  const [filters = 0, perGroup = 0] = weights.shape;
  return from(windowed(x, filters, window), ([n = 0, filter = 0, row = 0, column = 0]) => {
    const first = Math.floor(filter / (filters / group)) * perGroup;
    let sum = bias.data[filter] ?? 0;
    for (let c = 0; c < perGroup; c += 1)
      for (const { i, j, value } of under(x, [n, first + c, row, column], window))
        sum += value * elementAt(weights, [filter, c, i, j]);
    return sum;
  });
}

/** @param of what is made of the values under the window; padding is not counted. */
export function pool(x: Numbers, window: Window, of: (values: readonly number[]) => number): Numbers {
  return from(windowed(x, x.shape[1] ?? 0, window), (place) =>
    of(under(x, place, window).map(({ value }) => value)),
  );
}

export const total = (values: readonly number[]) => values.reduce((all, value) => all + value, 0);
export const mean = (values: readonly number[]) => total(values) / values.length;

/** One value for all along `axis`. */
export function reduce(
  x: Numbers,
  axis: number,
  keep: boolean,
  of: (values: readonly number[]) => number,
): Numbers {
  const kept = x.shape.with(axis, 1);
  const reduced = from(kept, (place) => of(alongAxis(x, place, axis)));
  return keep ? reduced : numbers(x.shape.toSpliced(axis, 1), reduced.data);
}

function alongAxis(x: Numbers, place: readonly number[], axis: number): readonly number[] {
  return Array.from({ length: x.shape[axis] ?? 0 }, (_, index) => elementAt(x, replaced(place, axis, index)));
}

/** As many values as there were along the last axis, made of all of them. */
export function rows(x: Numbers, of: (values: readonly number[]) => readonly number[]): Numbers {
  const last = x.shape.length - 1;
  const width = x.shape[last] ?? 1;
  const parts: number[] = [];
  let made = width;
  for (let offset = 0; offset < x.data.length; offset += width) {
    const row = of([...x.data.subarray(offset, offset + width)]);
    made = row.length;
    parts.push(...row);
  }
  return numbers(x.shape.with(last, made), parts);
}

export function softmax(values: readonly number[]): readonly number[] {
  const highest = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - highest));
  const all = total(powers);
  return powers.map((power) => power / all);
}

export function layerNormalization(scale: Numbers, bias: Numbers, epsilon: number) {
  return (values: readonly number[]): readonly number[] => {
    const middle = mean(values);
    const deviation = Math.sqrt(mean(values.map((value) => (value - middle) ** 2)) + epsilon);
    return values.map(
      (value, index) => ((value - middle) / deviation) * (scale.data[index] ?? 0) + (bias.data[index] ?? 0),
    );
  };
}

export function cumulative(values: readonly number[]): readonly number[] {
  let so = 0;
  return values.map((value) => {
    so += value;
    return so;
  });
}

/** Of each channel (axis 1), with what training found. */
export function normalized(
  x: Numbers,
  parts: {
    readonly scale: Numbers;
    readonly bias: Numbers;
    readonly mean: Numbers;
    readonly variance: Numbers;
  },
  epsilon: number,
): Numbers {
  return from(x.shape, (place) => {
    const of = ({ data }: Numbers) => data[place[1] ?? 0] ?? 0;
    const normal = (elementAt(x, place) - of(parts.mean)) / Math.sqrt(of(parts.variance) + epsilon);
    return normal * of(parts.scale) + of(parts.bias);
  });
}

export function concat(a: Numbers, b: Numbers, axis: number): Numbers {
  const first = a.shape[axis] ?? 0;
  return from(a.shape.with(axis, first + (b.shape[axis] ?? 0)), (place) => {
    const index = place[axis] ?? 0;
    return index < first ? elementAt(a, place) : elementAt(b, replaced(place, axis, index - first));
  });
}

/** The elements of `axis` at these indices: what Slice, Split and Gather leave. */
export function pick(x: Numbers, axis: number, indices: readonly number[]): Numbers {
  return from(x.shape.with(axis, indices.length), (place) =>
    elementAt(x, replaced(place, axis, indices[place[axis] ?? 0] ?? 0)),
  );
}

export function transpose(x: Numbers, order: readonly number[]): Numbers {
  const shape = order.map((axis) => x.shape[axis] ?? 0);
  return from(shape, (place) => {
    const source = new Array<number>(order.length).fill(0);
    for (const [to, axis] of order.entries()) source[axis] = place[to] ?? 0;
    return elementAt(x, source);
  });
}

export function reshape(x: Numbers, shape: readonly number[]): Numbers {
  return numbers(shape, x.data);
}

/** @param by how many elements `axis` gets before and behind, all of them `value`. */
export function padded(x: Numbers, axis: number, by: readonly [number, number], value: number): Numbers {
  const size = x.shape[axis] ?? 0;
  return from(x.shape.with(axis, by[0] + size + by[1]), (place) => {
    const index = (place[axis] ?? 0) - by[0];
    return index < 0 || index >= size ? value : elementAt(x, replaced(place, axis, index));
  });
}
