import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isMap, parseAllDocuments, visit } from "yaml";
import type { Digest } from "../../src/base/digest.ts";

/** Paths of all manifests below `examples`, relative to it, sorted. Scenarios of the simulator are none. */
export async function manifestsBelow(examples: string): Promise<readonly string[]> {
  const entries = await readdir(examples, { recursive: true });
  return entries.filter((path) => path.endsWith(".yaml") && !path.startsWith("scenarios")).sort();
}

/** Writes digests into all manifests below `examples`, as `withDigests` has them; returns those that changed. */
export async function writeDigests(
  examples: string,
  digests: ReadonlyMap<string, Digest>,
): Promise<readonly string[]> {
  const changed: string[] = [];
  for (const manifest of await manifestsBelow(examples)) {
    const had = await readFile(join(examples, manifest), "utf8");
    const has = withDigests(had, digests, manifest);
    if (has === had) continue;
    await writeFile(join(examples, manifest), has);
    changed.push(manifest);
  }
  return changed;
}

/**
 * A manifest's text with the digest beside every `blob` that it names, and everything else as it was written. Throws where
 * it names a path that has no digest.
 */
export function withDigests(text: string, digests: ReadonlyMap<string, Digest>, manifest: string): string {
  const replacements: { readonly from: number; readonly to: number; readonly digest: Digest }[] = [];
  for (const document of parseAllDocuments(text))
    visit(document, {
      Map: (_, map) => {
        const path = map.getIn(["blob", "path"]);
        const written = map.get("digest", true);
        if (typeof path !== "string") return;
        const digest = digests.get(path);
        if (digest === undefined) throw new Error(`${manifest}: no file makes ${path}`);
        const [from, to] = written?.range ?? [];
        if (from === undefined || to === undefined || !isMap(map.get("blob")))
          throw new Error(`${manifest}: ${path} has no digest beside it to replace`);
        replacements.push({ from, to, digest });
      },
    });
  // From the end, so that the places of the others stay right.
  return replacements
    .toSorted((a, b) => b.from - a.from)
    .reduce((rest, { from, to, digest }) => rest.slice(0, from) + digest + rest.slice(to), text);
}
