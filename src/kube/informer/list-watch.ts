import { err, type Result } from "../../base/result.ts";
import { type Millis, seconds } from "../../base/time.ts";
import type { Transport } from "../transport/transport.ts";
import {
  attempt,
  broken,
  type ListPage,
  type WatchEvent,
  type WatchFault,
  watchEventOf,
  watchFaultOf,
} from "./watch-event.ts";

/** All objects page by page, then what changes from a version on. Both end after their first fault. */
export type ListWatch<T> = {
  readonly list: (signal: AbortSignal) => AsyncIterable<Result<ListPage<T>, WatchFault>>;
  readonly watch: (from: string, signal: AbortSignal) => AsyncIterable<Result<WatchEvent<T>, WatchFault>>;
};

export type ListWatchOptions = {
  /** Objects on one page; 500 when left out. */
  readonly limit?: number;
  /** A watch without a byte for this long is taken for dead; bookmarks come each minute. 150 s when left out. */
  readonly idle?: Millis;
  /** Only objects with these fields, such as `metadata.name=plant-a`. */
  readonly fieldSelector?: string;
};

type RawList = {
  readonly metadata: { readonly resourceVersion: string; readonly continue?: string };
  readonly items?: readonly unknown[] | null;
};

/** Lists and watches `path` on the API server; `project` reduces each object to what is cached of it. */
export function createListWatch<T>(
  transport: Transport,
  path: string,
  project: (raw: unknown) => T,
  random: () => number,
  options: ListWatchOptions = {},
): ListWatch<T> {
  const limit = options.limit ?? 500;
  const idle = options.idle ?? seconds(150);
  const selector = options.fieldSelector === undefined ? {} : { fieldSelector: options.fieldSelector };

  return {
    list: async function* (signal) {
      let next = "";
      do {
        const query = new URLSearchParams({ limit: String(limit), ...selector });
        if (next !== "") query.set("continue", next);
        const answer = await transport.call({ method: "GET", path: `${path}?${query}` }, signal);
        if (!answer.ok) {
          yield err(watchFaultOf(answer.error));
          return;
        }
        const page = attempt(() => {
          const raw = answer.value as RawList;
          next = raw.metadata.continue ?? "";
          return { items: (raw.items ?? []).map(project), at: raw.metadata.resourceVersion };
        });
        yield page;
        if (!page.ok) return;
      } while (next !== "");
    },
    watch: async function* (from, signal) {
      // Spread, so that the watches of a fleet of operators do not end together.
      const timeoutSeconds = Math.floor(240 + 60 * random());
      const query = new URLSearchParams({
        watch: "true",
        allowWatchBookmarks: "true",
        resourceVersion: from,
        timeoutSeconds: String(timeoutSeconds),
        ...selector,
      });
      const opened = await transport.lines(`${path}?${query}`, idle, signal);
      if (!opened.ok) {
        yield err(watchFaultOf(opened.error));
        return;
      }
      try {
        for await (const line of opened.value) {
          const event = watchEventOf(line, project);
          yield event;
          if (!event.ok) return;
        }
      } catch (cause) {
        yield err(broken(`the watch broke off: ${cause instanceof Error ? cause.message : String(cause)}`));
      }
    },
  };
}
