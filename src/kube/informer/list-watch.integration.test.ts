import { afterEach, describe, expect, test } from "vitest";
import { project, type Raw, raw } from "../../../test/builders/cached-thing.ts";
import { createFakeRuntime } from "../../../test/fakes/fake-runtime.ts";
import {
  type Answer,
  json,
  pieces,
  refusal,
  startScriptedServer,
} from "../../../test/fakes/scripted-server.ts";
import { ok } from "../../base/result.ts";
import { millis, seconds } from "../../base/time.ts";
import { createTransport } from "../transport/transport.ts";
import { createListWatch, type ListWatchOptions } from "./list-watch.ts";
import type { WatchFault } from "./watch-event.ts";

const never = new AbortController().signal;
const open: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of open.splice(0)) await close();
});

const page = (at: number, items: readonly Raw[], next = "") =>
  json(200, { metadata: { resourceVersion: String(at), ...(next === "" ? {} : { continue: next }) }, items });
const event = (type: string, object: unknown) => `${JSON.stringify({ type, object })}\n`;
const bookmark = (at: number) => event("BOOKMARK", { metadata: { resourceVersion: String(at) } });

// ── the source: what goes over the wire

describe("a list-watch", () => {
  async function source(script: readonly Answer[], options: ListWatchOptions = {}) {
    const server = await startScriptedServer(...script);
    const transport = createTransport(server.config, { timeout: millis(200) }, createFakeRuntime());
    open.push(() => server.close().then(transport.close));
    return {
      server,
      listWatch: createListWatch(transport, "/apis/g/v1/things", project, () => 0.5, options),
    };
  }

  async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
    const all: T[] = [];
    for await (const item of items) all.push(item);
    return all;
  }

  test("lists page by page", async () => {
    const { server, listWatch } = await source(
      [page(7, [raw("a", 1), raw("b", 2)], "more&more"), page(7, [raw("c", 3)])],
      { limit: 2 },
    );
    const pages = await collect(listWatch.list(never));
    expect(pages.map((one) => (one.ok ? one.value.items.map(({ key }) => key) : one.error))).toEqual([
      ["n/a", "n/b"],
      ["n/c"],
    ]);
    expect(pages.at(-1)).toMatchObject({ value: { at: "7" } });
    expect(
      server.received.map(({ query }) => [
        query.get("limit"),
        query.get("continue"),
        query.get("resourceVersion"),
      ]),
    ).toEqual([
      ["2", null, null],
      ["2", "more&more", null],
    ]);
  });

  test("reports that a list has expired between two pages", async () => {
    const { listWatch } = await source([page(7, [raw("a", 1)], "next"), refusal(410, "Expired")]);
    const pages = await collect(listWatch.list(never));
    expect(pages.at(-1)).toMatchObject({ ok: false, error: { kind: "expired" } });
  });

  test("watches from a version, with bookmarks and a timeout that is spread", async () => {
    const { server, listWatch } = await source([
      pieces(
        [
          event("ADDED", raw("a", 8)),
          event("MODIFIED", raw("a", 9)),
          event("DELETED", raw("a", 10)),
          bookmark(12),
        ],
        "close",
      ),
    ]);
    const events = await collect(listWatch.watch("7", never));
    expect(events.map((one) => (one.ok ? [one.value.kind, one.value.at] : one.error))).toEqual([
      ["applied", "8"],
      ["applied", "9"],
      ["deleted", "10"],
      ["bookmark", "12"],
    ]);
    expect(Object.fromEntries(server.received[0]?.query ?? [])).toEqual({
      watch: "true",
      allowWatchBookmarks: "true",
      resourceVersion: "7",
      timeoutSeconds: "270",
    });
  });

  test.each<[string, Answer, Partial<WatchFault>]>([
    [
      "a version that expired while watching",
      pieces([event("ERROR", { code: 410, message: "too old" })], "close"),
      { kind: "expired" },
    ],
    ["a version that has expired before", refusal(410, "Expired"), { kind: "expired" }],
    [
      "another error",
      pieces([event("ERROR", { code: 500, message: "etcd" })], "close"),
      { kind: "broken", retryAfter: null },
    ],
    [
      "an error with a delay",
      pieces([event("ERROR", { code: 429, details: { retryAfterSeconds: 3 } })], "close"),
      { kind: "broken", retryAfter: seconds(3) },
    ],
    [
      "a server that asks for a pause",
      json(429, {}, { "retry-after": "9" }),
      { kind: "broken", retryAfter: seconds(9) },
    ],
    ["a failing server", refusal(503, "ServiceUnavailable"), { kind: "broken", retryAfter: null }],
    ["a line that is no JSON", pieces(["{malformed\n"], "close"), { kind: "broken" }],
    [
      "half an event at the end",
      pieces([event("ADDED", raw("a", 8)).slice(0, 40)], "close"),
      { kind: "broken" },
    ],
    ["an unknown type of event", pieces([event("RENAMED", raw("a", 8))], "close"), { kind: "broken" }],
    ["an object without metadata", pieces([event("ADDED", {})], "close"), { kind: "broken" }],
    ["a connection that is reset", pieces([event("ADDED", raw("a", 8))], "reset"), { kind: "broken" }],
  ])("reports %s as a fault, and ends", async (_what, answer, fault) => {
    const { listWatch } = await source([answer]);
    const events = await collect(listWatch.watch("7", never));
    expect(events.at(-1)).toMatchObject({ ok: false, error: fault });
    expect(events.slice(0, -1).every((one) => one.ok)).toBe(true);
  });

  test("ends a watch on which nothing comes, so that it is opened again", { timeout: 10_000 }, async () => {
    const { listWatch } = await source([pieces([bookmark(8)], "open")], { idle: millis(100) });
    expect(await collect(listWatch.watch("7", never))).toEqual([ok({ kind: "bookmark", at: "8" })]);
  });

  test("ends when its signal aborts", async () => {
    const { listWatch } = await source([pieces([bookmark(8)], "open")]);
    const stop = new AbortController();
    const seen: unknown[] = [];
    for await (const one of listWatch.watch("7", stop.signal)) {
      seen.push(one);
      stop.abort();
    }
    expect(seen.length).toBe(2); // the bookmark, and that it was broken off
  });

  test.each<[string, Answer]>([
    ["is no list", json(200, { kind: "Status" })],
    ["has an object without metadata", page(7, [{} as Raw])],
  ])("an answer that %s is a fault, never an empty list", async (_what, answer) => {
    const { listWatch } = await source([answer]);
    expect(await collect(listWatch.list(never))).toMatchObject([{ ok: false, error: { kind: "broken" } }]);
  });
});
