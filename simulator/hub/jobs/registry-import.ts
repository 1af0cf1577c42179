import { setImmediate as nextTurn } from "node:timers/promises";
import { isObject, type JsonObject, parseJson } from "../../base/json.ts";
import { codeOf, type Refusal, refuse } from "../errors.ts";
import type { Bulk } from "../registry/bulk.ts";

/** Lines that are imported before requests get in between. */
const BATCH = 100;

/** Imports every line of a blob; answers with the lines of the log of errors. `progress` gets percents. */
export async function importLines(
  text: string,
  bulk: Bulk,
  progress: (percent: number) => void,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const lines = text.split(/\r?\n/);
  const errors: string[] = [];
  for (const [index, line] of lines.entries()) {
    if (signal.aborted) break;
    const problem = line.trim() === "" ? null : importLine(line, index + 1, bulk);
    if (problem !== null) errors.push(`${JSON.stringify(problem)}\n`);
    if (index % BATCH === BATCH - 1) {
      progress(Math.floor((index / lines.length) * 100));
      await nextTurn();
    }
  }
  return errors;
}

/** The error as the log of the import has it, which names the line and does not repeat it: lines have keys in them. */
function importLine(line: string, number: number, bulk: Bulk): JsonObject | null {
  const parsed = parseJson(line);
  const entry = parsed.ok && isObject(parsed.value) ? parsed.value : null;
  const done =
    entry === null
      ? refuse(
          "DeserializationError",
          parsed.ok ? "the line is not a JSON object" : `the line is ${parsed.problem}`,
        )
      : bulk.importEntry(entry);
  const refusal: Refusal | null = done.ok ? done.value.withoutTwin : done.refusal;
  if (refusal === null) return null;
  return {
    ...(typeof entry?.["id"] === "string" ? { id: entry["id"] } : {}),
    ...(typeof entry?.["moduleId"] === "string" ? { moduleId: entry["moduleId"] } : {}),
    errorCode: codeOf(refusal.code),
    errorStatus: `Line ${number}: ${done.ok ? "DeviceRegisteredWithoutTwin: " : ""}${refusal.message}`,
  };
}
