import type { Datum } from "../onnx/tensor.ts";
import type { Labels } from "./labels.ts";

/** What the model is run with at once, and what is known of the answers. */
export type GoldenRun = {
  /** Number of its first sample, and how many it has. */
  readonly from: number;
  readonly samples: number;
  readonly feeds: Readonly<Record<string, Datum>>;
  /** By the name of the output that they are for; empty: for whichever is scored. */
  readonly labels: ReadonlyMap<string, Labels>;
  /** Known outputs, by name. */
  readonly expected: ReadonlyMap<string, Datum>;
};

/** Samples that fit a model, in the pieces in which it is run. */
export type GoldenSet = {
  readonly samples: number;
  readonly runs: number;
  readonly batch: Batch;
  /** Remarks on how the set was read, for the verdict. */
  readonly notes: readonly string[];
  readonly runAt: (index: number) => GoldenRun;
  /** An input for measuring: of `batchSize` samples where the model takes any number, else of as many as it takes. */
  readonly feedsFor: (batchSize: number) => {
    readonly feeds: Readonly<Record<string, Datum>>;
    readonly batchSize: number;
  };
};

/** How many samples are run at once. */
export type Batch = {
  /** `null`: as many as each data set has. */
  readonly size: number | null;
  /** Whether another size could be chosen. */
  readonly free: boolean;
};

/** What the set is asked for: labels, known outputs, or either of them. */
export type GoldenWants = {
  readonly labels: boolean;
  readonly outputs: boolean;
  readonly either?: boolean;
  /** Samples to be run at once; `null` or left out: as many as suits. */
  readonly batchSize?: number | null;
};

/** It cannot be read at all ("golden"), or does not fit what it is for ("misfit"): every way in which it does not. */
export type GoldenFault = { readonly because: "golden" | "misfit"; readonly message: string };

export function unreadable(message: string): GoldenFault {
  return { because: "golden", message };
}

const MOST_PROBLEMS = 10;

export function misfits(problems: readonly string[]): GoldenFault {
  const more = problems.length - MOST_PROBLEMS;
  const shown = [...new Set(problems)].slice(0, MOST_PROBLEMS);
  return { because: "misfit", message: `${shown.join("; ")}${more > 0 ? `; and ${more} more` : ""}` };
}
