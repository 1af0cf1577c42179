import { mkdir, mkdtemp, readdir, readFile, rm, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Log } from "../../telemetry/telemetry.ts";
import type { VerificationKey, VerifyReport } from "../../verification/verification.ts";
import type { Verified } from "../checks/run.ts";
import { openResults, type ResultLimits, type Results } from "./results.ts";

const VERSION = "edgefleet-verifier/0.1.0 onnxruntime/1.30.0";
const LIMITS = { count: 10, bytes: 100_000 };
const key = (name: string) => name as VerificationKey;

let directory: string;
let logged: string[];

beforeEach(async () => {
  directory = join(await mkdtemp(join(tmpdir(), "results-")), "results");
  logged = [];
});
afterEach(() => rm(join(directory, ".."), { recursive: true }));

async function open(limits: Partial<ResultLimits> = {}, version = VERSION): Promise<Results> {
  const write = (message: string) => void logged.push(message);
  const log: Log = { debug: write, info: write, warn: write, error: write, with: () => log };
  const opened = await openResults(directory, { ...LIMITS, ...limits }, version, log);
  if (!opened.ok) throw new Error(opened.error);
  return opened.value;
}

function verdict(message: string): Verified {
  const report: VerifyReport = {
    kind: "failed",
    reason: "LoadFailed",
    message,
    checks: [{ name: "Load", outcome: "Failed", message }],
    verifierVersion: VERSION,
  };
  return {
    report,
    full: {
      format: "edgefleet.dev/verification-report/v1",
      verdict: "Failed",
      message,
      verifierVersion: VERSION,
      startedAt: "2026-11-01T00:00:00.000Z",
      finishedAt: "2026-11-01T00:00:01.000Z",
      model: null,
      golden: null,
      checks: [],
    },
  };
}

test("a verdict is there after a restart, with everything that led to it", async () => {
  const first = await open();
  const verified = verdict("größer als je zuvor\nund mit Zeilen");
  first.put(key("a"), verified);
  expect(first.look(key("a"))).toEqual(verified);
  await first.written();
  const second = await open();
  expect(second.look(key("a"))).toEqual(verified);
  expect(second.count()).toBe(1);
  expect(logged).toEqual(["loaded the verdicts of a previous run"]);
});

test("an error is remembered in this run only: it will be asked for again", async () => {
  const first = await open();
  first.put(key("a"), { report: { kind: "error", reason: "StoreDenied", message: "no" }, full: null });
  await first.written();
  expect(first.look(key("a"))).toMatchObject({ report: { kind: "error" } });
  expect((await open()).look(key("a"))).toBeNull();
});

test("what is forgotten leaves nothing, even in the middle of being written", async () => {
  const first = await open();
  first.put(key("a"), verdict("a"));
  await first.forget(key("a"));
  expect(first.look(key("a"))).toBeNull();
  expect(await readdir(directory)).toEqual([]);
});

test("what was not looked at for longest goes first, when there are too many or too much", async () => {
  const first = await open({ count: 2 });
  first.put(key("a"), verdict("a"));
  first.put(key("b"), verdict("b"));
  first.look(key("a"));
  first.put(key("c"), verdict("c"));
  await first.written();
  expect((await readdir(directory)).sort()).toEqual(["a.json", "c.json"]);
  const size = (await readFile(join(directory, "a.json"))).length;
  const second = await open({ bytes: 2 * size });
  second.put(key("d"), verdict("d"));
  await second.written();
  expect(second.count()).toBe(2);
  expect(await readdir(directory)).toHaveLength(2);
  second.put(key("e"), verdict("x".repeat(3 * size)));
  await second.written();
  expect([second.count(), await readdir(directory)]).toEqual([0, []]);
});

test("a later run with less room keeps the youngest", async () => {
  const first = await open();
  for (const name of ["a", "b", "c"]) first.put(key(name), verdict(name));
  await first.written();
  await utimes(join(directory, "b.json"), 1, 1);
  expect((await open({ count: 2 })).look(key("b"))).toBeNull();
  expect((await readdir(directory)).sort()).toEqual(["a.json", "c.json"]);
});

test("every cut and every wrong byte of a file is noticed; the file goes, and the others stay", async () => {
  const first = await open({ count: 1000, bytes: 10_000_000 });
  first.put(key("good"), verdict("good"));
  await first.written();
  const whole = await readFile(join(directory, "good.json"));
  const places = Array.from({ length: Math.ceil(whole.length / 7) }, (_, index) => index * 7);
  for (const at of places) for (const how of ["cut", "bad"]) first.put(key(`${how}-${at}`), verdict("good"));
  await first.written();
  for (const at of places) {
    const own = await readFile(join(directory, `bad-${at}.json`));
    own[at] = (own[at] ?? 0) ^ 1;
    await writeFile(join(directory, `bad-${at}.json`), own);
    await truncate(join(directory, `cut-${at}.json`), at);
  }
  // Right in itself, but not the verdict on that key.
  await writeFile(join(directory, "b.json"), whole);
  await writeFile(join(directory, "good.json.part"), whole.subarray(0, 50));
  await mkdir(join(directory, "c.json"));
  const second = await open({ count: 1000, bytes: 10_000_000 });
  expect(second.count()).toBe(1);
  expect(await readdir(directory)).toEqual(["good.json"]);
  expect(logged).toContain("removed damaged verdicts");
});

test("verdicts of another version are not served", async () => {
  const first = await open();
  first.put(key("a"), verdict("a"));
  await first.written();
  const second = await open({}, "edgefleet-verifier/0.2.0 onnxruntime/1.30.0");
  expect([second.look(key("a")), await readdir(directory)]).toEqual([null, []]);
  expect(logged).toContain("removed verdicts of another version");
});

test("a verdict that cannot be written is still known in this run, and that is logged", async () => {
  const first = await open();
  await rm(directory, { recursive: true });
  first.put(key("a"), verdict("a"));
  await first.written();
  expect(first.look(key("a"))).toEqual(verdict("a"));
  expect(logged).toContain("a verdict could not be kept on disk");
});
