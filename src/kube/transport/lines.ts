import { errorCodeOf } from "../../base/guards.ts";

/**
 * The lines of a body; they end when nothing has come for too long. `ended` is called when there are no more, or when they
 * are no longer read.
 */
export async function* linesOf(body: AsyncIterable<Buffer>, ended: () => void): AsyncIterable<string> {
  // What came of a line so far; joined once, because a line can come in many chunks.
  let begun: Buffer[] = [];
  try {
    for await (const chunk of body) {
      let from = 0;
      for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, from)) {
        const line = Buffer.concat([...begun, chunk.subarray(from, end)]).toString("utf8");
        begun = [];
        from = end + 1;
        if (line.trim() !== "") yield line;
      }
      if (from < chunk.length) begun.push(chunk.subarray(from));
    }
  } catch (cause) {
    if (errorCodeOf(cause) === "UND_ERR_BODY_TIMEOUT") return;
    throw cause;
  } finally {
    ended();
  }
  // An incomplete line is passed on too: the parser then finds that the stream was cut.
  const last = Buffer.concat(begun).toString("utf8");
  if (last.trim() !== "") yield last;
}
