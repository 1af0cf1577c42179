import { type JsonObject, type JsonValue, setKey } from "../../base/json.ts";
import type { Row } from "./expression.ts";
import type { Aggregate, Column, Query } from "./query.ts";

/** A projected row; attributes that a twin does not have are absent. */
export function project(query: Query, row: Row): JsonObject {
  const projected: Record<string, JsonValue> = {};
  for (const column of query.columns ?? []) {
    const value = column.read(row);
    if (value !== undefined) setKey(projected, column.name, value);
  }
  return projected;
}

/** Rows in the order that a query asks for; those without a value come first, numbers before texts. */
export function inOrder<T extends { readonly row: Row }>(query: Query, rows: readonly T[]): readonly T[] {
  return rows.toSorted((a, b) => {
    for (const { read, descending } of query.orderBy) {
      const order = compareValues(read(a.row), read(b.row));
      if (order !== 0) return descending ? -order : order;
    }
    return 0;
  });
}

function compareValues(a: JsonValue | undefined, b: JsonValue | undefined): number {
  const rank = (value: JsonValue | undefined) =>
    typeof value === "string" ? 2 : Number(typeof value === "number");
  if (rank(a) !== rank(b)) return rank(a) - rank(b);
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a !== "string" || typeof b !== "string" || a === b) return 0;
  return a < b ? -1 : 1;
}

/** Each row once. */
export function unique(rows: readonly JsonObject[]): readonly JsonObject[] {
  return [...new Map(rows.map((row) => [JSON.stringify(row), row])).values()];
}

/** One row per group, or a single one where nothing is grouped by. */
export function aggregate(query: Query, rows: Iterable<Row>): readonly JsonObject[] {
  const groups = new Map<string, { readonly first: Row; readonly tallies: Tally[] }>();
  const columns = query.columns ?? [];
  const empty = () => columns.map(() => ({ count: 0, sum: 0, least: undefined, most: undefined }));
  for (const row of rows) {
    if (!query.matches(row)) continue;
    const values = query.groupBy.map((part) => part.read(row));
    if (values.includes(undefined)) continue;
    const key = JSON.stringify(values);
    const group = groups.get(key) ?? { first: row, tallies: empty() };
    groups.set(key, group);
    columns.forEach((column, index) => {
      const tally = group.tallies[index];
      const value = column.read(row);
      if (tally !== undefined && column.kind === "aggregate" && value !== undefined) addTo(tally, value);
    });
  }
  if (groups.size === 0 && query.groupBy.length === 0)
    return [rowOfGroup(columns, { first: { valueAt: () => undefined }, tallies: empty() })];
  return [...groups.values()].map((group) => rowOfGroup(columns, group));
}

type Tally = {
  count: number;
  sum: number;
  least: JsonValue | undefined;
  most: JsonValue | undefined;
};

function addTo(tally: Tally, value: JsonValue): void {
  tally.count += 1;
  if (typeof value === "number") tally.sum += value;
  if (typeof value !== "number" && typeof value !== "string") return;
  if (tally.least === undefined || value < (tally.least as typeof value)) tally.least = value;
  if (tally.most === undefined || value > (tally.most as typeof value)) tally.most = value;
}

function rowOfGroup(
  columns: readonly Column[],
  group: { readonly first: Row; readonly tallies: readonly Tally[] },
): JsonObject {
  const row: Record<string, JsonValue> = {};
  columns.forEach((column, index) => {
    const tally = group.tallies[index];
    const value = column.kind === "value" ? column.read(group.first) : tallied(column.aggregate, tally);
    if (value !== undefined) setKey(row, column.name, value);
  });
  return row;
}

function tallied(kind: Aggregate, tally: Tally | undefined): JsonValue | undefined {
  if (tally === undefined) return undefined;
  switch (kind) {
    case "COUNT":
      return tally.count;
    case "SUM":
      return tally.sum;
    case "AVG":
      return tally.count === 0 ? undefined : tally.sum / tally.count;
    case "MIN":
      return tally.least;
    case "MAX":
      return tally.most;
  }
}
