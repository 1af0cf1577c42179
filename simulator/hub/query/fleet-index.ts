import type { JsonObject } from "../../base/json.ts";
import { type Answer, ok, refuse } from "../errors.ts";
import type { Identity } from "../registry/identity.ts";
import type { Twin, TwinKey } from "../twins/twin.ts";
import type { Undocumented } from "../undocumented.ts";
import { type DeviceJob, deviceJobDocument, deviceJobRow } from "./device-job.ts";
import { type Activity, twinDocument, twinRow } from "./document.ts";
import { parseQuery, type Query } from "./query.ts";
import {
  aggregatePage,
  type PageRequest,
  pageOf,
  readContinuation,
  scannedPage,
  sortedPage,
} from "./query-pages.ts";
import { aggregate, project } from "./query-rows.ts";
import { createTwinTable, type Entry, type TwinTable } from "./twin-table.ts";

export type QueryPage = {
  readonly rows: readonly JsonObject[];
  /** `null`: nothing is left. */
  readonly continuation: string | null;
  readonly itemType: "twin" | "raw" | "deviceJob";
};

/** What queries look at: behind the registry by `staleness`, never copied. */
export type FleetIndex = {
  /** What was there before the first query: queries see it at once. */
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

type Pending = { readonly at: number; readonly key: TwinKey; readonly entry: Entry | null };

/** Parsed queries that are cached; an operator asks the same few for ever. */
const CACHED_QUERIES = 64;

export function createFleetIndex(options: FleetIndexOptions): FleetIndex {
  const tables = { devices: createTwinTable(), "devices.modules": createTwinTable() };
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
    if (parsed.size >= CACHED_QUERIES) parsed.delete(parsed.keys().next().value ?? "");
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
      const request = { text, query: query.value, from: from.value, size: page.size };
      return ok(
        query.value.source === "devices.jobs"
          ? deviceJobPage(request, options.deviceJobs())
          : twinPage(request, tables[query.value.source], options.activity),
      );
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

function deviceJobPage(request: PageRequest, deviceJobs: Iterable<DeviceJob>): QueryPage {
  const found: DeviceJob[] = [];
  for (const deviceJob of deviceJobs)
    if (request.query.matches(deviceJobRow(deviceJob))) found.push(deviceJob);
  const { rows, continuation } = pageOf(found, request.text, request.from, request.size);
  return { rows: rows.map(deviceJobDocument), itemType: "deviceJob", continuation };
}

function twinPage(
  request: PageRequest,
  table: TwinTable,
  activityOf: FleetIndexOptions["activity"],
): QueryPage {
  const { query } = request;
  if (query.aggregates) return { ...aggregatePage(request, table), itemType: "raw" };
  const whole = query.columns === null;
  const rowOf = (entry: Entry): JsonObject =>
    whole ? twinDocument(entry.identity, entry.twin, activityOf(entry.key)) : project(query, entry.row);
  const sorted = query.distinct || query.orderBy.length > 0;
  const page = sorted ? sortedPage(request, table, rowOf) : scannedPage(request, table, rowOf);
  return { ...page, itemType: whole ? "twin" : "raw" };
}
