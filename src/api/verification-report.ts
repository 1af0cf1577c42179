import type { CheckResult } from "./model-release.ts";

// Everything a verification has found out: what `kubectl` shows is a part of it.

/** What the file says of itself. */
export type ModelFacts = {
  readonly digest: string;
  readonly sizeBytes: number;
  readonly irVersion: number;
  /** Empty where the file names none. */
  readonly producer: string;
  readonly opsets: readonly { readonly domain: string; readonly version: number }[];
  readonly operators: readonly { readonly domain: string; readonly name: string; readonly count: number }[];
  readonly nodes: number;
  /** Elements of all initializers and constants. */
  readonly parameters: number;
  readonly inputs: readonly TensorFacts[];
  readonly outputs: readonly TensorFacts[];
};

export type TensorFacts = {
  readonly name: string;
  readonly type: string;
  readonly shape: readonly (number | string)[];
  /** Of a sequence of maps: their keys. */
  readonly keys?: readonly string[];
};

export type CheckReport = CheckResult & {
  /** Milliseconds. */
  readonly took: number;
  /** Figures by check: docs/verifier.md. */
  readonly details?: object;
};

export type FullReport = {
  readonly format: "edgefleet.dev/verification-report/v1";
  readonly verdict: "Passed" | "Failed";
  /** Of a failure. */
  readonly reason?: string;
  readonly message: string;
  readonly verifierVersion: string;
  /** ISO 8601. */
  readonly startedAt: string;
  readonly finishedAt: string;
  /** `null` where the file could not be read. */
  readonly model: ModelFacts | null;
  readonly golden: { readonly digest: string; readonly sizeBytes: number } | null;
  readonly checks: readonly CheckReport[];
};
