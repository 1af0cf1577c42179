import { canonicalJson } from "../base/digest.ts";
import type { Configuration } from "./hub.ts";

// What is known of the hub's configurations, from listings and from our own writes. Pure.

type ById = ReadonlyMap<string, Configuration>;

export type ConfigurationList = {
  /** `null` until the first listing. */
  readonly known: ById | null;
  /**
   * Writes of ours that ended while a listing was under way: it may or may not have them. `after`: how many listings had
   * begun. `configuration: null`: removed.
   */
  readonly writes: ReadonlyMap<
    string,
    { readonly configuration: Configuration | null; readonly after: number }
  >;
  /** How many listings have begun. */
  readonly begun: number;
  /** The number of the listing that `known` comes from. */
  readonly applied: number;
};

export const NOTHING_LISTED: ConfigurationList = { known: null, writes: new Map(), begun: 0, applied: 0 };

/** Its `begun` is the number of the listing that begins. */
export function beginListing(list: ConfigurationList): ConfigurationList {
  return { ...list, begun: list.begun + 1 };
}

/** `list`, where a later listing has ended first. */
export function afterListing(
  list: ConfigurationList,
  number: number,
  listed: readonly Configuration[],
): ConfigurationList {
  if (number < list.applied) return list;
  const writes = new Map([...list.writes].filter(([, write]) => write.after >= number));
  let known: ById = new Map(listed.map((one) => [one.id, one]));
  for (const [id, write] of writes) known = withWrite(known, id, write.configuration);
  return { ...list, known, writes, applied: number };
}

/** `configuration: null`: removed. */
export function afterWrite(
  list: ConfigurationList,
  id: string,
  configuration: Configuration | null,
): ConfigurationList {
  const writes = new Map(list.writes).set(id, { configuration, after: list.begun });
  return { ...list, writes, known: list.known === null ? null : withWrite(list.known, id, configuration) };
}

/** What was added, changed or removed. */
export function changesBetween(had: ById, next: ById): readonly Configuration[] {
  const removed = [...had.values()].filter(({ id }) => !next.has(id));
  const others = [...next.values()].filter((one) => {
    const before = had.get(one.id);
    return before === undefined || !sameConfiguration(before, one);
  });
  return [...removed, ...others];
}

function withWrite(had: ById, id: string, configuration: Configuration | null): ById {
  const next = new Map(had);
  if (configuration === null) next.delete(id);
  else next.set(id, configuration);
  return next;
}

/** Content cannot change under one id, and a new etag alone is nothing that a controller acts on. */
function sameConfiguration(a: Configuration, b: Configuration): boolean {
  return (
    a.targetCondition === b.targetCondition &&
    a.priority === b.priority &&
    a.kind === b.kind &&
    canonicalJson(a.labels) === canonicalJson(b.labels)
  );
}
