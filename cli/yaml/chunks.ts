import { err, ok, type Result } from "../../src/base/result.ts";

/** One document of a stream, with its line ends as \n. */
export type YamlChunk = {
  readonly text: string;
  /** How many lines of the file come before it. */
  readonly line: number;
};

/** Where a stream cannot be divided. */
export type ChunkFault = { readonly line: number; readonly message: string };

/**
 * Divides a stream at its `---` lines before any YAML is read, as kubectl does: nothing but a comment may follow the
 * dashes. Of each piece only the first document counts.
 */
export function chunksOf(stream: string): Result<readonly YamlChunk[], ChunkFault> {
  const chunks: YamlChunk[] = [];
  let lines: string[] = [];
  let start = 0;
  const finish = (next: number) => {
    if (lines.length > 0) chunks.push({ text: `${lines.join("\n")}\n`, line: start });
    lines = [];
    start = next;
  };
  const all = stream.replace(/\r$/, "").split(/\r?\n/);
  if (all.at(-1) === "") all.pop();
  for (const [index, line] of all.entries()) {
    if (!line.startsWith("---")) {
      lines.push(line);
      continue;
    }
    const rest = line.slice(3).trim();
    if (rest !== "" && !rest.startsWith("#"))
      return err({ line: index, message: `only a comment may follow --- on its line: ${rest.slice(0, 40)}` });
    if (lines.length > 0) finish(index + 1);
    else lines.push(line);
  }
  finish(all.length);
  return ok(chunks);
}
