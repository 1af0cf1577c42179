import {
  concat,
  conv,
  cumulative,
  gemm,
  layerNormalization,
  map,
  matMul,
  mean,
  type Numbers,
  normalized,
  numbers,
  padded,
  pick,
  pool,
  reduce,
  reshape,
  rows,
  sizeOf,
  softmax,
  total,
  transpose,
  zip,
} from "../../models/reference.ts";
import {
  type Attribute,
  elementNumber,
  floatTensor,
  integerTensor,
  type Message,
  modelFile,
  node,
  tensorInfo,
} from "./onnx-model.ts";

// Random models: a chain of operators drawn by lot, and beside each operator what it makes of given
// samples, as `reference.ts` computes it. Every operator leaves the samples (the first axis) apart.

/** A value of the graph, and what it is for the samples. */
type Wire = { readonly name: string; readonly value: Numbers };

type Random = () => number;

type Build = {
  readonly random: Random;
  readonly whole: (from: number, to: number) => number;
  readonly constant: (shape: readonly number[], element: () => number) => Wire;
  readonly integers: (values: readonly number[], scalar?: boolean) => string;
  readonly add: (
    operator: string,
    inputs: readonly string[],
    value: Numbers,
    attributes?: Readonly<Record<string, Attribute>>,
  ) => Wire;
  /** Another value of the same shape that is there already; the same one where there is none. */
  readonly like: (wire: Wire) => Wire;
};

/** Adds operators behind a value; `null` where they do not fit it, or where a rounding error could turn the answer. */
type Step = (build: Build, x: Wire) => Wire | null;

/** Closer to a step of a function than this, the last bit of a float32 could decide. */
const CLEAR = 2e-3;

const unary =
  (
    operator: string,
    of: (value: number) => number,
    attributes: Readonly<Record<string, Attribute>> = {},
  ): Step =>
  ({ add }, x) =>
    add(operator, [x.name], map(x.value, of), attributes);

const binary =
  (operator: string, of: (a: number, b: number) => number, least = -1.5): Step =>
  ({ add, constant, like, random }, x) => {
    const other = random() < 0.5 || least > 0 ? constant([1], () => least + random() * 3) : like(x);
    return add(operator, [x.name, other.name], zip(x.value, other.value, of));
  };

const over =
  (operator: string, of: (values: readonly number[]) => readonly number[]): Step =>
  ({ add }, x) =>
    add(operator, [x.name], rows(x.value, of), { axis: -1 });

const reduced =
  (operator: string, of: (values: readonly number[]) => number): Step =>
  ({ add, whole, integers }, x) => {
    const rank = x.value.shape.length;
    if (rank < 3) return null;
    const axis = whole(1, rank - 1);
    const keep = whole(0, 1);
    const value = reduce(x.value, axis, keep === 1, of);
    // From opset 13 on the axes of ReduceSum are an input; of the others they are an attribute until 18.
    return operator === "ReduceSum"
      ? add(operator, [x.name, integers([axis])], value, { keepdims: keep })
      : add(operator, [x.name], value, { keepdims: keep, axes: [axis] });
  };

const compared =
  (operator: string, holds: (value: number, than: number) => boolean): Step =>
  ({ add, constant, random, like }, x) => {
    const than = gapOf(x.value.data, random);
    if (than === null) return null;
    const threshold = constant([1], () => than);
    const yes = map(x.value, (value) => (holds(value, than) ? 1 : 0));
    const condition = add(operator, [x.name, threshold.name], yes);
    if (random() < 0.3) return add("Cast", [condition.name], yes, { to: elementNumber("float32") });
    const other = like(x);
    const scale = constant([1], () => 0.5 + random());
    const scaled = add(
      "Mul",
      [x.name, scale.name],
      zip(x.value, scale.value, (a, b) => a * b),
    );
    const chosen = numbers(x.value.shape, (at) => (yes.data[at] === 1 ? scaled : other).value.data[at] ?? 0);
    return add("Where", [condition.name, scaled.name, other.name], chosen);
  };

/** A number that none of the values is close to, with values on both sides. */
function gapOf(values: Float32Array, random: Random): number | null {
  const sorted = values.toSorted();
  const gaps: number[] = [];
  for (let at = 1; at < sorted.length; at += 1) {
    const [low = 0, high = 0] = [sorted[at - 1], sorted[at]];
    if (high - low > 2 * CLEAR) gaps.push((low + high) / 2);
  }
  return gaps[Math.floor(random() * gaps.length)] ?? null;
}

const isClearOf = (values: Float32Array, step: (value: number) => number) =>
  values.every((value) => Math.abs(value - step(value)) > CLEAR);

const imageOf = ({ value }: Wire) => (value.shape.length === 4 ? value.shape : null);

const convolution =
  (depthwise: boolean): Step =>
  ({ add, constant, whole, random }, x) => {
    const shape = imageOf(x);
    if (shape === null) return null;
    const [, channels = 0, height = 0, width = 0] = shape;
    const window = { kernel: Math.min(whole(1, 3), height, width), stride: whole(1, 2), pad: 0 };
    if (window.kernel === 3) window.pad = whole(0, 1);
    const filters = depthwise ? channels : whole(1, 4);
    const perGroup = depthwise ? 1 : channels;
    const scale = 1 / Math.sqrt(perGroup * window.kernel ** 2);
    const weights = constant(
      [filters, perGroup, window.kernel, window.kernel],
      () => (random() * 4 - 2) * scale,
    );
    const bias = constant([filters], () => random() - 0.5);
    const value = conv(x.value, weights.value, bias.value, window, depthwise ? channels : 1);
    return add("Conv", [x.name, weights.name, bias.name], value, {
      kernel_shape: [window.kernel, window.kernel],
      strides: [window.stride, window.stride],
      pads: [window.pad, window.pad, window.pad, window.pad],
      group: depthwise ? channels : 1,
    });
  };

const pooled =
  (operator: string, of: (values: readonly number[]) => number): Step =>
  ({ add, whole }, x) => {
    const shape = imageOf(x);
    const size = Math.min(shape?.[2] ?? 0, shape?.[3] ?? 0);
    if (size < 2) return null;
    const window = { kernel: Math.min(size, whole(2, 3)), stride: whole(1, 2), pad: 0 };
    return add(operator, [x.name], pool(x.value, window, of), {
      kernel_shape: [window.kernel, window.kernel],
      strides: [window.stride, window.stride],
    });
  };

/** Step by name: the name of an operator that it is there for. */
const STEPS: Readonly<Record<string, Step>> = {
  Abs: unary("Abs", Math.abs),
  Neg: unary("Neg", (value) => -value),
  Relu: unary("Relu", (value) => Math.max(0, value)),
  LeakyRelu: unary("LeakyRelu", (value) => (value < 0 ? value * Math.fround(0.1) : value), {
    alpha: { float: 0.1 },
  }),
  Elu: unary("Elu", (value) => (value < 0 ? Math.expm1(value) : value)),
  Sigmoid: unary("Sigmoid", (value) => 1 / (1 + Math.exp(-value))),
  HardSigmoid: unary("HardSigmoid", (value) => Math.max(0, Math.min(1, 0.2 * value + 0.5))),
  Softplus: unary("Softplus", (value) => Math.log1p(Math.exp(value))),
  Softsign: unary("Softsign", (value) => value / (1 + Math.abs(value))),
  Tanh: unary("Tanh", Math.tanh),
  Sin: unary("Sin", Math.sin),
  Cos: unary("Cos", Math.cos),
  Exp: (build, x) => unary("Exp", Math.exp)(build, build.add("Tanh", [x.name], map(x.value, Math.tanh))),
  Identity: unary("Identity", (value) => value),
  Add: binary("Add", (a, b) => a + b),
  Sub: binary("Sub", (a, b) => a - b),
  Mul: binary("Mul", (a, b) => a * b),
  Div: binary("Div", (a, b) => a / b, 0.5),
  Max: binary("Max", Math.max),
  Min: binary("Min", Math.min),
  Greater: compared("Greater", (value, than) => value > than),
  Less: compared("Less", (value, than) => value < than),
  Floor: ({ add }, x) =>
    isClearOf(x.value.data, Math.round) ? add("Floor", [x.name], map(x.value, Math.floor)) : null,
  Sign: ({ add }, x) =>
    isClearOf(x.value.data, () => 0) ? add("Sign", [x.name], map(x.value, Math.sign)) : null,
  Cast: ({ add }, x) => {
    if (!isClearOf(x.value.data, Math.round)) return null;
    const whole = add("Cast", [x.name], map(x.value, Math.trunc), { to: elementNumber("int64") });
    return add("Cast", [whole.name], whole.value, { to: elementNumber("float32") });
  },
  Clip: ({ add, constant, random }, x) => {
    const [low, high] = [constant([], () => -random()), constant([], random)];
    const [least = 0, most = 0] = [low.value.data[0], high.value.data[0]];
    const value = map(x.value, (one) => Math.min(most, Math.max(least, one)));
    return add("Clip", [x.name, low.name, high.name], value);
  },
  MatMul: ({ add, constant, random, whole }, x) => {
    const inner = x.value.shape.at(-1) ?? 0;
    const weights = constant([inner, whole(2, 8)], () => (random() * 3 - 1.5) / Math.sqrt(inner));
    return add("MatMul", [x.name, weights.name], matMul(x.value, weights.value));
  },
  Gemm: ({ add, constant, random, whole }, x) => {
    if (x.value.shape.length !== 2) return null;
    const [inner, outer, transB] = [x.value.shape[1] ?? 0, whole(2, 8), whole(0, 1)];
    const shape = transB === 1 ? [outer, inner] : [inner, outer];
    const weights = constant(shape, () => (random() * 3 - 1.5) / Math.sqrt(inner));
    const bias = constant([outer], () => random() - 0.5);
    const value = gemm(x.value, weights.value, bias.value, { alpha: 0.5, beta: 2, transB: transB === 1 });
    return add("Gemm", [x.name, weights.name, bias.name], value, {
      alpha: { float: 0.5 },
      beta: { float: 2 },
      transB,
    });
  },
  Conv: convolution(false),
  DepthwiseConv: convolution(true),
  MaxPool: pooled("MaxPool", (values) => Math.max(...values)),
  AveragePool: pooled("AveragePool", mean),
  GlobalAveragePool: ({ add }, x) =>
    imageOf(x) === null
      ? null
      : add("GlobalAveragePool", [x.name], reduce(reduce(x.value, 3, true, mean), 2, true, mean)),
  BatchNormalization: ({ add, constant, random }, x) => {
    const channels = x.value.shape[1] ?? 0;
    const parts = [0.5, -0.5, -0.5, 0.5].map((least) => constant([channels], () => least + random()));
    const [scale, bias, middle, variance] = parts.map((part) => part.value);
    if (scale === undefined || bias === undefined || middle === undefined || variance === undefined)
      return null;
    const value = normalized(x.value, { scale, bias, mean: middle, variance }, 1e-5);
    return add("BatchNormalization", [x.name, ...parts.map(({ name }) => name)], value);
  },
  LayerNormalization: ({ add, constant, random }, x) => {
    const width = x.value.shape.at(-1) ?? 0;
    const spread = rows(x.value, (values) => [
      Math.sqrt(mean(values.map((one) => (one - mean(values)) ** 2))),
    ]);
    if (width < 2 || !spread.data.every((deviation) => deviation > 0.1)) return null;
    const [scale, bias] = [constant([width], () => 0.5 + random()), constant([width], () => random() - 0.5)];
    const value = rows(x.value, layerNormalization(scale.value, bias.value, 1e-5));
    return add("LayerNormalization", [x.name, scale.name, bias.name], value, { axis: -1 });
  },
  Softmax: over("Softmax", softmax),
  LogSoftmax: over("LogSoftmax", (values) => softmax(values).map(Math.log)),
  CumSum: ({ add, integers }, x) => {
    const axis = integers([x.value.shape.length - 1], true);
    return add("CumSum", [x.name, axis], rows(x.value, cumulative));
  },
  ReduceSum: reduced("ReduceSum", total),
  ReduceMean: reduced("ReduceMean", mean),
  ReduceMax: reduced("ReduceMax", (values) => Math.max(...values)),
  ReduceMin: reduced("ReduceMin", (values) => Math.min(...values)),
  ReduceL1: reduced("ReduceL1", (values) => total(values.map(Math.abs))),
  Concat: ({ add, like, whole }, x) => {
    const other = like(x);
    const axis = whole(1, x.value.shape.length - 1);
    return add("Concat", [x.name, other.name], concat(x.value, other.value, axis), { axis });
  },
  Split: ({ add, integers, whole }, x) => {
    const axis = whole(1, x.value.shape.length - 1);
    const size = x.value.shape[axis] ?? 0;
    if (size < 2) return null;
    const first = whole(1, size - 1);
    const indices = Array.from({ length: size - first }, (_, index) => first + index);
    return add("Split", [x.name, integers([first, size - first])], pick(x.value, axis, indices), {
      axis,
      second: [],
    });
  },
  Slice: ({ add, integers, whole }, x) => {
    const axis = whole(1, x.value.shape.length - 1);
    const size = x.value.shape[axis] ?? 0;
    const [start, step] = [whole(0, size - 1), whole(1, 2)];
    const indices = Array.from(
      { length: Math.ceil((size - start) / step) },
      (_, index) => start + index * step,
    );
    const inputs = [[start], [size], [axis], [step]].map((one) => integers(one));
    return add("Slice", [x.name, ...inputs], pick(x.value, axis, indices));
  },
  Gather: ({ add, integers, whole }, x) => {
    const axis = whole(1, x.value.shape.length - 1);
    const size = x.value.shape[axis] ?? 0;
    const indices = Array.from({ length: whole(1, 4) }, () => whole(0, size - 1));
    return add("Gather", [x.name, integers(indices)], pick(x.value, axis, indices), { axis });
  },
  TopK: ({ add, integers, whole }, x) => {
    const k = whole(1, Math.min(4, x.value.shape.at(-1) ?? 1));
    const value = rows(x.value, (values) => values.toSorted((a, b) => b - a).slice(0, k));
    return add("TopK", [x.name, integers([k])], value, { axis: -1, unused: [] });
  },
  ArgMax: ({ add }, x) => {
    const lead = rows(x.value, (values) => {
      const [first = 0, second = Number.NEGATIVE_INFINITY] = values.toSorted((a, b) => b - a);
      return [first - second];
    });
    if (!lead.data.every((gap) => gap > CLEAR)) return null;
    const value = rows(x.value, (values) => [values.indexOf(Math.max(...values))]);
    const place = add("ArgMax", [x.name], value, { axis: -1, keepdims: 1 });
    return add("Cast", [place.name], value, { to: elementNumber("float32") });
  },
  Transpose: ({ add, random }, x) => {
    const rest = x.value.shape.map((_, axis) => axis).slice(1);
    const order = [0, ...rest.toSorted(() => random() - 0.5)];
    return add("Transpose", [x.name], transpose(x.value, order), { perm: order });
  },
  Reshape: ({ add, integers }, x) => {
    const [samples = 0, ...rest] = x.value.shape;
    return add("Reshape", [x.name, integers([0, -1])], reshape(x.value, [samples, sizeOf(rest)]));
  },
  Flatten: ({ add }, x) => {
    const [samples = 0, ...rest] = x.value.shape;
    return add("Flatten", [x.name], reshape(x.value, [samples, sizeOf(rest)]), { axis: 1 });
  },
  Unsqueeze: ({ add, integers, whole }, x) => {
    if (x.value.shape.length > 3) return null;
    const axis = whole(1, x.value.shape.length);
    return add(
      "Unsqueeze",
      [x.name, integers([axis])],
      reshape(x.value, x.value.shape.toSpliced(axis, 0, 1)),
    );
  },
  Pad: ({ add, integers, constant, random, whole }, x) => {
    const rank = x.value.shape.length;
    const [axis, before, after] = [whole(1, rank - 1), whole(0, 2), whole(0, 2)];
    const filling = constant([], random);
    const pads = new Array<number>(2 * rank)
      .fill(0)
      .with(axis, before)
      .with(rank + axis, after);
    const value = padded(x.value, axis, [before, after], filling.value.data[0] ?? 0);
    return add("Pad", [x.name, integers(pads), filling.name], value);
  },
};

export const STEP_NAMES: readonly string[] = Object.keys(STEPS);

/** What a random model is, and what it should answer. */
export type RandomModel = {
  readonly bytes: Buffer;
  readonly operators: readonly string[];
  /** The input `x` for all samples. */
  readonly x: Numbers;
  /** `scores` [samples, classes] and `side`, which has any shape behind the samples, and may be NaN where `broken`. */
  readonly outputs: { readonly scores: Numbers; readonly side: Numbers };
};

/** Above this, values are made smaller: errors of float32 would grow with them. */
const LARGE = 8;
const MOST_ELEMENTS = 1500;

/**
 * Two models of the same input that differ in their last layer only.
 * @param broken whether `side` is a logarithm, which is NaN for negative numbers.
 */
export function randomModels(
  random: Random,
  { samples, steps, broken }: { readonly samples: number; readonly steps: number; readonly broken: boolean },
): readonly [RandomModel, RandomModel] {
  const nodes: Message[] = [];
  const initializers: Message[] = [];
  const operators: string[] = [];
  const wires: Wire[] = [];
  const whole = (from: number, to: number) => from + Math.floor(random() * (to - from + 1));
  const build: Build = {
    random,
    whole,
    constant: (shape, element) => {
      const name = `c${initializers.length}`;
      const value = numbers(shape, element);
      initializers.push(floatTensor(name, shape, value.data));
      return { name, value };
    },
    integers: (values, scalar = false) => {
      const name = `c${initializers.length}`;
      initializers.push(integerTensor(name, scalar ? [] : [values.length], values));
      return name;
    },
    add: (operator, inputs, value, attributes = {}) => {
      const name = `v${nodes.length}`;
      const { second, unused, ...written } = attributes;
      const outputs = [
        ...(second === undefined ? [] : [`${name}first`]),
        name,
        ...(unused === undefined ? [] : [`${name}more`]),
      ];
      nodes.push(node(operator, inputs, outputs, written));
      operators.push(operator);
      return { name, value };
    },
    like: ({ name, value }) => {
      const same = wires.filter((one) => one.value.shape.join() === value.shape.join());
      return same[whole(0, same.length - 1)] ?? { name, value };
    },
  };

  const shapes = [[whole(3, 10)], [whole(2, 4), whole(3, 6)], [whole(1, 3), whole(4, 6), whole(4, 6)]];
  const ofSample = shapes[whole(0, 2)] ?? [4];
  const x = numbers([samples, ...ofSample], () => random() * 4 - 2);
  let current: Wire = { name: "x", value: x };
  wires.push(current);
  for (let step = 0; step < steps; step += 1) {
    const name = STEP_NAMES[whole(0, STEP_NAMES.length - 1)] ?? "";
    const before = { nodes: nodes.length, operators: operators.length };
    const next = STEPS[name]?.(build, current) ?? null;
    const size = sizeOf(next?.value.shape.slice(1) ?? []);
    if (
      next === null ||
      size === 0 ||
      size * samples > MOST_ELEMENTS * samples ||
      size > MOST_ELEMENTS / 10
    ) {
      nodes.length = before.nodes;
      operators.length = before.operators;
      continue;
    }
    current = bounded(build, next);
    wires.push(current);
  }

  const side = broken ? logarithm(build, current) : (wires[whole(0, wires.length - 1)] ?? current);
  const sideName = build.add("Identity", [side.name], side.value);
  const shared = { nodes: [...nodes], initializers: [...initializers] };
  const [, ...rest] = current.value.shape;
  const inner = sizeOf(rest);
  const classes = whole(2, 7);
  const finishing = whole(0, 2);

  function finished(): RandomModel {
    nodes.splice(0, nodes.length, ...shared.nodes);
    initializers.splice(0, initializers.length, ...shared.initializers);
    const flat = build.add("Flatten", [current.name], reshape(current.value, [samples, inner]), { axis: 1 });
    const weights = build.constant([inner, classes], () => (random() * 4 - 2) / Math.sqrt(inner));
    const bias = build.constant([classes], () => random() - 0.5);
    const options = { alpha: 1, beta: 1, transB: false };
    let scores = build.add(
      "Gemm",
      [flat.name, weights.name, bias.name],
      gemm(flat.value, weights.value, bias.value, options),
    );
    const last = finishing === 0 ? null : STEPS[finishing === 1 ? "Softmax" : "Sigmoid"];
    scores = last?.(build, scores) ?? scores;
    nodes.push(node("Identity", [scores.name], ["scores"]), node("Identity", [sideName.name], ["side"]));
    const axes = sideName.value.shape.slice(1);
    return {
      bytes: modelFile({
        nodes,
        initializers,
        inputs: [tensorInfo("x", ["batch", ...ofSample])],
        outputs: [tensorInfo("scores", ["batch", classes]), tensorInfo("side", ["batch", ...axes])],
      }),
      operators: [...operators],
      x,
      outputs: { scores: scores.value, side: sideName.value },
    };
  }

  return [finished(), finished()];
}

function bounded(build: Build, wire: Wire): Wire {
  const largest = wire.value.data.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  if (largest <= LARGE) return wire;
  const scale = build.constant([1], () => LARGE / largest);
  return build.add(
    "Mul",
    [wire.name, scale.name],
    zip(wire.value, scale.value, (a, b) => a * b),
  );
}

/** Of numbers that are clearly above or below zero: below it, the answer is NaN. */
function logarithm(build: Build, wire: Wire): Wire {
  const than = gapOf(wire.value.data, build.random);
  const threshold = build.constant([1], () => than ?? 100);
  const moved = build.add(
    "Sub",
    [wire.name, threshold.name],
    zip(wire.value, threshold.value, (a, b) => a - b),
  );
  const scale = build.constant([1], () => 1 / CLEAR);
  const grown = build.add(
    "Mul",
    [moved.name, scale.name],
    zip(moved.value, scale.value, (a, b) => a * b),
  );
  return build.add("Log", [grown.name], map(grown.value, Math.log));
}
