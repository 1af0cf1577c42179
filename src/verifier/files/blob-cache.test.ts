import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { orAborted } from "../../base/abort.ts";
import { digestOf } from "../../base/digest.ts";
import { err, ok } from "../../base/result.ts";
import { instant } from "../../base/time.ts";
import { createMetrics, VERIFIER_METRICS } from "../../telemetry/metrics.ts";
import type { Log } from "../../telemetry/telemetry.ts";
import type { Download } from "../../verification/verification.ts";
import { type BlobCache, type BlobCacheDeps, type Hold, openBlobCache } from "./blob-cache.ts";
import type { Fetch } from "./download.ts";

const KIB = 1024;
const SIGNAL = new AbortController().signal;
const SECRET = "https://store/x?sig=abc";

let root: string;
let logged: string[];
let now: number;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "cache-"));
  logged = [];
  now = 1_000_000;
});
afterEach(() => rm(root, { recursive: true }));

/** A store of blobs by URL. */
type Store = { readonly fetch: Fetch; readonly fetched: string[]; readonly contents: Map<string, Buffer> };

function createStore(): Store {
  const fetched: string[] = [];
  const contents = new Map<string, Buffer>();
  return {
    fetched,
    contents,
    fetch: async ({ url }, to) => {
      fetched.push(url);
      const content = contents.get(url);
      if (content === undefined) return err({ reason: "StoreDenied", message: "no" });
      await writeFile(to, content, { flag: "wx" });
      return ok({ path: to, digest: digestOf(content) });
    },
  };
}

function blob(store: Store, name: string, sizeBytes = 4 * KIB): Download {
  const content = Buffer.alloc(sizeBytes, name);
  const url = `${SECRET}&name=${name}`;
  store.contents.set(url, content);
  return { url, digest: digestOf(content), sizeBytes };
}

async function open(
  store: Store,
  over: Partial<BlobCacheDeps> = {},
): Promise<BlobCache & { readonly text: () => Promise<string> }> {
  const write = (message: string) => void logged.push(message);
  const log: Log = { debug: write, info: write, warn: write, error: write, with: () => log };
  const metrics = createMetrics("throw", VERIFIER_METRICS);
  const opened = await openBlobCache({
    directory: join(root, "blobs"),
    budgetBytes: 64 * KIB,
    untouchable: true,
    download: store.fetch,
    clock: {
      now: () => {
        now += 1000;
        return instant(now);
      },
      sleep: () => Promise.resolve(),
    },
    log,
    meter: metrics.meter,
    ...over,
  });
  if (!opened.ok) throw new Error(opened.error);
  return { ...opened.value, text: metrics.expose };
}

let places = 0;
function place(): string {
  places += 1;
  return join(root, `use-${places}`);
}

/** What it was given, read back; `null` for a fault. */
async function use(hold: Hold, from: Download, signal = SIGNAL): Promise<Buffer | null> {
  const to = place();
  const got = await hold.fetch(from, to, signal);
  if (!got.ok) return null;
  expect(got.value).toEqual({ path: to, digest: from.digest });
  return await readFile(to);
}

async function kept(): Promise<readonly string[]> {
  return (await readdir(join(root, "blobs"))).sort();
}

/** A file that goes while it is being looked at counts nothing. */
async function bytesKept(): Promise<number> {
  const sizes = await Promise.all(
    (await kept()).map((name) =>
      stat(join(root, "blobs", name)).then(
        ({ size }) => size,
        () => 0,
      ),
    ),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

function nameOf({ digest }: Download): string {
  return digest.replace("sha256:", "blob-");
}

describe("where one blob in one state is meant", () => {
  const result = async (cache: { readonly text: () => Promise<string> }) =>
    [...(await cache.text()).matchAll(/cache_requests_total{result="(\w+)"} ([1-9]\d*)/g)].map(
      ([, name, count]) => `${name} ${count}`,
    );

  test("a copy of the same digest from elsewhere does not do: the blob itself is read, once", async () => {
    const store = createStore();
    const model = blob(store, "a");
    const cache = await open(store);
    const hold = cache.hold();
    expect(await use(hold, { ...model, etag: "1" })).not.toBeNull();
    const elsewhere = { ...model, url: "https://store/elsewhere?sig=1", etag: "1" };
    // Nothing is there: what is known of the digest is no answer.
    expect(await use(hold, elsewhere)).toBeNull();
    store.contents.set(elsewhere.url, Buffer.from("garbage"));
    const got = await hold.fetch(elsewhere, place(), SIGNAL);
    expect(got).toMatchObject({ ok: true, value: { digest: digestOf("garbage") } });
    store.contents.set(elsewhere.url, store.contents.get(model.url)!);
    expect(await use(hold, elsewhere)).toEqual(store.contents.get(model.url));
    expect(await use(hold, elsewhere)).toEqual(store.contents.get(model.url));
    expect(await use(hold, { ...elsewhere, url: "https://store/elsewhere?sig=2" })).not.toBeNull();
    expect(store.fetched).toHaveLength(4);
    expect(await use(hold, { ...elsewhere, etag: "2" })).not.toBeNull();
    expect(store.fetched).toHaveLength(5);
    hold.release();
    expect(cache.counts().files).toBe(1);
    expect(await result(cache)).toEqual(["hit 2", "miss 1", "unconfirmed 4"]);
  });

  test("what a previous run has left is read again, and what is prefetched is not read twice", async () => {
    const store = createStore();
    const model = { ...blob(store, "a"), etag: "1" };
    const first = (await open(store)).hold();
    await first.prefetch(model, SIGNAL);
    expect(await use(first, model)).not.toBeNull();
    expect(store.fetched).toHaveLength(1);
    const second = (await open(store)).hold();
    expect(await use(second, model)).not.toBeNull();
    expect(store.fetched).toHaveLength(2);
  });

  test("a download that is shared with another blob's does not answer for both", async () => {
    const store = createStore();
    const model = { ...blob(store, "a"), etag: "1" };
    const hold = (await open(store)).hold();
    const other = { ...model, url: "https://store/elsewhere" };
    const [one, two] = await Promise.all([use(hold, model), use(hold, other)]);
    expect(one).not.toBeNull();
    expect(two).toBeNull();
  });
});

describe("a file that was downloaded once", () => {
  test("is not downloaded again, in this run or the next", async () => {
    const store = createStore();
    const model = blob(store, "a");
    const first = await open(store);
    for (let time = 0; time < 2; time += 1) {
      const hold = first.hold();
      expect(await use(hold, model)).toEqual(store.contents.get(model.url));
      hold.release();
    }
    const second = await open(store);
    expect(await use(second.hold(), { ...model, url: "https://elsewhere/" })).toEqual(
      store.contents.get(model.url),
    );
    expect(store.fetched).toHaveLength(1);
    expect(await second.text()).toContain('edgefleet_verifier_cache_requests_total{result="hit"} 1');
    expect(second.counts()).toEqual({ files: 1, bytes: 4 * KIB });
  });

  test("is one read-only file for all, and its name contains no URL", async () => {
    const store = createStore();
    const model = blob(store, "a");
    const cache = await open(store);
    const to = place();
    await cache.hold().fetch(model, to, SIGNAL);
    const about = await stat(to);
    expect([about.mode & 0o777, about.nlink]).toEqual([0o444, 2]);
    expect(await kept()).toEqual([nameOf(model)]);
  });

  test("is downloaded once when several want it at the same time", async () => {
    const store = createStore();
    const model = blob(store, "a");
    const cache = await open(store);
    const got = await Promise.all([1, 2, 3].map(() => use(cache.hold(), model)));
    expect(got.map((content) => content?.length)).toEqual([4096, 4096, 4096]);
    expect(store.fetched).toHaveLength(1);
  });

  test("is not kept when it is not what it should be, and the next one downloads it again", async () => {
    const store = createStore();
    const model = blob(store, "a");
    const wrong = { ...model, digest: digestOf("something else") };
    const cache = await open(store);
    const got = await cache.hold().fetch(wrong, place(), SIGNAL);
    expect(got).toMatchObject({ ok: true, value: { digest: model.digest } });
    expect([await kept(), cache.counts()]).toEqual([[], { files: 0, bytes: 0 }]);
    await cache.hold().fetch(wrong, place(), SIGNAL);
    expect(store.fetched).toHaveLength(2);
  });

  test("is asked of everybody's own url: one that is denied is no reason for another", async () => {
    const store = createStore();
    const model = blob(store, "a");
    const denied = { ...model, url: "https://expired/" };
    const cache = await open(store);
    const both = await Promise.all([use(cache.hold(), denied), use(cache.hold(), model)]);
    expect(both.map((content) => content?.length ?? null)).toEqual([null, 4096]);
    expect(store.fetched).toEqual([denied.url, model.url]);
  });
});

describe("a file that was changed", () => {
  const change = async (path: string, content: string | Buffer) => {
    await chmod(path, 0o600);
    await writeFile(path, content);
  };

  test.each<[string, (path: string) => Promise<void>]>([
    ["in a previous run, to another length", (path) => change(path, "short")],
    ["in a previous run, to the same length", (path) => change(path, Buffer.alloc(4096, "b"))],
    ["into a directory", (path) => rm(path).then(async () => void (await mkdir(path)))],
    ["into nothing", (path) => rm(path)],
  ])("%s, is removed and downloaded again", async (_what, damage) => {
    const store = createStore();
    const model = blob(store, "a");
    await use((await open(store)).hold(), model);
    await damage(join(root, "blobs", nameOf(model)));
    const second = await open(store);
    expect(await use(second.hold(), model)).toEqual(store.contents.get(model.url));
    expect(store.fetched).toHaveLength(2);
    expect(await use(second.hold(), model)).toEqual(store.contents.get(model.url));
  });

  test("in this run is noticed when it is used next", async () => {
    const store = createStore();
    const model = blob(store, "a");
    const cache = await open(store);
    await use(cache.hold(), model);
    await change(join(root, "blobs", nameOf(model)), Buffer.alloc(4096, "b"));
    expect(await use(cache.hold(), model)).toEqual(store.contents.get(model.url));
    expect(logged).toEqual(["a cached file was damaged and is removed"]);
    expect(await cache.text()).toContain('edgefleet_verifier_cache_requests_total{result="damaged"} 1');
  });

  test("and looks as before, is noticed where models run as the user who owns it", async () => {
    const store = createStore();
    const model = blob(store, "a");
    const cache = await open(store, { untouchable: false });
    await use(cache.hold(), model);
    const path = join(root, "blobs", nameOf(model));
    const { atime, mtime } = await stat(path);
    await change(path, Buffer.alloc(4096, "b"));
    await utimes(path, atime, mtime);
    expect(await use(cache.hold(), model)).toEqual(store.contents.get(model.url));
  });
});

describe("the budget", () => {
  test("is kept by removing what was not used for longest", async () => {
    const store = createStore();
    const [a, b, c] = [blob(store, "a", 24 * KIB), blob(store, "b", 24 * KIB), blob(store, "c", 24 * KIB)];
    const cache = await open(store);
    for (const from of [a, b, a, c]) {
      const hold = cache.hold();
      await use(hold, from);
      hold.release();
    }
    expect(await kept()).toEqual([nameOf(a), nameOf(c)].sort());
    expect(await cache.text()).toContain("edgefleet_verifier_cache_evictions_total 1");
    // The next run remembers the order, and may have less room.
    await use((await open(store)).hold(), a);
    await open(store, { budgetBytes: 40 * KIB });
    expect(await kept()).toEqual([nameOf(a)]);
  });

  test("leaves alone what is in use: another file goes beside the cache", async () => {
    const store = createStore();
    const [a, b] = [blob(store, "a", 40 * KIB), blob(store, "b", 40 * KIB)];
    const cache = await open(store);
    const hold = cache.hold();
    await use(hold, a);
    expect(await use(cache.hold(), b)).toHaveLength(40 * KIB);
    expect(await kept()).toEqual([nameOf(a)]);
    hold.release();
    await use(cache.hold(), b);
    expect(await kept()).toEqual([nameOf(b)]);
  });

  test("removes nothing for a file that has no room anyway", async () => {
    const store = createStore();
    const [a, large] = [blob(store, "a"), blob(store, "l", 65 * KIB)];
    const cache = await open(store);
    const hold = cache.hold();
    await use(hold, a);
    hold.release();
    expect(await use(cache.hold(), large)).toHaveLength(65 * KIB);
    await cache.hold().prefetch(large, SIGNAL);
    expect([await kept(), store.fetched.length]).toEqual([[nameOf(a)], 2]);
  });

  test("of nothing keeps nothing, and fetches nothing ahead", async () => {
    const store = createStore();
    const model = blob(store, "a");
    await use((await open(store)).hold(), model);
    const cache = await open(store, { budgetBytes: 0 });
    expect(await kept()).toEqual([]);
    await cache.hold().prefetch(model, SIGNAL);
    expect(await use(cache.hold(), model)).toHaveLength(4096);
    expect([await kept(), store.fetched.length]).toEqual([[], 2]);
  });

  test("counts blocks: many small files take a disk, too", async () => {
    const store = createStore();
    const cache = await open(store, { budgetBytes: 8 * KIB });
    for (const name of ["a", "b", "c"]) {
      const hold = cache.hold();
      await use(hold, blob(store, name, 10));
      hold.release();
    }
    expect(cache.counts()).toEqual({ files: 2, bytes: 8 * KIB });
  });
});

describe("a download", () => {
  /** One that ends when the test says so. */
  function slow(store: Store): { readonly fetch: Fetch; readonly go: () => void; readonly ended: string[] } {
    const gate = Promise.withResolvers<void>();
    const ended: string[] = [];
    return {
      go: gate.resolve,
      ended,
      fetch: async (from, to, signal) => {
        await writeFile(to, "half");
        await orAborted(gate.promise, signal);
        ended.push(signal.aborted ? "stopped" : "done");
        await rm(to);
        return signal.aborted
          ? err({ reason: "StoreUnavailable", message: "cancelled" })
          : store.fetch(from, to, signal);
      },
    };
  }
  const tick = () => new Promise((resolve) => setTimeout(resolve, 5));

  test("that no one waits for any more is stopped, and leaves nothing", async () => {
    const store = createStore();
    const model = blob(store, "a");
    const download = slow(store);
    const cache = await open(store, { download: download.fetch });
    const stop = new AbortController();
    const ahead = cache.hold().prefetch(model, stop.signal);
    await tick();
    stop.abort();
    await ahead;
    expect([download.ended, await kept(), cache.counts().bytes]).toEqual([["stopped"], [], 0]);
  });

  test("continues for those who stay", async () => {
    const store = createStore();
    const model = blob(store, "a");
    const download = slow(store);
    const cache = await open(store, { download: download.fetch });
    const stop = new AbortController();
    const ahead = cache.hold().prefetch(model, stop.signal);
    const used = use(cache.hold(), model);
    await tick();
    stop.abort();
    await ahead;
    download.go();
    expect(await used).toHaveLength(4096);
    expect(download.ended).toEqual(["done"]);
  });

  test("that was interrupted by a crash leaves nothing in the next run; other files are left alone", async () => {
    const store = createStore();
    await mkdir(join(root, "blobs"));
    await writeFile(join(root, "blobs", "blob-part-1234"), "half");
    await writeFile(join(root, "blobs", "notes.txt"), "mine");
    await open(store);
    expect(await kept()).toEqual(["notes.txt"]);
  });

  test("that finds the disk full makes room and tries once more", async () => {
    const store = createStore();
    const [a, b] = [blob(store, "a"), blob(store, "b")];
    let room = 1;
    const cache = await open(store, {
      download: async (from, to, signal) => {
        if ((await bytesKept()) < room * 4096) return store.fetch(from, to, signal);
        await writeFile(to, "half");
        return err({ reason: "VerificationError", message: "cannot write: ENOSPC", diskFull: true });
      },
    });
    const hold = cache.hold();
    expect(await use(hold, a)).toHaveLength(4096);
    expect(await use(cache.hold(), b)).toBeNull();
    hold.release();
    expect(await use(cache.hold(), b)).toHaveLength(4096);
    room = 0;
    expect(await use(cache.hold(), a)).toBeNull();
  });
});

test("a file that goes beside the cache finds room on a full disk, too", async () => {
  const store = createStore();
  const [a, b, c] = [blob(store, "a", 40 * KIB), blob(store, "b"), blob(store, "c", 40 * KIB)];
  const cache = await open(store, {
    download: async (from, to, signal) => {
      if (from !== c || (await kept()).length < 2) return store.fetch(from, to, signal);
      await writeFile(to, "half");
      return err({ reason: "VerificationError", message: "cannot write: ENOSPC", diskFull: true });
    },
  });
  await use(cache.hold(), a);
  const unused = cache.hold();
  await use(unused, b);
  unused.release();
  expect(await use(cache.hold(), c)).toHaveLength(40 * KIB);
  expect(await kept()).toEqual([nameOf(a)]);
});

const NAMES = ["a", "b", "c", "d", "e"] as const;
const step = fc.oneof(
  fc.record({
    what: fc.constant("use" as const),
    name: fc.constantFrom(...NAMES),
    how: fc.constantFrom("right", "right", "denied", "wrong", "ahead", "aborted"),
  }),
  fc.record({ what: fc.constant("release" as const), which: fc.nat() }),
  fc.record({ what: fc.constant("damage" as const), name: fc.constantFrom(...NAMES) }),
  fc.record({ what: fc.constant("restart" as const) }),
  fc.record({ what: fc.constant("wait" as const) }),
);

test("whatever happens, content is right and the budget is kept, in use or not (property)", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      await rm(join(root, "blobs"), { recursive: true, force: true });
      const budgetBytes = 40 * KIB;
      const store = createStore();
      const blobs = new Map(NAMES.map((name, at) => [name, blob(store, name, (at + 1) * 5 * KIB)]));
      let cache = await open(store, { budgetBytes });
      let holds: Hold[] = [];
      const under: Promise<unknown>[] = [];
      // A failure must not leave anything behind that writes while the next case, a smaller one, runs.
      await using _ = { [Symbol.asyncDispose]: async () => void (await Promise.allSettled(under)) };
      for (const one of steps) {
        if (one.what === "use") {
          const right = blobs.get(one.name)!;
          const from = {
            right,
            ahead: right,
            aborted: right,
            denied: { ...right, url: "https://denied/" },
            wrong: { ...right, url: blobs.get("a")!.url },
          }[one.how]!;
          const hold = cache.hold();
          holds.push(hold);
          const stop = new AbortController();
          if (one.how === "aborted") setImmediate(() => stop.abort());
          under.push(
            one.how === "ahead"
              ? hold.prefetch(from, SIGNAL)
              : (async () => {
                  const to = place();
                  const got = await hold.fetch(from, to, stop.signal);
                  if (got.ok && got.value.digest === from.digest)
                    expect(await readFile(to)).toEqual(store.contents.get(right.url));
                  else if (one.how === "right") expect(got).toBe("a file");
                })(),
          );
        } else if (one.what === "release") {
          await Promise.all(under);
          holds.splice(one.which % Math.max(1, holds.length), 1)[0]?.release();
        } else if (one.what === "damage") {
          await Promise.all(under);
          const path = join(root, "blobs", nameOf(blobs.get(one.name)!));
          await chmod(path, 0o600).then(
            () => writeFile(path, "x"),
            () => undefined,
          );
        } else {
          await Promise.all(under);
          expect(await bytesKept()).toBeLessThanOrEqual(budgetBytes);
          expect(cache.counts().bytes).toBeLessThanOrEqual(budgetBytes);
          if (one.what === "restart") {
            cache = await open(store, { budgetBytes });
            holds = [];
          }
        }
        expect(await bytesKept()).toBeLessThanOrEqual(budgetBytes);
      }
      await Promise.all(under);
      for (const hold of holds) hold.release();
      // Nothing is pinned for ever: there is room for a file as large as the budget.
      const all = blob(store, "z", budgetBytes);
      expect(await use(cache.hold(), all)).toHaveLength(budgetBytes);
      expect(await kept()).toEqual([nameOf(all)]);
    }),
    { numRuns: 40 },
  );
});
