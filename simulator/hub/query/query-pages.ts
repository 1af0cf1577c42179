import type { JsonObject } from "../../base/json.ts";
import { hash32 } from "../../base/random.ts";
import { type Answer, ok, refuse } from "../errors.ts";
import type { TwinKey } from "../twins/twin.ts";
import type { Query } from "./query.ts";
import { aggregate, inOrder, unique } from "./query-rows.ts";
import type { Entry, TwinTable } from "./twin-table.ts";

/** What a page is a page of. */
export type PageRequest = {
  readonly text: string;
  readonly query: Query;
  readonly from: Place;
  readonly size: number;
};

export type Page<T> = {
  readonly rows: readonly T[];
  /** `null`: nothing is left. */
  readonly continuation: string | null;
};

type ReadPage = (
  request: PageRequest,
  table: TwinTable,
  rowOf: (entry: Entry) => JsonObject,
) => Page<JsonObject>;

/** Rows of a query with aggregates. */
export function aggregatePage({ text, query, from, size }: PageRequest, table: TwinTable): Page<JsonObject> {
  const groups = aggregate(query, table.rows());
  return pageOf(query.top === null ? groups : groups.slice(0, query.top), text, from, size);
}

/** Rows that can only be compared or sorted when all are known. */
export const sortedPage: ReadPage = ({ text, query, from, size }, table, rowOf) => {
  const entries = table.keys().flatMap((key) => table.get(key) ?? []);
  const found = inOrder(
    query,
    entries.filter(({ row }) => query.matches(row)),
  ).map(rowOf);
  const all = query.distinct ? unique(found) : found;
  return pageOf(query.top === null ? all : all.slice(0, query.top), text, from, size);
};

/** Rows in the order of their keys, from where the page before ended: no more are looked at than the page needs. */
export const scannedPage: ReadPage = ({ text, query, from, size }, table, rowOf) => {
  const keys = table.keys();
  const limit = query.top === null ? Number.POSITIVE_INFINITY : query.top - from.given;
  const rows: JsonObject[] = [];
  let at = from.after === null ? 0 : firstAfter(keys, from.after);
  let last: TwinKey | null = null;
  for (; at < keys.length && rows.length < Math.min(size, limit); at++) {
    const entry = table.get(keys[at] ?? "");
    if (entry === undefined || !query.matches(entry.row)) continue;
    last = entry.key;
    rows.push(rowOf(entry));
  }
  const more = rows.length < limit && hasMore(query, table, keys, at);
  return { rows, continuation: more ? writeContinuation(text, last, from.given + rows.length) : null };
};

/** The next of rows that are all known at once. */
export function pageOf<T>(all: readonly T[], text: string, from: Place, size: number): Page<T> {
  const rows = all.slice(from.given, from.given + size);
  const given = from.given + rows.length;
  return { rows, continuation: given < all.length ? writeContinuation(text, null, given) : null };
}

function hasMore(query: Query, table: TwinTable, keys: readonly TwinKey[], from: number): boolean {
  for (let at = from; at < keys.length; at++) {
    const entry = table.get(keys[at] ?? "");
    if (entry !== undefined && query.matches(entry.row)) return true;
  }
  return false;
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
export type Place = { readonly after: TwinKey | null; readonly given: number };

/** Opaque to clients; it holds the query's hash, because the hub wants the same text with every page. */
function writeContinuation(text: string, after: TwinKey | null, given: number): string {
  return Buffer.from(JSON.stringify([hash32(text), after, given])).toString("base64");
}

export function readContinuation(token: string | null, text: string): Answer<Place> {
  if (token === null) return ok({ after: null, given: 0 });
  try {
    const [hash, after, given] = JSON.parse(Buffer.from(token, "base64").toString()) as readonly unknown[];
    if (hash === hash32(text) && typeof given === "number" && (after === null || typeof after === "string"))
      return ok({ after, given });
  } catch {
    // Falls through: text that is not a token is answered like a token of another query.
  }
  return refuse("ArgumentInvalid", "The continuation token is not one of this query");
}
