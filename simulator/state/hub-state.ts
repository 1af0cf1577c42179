import { sameJson } from "../base/json.ts";
import { type Answer, ok, refuse } from "../hub/errors.ts";
import type { Hub } from "../hub/hub.ts";
import type { PersistedRecords } from "../hub/persistence.ts";
import { explain, type RecordChange, type StateFile } from "./state-file.ts";

export type HubStateOptions = {
  /** Told once when writing begins to fail, and `null` when it works again. */
  readonly onProblem: (problem: string | null) => void;
  /** What is kept beside the hub. */
  readonly beside?: readonly PersistedRecords[];
};

type Dirty = {
  readonly part: PersistedRecords;
  readonly name: string;
  readonly gone: boolean;
  readonly recreated: boolean;
};

/** Milliseconds after which changes are written although no client waits for them. */
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
 * Restores the hub from the file, and from then on writes to it what changes. Call it before anything else listens to the
 * hub: a change must be known here before others report it. Returns what ends it: the last write.
 */
export function persistHub(hub: Hub, file: StateFile, options: HubStateOptions): () => void {
  const { persistence } = hub;
  const parts = [...persistence.parts, ...(options.beside ?? [])];
  let dirty = new Map<string, Dirty>();
  let numbers: object | null = null;
  let timer: NodeJS.Timeout | null = null;
  let problem: string | null = null;
  let closed = false;

  restore();
  for (const part of parts) part.onChange((name) => mark(part, name));
  persistence.commitWith(commit);

  function restore(): void {
    const [before] = file.read(NUMBERS.kind);
    if (before === undefined) return;
    for (const part of parts) for (const { name, value } of file.read(part.kind)) part.restore(name, value);
    persistence.resume(before.value);
    // What came back as it was is not written again.
    numbers = before.value;
  }

  /** The order of records is the order in which they were made: one that was removed and made again is the last. */
  function mark(part: PersistedRecords, name: string): void {
    const id = `${part.kind}\n${name}`;
    const before = dirty.get(id);
    const gone = part.record(name) === undefined;
    if (before?.gone !== gone) {
      dirty.delete(id);
      dirty.set(id, {
        part,
        name,
        gone,
        recreated: before !== undefined && (before.gone || before.recreated),
      });
    }
    if (!closed) timer ??= setTimeout(commit, IDLE_WRITE);
  }

  function commit(): Answer<void> {
    const counted = persistence.numbers();
    const changes: RecordChange[] = [...dirty.values()].map(({ part, name, recreated }) => ({
      kind: part.kind,
      name,
      value: part.record(name) ?? null,
      recreated,
    }));
    if (!sameJson(counted, numbers as typeof counted))
      changes.push({ ...NUMBERS, value: counted, recreated: false });
    if (timer !== null) clearTimeout(timer);
    timer = null;
    if (changes.length === 0) return ok(undefined);
    try {
      file.write(changes);
    } catch (error) {
      return failed(explain(error));
    }
    dirty = new Map();
    numbers = counted;
    if (problem !== null) options.onProblem(null);
    problem = null;
    return ok(undefined);
  }

  /** What could not be written stays in memory and is tried again. */
  function failed(reason: string): Answer<void> {
    timer = setTimeout(commit, NEXT_TRY);
    if (reason !== problem) options.onProblem(reason);
    problem = reason;
    return refuse("ServiceUnavailable", `The state of the simulator ${reason}`);
  }

  return () => {
    if (closed) return;
    commit();
    closed = true;
    persistence.commitWith(() => ok(undefined));
    if (timer !== null) clearTimeout(timer);
    timer = null;
    file.close();
  };
}
