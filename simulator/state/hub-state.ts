import { sameJson } from "../base/json.ts";
import { type Answer, ok, refuse } from "../hub/errors.ts";
import type { Hub } from "../hub/hub.ts";
import type { Kept } from "../hub/persistence.ts";
import { explain, type RecordChange, type StateFile } from "./state-file.ts";

export type HubStateOptions = {
  /** Told once when writing begins to fail, and `null` when it works again. */
  readonly onTrouble: (problem: string | null) => void;
  /** What is kept beside the hub. */
  readonly beside?: readonly Kept[];
};

type Dirty = { readonly part: Kept; readonly name: string; readonly gone: boolean; readonly anew: boolean };

/** Milliseconds after which what nobody asked about is written all the same. */
const IDLE_WRITE = 50;
/** Milliseconds after which a write that failed is tried again, if nothing else calls for one. */
const NEXT_TRY = 1000;
const NUMBERS = { kind: "hub", name: "numbers" } as const;

/** What time it was for the hub that the file is of; `null` where it went by the machine's, or the file is new. */
export function virtualTimeOf(file: StateFile): number | null {
  const now = file.read(NUMBERS.kind)[0]?.value["now"];
  return typeof now === "number" ? now : null;
}

/**
 * Restores the hub from the file, and from then on writes to it what changes. Call it before anybody else listens to the
 * hub: a change must be known here before others tell of it. Answers with what ends it: the last write.
 */
export function keepHub(hub: Hub, file: StateFile, options: HubStateOptions): () => void {
  const { keeping } = hub;
  const parts = [...keeping.parts, ...(options.beside ?? [])];
  let dirty = new Map<string, Dirty>();
  let numbers: object | null = null;
  let timer: NodeJS.Timeout | null = null;
  let trouble: string | null = null;
  let closed = false;

  restore();
  for (const part of parts) part.onChange((name) => mark(part, name));
  keeping.commitWith(commit);

  function restore(): void {
    const [before] = file.read(NUMBERS.kind);
    if (before === undefined) return;
    for (const part of parts) for (const { name, value } of file.read(part.kind)) part.restore(name, value);
    keeping.resume(before.value);
    // What came back as it was is not written again.
    numbers = before.value;
  }

  /** The order of records is the order in which they were made: one that was removed and made again is the last. */
  function mark(part: Kept, name: string): void {
    const id = `${part.kind}\n${name}`;
    const before = dirty.get(id);
    const gone = part.record(name) === undefined;
    if (before?.gone !== gone) {
      dirty.delete(id);
      dirty.set(id, { part, name, gone, anew: before !== undefined && (before.gone || before.anew) });
    }
    if (!closed) timer ??= setTimeout(commit, IDLE_WRITE);
  }

  function commit(): Answer<void> {
    const counted = keeping.numbers();
    const changes: RecordChange[] = [...dirty.values()].map(({ part, name, anew }) => ({
      kind: part.kind,
      name,
      value: part.record(name) ?? null,
      anew,
    }));
    if (!sameJson(counted, numbers as typeof counted))
      changes.push({ ...NUMBERS, value: counted, anew: false });
    if (timer !== null) clearTimeout(timer);
    timer = null;
    if (changes.length === 0) return ok(undefined);
    try {
      file.write(changes);
    } catch (problem) {
      return failed(explain(problem));
    }
    dirty = new Map();
    numbers = counted;
    if (trouble !== null) options.onTrouble(null);
    trouble = null;
    return ok(undefined);
  }

  /** What could not be written stays in memory and is tried again. */
  function failed(problem: string): Answer<void> {
    timer = setTimeout(commit, NEXT_TRY);
    if (problem !== trouble) options.onTrouble(problem);
    trouble = problem;
    return refuse("ServiceUnavailable", `The state of the simulator ${problem}`);
  }

  return () => {
    if (closed) return;
    commit();
    closed = true;
    keeping.commitWith(() => ok(undefined));
    if (timer !== null) clearTimeout(timer);
    timer = null;
    file.close();
  };
}
