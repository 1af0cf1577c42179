import { err, ok, type Result } from "../base/result.ts";
import { sideText } from "./checks.ts";
import type { Refusal } from "./model-messages.ts";
import type { Operator } from "./onnx-file.ts";
import { nested, number, text } from "./protobuf.ts";
import { isNumericType, type Signature, type Value } from "./tensor.ts";

// A model in ONNX Runtime. The only file that loads the runtime.

// Node cannot hand a Float16Array to native code yet: without the class, ONNX Runtime takes and gives Uint16Array.
Reflect.deleteProperty(globalThis, "Float16Array");
// By name and late: an import at the top would run before the line above.
const ort = await import("onnxruntime-node");
type Session = Awaited<ReturnType<typeof ort.InferenceSession.create>>;
type Feeds = Parameters<Session["run"]>[0];

/** What the model or the golden set cannot do. */
export type No = { readonly because: Refusal; readonly message: string };
export type Values = Readonly<Record<string, Value>>;
export type Outputs = ReadonlyMap<string, Value>;

export type Model = {
  readonly signature: Signature;
  readonly run: (feeds: Values) => Promise<Result<Outputs, No>>;
  /** Runs of one input, as bare as they can be: it throws what ONNX Runtime throws. */
  readonly prepare: (feeds: Values) => () => Promise<unknown>;
  /** Gives its memory back. */
  readonly release: () => Promise<void>;
};

export const runtimeVersion: string = ort.env.versions.node ?? "unknown";

const FATAL = 4;
ort.env.logLevel = "fatal";

/** ONNX Runtime throws plain errors without a code; what they are about is known by what was asked of it. */
async function vendor<T>(because: Refusal, work: () => Promise<T>): Promise<Result<T, No>> {
  try {
    return ok(await work());
  } catch (thrown) {
    return err({ because, message: messageOf(thrown) });
  }
}

export function messageOf(thrown: unknown): string {
  return (thrown instanceof Error ? thrown.message : String(thrown)).slice(0, 4096);
}

/** @param source a file, which ONNX Runtime reads by itself, or the bytes of a model. */
export async function openModel(source: string | Uint8Array, threads: number): Promise<Result<Model, No>> {
  const options = {
    executionProviders: ["cpu"],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    executionMode: "sequential",
    logSeverityLevel: FATAL,
  } as const;
  const created = await vendor("load", () =>
    typeof source === "string"
      ? ort.InferenceSession.create(source, options)
      : ort.InferenceSession.create(source, options),
  );
  if (!created.ok) return err(refusalOf(created.error.message, source));
  const session = created.value;
  const signature = { inputs: infosOf(session.inputMetadata), outputs: infosOf(session.outputMetadata) };
  const outputs = fetchableOutputs(signature);
  if (outputs.length === 0)
    return err({
      because: "load",
      message: `none of the outputs can be read: ${sideText(signature.outputs)}`,
    });
  return ok({
    signature,
    run: async (feeds) => {
      const answered = await vendor("run", () => session.run(tensorsOf(feeds), outputs));
      return answered.ok ? ok(valuesOf(answered.value, outputs)) : answered;
    },
    prepare: (feeds) => {
      const tensors = tensorsOf(feeds);
      return () => session.run(tensors, outputs);
    },
    release: () => session.release(),
  });
}

const UNKNOWN_OPERATOR = /No Op registered for|No opset import for domain|is not a registered function\/op/;
const NO_KERNEL = /Could not find an implementation for/;
const OPSET =
  /Unsupported model IR version|official support for domain|is under development and support for this/;

/** Texts of ONNX Runtime 1.30, without the place in its sources that some of them begin with. */
function refusalOf(thrown: string, source: string | Uint8Array): No {
  const named = typeof source === "string" ? thrown.replaceAll(source, "the file") : thrown;
  const message = named
    .replace(/^Load model from the file failed: ?/, "")
    .replace(/^\/onnxruntime_src\/.*?\) (?=[A-Z])/s, "");
  if (OPSET.test(message)) return { because: "opset", message };
  const operator = UNKNOWN_OPERATOR.test(message) || NO_KERNEL.test(message);
  return { because: operator ? "operator" : "load", message };
}

/**
 * Those that ONNX Runtime has never heard of: it names only the first it meets. Each is asked for alone, in a model of
 * one node without inputs, which nothing but an unknown operator makes it refuse for being unknown.
 */
export async function unknownOperators(
  operators: readonly Operator[],
  opsets: readonly { readonly domain: string; readonly version: number }[],
): Promise<readonly Operator[]> {
  const unknown: Operator[] = [];
  for (const operator of operators) {
    const created = await vendor("load", () => ort.InferenceSession.create(loneOperator(operator, opsets)));
    if (created.ok) await created.value.release();
    else if (UNKNOWN_OPERATOR.test(created.error.message)) unknown.push(operator);
  }
  return unknown;
}

/** onnx.proto: ModelProto {ir_version 1, graph 7, opset_import 8}; GraphProto {node 1, name 2, output 12}. */
function loneOperator(
  { domain, name }: Operator,
  opsets: readonly { readonly domain: string; readonly version: number }[],
): Uint8Array {
  const node = [text(2, "y"), text(4, name), ...(domain === "" ? [] : [text(7, domain)])];
  const graph = [nested(1, node), text(2, "lone"), nested(12, [text(1, "y")])];
  const imports = opsets.map((opset) =>
    nested(8, [...(opset.domain === "" ? [] : [text(1, opset.domain)]), number(2, opset.version)]),
  );
  return Buffer.concat([number(1, 8), nested(7, graph), ...imports]);
}

function infosOf(metadata: Session["inputMetadata"]): Signature["inputs"] {
  return metadata.map((one) =>
    one.isTensor
      ? { name: one.name, type: one.type, shape: [...one.shape] }
      : { name: one.name, type: "not a tensor", shape: [] },
  );
}

/** Outputs that ONNX Runtime for Node can hand out; asking it for others fails, and 4-bit integers abort the process. */
function fetchableOutputs(model: Signature): readonly string[] {
  return model.outputs
    .filter(({ type }) => isNumericType(type) || type === "string")
    .map((output) => output.name);
}

function tensorsOf(values: Values): Feeds {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, tensorOf(value)] as const));
}

function tensorOf(value: Value): InstanceType<typeof ort.Tensor> {
  const dims = [...value.shape];
  return value.type === "string"
    ? new ort.Tensor("string", [...value.data], dims)
    : new ort.Tensor(value.type, value.data, dims);
}

function valuesOf(answered: Awaited<ReturnType<Session["run"]>>, names: readonly string[]): Outputs {
  const values = new Map<string, Value>();
  for (const name of names) {
    const tensor = answered[name];
    if (tensor === undefined) continue;
    const shape = tensor.dims;
    if (tensor.type === "string")
      values.set(name, { type: "string", shape, data: tensor.data as readonly string[] });
    // What `isNumericType` lets through is never an array of strings.
    else if (isNumericType(tensor.type))
      values.set(name, {
        type: tensor.type,
        shape,
        data: tensor.data as Exclude<Value["data"], readonly string[]>,
      });
  }
  return values;
}
