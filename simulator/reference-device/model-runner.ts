import { open } from "node:fs/promises";
import type { ModelPointer } from "../../src/api/device-contract.ts";
import { looksLikeOnnx } from "../devices/downloads.ts";

/** A model that is loaded. */
export type Running = {
  /** One inference; milliseconds that it took. Rejects when the model has failed; `null`: nothing is run here. */
  readonly infer: () => Promise<number | null>;
  readonly close: () => Promise<void>;
};

/** Rejects for a file that is not a model. */
export type LoadModel = (path: string, config: ModelPointer["config"]) => Promise<Running>;

/** Looks at the beginning of the file and runs nothing. */
export const lookAtModel: LoadModel = async (path) => {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(16), 0, 16, 0);
    if (!looksLikeOnnx(buffer.subarray(0, bytesRead))) throw new Error("the file is not an ONNX model");
  } finally {
    await file.close();
  }
  return { infer: async () => null, close: async () => undefined };
};

const TYPED = { float32: Float32Array, float64: Float64Array, int32: Int32Array, uint8: Uint8Array } as const;

/** Really runs the model, on zeros of its input's shape: ONNX Runtime on the CPU. */
export const runModel: LoadModel = async (path, config) => {
  const ort = await import("onnxruntime-node");
  const session = await ort.InferenceSession.create(path, {
    executionProviders: ["cpu"],
    ...(config.numThreads !== undefined && { intraOpNumThreads: config.numThreads }),
  });
  const feeds = Object.fromEntries(
    session.inputMetadata.map((input) => {
      if (!input.isTensor) throw new Error(`the input ${input.name} is not a tensor`);
      const { type } = input;
      if (!isTyped(type)) throw new Error(`the input ${input.name} has the type ${type}`);
      const shape = input.shape.map((size) => (typeof size === "number" && size > 0 ? size : 1));
      const count = shape.reduce((product, size) => product * size, 1);
      return [input.name, new ort.Tensor(type, new TYPED[type](count), shape)];
    }),
  );
  return {
    infer: async () => {
      const started = performance.now();
      await session.run(feeds);
      return performance.now() - started;
    },
    close: () => session.release(),
  };
};

function isTyped(type: string): type is keyof typeof TYPED {
  return Object.hasOwn(TYPED, type);
}
