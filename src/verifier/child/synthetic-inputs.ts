import { setOwn } from "../../base/lookup.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { ARRAYS, carrierOf, elementCount, type TensorInfo, type TensorValue } from "../onnx/tensor.ts";

/** Size of free axes that are not the batch: most networks want some multiple of it. */
const FREE_AXIS = 32;
const MOST_BYTES = 2 ** 30;
const SEED = 20_240_501;

/**
 * An input for measuring, made from what the model says of itself and a fixed seed: floats from 0 to 1, integers 0 or
 * 1. An axis that is the free first axis of some input, or has its name, is `batchSize`; other free axes are 32.
 */
export function syntheticFeeds(
  inputs: readonly TensorInfo[],
  batchSize: number,
): Result<Readonly<Record<string, TensorValue>>, string> {
  const random = generator(SEED);
  const batchNames = new Set(
    inputs.map(({ shape }) => shape[0]).filter((axis) => typeof axis === "string" && axis !== ""),
  );
  const feeds: Record<string, TensorValue> = {};
  for (const { name, type: declared, shape: axes } of inputs) {
    const type = carrierOf(declared);
    if (type === null || type === "string")
      return err(`no synthetic input exists for "${name}", which is ${declared}`);
    const shape = axes.map((axis, index) => {
      if (typeof axis === "number") return axis;
      return index === 0 || batchNames.has(axis) ? batchSize : FREE_AXIS;
    });
    const count = elementCount(shape);
    if (count * ARRAYS[type].BYTES_PER_ELEMENT > MOST_BYTES)
      return err(`the synthetic input for "${name}", [${shape.join(",")}], would be larger than 1 GiB`);
    const data = new ARRAYS[type](count);
    for (let index = 0; index < count; index += 1) {
      const value = random();
      if (data instanceof BigInt64Array || data instanceof BigUint64Array) data[index] = BigInt(value >= 0.5);
      else data[index] = elementOf(type, value);
    }
    setOwn(feeds, name, { type, shape, data });
  }
  return ok(feeds);
}

function elementOf(type: string, value: number): number {
  // Bits of a float16 from 0.5 to 1.
  if (type === "float16") return 0x3800 + Math.floor(value * 0x400);
  return type.startsWith("float") ? value : Math.round(value);
}

/** mulberry32 */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
