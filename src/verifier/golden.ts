import { err, type Result } from "../base/result.ts";
import { archiveKind, MOST_FILES, readArchive } from "./archive.ts";
import { readNpzSet } from "./golden-npz.ts";
import { isTestDataFile, readTestData } from "./golden-test-data.ts";
import type { Datum, Signature } from "./tensor.ts";
import { readZip } from "./zip.ts";

/** What the model is run with at once, and what is known of the answers. */
export type GoldenRun = {
  /** Number of its first sample, and how many it has. */
  readonly from: number;
  readonly samples: number;
  readonly feeds: Readonly<Record<string, Datum>>;
  /** One class for each sample; `null` where the set has none. */
  readonly labels: Labels | null;
  /** Known outputs, by name. */
  readonly expected: ReadonlyMap<string, Datum>;
};

/** Samples that fit a model, in the pieces in which it is run. */
export type GoldenSet = {
  readonly samples: number;
  readonly runs: number;
  readonly runAt: (index: number) => GoldenRun;
  /** An input for measuring: of `batchSize` samples where the model takes any number, else of as many as it takes. */
  readonly feedsFor: (batchSize: number) => {
    readonly feeds: Readonly<Record<string, Datum>>;
    readonly batchSize: number;
  };
};

/** Classes by number, or by name. */
export type Labels = readonly number[] | readonly string[];

/** What the set is asked for: labels, outputs, or both. */
export type GoldenWants = { readonly labels: boolean; readonly outputs: boolean };

/**
 * Reads a golden set and holds it against the model. What it is, is told by its content: a zip archive of numpy's
 * arrays (.npz), or ONNX test data as tar, tar.gz or zip.
 * @param limit bytes that the set may take once inflated.
 * @returns the set, or a sentence that says why it cannot be used with this model. It never throws.
 */
export async function readGoldenSet(
  bytes: Uint8Array,
  model: Signature,
  wants: GoldenWants,
  limit: number,
): Promise<Result<GoldenSet, string>> {
  const kind = archiveKind(bytes);
  if (kind === null)
    return err(
      `the golden set cannot be read: it is neither a zip archive nor tar nor tar.gz (or cut off); save arrays with numpy.savez, or ONNX test data as an archive`,
    );
  if (kind === "zip" && !hasTestData(bytes, limit)) return readNpzSet(bytes, model, wants, limit);
  const files = await readArchive(bytes, kind, limit, isTestDataFile);
  if (!files.ok) return err(`the golden set cannot be read: ${files.error}`);
  return readTestData(files.value, model, wants, limit);
}

/** A .npz is a zip archive too. What cannot be read at all is told of as a .npz, the simpler of the two. */
function hasTestData(bytes: Uint8Array, limit: number): boolean {
  const entries = readZip(bytes, limit, MOST_FILES);
  return entries.ok && entries.value.some(({ name }) => isTestDataFile(name));
}
