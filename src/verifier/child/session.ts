import { own, setOwn } from "../../base/lookup.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { type Adapted, type Detour, fedBy, fetched, fetchedFor } from "../onnx/adapter.ts";
import type { OnnxFile, Operator } from "../onnx/file.ts";
import { nested, number, text } from "../onnx/protobuf.ts";
import {
  type Datum,
  isNumericType,
  isTensor,
  type Signature,
  sideText,
  type TensorInfo,
  type Value,
} from "../onnx/tensor.ts";
import type { RefusalKind } from "../protocol/messages.ts";
import { cleanMessage } from "./runtime-message.ts";

// A model in ONNX Runtime. The only file that loads the runtime.

// Node cannot hand a Float16Array to native code yet: without the class, ONNX Runtime takes and gives Uint16Array.
Reflect.deleteProperty(globalThis, "Float16Array");
// By name and late: an import at the top would run before the line above.
const ort = await import("onnxruntime-node");
type Session = Awaited<ReturnType<typeof ort.InferenceSession.create>>;
type Feeds = Parameters<Session["run"]>[0];

/** What the model or the golden set cannot do. */
export type Refusal = { readonly because: RefusalKind; readonly message: string };
export type Values = Readonly<Record<string, Datum>>;
export type Outputs = ReadonlyMap<string, Datum>;

export type Model = {
  readonly signature: Signature;
  readonly run: (feeds: Values) => Promise<Result<Outputs, Refusal>>;
  /** Runs of one input, as bare as they can be: it throws what ONNX Runtime throws. */
  readonly prepare: (feeds: Values) => () => Promise<unknown>;
  /** Gives its memory back. */
  readonly release: () => Promise<void>;
};

export const runtimeVersion: string = ort.env.versions.node ?? "unknown";

const FATAL = 4;
ort.env.logLevel = "fatal";

/** ONNX Runtime throws plain errors without a code; what they are about is known by what was asked of it. */
async function vendor<T>(because: RefusalKind, work: () => Promise<T>): Promise<Result<T, Refusal>> {
  try {
    return ok(await work());
  } catch (thrown) {
    return err({ because, message: messageOf(thrown) });
  }
}

/** What a run that has thrown means. */
export function refusedBy(thrown: unknown, before = ""): Refusal {
  const message = `${before}${cleanMessage(messageOf(thrown))}`;
  return localeFault(message) ?? { because: "run", message };
}

/** StringNormalizer asks the machine for the locale of its language. */
const LOCALE = /construct locale(?: with name:([\w.@-]{1,64}))?/i;

function localeFault(message: string): Refusal | null {
  const found = LOCALE.exec(message);
  if (found === null) return null;
  const name = found[1]?.replace(/:.*/, "") ?? "that it asks for";
  return {
    because: "locale",
    message: `StringNormalizer needs the locale ${name}, which this machine does not have: run the verifier from its image, or install the locale`,
  };
}

export function messageOf(thrown: unknown): string {
  return (thrown instanceof Error ? thrown.message : String(thrown)).slice(0, 4096);
}

/** A model that can be loaded: a file, which ONNX Runtime reads, or the bytes of a model. */
export type Loadable = {
  readonly source: string | Uint8Array;
  /** What the file says, and what was changed of it. */
  readonly adapted: { readonly file: OnnxFile; readonly by: Adapted } | null;
};

export async function openModel(
  { source, adapted }: Loadable,
  threads: number,
): Promise<Result<Model, Refusal>> {
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
  const edge = edgeOf(session, adapted);
  const { signature, fetches } = edge;
  if (fetches.length === 0)
    return err({
      because: "load",
      message: `none of the outputs can be read: ${sideText(signature.outputs)}`,
    });
  return ok({
    signature,
    run: async (feeds) => {
      if (edge.unfed !== null) return err({ because: "run", message: edge.unfed });
      const answered = await vendor("run", () => session.run(tensorsOf(feeds, edge), fetches));
      return answered.ok ? ok(valuesOf(answered.value, edge)) : err(refusedBy(answered.error.message));
    },
    prepare: (feeds) => {
      if (edge.unfed !== null) throw new Error(edge.unfed);
      const tensors = tensorsOf(feeds, edge);
      return () => session.run(tensors, fetches);
    },
    release: () => session.release(),
  });
}

/** What the model takes and answers, and by which tensors of the session. */
type Edge = {
  readonly signature: Signature;
  readonly inputs: ReadonlyMap<string, Detour>;
  readonly outputs: ReadonlyMap<string, Detour>;
  readonly fetches: readonly string[];
  /** Why the model cannot be run here; `null`: it can. */
  readonly unfed: string | null;
};

function edgeOf(session: Session, adapted: Loadable["adapted"]): Edge {
  const inputs = infosOf(session.inputMetadata);
  const outputs = infosOf(session.outputMetadata);
  if (adapted === null)
    return {
      signature: { inputs, outputs },
      inputs: NO_DETOURS,
      outputs: NO_DETOURS,
      fetches: outputs.filter(isFetchable).map(({ name }) => name),
      unfed: null,
    };
  const { file, by } = adapted;
  const sideOf = (
    infos: readonly TensorInfo[],
    loaded: readonly TensorInfo[],
    detours: ReadonlyMap<string, Detour>,
  ): readonly TensorInfo[] =>
    infos.flatMap((info) => {
      const detour = detours.get(info.name);
      const same = loaded.find(({ name }) => name === info.name);
      // What ONNX Runtime does not ask for is an initializer.
      if (detour === undefined) return same === undefined ? [] : [same.type === NO_TENSOR ? info : same];
      if (detour.kind === "table") return [{ ...info, keys: detour.keys }];
      const stands = loaded.find(({ name }) => detour.kind === "cast" && name === detour.as);
      return [info.shape.length > 0 ? info : { ...info, shape: stands?.shape ?? [] }];
    });
  const signature = {
    inputs: sideOf(file.inputs, inputs, by.inputs),
    outputs: sideOf(file.outputs, outputs, by.outputs),
  };
  const fetches = signature.outputs.flatMap((info) => {
    const detour = by.outputs.get(info.name);
    if (detour !== undefined) return fetchedFor(detour);
    return isFetchable(info) ? [info.name] : [];
  });
  const unfed = signature.inputs.find((info) => !by.inputs.has(info.name) && !isFetchable(info));
  return {
    signature,
    inputs: by.inputs,
    outputs: by.outputs,
    fetches,
    unfed:
      unfed === undefined
        ? null
        : `its input "${unfed.name}" is ${unfed.type}: sequences and optionals can be fed from operator set 13 on, maps never`,
  };
}

const NO_DETOURS: ReadonlyMap<string, Detour> = new Map();
const NO_TENSOR = "not a tensor";

const UNKNOWN_OPERATOR = /No Op registered for|No opset import for domain|is not a registered function\/op/;
const NO_KERNEL = /Could not find an implementation for \S+\((\d+)\)/;
/** ONNX Runtime has no kernels for operators as they were before. */
const OLDEST_OPSET = 7;
const OPSET =
  /Unsupported model IR version|official support for domain|is under development and support for this/;

/** Texts of ONNX Runtime 1.30, without the place in its sources that some of them begin with. */
function refusalOf(thrown: string, source: string | Uint8Array): Refusal {
  const named = typeof source === "string" ? thrown.replaceAll(source, "the file") : thrown;
  const message = cleanMessage(named.replace(/^Load model from the file failed: ?/, ""));
  const locale = localeFault(message);
  if (locale !== null) return locale;
  if (OPSET.test(message)) return { because: "opset", message };
  const [, version] = NO_KERNEL.exec(message) ?? [];
  if (version !== undefined)
    return { because: "operator", message: `${message}${kernelHint(Number(version))}` };
  return { because: UNKNOWN_OPERATOR.test(message) ? "operator" : "load", message };
}

function kernelHint(version: number): string {
  return version < OLDEST_OPSET
    ? `: it is of opset ${version}, from which ONNX Runtime's kernels are gone; export the model again with opset ≥ ${OLDEST_OPSET}`
    : ": it has none for this opset and these types on the CPU; export the model again with another opset or other types";
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
      : { name: one.name, type: NO_TENSOR, shape: [] },
  );
}

/** Outputs that ONNX Runtime for Node can hand out; asking it for others fails, and 4-bit integers abort the process. */
function isFetchable({ type }: TensorInfo): boolean {
  return isNumericType(type) || type === "string";
}

function tensorsOf(values: Values, { inputs }: Edge): Feeds {
  const feeds: Record<string, OrtTensor> = {};
  for (const [name, value] of Object.entries(values)) {
    const detour = inputs.get(name);
    if (detour !== undefined)
      for (const [as, tensor] of fedBy(detour, value)) setOwn(feeds, as, tensorOf(tensor));
    else if (isTensor(value)) setOwn(feeds, name, tensorOf(value));
  }
  return feeds;
}

type OrtTensor = InstanceType<typeof ort.Tensor>;

function tensorOf(value: Value): OrtTensor {
  const dims = [...value.shape];
  return value.type === "string"
    ? new ort.Tensor("string", [...value.data], dims)
    : new ort.Tensor(value.type, value.data, dims);
}

function valuesOf(answered: Awaited<ReturnType<Session["run"]>>, edge: Edge): Outputs {
  const values = new Map<string, Value>();
  for (const name of edge.fetches) {
    const tensor = own(answered, name);
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
  if (edge.outputs.size === 0) return values;
  const outputs = new Map<string, Datum>();
  for (const { name } of edge.signature.outputs) {
    const detour = edge.outputs.get(name);
    const datum = detour === undefined ? values.get(name) : fetched(detour, values);
    if (datum !== undefined && datum !== null) outputs.set(name, datum);
  }
  return outputs;
}
