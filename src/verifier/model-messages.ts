import { err, ok, type Result } from "../base/result.ts";
import type { GoldenMeasured } from "./checks.ts";
import type { GoldenWants } from "./golden.ts";
import type { Signature, TensorInfo } from "./tensor.ts";

// What the sidecar and the child process of a model say to each other. The child has run somebody's model when it
// answers: its answers are checked like anything else that comes from outside.

export type Question =
  | { readonly kind: "load"; readonly path: string; readonly threads: number }
  | { readonly kind: "golden"; readonly path: string; readonly wants: GoldenWants; readonly limit: number }
  | {
      readonly kind: "latency";
      readonly warmup: number;
      readonly samples: number;
      readonly batchSize: number;
    };

export type Answer =
  | { readonly kind: "ready"; readonly runtimeVersion: string }
  | { readonly kind: "loaded"; readonly signature: Signature }
  | { readonly kind: "golden"; readonly measured: GoldenMeasured }
  /** Milliseconds of each run, and what was fed. */
  | { readonly kind: "latency"; readonly runs: Float64Array; readonly input: string }
  /** The model or the golden set is refused: a fact about the release. */
  | { readonly kind: "refused"; readonly because: Refusal; readonly message: string }
  /** The child itself could not do its work: a fact about us. */
  | { readonly kind: "broken"; readonly message: string };

const REFUSALS = ["load", "golden", "run", "memory"] as const;
export type Refusal = (typeof REFUSALS)[number];

const MOST_TENSORS = 10_000;
const MOST_RUNS = 1_000_000;
const LONGEST_TEXT = 16_384;

type Shape = Readonly<Record<string, unknown>>;

/** Any message of the child, or a sentence that says what is wrong with it. */
export function parseAnswer(message: unknown): Result<Answer, string> {
  if (!isRecord(message)) return err("it is no object");
  const answer = answerOf(message);
  return answer === null ? err(`its fields are not those of an answer`) : ok(answer);
}

function answerOf(message: Shape): Answer | null {
  switch (message["kind"]) {
    case "ready":
      return isText(message["runtimeVersion"])
        ? { kind: "ready", runtimeVersion: message["runtimeVersion"] }
        : null;
    case "loaded":
      return isSignature(message["signature"]) ? { kind: "loaded", signature: message["signature"] } : null;
    case "golden":
      return isMeasured(message["measured"]) ? { kind: "golden", measured: message["measured"] } : null;
    case "latency":
      return isRuns(message["runs"]) && isText(message["input"])
        ? { kind: "latency", runs: message["runs"], input: message["input"] }
        : null;
    case "refused": {
      const because = REFUSALS.find((one) => one === message["because"]);
      return because !== undefined && isText(message["message"])
        ? { kind: "refused", because, message: message["message"] }
        : null;
    }
    case "broken":
      return isText(message["message"]) ? { kind: "broken", message: message["message"] } : null;
    default:
      return null;
  }
}

function isRecord(value: unknown): value is Shape {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isText(value: unknown): value is string {
  return typeof value === "string" && value.length <= LONGEST_TEXT;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

function isSignature(value: unknown): value is Signature {
  return isRecord(value) && isSide(value["inputs"]) && isSide(value["outputs"]);
}

function isSide(value: unknown): value is readonly TensorInfo[] {
  return Array.isArray(value) && value.length <= MOST_TENSORS && value.every(isTensorInfo);
}

function isTensorInfo(value: unknown): value is TensorInfo {
  return (
    isRecord(value) &&
    isText(value["name"]) &&
    isText(value["type"]) &&
    Array.isArray(value["shape"]) &&
    value["shape"].every((axis) => isText(axis) || isCount(axis))
  );
}

function isMeasured(value: unknown): value is GoldenMeasured {
  if (!isRecord(value)) return false;
  const { accuracy, largestError } = value;
  return (
    (accuracy === null || isAccuracy(accuracy)) && (largestError === null || isLargestError(largestError))
  );
}

function isAccuracy(value: unknown): boolean {
  if (!isRecord(value) || !isText(value["output"])) return false;
  const { samples, correct, worst } = value;
  if (!isCount(samples) || !isCount(correct) || correct > samples || samples === 0) return false;
  return worst === null || (isRecord(worst) && hasNumbers(worst, ["index", "expected", "got", "margin"]));
}

function isLargestError(value: unknown): boolean {
  return (
    isRecord(value) &&
    isText(value["output"]) &&
    hasNumbers(value, ["error", "index", "element", "expected", "got"])
  );
}

function hasNumbers(value: Shape, names: readonly string[]): boolean {
  return names.every((name) => typeof value[name] === "number");
}

function isRuns(value: unknown): value is Float64Array {
  return (
    value instanceof Float64Array &&
    value.length > 0 &&
    value.length <= MOST_RUNS &&
    value.every((run) => run >= 0 && Number.isFinite(run))
  );
}
