import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { project, type Raw, raw, type Thing } from "../../../test/builders/cached-thing.ts";
import { createFakeRuntime, type FakeRuntime } from "../../../test/fakes/fake-runtime.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { millis, minutes, seconds } from "../../base/time.ts";
import type { ListWatch } from "./list-watch.ts";
import { createReflector } from "./reflector.ts";
import type { WatchFault } from "./watch-event.ts";

const never = new AbortController().signal;
const open: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of open.splice(0)) await close();
});

type Step = Result<unknown, WatchFault>;

/** Gives each list and each watch the next steps that were written down for it; a watch then stays open. */
function scripted(
  runtime: FakeRuntime,
  lists: readonly (readonly Step[])[],
  watches: readonly (readonly Step[])[],
) {
  const calls: string[] = [];
  const source: ListWatch<Thing> = {
    list: async function* () {
      const script = lists[calls.filter((call) => call === "list").length] ?? lists.at(-1) ?? [];
      calls.push("list");
      for (const step of script) yield step as never;
    },
    watch: async function* (from, signal) {
      const script = watches[calls.filter((call) => call.startsWith("watch")).length];
      calls.push(`watch ${from}`);
      for (const step of script ?? []) yield step as never;
      if (script === undefined) await runtime.clock.sleep(minutes(60), signal);
    },
  };
  return { source, calls };
}

const listed = (at: number, ...things: readonly Raw[]): Step =>
  ok({ items: things.map(project), at: String(at) });
const applied = (thing: Raw): Step =>
  ok({ kind: "applied", object: project(thing), at: thing.metadata.resourceVersion });
const deleted = (thing: Raw): Step =>
  ok({ kind: "deleted", object: project(thing), at: thing.metadata.resourceVersion });
const marked = (at: number): Step => ok({ kind: "bookmark", at: String(at) });
const brokenOff: Step = err({ kind: "broken", message: "reset", retryAfter: null });
const expired: Step = err({ kind: "expired", message: "too old" });

function reflect(lists: readonly (readonly Step[])[], watches: readonly (readonly Step[])[]) {
  const runtime = createFakeRuntime();
  const { source, calls } = scripted(runtime, lists, watches);
  const reflector = createReflector(source, "things", runtime);
  const changes: string[] = [];
  reflector.onChange((before, after) => {
    // The store has changed already when listeners hear of it.
    const key = after?.key ?? before?.key ?? "";
    expect(reflector.get(key)).toBe(after);
    changes.push(`${key}: ${before?.resourceVersion ?? "-"} → ${after?.resourceVersion ?? "-"}`);
  });
  const stop = new AbortController();
  const ended = reflector.run(stop.signal);
  open.push(async () => {
    stop.abort();
    await ended;
  });
  return { ...runtime, reflector, calls, changes, stop, ended };
}

describe("a reflector", () => {
  test("is current while something arrives, and no longer once its watch has been silent for minutes", async () => {
    const { clock, reflector } = reflect([[listed(5, raw("a", 1))]], [[marked(6)]]);
    expect(reflector.isCurrent()).toBe(false);
    await clock.advance(minutes(5));
    expect(reflector.isCurrent()).toBe(true);
    await clock.advance(seconds(2));
    expect([reflector.isCurrent(), reflector.isSynced()]).toEqual([false, true]);
  });

  test("stays current through watches that break off one after the other, because it lists again", async () => {
    const watches = Array.from({ length: 60 }, () => [brokenOff]);
    const { clock, reflector } = reflect([[listed(5, raw("a", 1))]], watches);
    await clock.advance(seconds(1));
    for (let i = 0; i < 30; i += 1) {
      await clock.advance(seconds(20));
      expect(reflector.isCurrent()).toBe(true);
    }
  });

  test("lists, then follows the watch, and reports what changed", async () => {
    const { clock, reflector, changes, calls } = reflect(
      [[listed(5, raw("a", 1), raw("b", 2)), listed(5, raw("c", 3))]],
      [[applied(raw("a", 6, "new")), applied(raw("d", 7)), deleted(raw("b", 8)), marked(20)]],
    );
    await clock.advance(minutes(1));
    expect(changes).toEqual([
      "n/a: - → 1",
      "n/b: - → 2",
      "n/c: - → 3",
      "n/a: 1 → 6",
      "n/d: - → 7",
      "n/b: 2 → -",
    ]);
    expect(reflector.list().map(({ key }) => key)).toEqual(["n/a", "n/c", "n/d"]);
    expect(reflector.get("n/a")?.value).toBe("new");
    expect(calls).toEqual(["list", "watch 5", "watch 20"]); // resumed from the bookmark, not listed again
  });

  test("is synced after the last page of the first list, not before", async () => {
    const { clock, reflector } = reflect([[listed(5, raw("a", 1)), brokenOff], [listed(6, raw("a", 1))]], []);
    let synced = false;
    const waiting = reflector.synced(never).then(() => {
      synced = true;
    });
    await clock.settle();
    expect(synced).toBe(false);
    expect(reflector.isSynced()).toBe(false);
    await clock.advance(seconds(5));
    await waiting;
    expect(reflector.isSynced()).toBe(true);
    await reflector.synced(never);
  });

  test("releases those that wait for it when their signal aborts", async () => {
    const { reflector } = reflect([[brokenOff]], []);
    const stop = new AbortController();
    const waiting = reflector.synced(stop.signal);
    stop.abort();
    await expect(waiting).resolves.toBeUndefined();
  });

  test("resumes after a broken watch from the last version it saw", async () => {
    const { clock, calls } = reflect([[listed(5)]], [[applied(raw("a", 9)), brokenOff]]);
    await clock.advance(seconds(5));
    expect(calls).toEqual(["list", "watch 5", "watch 9"]);
  });

  test("lists again when the version expired, and notices what was deleted meanwhile", async () => {
    const { clock, calls, changes } = reflect(
      [[listed(5, raw("a", 1), raw("b", 2))], [listed(30, raw("b", 25), raw("c", 26))]],
      [[expired]],
    );
    await clock.advance(seconds(5));
    expect(calls).toEqual(["list", "watch 5", "list", "watch 30"]);
    expect(changes.slice(2)).toEqual(["n/b: 2 → 25", "n/c: - → 26", "n/a: 1 → -"]);
  });

  test("deletes nothing when a list breaks in the middle", async () => {
    const { clock, reflector } = reflect(
      [[listed(5, raw("a", 1), raw("b", 2))], [listed(30, raw("a", 1)), brokenOff], [brokenOff]],
      [[expired]],
    );
    await clock.advance(minutes(1));
    expect(reflector.list().length).toBe(2);
  });

  test("waits longer with each fault, and as long as it is asked to", async () => {
    const busy: Step = err({ kind: "broken", message: "busy", retryAfter: seconds(40) });
    const { clock, calls } = reflect([[busy], [brokenOff]], []);
    await clock.advance(millis(39_999));
    expect(calls.length).toBe(1);
    await clock.advance(minutes(10));
    expect(calls.length).toBeGreaterThan(15);
    expect(calls.length).toBeLessThan(40); // 30 s at most, half of it at least
  });

  test("backs off only for faults in a row: an event in between resets the back-off", async () => {
    const watches = Array.from({ length: 30 }, (_, i) => [applied(raw("a", 10 + i)), brokenOff]);
    const { clock, calls } = reflect([[listed(5)]], watches);
    await clock.advance(seconds(30));
    expect(calls.length).toBe(1 + 30 + 1);
  });

  test("does not spin in a storm of expired versions", async () => {
    const { clock, calls } = reflect(
      [[listed(5)]],
      Array.from({ length: 1000 }, () => [expired]),
    );
    await clock.advance(minutes(10));
    expect(calls.length).toBeLessThan(100);
  });

  test("does not spin when watches end as soon as they are opened", async () => {
    const { clock, calls } = reflect(
      [[listed(5)]],
      Array.from({ length: 1000 }, () => []),
    );
    await clock.advance(minutes(10));
    expect(calls.length).toBeLessThan(100);
  });

  test("lists again when something in the watch breaks it every time", async () => {
    const { clock, calls } = reflect(
      [[listed(5)]],
      Array.from({ length: 6 }, () => [brokenOff]),
    );
    await clock.advance(minutes(5));
    expect(calls.filter((call) => call === "list").length).toBe(2);
  });

  test("continues when a listener throws, and logs it", async () => {
    const { clock, reflector, log } = reflect([[listed(5, raw("a", 1), raw("b", 1))]], []);
    reflector.onChange(() => {
      throw new Error("a bug");
    });
    await clock.settle();
    expect(reflector.list().length).toBe(2);
    expect(log.lines().filter(({ level }) => level === "error").length).toBe(2);
  });

  test("takes a lower version from a list: a restored etcd counts from an earlier version", async () => {
    const { clock, reflector } = reflect(
      [[listed(500, raw("a", 400, "lost"))], [listed(100, raw("a", 90, "restored"))]],
      [[expired]],
    );
    await clock.advance(seconds(5));
    expect(reflector.get("n/a")?.value).toBe("restored");
  });
});

describe("what a write returned", () => {
  test("is in the cache at once, and an older event of the watch does not undo it", async () => {
    const { clock, reflector, changes } = reflect(
      [[listed(5, raw("a", 1))]],
      [
        [marked(6), brokenOff],
        [
          applied(raw("a", 7, "theirs")),
          applied(raw("a", 8, "ours")),
          applied(raw("a", 9, "later")),
          marked(10),
        ],
      ],
    );
    await clock.settle();
    reflector.remember(project(raw("a", 8, "ours")));
    expect(reflector.get("n/a")?.value).toBe("ours");
    await clock.advance(minutes(1));
    expect(changes).toEqual(["n/a: - → 1", "n/a: 1 → 8", "n/a: 8 → 9"]);
    expect(reflector.get("n/a")?.value).toBe("later");
  });

  test("is not undone by a page of a list that was made before it", async () => {
    const runtime = createFakeRuntime();
    const source: ListWatch<Thing> = {
      list: async function* () {
        yield listed(5, raw("a", 1, "old")) as never;
        await runtime.clock.sleep(seconds(1), never);
        yield listed(5, raw("b", 2)) as never;
      },
      watch: async function* () {
        await runtime.clock.sleep(seconds(10), never);
        yield expired as never;
      },
    };
    const reflector = createReflector(source, "things", runtime);
    const stop = new AbortController();
    const ended = reflector.run(stop.signal);
    await runtime.clock.advance(millis(1500));
    await runtime.clock.advance(seconds(10)); // it lists again now, and has read the first page
    reflector.remember(project(raw("b", 9, "ours")));
    await runtime.clock.advance(seconds(1));
    expect(reflector.get("n/b")?.value).toBe("ours");
    stop.abort();
    await runtime.clock.advance(minutes(1));
    await ended;
  });

  test("is left out when it is older than what is there", async () => {
    const { clock, reflector } = reflect([[listed(5, raw("a", 4, "new"))]], []);
    await clock.settle();
    reflector.remember(project(raw("a", 3, "old")));
    expect(reflector.get("n/a")?.value).toBe("new");
  });

  test("never brings back what has been deleted, or another object of that name", async () => {
    const { clock, reflector } = reflect(
      [[listed(5, raw("a", 1), raw("b", 2))]],
      [[deleted(raw("a", 9)), marked(9)]],
    );
    await clock.settle();
    reflector.remember(project(raw("a", 8)));
    expect(reflector.get("n/a")).toBeUndefined();
    reflector.remember({ ...project(raw("b", 8)), uid: "another" });
    expect(reflector.get("n/b")?.resourceVersion).toBe("2");
  });
});

test("lists by namespace, the same array until something there changes", async () => {
  const inside = (namespace: string, name: string, version: number): Raw => ({
    ...raw(name, version),
    metadata: { ...raw(name, version).metadata, namespace },
  });
  const { clock, reflector } = reflect(
    [[listed(5, inside("x", "a", 1), inside("x", "b", 2), inside("y", "a", 3))]],
    [],
  );
  await clock.settle();
  const x = reflector.list("x");
  const y = reflector.list("y");
  const all = reflector.list();
  expect(reflector.list()).toBe(all);
  expect(x.map(({ key }) => key)).toEqual(["x/a", "x/b"]);
  expect(reflector.list("z")).toEqual([]);
  reflector.remember(project(inside("y", "a", 9)));
  expect(reflector.list("x")).toBe(x);
  expect(reflector.list("y")).not.toBe(y);
  expect(reflector.list("y")[0]?.resourceVersion).toBe("9");
  expect(reflector.list()).not.toBe(all);
  expect(reflector.list().length).toBe(3);
});

// ── property: whatever happens on the way, it ends with what is there

type Deed =
  | { readonly kind: "write" | "delete"; readonly name: string }
  | { readonly kind: "compact" | "breakWatches" | "breakNext" }
  | { readonly kind: "remember"; readonly name: string }
  | { readonly kind: "wait"; readonly delay: number };

const someName = fc.constantFrom("a", "b", "c", "d", "e");
const someDeed: fc.Arbitrary<Deed> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constantFrom("write" as const, "delete" as const), name: someName }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constantFrom("compact" as const, "breakWatches" as const, "breakNext" as const),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("remember" as const), name: someName }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant("wait" as const), delay: fc.integer({ min: 0, max: 3000 }) }),
  },
);

/** An API server in memory: a history that can be compacted, lists in pages of two, watches that can be broken. */
function createWorld(runtime: FakeRuntime) {
  const objects = new Map<string, Raw>();
  const history: { readonly at: number; readonly step: Step }[] = [];
  let version = 1;
  let compacted = 0;
  let era = 0;
  let faults = 0;

  const source: ListWatch<Thing> = {
    list: async function* (signal) {
      const snapshot = [...objects.values()];
      const at = version;
      for (let from = 0; from === 0 || from < snapshot.length; from += 2) {
        await runtime.clock.sleep(millis(50), signal);
        if (faults > 0) {
          faults -= 1;
          yield brokenOff as never;
          return;
        }
        if (at < compacted) {
          yield expired as never;
          return;
        }
        yield listed(at, ...snapshot.slice(from, from + 2)) as never;
      }
    },
    watch: async function* (from, signal) {
      const opened = era;
      let seen = Number(from);
      for (let round = 0; round < 200 && !signal.aborted; round += 1) {
        if (seen < compacted) {
          yield expired as never;
          return;
        }
        if (era !== opened) {
          yield brokenOff as never;
          return;
        }
        for (const { at, step } of history.filter((one) => one.at > seen)) {
          seen = at;
          yield step as never;
        }
        await runtime.clock.sleep(millis(700), signal);
      }
    },
  };
  return {
    source,
    objects,
    write: (name: string) => {
      version += 1;
      const uid = objects.get(name)?.metadata.uid ?? `uid-${version}`;
      const written = { ...raw(name, version), metadata: { ...raw(name, version).metadata, uid } };
      objects.set(name, written);
      history.push({ at: version, step: applied(written) });
      return written;
    },
    remove: (name: string) => {
      const had = objects.get(name);
      if (had === undefined) return;
      version += 1;
      objects.delete(name);
      history.push({
        at: version,
        step: deleted({ ...had, metadata: { ...had.metadata, resourceVersion: String(version) } }),
      });
    },
    compact: () => {
      compacted = version;
    },
    breakWatches: () => {
      era += 1;
    },
    breakNext: () => {
      faults = Math.min(3, faults + 1);
    },
  };
}

test("whatever happens on the way, a reflector converges to the server's objects, and its listeners with it", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(someDeed, { maxLength: 60, size: "max" }), async (deeds) => {
      const runtime = createFakeRuntime();
      const world = createWorld(runtime);
      const reflector = createReflector(world.source, "things", runtime);
      const known = new Map<string, Thing>();
      reflector.onChange((before, after) => {
        const key = after?.key ?? before?.key ?? "";
        expect(known.get(key)).toBe(before);
        if (after === undefined) known.delete(key);
        else known.set(key, after);
      });
      const stop = new AbortController();
      const ended = reflector.run(stop.signal);
      for (const deed of deeds) {
        if (deed.kind === "write") world.write(deed.name);
        else if (deed.kind === "delete") world.remove(deed.name);
        else if (deed.kind === "remember") {
          const before = reflector.get(`n/${deed.name}`);
          const exists = world.objects.get(deed.name)?.metadata.uid === before?.uid;
          if (before !== undefined && exists) {
            const written = project(world.write(deed.name));
            reflector.remember(written);
            expect(reflector.get(written.key)).toEqual(written); // we read what we wrote
          }
        } else if (deed.kind === "wait") await runtime.clock.advance(millis(deed.delay));
        else world[deed.kind]();
      }
      await runtime.clock.advance(minutes(3));
      const expected = [...world.objects.values()].map(project);
      const byKey = (one: Thing, other: Thing) => one.key.localeCompare(other.key);
      expect([...reflector.list()].sort(byKey)).toEqual(expected.sort(byKey));
      expect([...known.values()].sort(byKey)).toEqual(expected);
      stop.abort();
      await ended;
    }),
    { numRuns: 100 },
  );
});
