import { shuffled } from "./digits.ts";

// A neural network small enough to read: layers with a forward and a backward pass, trained one sample at a time with
// Adam. Plain 64-bit arithmetic in one order, so that a seed gives the same bytes on every machine.

/** A layer keeps what its last forward pass saw, for the backward pass that follows. */
export type Layer = {
  readonly forward: (input: Float64Array) => Float64Array;
  /** Takes the gradient of the loss by the output, adds to the weights' gradients, returns that by the input. */
  readonly backward: (gradient: Float64Array) => Float64Array;
  readonly weights: readonly Weights[];
};

export type Weights = { readonly values: Float64Array; readonly gradient: Float64Array };

export type Sample = { readonly input: Float64Array; readonly label: number };

export type Training = {
  readonly epochs: number;
  readonly batchSize: number;
  readonly learningRate: number;
  /** Pulls weights towards zero. */
  readonly decay: number;
};

/** inputs → outputs: every output is a weighted sum. Weights are laid out [inputs, outputs], as MatMul wants them. */
export function dense(inputs: number, outputs: number, random: () => number): Layer {
  const matrix = weightsOf(inputs * outputs, () => (random() * 2 - 1) * Math.sqrt(3 / inputs));
  const bias = weightsOf(outputs, () => 0);
  let seen = new Float64Array(inputs);
  return {
    weights: [matrix, bias],
    forward: (input) => {
      seen = input as Float64Array<ArrayBuffer>;
      const sums = Float64Array.from(bias.values);
      for (let i = 0; i < inputs; i += 1)
        for (let o = 0; o < outputs; o += 1) add(sums, o, at(input, i) * at(matrix.values, i * outputs + o));
      return sums;
    },
    backward: (gradient) => {
      const back = new Float64Array(inputs);
      for (let o = 0; o < outputs; o += 1) add(bias.gradient, o, at(gradient, o));
      for (let i = 0; i < inputs; i += 1)
        for (let o = 0; o < outputs; o += 1) {
          add(matrix.gradient, i * outputs + o, at(seen, i) * at(gradient, o));
          add(back, i, at(matrix.values, i * outputs + o) * at(gradient, o));
        }
      return back;
    },
  };
}

export function relu(): Layer {
  let seen = new Float64Array();
  return {
    weights: [],
    forward: (input) => {
      seen = input.map((value) => Math.max(0, value)) as Float64Array<ArrayBuffer>;
      return seen;
    },
    backward: (gradient) => gradient.map((value, index) => (at(seen, index) > 0 ? value : 0)),
  };
}

/** One image of `side` × `side` → `channels` of the same size: 3 × 3 windows, zeros beyond the edge. */
export function convolution(side: number, channels: number, random: () => number): Layer {
  const kernels = weightsOf(channels * 9, () => (random() * 2 - 1) * Math.sqrt(3 / 9));
  const bias = weightsOf(channels, () => 0);
  let seen = new Float64Array(side * side);
  const taps = tapsOf(side, channels);
  const plane = side * side;
  return {
    weights: [kernels, bias],
    forward: (input) => {
      seen = input as Float64Array<ArrayBuffer>;
      const sums = new Float64Array(channels * plane).map((_, o) => at(bias.values, Math.floor(o / plane)));
      for (let t = 0; t < taps.length; t += 3)
        add(sums, taps[t] ?? 0, at(kernels.values, taps[t + 1] ?? 0) * at(input, taps[t + 2] ?? 0));
      return sums;
    },
    backward: (gradient) => {
      const back = new Float64Array(plane);
      for (const [output, value] of gradient.entries()) add(bias.gradient, Math.floor(output / plane), value);
      for (let t = 0; t < taps.length; t += 3) {
        const slope = at(gradient, taps[t] ?? 0);
        const kernel = taps[t + 1] ?? 0;
        const from = taps[t + 2] ?? 0;
        add(kernels.gradient, kernel, slope * at(seen, from));
        add(back, from, slope * at(kernels.values, kernel));
      }
      return back;
    },
  };
}

/** Which output takes which input with which weight of a kernel: triples (output, weight, input). */
function tapsOf(side: number, channels: number): Int32Array {
  const taps: number[] = [];
  for (let channel = 0; channel < channels; channel += 1)
    for (let y = 0; y < side; y += 1)
      for (let x = 0; x < side; x += 1)
        for (let k = 0; k < 9; k += 1) {
          const [row, column] = [y + Math.floor(k / 3) - 1, x + (k % 3) - 1];
          if (row < 0 || column < 0 || row >= side || column >= side) continue;
          taps.push((channel * side + y) * side + x, channel * 9 + k, row * side + column);
        }
  return Int32Array.from(taps);
}

/** The largest of each 2 × 2 pixels, channel by channel. */
export function maxPool(side: number, channels: number): Layer {
  const half = side / 2;
  let winners = new Int32Array();
  return {
    weights: [],
    forward: (input) => {
      winners = new Int32Array(channels * half * half);
      return Float64Array.from(winners, (_, output) => {
        const channel = Math.floor(output / (half * half));
        const [y, x] = [Math.floor(output / half) % half, output % half];
        const corner = (channel * side + 2 * y) * side + 2 * x;
        let best = corner;
        for (const other of [corner + 1, corner + side, corner + side + 1])
          if (at(input, other) > at(input, best)) best = other;
        winners[output] = best;
        return at(input, best);
      });
    },
    backward: (gradient) => {
      const back = new Float64Array(channels * side * side);
      for (const [output, value] of gradient.entries()) add(back, winners[output] ?? 0, value);
      return back;
    },
  };
}

export function softmax(scores: Float64Array): Float64Array {
  const highest = Math.max(...scores);
  const powers = scores.map((score) => exponential(score - highest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

/**
 * e to the power of a number that is not positive. Math.exp may round its last bit as it likes, and does so differently
 * on other processors; sums and products may not. Taylor's series of a 64th of the number, then squared six times.
 */
function exponential(power: number): number {
  const part = Math.max(power, -40) / 64;
  let [sum, term] = [1, 1];
  for (let n = 1; n <= 14; n += 1) {
    term = (term * part) / n;
    sum += term;
  }
  for (let squaring = 0; squaring < 6; squaring += 1) sum *= sum;
  return sum;
}

/** Probabilities of the classes. */
export function predict(layers: readonly Layer[], input: Float64Array): Float64Array {
  return softmax(layers.reduce((value, layer) => layer.forward(value), input));
}

/** Adam on the cross entropy. `vary` may change each sample each time it is shown. */
export function train(
  layers: readonly Layer[],
  samples: readonly Sample[],
  training: Training,
  random: () => number,
  vary: (input: Float64Array, random: () => number) => Float64Array = (input) => input,
): void {
  const weights = layers.flatMap((layer) => layer.weights);
  const moments = weights.map(({ values }) => ({
    first: new Float64Array(values.length),
    second: new Float64Array(values.length),
  }));
  // How much of the moments' zeros at the start is still in them.
  let [firstBias, secondBias] = [1, 1];
  for (let epoch = 0; epoch < training.epochs; epoch += 1) {
    // A falling rate lets the last epochs settle.
    const rate = training.learningRate * (1 - epoch / training.epochs);
    const order = shuffled(samples, random);
    for (let start = 0; start < order.length; start += training.batchSize) {
      const batch = order.slice(start, start + training.batchSize);
      for (const { gradient } of weights) gradient.fill(0);
      for (const { input, label } of batch) learn(layers, vary(input, random), label);
      firstBias *= 0.9;
      secondBias *= 0.999;
      for (const [index, one] of weights.entries())
        step(one, moments[index], {
          rate,
          decay: training.decay,
          count: batch.length,
          firstBias,
          secondBias,
        });
    }
  }
}

/** The weights as the model file will have them: rounded to 32 bits. */
export function roundWeights(layers: readonly Layer[]): void {
  for (const { values } of layers.flatMap((layer) => layer.weights))
    for (const [index, value] of values.entries()) values[index] = Math.fround(value);
}

function learn(layers: readonly Layer[], input: Float64Array, label: number): void {
  const probabilities = predict(layers, input);
  let gradient = probabilities.map((value, index) => value - (index === label ? 1 : 0));
  for (const layer of layers.toReversed()) gradient = layer.backward(gradient) as Float64Array<ArrayBuffer>;
}

function step(
  { values, gradient }: Weights,
  moment: { readonly first: Float64Array; readonly second: Float64Array } | undefined,
  by: {
    readonly rate: number;
    readonly decay: number;
    readonly count: number;
    readonly firstBias: number;
    readonly secondBias: number;
  },
): void {
  if (moment === undefined) return;
  for (let index = 0; index < values.length; index += 1) {
    const slope = at(gradient, index) / by.count;
    const first = 0.9 * at(moment.first, index) + 0.1 * slope;
    const second = 0.999 * at(moment.second, index) + 0.001 * slope * slope;
    moment.first[index] = first;
    moment.second[index] = second;
    const move = first / (1 - by.firstBias) / (Math.sqrt(second / (1 - by.secondBias)) + 1e-8);
    values[index] = at(values, index) - by.rate * (move + by.decay * at(values, index));
  }
}

function weightsOf(length: number, start: () => number): Weights {
  return { values: Float64Array.from({ length }, start), gradient: new Float64Array(length) };
}

function at(array: Float64Array, index: number): number {
  return array[index] ?? 0;
}

function add(array: Float64Array, index: number, value: number): void {
  array[index] = at(array, index) + value;
}
