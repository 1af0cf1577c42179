import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { FullReport } from "../../api/verification-report.ts";
import { instant } from "../../base/time.ts";
import { createMetrics, VERIFIER_METRICS } from "../../telemetry/metrics.ts";
import type { Log } from "../../telemetry/telemetry.ts";
import type { VerificationKey, VerifyReport, VerifyRequest } from "../../verification/verification.ts";
import type { Verified } from "../checks/run.ts";
import { createJobs, type JobDeps, type Jobs } from "./jobs.ts";
import type { Results } from "./results.ts";

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
const request = (digest: string, over: Partial<VerifyRequest> = {}): VerifyRequest => ({
  model: { url: "https://store/x", digest, sizeBytes: 1 },
  golden: null,
  tenant: "plant-a",
  parity: null,
  variantParity: null,
  checks: { timeout: "1m" as VerifyRequest["checks"]["timeout"] },
  ...over,
});

type JobsBench = {
  readonly jobs: Jobs;
  readonly finish: (name: string, report?: VerifyReport) => Promise<void>;
  readonly start: (name: string, over?: Partial<VerifyRequest>) => ReturnType<Jobs["start"]>;
  /** Where the one that runs is. */
  readonly enter: (check: string) => void;
  readonly started: readonly string[];
  readonly stopped: readonly string[];
  readonly running: ReadonlyMap<string, unknown>;
  /** What is fetched ahead, or held ready: by name, with what ends the download. */
  readonly ahead: ReadonlyMap<string, () => void>;
  readonly urls: readonly string[];
  readonly expose: () => Promise<string>;
};

/** Verifications and downloads that end when the test says so; the name of a model is its digest. */
function bench(over: Partial<JobDeps> = {}): JobsBench {
  const running = new Map<string, (report: VerifyReport) => void>();
  const ahead = new Map<string, () => void>();
  const started: string[] = [];
  const stopped: string[] = [];
  const urls: string[] = [];
  let enter: (check: string) => void = () => undefined;
  const metrics = createMetrics("throw", VERIFIER_METRICS);
  const jobs = createJobs({
    verify: (asked, begin, signal) =>
      new Promise((resolve) => {
        const name = asked.model.digest;
        started.push(name);
        urls.push(asked.model.url);
        enter = begin;
        running.set(name, (report) => {
          running.delete(name);
          resolve({ report, full: null });
        });
        signal.addEventListener("abort", () => {
          stopped.push(name);
          running.get(name)?.(ERROR);
        });
        begin("Load");
      }),
    prefetch: ({ model: { digest } }, signal) =>
      new Promise((resolve) => {
        const end = () => resolve(() => void ahead.delete(digest));
        ahead.set(digest, end);
        signal.addEventListener("abort", end);
      }),
    results: resultsInMemory(),
    waiting: { perTenant: 4, inAll: 8 },
    clock: { now: () => instant(0), sleep: () => Promise.resolve() },
    log: SILENT,
    meter: metrics.meter,
    ...over,
  });
  const finish = async (name: string, report: VerifyReport = PASSED) => {
    running.get(name)?.(report);
    await settled();
  };
  return {
    jobs,
    finish,
    enter: (check) => enter(check),
    started,
    stopped,
    running,
    ahead,
    urls,
    expose: metrics.expose,
    start: (name, more = {}) => jobs.start(key(name), request(name, more)),
  };
}

function resultsInMemory(): Results {
  const kept = new Map<VerificationKey, Verified>();
  return {
    look: (of) => kept.get(of) ?? null,
    put: (of, verified) => void kept.set(of, verified),
    forget: async (of) => void kept.delete(of),
    count: () => kept.size,
    written: () => Promise.resolve(),
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

  test("is started once while it waits, runs or has a verdict; after an error it starts again", async () => {
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
    expect(jobs.counts()).toEqual({ waiting: 0, waitingAgain: 0, tenants: 0, running: 0, finished: 0 });
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

describe("tenants", () => {
  test("take turns, and what was verified before comes last", async () => {
    const { start, finish, started } = bench();
    for (const name of ["a1", "a2", "a3"]) start(name, { tenant: "a" });
    start("x1", { tenant: "x", urgency: "again" });
    start("b1", { tenant: "b" });
    for (const name of ["a1", "b1", "a2", "a3", "x1"]) await finish(name);
    expect(started).toEqual(["a1", "b1", "a2", "a3", "x1"]);
  });

  test("have an end to what may wait, each one and all, and that is counted", async () => {
    const { jobs, start, finish, expose } = bench({ waiting: { perTenant: 2, inAll: 3 } });
    const asked = ["a1", "a2", "a3", "a4", "b1", "c1"].map((name) =>
      start(name, { tenant: name.slice(0, 1) }),
    );
    expect(asked).toEqual(["accepted", "accepted", "accepted", "tenantFull", "accepted", "full"]);
    expect(start("a3", { tenant: "a" })).toBe("accepted");
    expect(jobs.counts()).toMatchObject({ waiting: 3, running: 1, tenants: 2 });
    await finish("a1");
    expect(start("c1", { tenant: "c" })).toBe("accepted");
    expect(await expose()).toContain('edgefleet_verifier_refused_total{why="tenantFull"} 1');
  });

  test("that ask for what another one waits for get it in their own turn", async () => {
    const { start, finish, started } = bench();
    for (const name of ["a1", "a2", "a3", "same"]) start(name, { tenant: "a" });
    start("same", { tenant: "b" });
    for (const name of ["a1", "same", "a2", "a3"]) await finish(name);
    expect(started).toEqual(["a1", "same", "a2", "a3"]);
  });

  test("may ask for something at once after all", async () => {
    const { start, finish, started } = bench();
    start("a1");
    start("slow", { urgency: "again" });
    start("a2");
    start("slow", { urgency: "new" });
    start("a3", { urgency: "again" });
    start("a3", { urgency: "again" });
    for (const name of ["a1", "a2", "slow", "a3"]) await finish(name);
    expect(started).toEqual(["a1", "a2", "slow", "a3"]);
  });
});

test("urls are those that were asked with last, before it ran", async () => {
  const { start, finish, urls } = bench();
  const model = (url: string) => ({ model: { url, digest: "b", sizeBytes: 1 } });
  start("a");
  start("b", model("https://store/old"));
  start("b", model("https://store/new"));
  await finish("a");
  start("b", model("https://store/too-late"));
  await finish("b");
  expect(urls).toEqual(["https://store/x", "https://store/new"]);
});

describe("the files of the next one", () => {
  test("are fetched while another one runs, and are given up when it is over", async () => {
    const { start, finish, ahead, jobs } = bench();
    for (const name of ["a", "b", "c"]) start(name);
    expect([...ahead.keys()]).toEqual(["b"]);
    ahead.get("b")?.();
    await settled();
    await finish("a");
    // What it needs is still held while it runs.
    expect([...ahead.keys()]).toEqual(["b", "c"]);
    await finish("b");
    expect([...ahead.keys()]).toEqual(["c"]);
    await finish("c");
    expect([ahead.size, jobs.counts().running]).toEqual([0, 0]);
  });

  test("are not begun in the middle of a measurement", async () => {
    const { start, enter, ahead } = bench();
    start("a");
    enter("Latency");
    start("b");
    expect(ahead.size).toBe(0);
    enter("Memory");
    expect(ahead.size).toBe(0);
    enter("Golden");
    expect([...ahead.keys()]).toEqual(["b"]);
  });

  test("are no longer fetched once it is cancelled, and the one after it is next", async () => {
    const { start, ahead, jobs } = bench();
    for (const name of ["a", "b", "c"]) start(name);
    await jobs.cancel(key("b"));
    expect([...ahead.keys()]).toEqual(["c"]);
    await jobs.drain();
    expect(ahead.size).toBe(0);
  });

  test("do not keep a verification that ended early from being over", async () => {
    const { start, finish, ahead, jobs } = bench();
    start("a");
    start("b");
    await finish("a");
    expect([...ahead.keys()]).toEqual(["b"]);
    await finish("b", ERROR);
    expect([ahead.size, jobs.look(key("b"))]).toEqual([0, ERROR]);
  });
});

test("what came of verifications is counted by outcome and reason, and how long their checks took", async () => {
  const full = { checks: [{ name: "Load", outcome: "Passed", took: 1500 }] } as unknown as FullReport;
  const { jobs, start, expose } = bench({ verify: () => Promise.resolve({ report: PASSED, full }) });
  start("a");
  await settled();
  expect(jobs.look(key("a"))).toEqual(PASSED);
  const text = await expose();
  expect(text).toContain('edgefleet_verifier_verifications_total{outcome="passed",reason=""} 1');
  expect(text).toContain('edgefleet_verifier_check_duration_seconds_sum{check="Load"} 1.5');
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

test("never are two jobs at work, and nothing is left, whatever is asked in whatever order (property)", async () => {
  const name = fc.constantFrom("a", "b", "c", "d", "e");
  const tenant = fc.constantFrom("t", "u");
  const what = fc.constantFrom("start", "again", "finish", "fail", "cancel", "look", "fetched");
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(what, name, tenant), { maxLength: 40 }), async (commands) => {
      const { jobs, start, finish, running, ahead } = bench({ waiting: { perTenant: 2, inAll: 3 } });
      const cancelling: Promise<void>[] = [];
      for (const [step, which, whose] of commands) {
        if (step === "start") start(which, { tenant: whose });
        else if (step === "again") start(which, { tenant: whose, urgency: "again" });
        else if (step === "finish") await finish(which);
        else if (step === "fail") await finish(which, ERROR);
        else if (step === "fetched") ahead.get(which)?.();
        else if (step === "look") jobs.look(key(which));
        else cancelling.push(jobs.cancel(key(which)));
        expect(running.size).toBeLessThanOrEqual(1);
        expect(ahead.size).toBeLessThanOrEqual(2);
        expect(jobs.counts().waiting).toBeLessThanOrEqual(3);
        if (step === "cancel") expect(jobs.look(key(which))).toBeNull();
      }
      await Promise.all([...cancelling, jobs.drain()]);
      expect([running.size, ahead.size]).toEqual([0, 0]);
      expect(jobs.counts()).toMatchObject({ waiting: 0, running: 0, tenants: 0 });
    }),
  );
});
