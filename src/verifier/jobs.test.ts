import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { instant } from "../base/time.ts";
import type { Log } from "../telemetry/telemetry.ts";
import type { VerificationKey, VerifyReport, VerifyRequest } from "../verification/verification.ts";
import { createJobs, type JobDeps, type Jobs } from "./jobs.ts";

const SILENT: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  with: () => SILENT,
};
const PASSED: VerifyReport = { kind: "passed", checks: [], verifierVersion: "v" };
const ERROR: VerifyReport = { kind: "error", reason: "StoreDenied", message: "no" };
const key = (name: string) => name as VerificationKey;
const request = (digest: string): VerifyRequest => ({
  model: { url: "https://store/x", digest, sizeBytes: 1 },
  golden: null,
  tenant: "plant-a",
  parity: null,
  variantParity: null,
  checks: { timeout: "1m" as VerifyRequest["checks"]["timeout"] },
});

type JobsBench = {
  readonly jobs: Jobs;
  readonly finish: (name: string, report?: VerifyReport) => Promise<void>;
  readonly start: (name: string) => ReturnType<Jobs["start"]>;
  readonly started: readonly string[];
  readonly stopped: readonly string[];
  readonly running: ReadonlyMap<string, unknown>;
};

/** Verifications that end when the test says so; the name of a model is its digest. */
function bench(over: Partial<JobDeps> = {}): JobsBench {
  const running = new Map<string, (report: VerifyReport) => void>();
  const started: string[] = [];
  const stopped: string[] = [];
  const jobs = createJobs({
    verify: (asked, begin, signal) =>
      new Promise((resolve) => {
        const name = asked.model.digest;
        started.push(name);
        begin("Load");
        running.set(name, (report) => {
          running.delete(name);
          resolve({ report, full: null });
        });
        signal.addEventListener("abort", () => {
          stopped.push(name);
          running.get(name)?.(ERROR);
        });
      }),
    waiting: 4,
    remembered: 3,
    clock: { now: () => instant(0), sleep: () => Promise.resolve() },
    log: SILENT,
    ...over,
  });
  const finish = async (name: string, report: VerifyReport = PASSED) => {
    running.get(name)?.(report);
    await settled();
  };
  return {
    jobs,
    finish,
    started,
    stopped,
    running,
    start: (name: string) => jobs.start(key(name), request(name)),
  };
}

/** Lets everything happen that is waiting to happen now. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

describe("a job", () => {
  test("waits for its turn, runs, and is remembered", async () => {
    const { jobs, start, finish } = bench();
    expect([start("a"), start("b")]).toEqual(["accepted", "accepted"]);
    expect([jobs.look(key("a")), jobs.look(key("b"))]).toEqual([
      { kind: "running", check: "Load" },
      { kind: "running", check: "Waiting" },
    ]);
    await finish("a");
    expect([jobs.look(key("a")), jobs.look(key("b"))]).toEqual([PASSED, { kind: "running", check: "Load" }]);
    expect(jobs.look(key("c"))).toBeNull();
  });

  test("is started once while it waits, runs or has a verdict; after an error it starts anew", async () => {
    const { jobs, start, finish, started } = bench();
    start("a");
    start("a");
    await finish("a");
    start("a");
    expect(started).toEqual(["a"]);
    start("b");
    await finish("b", ERROR);
    expect(jobs.look(key("b"))).toEqual(ERROR);
    start("b");
    expect(jobs.look(key("b"))).toMatchObject({ kind: "running" });
    await finish("b");
    expect(started).toEqual(["a", "b", "b"]);
  });

  test("that throws is an error about us, and the next one runs", async () => {
    const { jobs, start, started } = bench({
      verify: (asked) =>
        asked.model.digest === "a"
          ? Promise.reject(Object.assign(new Error("https://store/x?sig=abc"), { code: "ENOSPC" }))
          : Promise.resolve({ report: PASSED, full: null }),
    });
    start("a");
    start("b");
    await settled();
    await settled();
    expect(jobs.look(key("a"))).toEqual({
      kind: "error",
      reason: "VerificationError",
      message: "the verifier failed: ENOSPC",
    });
    expect(jobs.look(key("b"))).toEqual(PASSED);
    expect(started).toEqual([]);
  });

  test("that is cancelled is gone, whether it waits, runs or has ended", async () => {
    const { jobs, start, finish, started, stopped } = bench();
    for (const name of ["a", "b", "c"]) start(name);
    await finish("a");
    await jobs.cancel(key("a"));
    await jobs.cancel(key("c"));
    await jobs.cancel(key("b"));
    expect(jobs.counts()).toEqual({ waiting: 0, running: 0, finished: 0 });
    expect(["a", "b", "c"].map((name) => jobs.look(key(name)))).toEqual([null, null, null]);
    expect([started, stopped]).toEqual([["a", "b"], ["b"]]);
  });

  test("may be asked for again while its cancelled self is still leaving", async () => {
    const { jobs, start, finish, started } = bench();
    start("a");
    const cancelled = jobs.cancel(key("a"));
    start("a");
    await cancelled;
    await settled();
    await finish("a");
    expect(started).toEqual(["a", "a"]);
    expect(jobs.look(key("a"))).toEqual(PASSED);
  });
});

test("the queue has an end", async () => {
  const { start, finish } = bench({ waiting: 2 });
  expect(["a", "b", "c", "d"].map(start)).toEqual(["accepted", "accepted", "accepted", "full"]);
  expect(start("c")).toBe("accepted");
  await finish("a");
  expect(start("d")).toBe("accepted");
});

test("what was not looked at for longest is forgotten first", async () => {
  const { jobs, start, finish } = bench({ remembered: 2 });
  for (const name of ["a", "b"]) {
    start(name);
    await finish(name);
  }
  jobs.look(key("a"));
  start("c");
  await finish("c");
  expect([jobs.look(key("a")), jobs.look(key("b")), jobs.look(key("c"))]).toEqual([PASSED, null, PASSED]);
  expect(jobs.counts()).toEqual({ waiting: 0, running: 0, finished: 2 });
});

test("a drain stops what runs, forgets what waits, and accepts nothing more", async () => {
  const { jobs, start, started, stopped } = bench();
  start("a");
  start("b");
  await jobs.drain();
  expect([started, stopped]).toEqual([["a"], ["a"]]);
  expect(start("c")).toBe("draining");
  expect(jobs.counts()).toMatchObject({ waiting: 0, running: 0 });
});

test("never are two jobs at work, whatever is asked in whatever order (property)", async () => {
  const name = fc.constantFrom("a", "b", "c", "d", "e");
  const command = fc.tuple(fc.constantFrom("start", "finish", "fail", "cancel", "look"), name);
  await fc.assert(
    fc.asyncProperty(fc.array(command, { maxLength: 40 }), async (commands) => {
      const { jobs, start, finish, running } = bench({ waiting: 2, remembered: 2 });
      for (const [what, which] of commands) {
        if (what === "start") start(which);
        else if (what === "finish") await finish(which);
        else if (what === "fail") await finish(which, ERROR);
        else if (what === "cancel") await jobs.cancel(key(which));
        else jobs.look(key(which));
        expect(running.size).toBeLessThanOrEqual(1);
        expect(jobs.counts().waiting).toBeLessThanOrEqual(2);
        expect(jobs.counts().finished).toBeLessThanOrEqual(2);
        if (what === "cancel") expect(jobs.look(key(which))).toBeNull();
      }
      await jobs.drain();
      expect(running.size).toBe(0);
    }),
  );
});
