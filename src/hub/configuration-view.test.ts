import { afterEach, describe, expect, test } from "vitest";
import { createFakeClock } from "../../test/fakes/fake-clock.ts";
import { createFakeLog } from "../../test/fakes/fake-log.ts";
import type { Fault } from "../base/fault.ts";
import { err, ok } from "../base/result.ts";
import { minutes, seconds } from "../base/time.ts";
import { createConfigurationView } from "./configuration-view.ts";
import type { Configuration, DeviceHub, Lane, NewConfiguration } from "./hub.ts";

const signal = new AbortController().signal;
const stops: AbortController[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop.abort();
});

function setUp({ room = 100 } = {}) {
  const stored = new Map<string, Configuration>();
  let lists = 0;
  const lanes: Lane[] = [];
  let etags = 0;
  let fault: Fault | null = null;
  let hold: Promise<void> | null = null;
  const gone: Fault = { kind: "conflict", message: "not the one with that etag" };
  const hub = {
    listConfigurations: async (lane) => {
      lists += 1;
      lanes.push(lane);
      const seen = [...stored.values()];
      const failed = fault;
      if (hold !== null) await hold;
      return failed === null ? ok(seen) : err(failed);
    },
    createConfiguration: async (configuration) => {
      if (stored.has(configuration.id)) return err({ kind: "conflict", message: "exists" });
      if (stored.size >= room) return err({ kind: "rejected", message: "full" });
      return ok(put(configuration));
    },
    updateConfiguration: async (had, change) =>
      stored.get(had.id)?.etag === had.etag ? ok(put({ ...had, ...change })) : err(gone),
    removeConfiguration: async (had) => {
      if (stored.has(had.id) && stored.get(had.id)?.etag !== had.etag) return err(gone);
      stored.delete(had.id);
      return ok(undefined);
    },
  } satisfies Partial<DeviceHub>;
  function put(configuration: NewConfiguration): Configuration {
    etags += 1;
    const next = { ...configuration, etag: String(etags) };
    stored.set(next.id, next);
    return next;
  }
  const clock = createFakeClock();
  const log = createFakeLog();
  const gauges = new Map<string, number>();
  const configurations = createConfigurationView({
    hub: hub as unknown as DeviceHub,
    clock,
    log,
    meter: {
      count: () => {},
      observe: () => {},
      gauge: (_, value, labels) => void gauges.set(labels?.["owner"] ?? "", value),
    },
    random: () => 0.5,
    interval: seconds(60),
    isOurs: ({ labels }) => labels["owner"] === "us",
  });
  let changes = 0;
  const changed: (readonly string[] | null)[] = [];
  configurations.view.onChange((which) => {
    changes += 1;
    changed.push(which?.map(({ id }) => id) ?? null);
  });
  const start = async () => {
    const stop = new AbortController();
    stops.push(stop);
    const running = configurations.run(stop.signal);
    await clock.settle();
    return { stop, running };
  };
  return {
    ...configurations,
    clock,
    log,
    gauges,
    put,
    remove: (id: string) => stored.delete(id),
    start,
    lists: () => lists,
    lanes,
    changes: () => changes,
    changed: () => changed,
    fail: (next: Fault | null) => {
      fault = next;
    },
    hold: () => {
      const gate = Promise.withResolvers<void>();
      hold = gate.promise;
      return () => {
        hold = null;
        gate.resolve();
      };
    },
    ids: () => configurations.view.list()?.map(({ id }) => id),
  };
}

function wanted(id: string, change: Partial<NewConfiguration> = {}): NewConfiguration {
  return {
    id,
    kind: "device",
    labels: { owner: "us" },
    priority: 100,
    targetCondition: "deviceId = 'x'",
    content: { "properties.desired.model": { url: "https://store/x?sig=secret" } },
    ...change,
  };
}

describe("the configuration view", () => {
  test("knows nothing until the first listing, and everything after it", async () => {
    const seen = setUp();
    seen.put(wanted("a"));
    seen.put(wanted("b", { labels: {} }));
    expect(seen.view.list()).toBeNull();
    await seen.start();
    await seen.synced(signal);
    expect(seen.ids()).toEqual(["a", "b"]);
    expect(seen.changes()).toBe(1);
    expect(Object.fromEntries(seen.gauges)).toEqual({ ours: 1, others: 1 });
  });

  test("lists again after the interval, and reports only what changed", async () => {
    const seen = setUp();
    const a = seen.put(wanted("a"));
    await seen.start();
    await seen.clock.advance(seconds(61));
    expect(seen.lists()).toBe(2);
    expect(seen.changes()).toBe(1);
    seen.put(a);
    await seen.clock.advance(seconds(61));
    expect(seen.changes()).toBe(1);
    expect(seen.view.list()?.[0]?.etag).toBe("2");
    seen.put({ ...a, priority: 101 });
    await seen.clock.advance(seconds(61));
    expect(seen.changes()).toBe(2);
    seen.remove("a");
    await seen.clock.advance(seconds(61));
    expect(seen.changed()).toEqual([null, ["a"], ["a"]]);
    expect(seen.ids()).toEqual([]);
  });

  test("remembers its writes at once, without a listing", async () => {
    const seen = setUp();
    await seen.start();
    const made = await seen.view.create(wanted("a"), "normal", signal);
    expect(seen.ids()).toEqual(["a"]);
    if (!made.ok) throw new Error(made.error.message);
    const moved = await seen.view.update(
      made.value,
      { targetCondition: "deviceId = 'y'" },
      "rollback",
      signal,
    );
    expect(seen.view.list()?.[0]?.targetCondition).toBe("deviceId = 'y'");
    if (!moved.ok) throw new Error(moved.error.message);
    await seen.view.remove(moved.value, "normal", signal);
    expect(seen.ids()).toEqual([]);
    expect(seen.lists()).toBe(1);
    expect(seen.changes()).toBe(4);
  });

  test("lists at once after a conflict, so that the next pass sees what is there", async () => {
    const seen = setUp();
    await seen.start();
    const theirs = seen.put(wanted("a", { priority: 7 }));
    expect(await seen.view.create(wanted("a"), "normal", signal)).toMatchObject({
      error: { kind: "conflict" },
    });
    expect(seen.view.list()).toEqual([theirs]);
    const newer = seen.put({ ...theirs, priority: 8 });
    expect(await seen.view.update(theirs, { priority: 9 }, "normal", signal)).toMatchObject({
      error: { kind: "conflict" },
    });
    expect(seen.view.list()).toEqual([newer]);
    const newest = seen.put({ ...theirs, priority: 10 });
    expect(await seen.view.remove(newer, "normal", signal)).toMatchObject({ error: { kind: "conflict" } });
    expect(seen.view.list()).toEqual([newest]);
  });

  test("lists for a rollback in the rollback's lane, where others are not waited for", async () => {
    const seen = setUp();
    await seen.start();
    const had = seen.put(wanted("a"));
    seen.put(had);
    await seen.view.update(had, { priority: 9 }, "rollback", signal);
    await seen.view.remove(had, "rollback", signal);
    expect(seen.lanes).toEqual(["normal", "rollback", "rollback"]);
  });

  test("lists at once when a creation is refused: another client may have filled the hub", async () => {
    const seen = setUp({ room: 1 });
    await seen.start();
    const theirs = seen.put(wanted("theirs"));
    expect(await seen.view.create(wanted("ours"), "normal", signal)).toMatchObject({
      error: { kind: "rejected" },
    });
    expect(seen.view.list()).toEqual([theirs]);
  });

  test("a listing that was under way while something was written does not undo it", async () => {
    const seen = setUp();
    const old = seen.put(wanted("old"));
    await seen.start();
    const release = seen.hold();
    await seen.clock.advance(seconds(61));
    expect(seen.lists()).toBe(2);
    await seen.view.create(wanted("new"), "normal", signal);
    await seen.view.remove(old, "normal", signal);
    release();
    await seen.clock.settle();
    expect(seen.ids()).toEqual(["new"]);
    await seen.clock.advance(seconds(61));
    expect(seen.ids()).toEqual(["new"]);
  });

  test("keeps its list during an outage, waits as long as the hub says, and never logs content", async () => {
    const seen = setUp();
    seen.put(wanted("a"));
    await seen.start();
    seen.fail({ kind: "throttled", retryAfter: seconds(90), message: "429" });
    await seen.clock.advance(seconds(61));
    seen.fail(null);
    expect(seen.ids()).toEqual(["a"]);
    await seen.clock.advance(seconds(80));
    expect(seen.lists()).toBe(2);
    await seen.clock.advance(seconds(20));
    expect(seen.lists()).toBe(3);
    expect(seen.log.lines().length).toBe(1);
    expect(JSON.stringify(seen.log.lines())).not.toContain("sig=");
  });

  test("a first listing that fails leaves it unknown, not empty, and is retried", async () => {
    const seen = setUp();
    seen.put(wanted("a"));
    seen.fail({ kind: "unavailable", message: "503" });
    await seen.start();
    await seen.synced(signal);
    expect(seen.view.list()).toBeNull();
    seen.fail(null);
    await seen.clock.advance(seconds(5));
    expect(seen.ids()).toEqual(["a"]);
  });

  test("stops with its signal", async () => {
    const seen = setUp();
    const { stop, running } = await seen.start();
    stop.abort();
    await running;
    await seen.clock.advance(minutes(10));
    expect(seen.lists()).toBe(1);
  });
});
