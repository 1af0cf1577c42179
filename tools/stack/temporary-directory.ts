import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { killOnExit } from "./exit-guard.ts";

/** A new directory that is removed by `remove`, and at the latest when this process ends, however it ends. */
export async function temporaryDirectory(
  prefix: string,
): Promise<{ readonly path: string; readonly remove: () => Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), prefix));
  const free = killOnExit({ kind: "directory", path });
  return {
    path,
    remove: async () => {
      // A program that has just ended may have left a file that is still being written.
      await rm(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
      free();
    },
  };
}
