import { err, type Result } from "../../base/result.ts";
import { archiveKind, MOST_FILES, readArchive } from "../files/archive.ts";
import { fileKindOf } from "../files/file-kind.ts";
import { readZip } from "../files/zip.ts";
import type { Signature } from "../onnx/tensor.ts";
import { readNpzSet } from "./npz-set.ts";
import { isTestDataFile, readTestData } from "./test-data.ts";
import { type GoldenFault, type GoldenSet, type GoldenWants, unreadable } from "./types.ts";

/**
 * Reads a golden set and checks it against the model. Its format is recognized by its content: a zip archive of numpy's
 * arrays (.npz), or ONNX test data as tar, tar.gz or zip.
 * @param limit bytes that the set may take once inflated.
 * @returns the set, or why it cannot be used with this model. It never throws.
 */
export async function readGoldenSet(
  bytes: Uint8Array,
  model: Signature,
  wants: GoldenWants,
  limit: number,
): Promise<Result<GoldenSet, GoldenFault>> {
  const kind = archiveKind(bytes);
  if (kind === null)
    return err(
      unreadable(
        `the golden set cannot be read: it is ${bytes.length === 0 ? "empty" : (fileKindOf(bytes) ?? `of a kind that is not known, or broken (${bytes.length} bytes)`)}, and neither a zip archive nor tar nor tar.gz; save arrays with numpy.savez, or ONNX test data as an archive`,
      ),
    );
  if (kind === "zip" && !hasTestData(bytes, limit)) return readNpzSet(bytes, model, wants, limit);
  const files = await readArchive(bytes, kind, limit, isTestDataFile);
  if (!files.ok) return err(unreadable(`the golden set cannot be read: ${files.error}`));
  return readTestData(files.value, model, wants, limit);
}

/** A .npz is a zip archive too. What cannot be read at all is reported as a .npz, the simpler of the two. */
function hasTestData(bytes: Uint8Array, limit: number): boolean {
  const entries = readZip(bytes, limit, MOST_FILES);
  return entries.ok && entries.value.some(({ name }) => isTestDataFile(name));
}
