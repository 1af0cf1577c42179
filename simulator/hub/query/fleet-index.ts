import type { JsonObject } from "../../base/json.ts";
import { hash32 } from "../../base/random.ts";
import { type Answer, ok, refuse } from "../errors.ts";
import type { Identity } from "../registry/identity.ts";
import type { Twin, TwinKey } from "../twins/twin.ts";
import type { Undocumented } from "../undocumented.ts";
import { type DeviceJob, deviceJobDocument, deviceJobRow } from "./device-job.ts";
import { type Activity, twinDocument, twinRow } from "./document.ts";
import type { Row } from "./expression.ts";
import { parseQuery, type Query } from "./query.ts";
import { aggregate, inOrder, project, unique } from "./query-rows.ts";

export type QueryPage = {
  readonly rows: readonly JsonObject[];
  /** `null`: nothing is left. */
  readonly continuation: string | null;
  readonly itemType: "twin" | "raw" | "deviceJob";
};

/** What queries look at: behind the registry by `staleness`, never copied. */
export type FleetIndex = {
  /** What was there before anybody asked: queries see it at once. */
  readonly resume: (key: TwinKey, entry: { readonly identity: Identity; readonly twin: Twin }) => void;
  /** `null`: it is gone. */
  readonly note: (key: TwinKey, entry: { readonly identity: Identity; readonly twin: Twin } | null) => void;
  readonly query: (
    text: string,
    page: { readonly size: number; readonly continuation: string | null },
  ) => Answer<QueryPage>;
  /** Keys of the twins a query finds: what a job is for. */
  readonly select: (text: string) => Answer<readonly TwinKey[]>;
  /** Number of rows a query would answer with, by what is known now: metrics of configurations. */
  readonly count: (text: string) => number | null;
};

export type FleetIndexOptions = {
  readonly now: () => number;
  /** Milliseconds between a write and the first query that may see it. Asked before every query. */
  readonly staleness: () => number;
  readonly activity: (key: TwinKey) => Activity;
  /** What `FROM devices.jobs` is about. */
  readonly deviceJobs: () => Iterable<DeviceJob>;
  readonly undocumented?: Undocumented;
};

type Entry = { readonly key: TwinKey; readonly identity: Identity; readonly twin: Twin; readonly row: Row };
type Pending = { readonly at: number; readonly key: TwinKey; readonly entry: Entry | null };

/** Parsed queries that are kept; an operator asks the same few for ever. */
const KEPT_QUERIES = 64;

export function createFleetIndex(options: FleetIndexOptions): FleetIndex {
  const tables = { devices: createTable(), "devices.modules": createTable() };
  const parsed = new Map<string, Query>();
  let pending: Pending[] = [];
  let applied = 0;

  const tableOf = (key: TwinKey) => tables[key.includes("/") ? "devices.modules" : "devices"];

  function note(key: TwinKey, record: { readonly identity: Identity; readonly twin: Twin } | null): void {
    pending.push({ at: options.now(), key, entry: record === null ? null : entryOf(key, record) });
    catchUp();
  }

  function entryOf(key: TwinKey, record: { readonly identity: Identity; readonly twin: Twin }): Entry {
    return { key, ...record, row: twinRow(record.identity, record.twin, () => options.activity(key)) };
  }

  /** Writes are applied in the order in which they were made, once they are old enough. */
  function catchUp(): void {
    const until = options.now() - options.staleness();
    for (let next = pending[applied]; next !== undefined && next.at <= until; next = pending[applied]) {
      tableOf(next.key).set(next.key, next.entry);
      applied += 1;
    }
    if (applied < 1024 && applied < pending.length) return;
    pending = pending.slice(applied);
    applied = 0;
  }

  function parse(text: string): Answer<Query> {
    const known = parsed.get(text);
    if (known !== undefined) return ok(known);
    const query = parseQuery(text, options.undocumented);
    if (!query.ok) return query;
    if (parsed.size >= KEPT_QUERIES) parsed.delete(parsed.keys().next().value ?? "");
    parsed.set(text, query.value);
    return query;
  }

  return {
    note,
    resume: (key, record) => tableOf(key).set(key, entryOf(key, record)),

    query(text, page) {
      const query = parse(text);
      if (!query.ok) return query;
      const from = readContinuation(page.continuation, text);
      if (!from.ok) return from;
      catchUp();
      if (query.value.source === "devices.jobs") {
        const found: DeviceJob[] = [];
        for (const deviceJob of options.deviceJobs())
          if (query.value.matches(deviceJobRow(deviceJob))) found.push(deviceJob);
        const { rows, continuation } = pageOf(found, text, from.value, page.size);
        return ok({ rows: rows.map(deviceJobDocument), itemType: "deviceJob", continuation });
      }
      const table = tables[query.value.source];
      const itemType = query.value.columns === null ? "twin" : "raw";
      if (query.value.aggregates) {
        const groups = aggregate(query.value, table.rows());
        const top = query.value.top === null ? groups : groups.slice(0, query.value.top);
        return ok({ ...pageOf(top, text, from.value, page.size), itemType: "raw" });
      }
      const rowOf = (entry: Entry): JsonObject =>
        query.value.columns === null
          ? twinDocument(entry.identity, entry.twin, options.activity(entry.key))
          : project(query.value, entry.row);
      const keys = table.keys();
      if (query.value.distinct || query.value.orderBy.length > 0) {
        const entries = keys.flatMap((key) => table.get(key) ?? []);
        const found = inOrder(
          query.value,
          entries.filter(({ row }) => query.value.matches(row)),
        ).map(rowOf);
        const all = query.value.distinct ? unique(found) : found;
        const top = query.value.top === null ? all : all.slice(0, query.value.top);
        return ok({ ...pageOf(top, text, from.value, page.size), itemType });
      }
      const limit = query.value.top === null ? Number.POSITIVE_INFINITY : query.value.top - from.value.given;
      const rows: JsonObject[] = [];
      let at = from.value.after === null ? 0 : firstAfter(keys, from.value.after);
      let last: TwinKey | null = null;
      for (; at < keys.length && rows.length < Math.min(page.size, limit); at++) {
        const entry = table.get(keys[at] ?? "");
        if (entry === undefined || !query.value.matches(entry.row)) continue;
        last = entry.key;
        rows.push(rowOf(entry));
      }
      const more = rows.length < limit && hasMore(query.value, table, keys, at);
      const given = from.value.given + rows.length;
      return ok({ rows, itemType, continuation: more ? writeContinuation(text, last, given) : null });
    },

    select(text) {
      const query = parse(text);
      if (!query.ok) return query;
      if (query.value.source === "devices.jobs")
        return refuse("ArgumentInvalid", "devices.jobs has no twins");
      catchUp();
      const table = tables[query.value.source];
      return ok(
        table.keys().filter((key) => {
          const entry = table.get(key);
          return entry !== undefined && query.value.matches(entry.row);
        }),
      );
    },

    count(text) {
      const query = parse(text);
      if (!query.ok || query.value.source === "devices.jobs") return null;
      const table = tables[query.value.source];
      if (query.value.aggregates) return aggregate(query.value, table.rows()).length;
      let count = 0;
      for (const row of table.rows()) if (query.value.matches(row)) count += 1;
      return count;
    },
  };
}

/** The next of rows that are all known at once. */
function pageOf<T>(
  all: readonly T[],
  text: string,
  from: Place,
  size: number,
): { readonly rows: readonly T[]; readonly continuation: string | null } {
  const rows = all.slice(from.given, from.given + size);
  const given = from.given + rows.length;
  return { rows, continuation: given < all.length ? writeContinuation(text, null, given) : null };
}

function hasMore(query: Query, table: Table, keys: readonly TwinKey[], from: number): boolean {
  for (let at = from; at < keys.length; at++) {
    const entry = table.get(keys[at] ?? "");
    if (entry !== undefined && query.matches(entry.row)) return true;
  }
  return false;
}

type Table = ReturnType<typeof createTable>;

/** Rows by key, and the keys in order: a page goes on after the last key of the page before, whatever came or went. */
function createTable() {
  const entries = new Map<TwinKey, Entry>();
  let sorted: readonly TwinKey[] | null = [];
  return {
    get: (key: TwinKey) => entries.get(key),
    set: (key: TwinKey, entry: Entry | null) => {
      if (entry === null) {
        if (entries.delete(key)) sorted = null;
        return;
      }
      if (!entries.has(key)) sorted = null;
      entries.set(key, entry);
    },
    keys: (): readonly TwinKey[] => {
      sorted ??= [...entries.keys()].sort();
      return sorted;
    },
    *rows(): Iterable<Row> {
      for (const entry of entries.values()) yield entry.row;
    },
  };
}

function firstAfter(keys: readonly TwinKey[], key: TwinKey): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((keys[middle] ?? "") <= key) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Where the next page starts; `given` counts the rows of all pages before it. */
type Place = { readonly after: TwinKey | null; readonly given: number };

/** Opaque to clients; it holds the query's hash, because the hub wants the same text with every page. */
function writeContinuation(text: string, after: TwinKey | null, given: number): string {
  return Buffer.from(JSON.stringify([hash32(text), after, given])).toString("base64");
}

function readContinuation(token: string | null, text: string): Answer<Place> {
  if (token === null) return ok({ after: null, given: 0 });
  try {
    const [hash, after, given] = JSON.parse(Buffer.from(token, "base64").toString()) as readonly unknown[];
    if (hash === hash32(text) && typeof given === "number" && (after === null || typeof after === "string"))
      return ok({ after, given });
  } catch {
    // Falls through: text that is no token is answered like a token of another query.
  }
  return refuse("ArgumentInvalid", "The continuation token is not one of this query");
}
