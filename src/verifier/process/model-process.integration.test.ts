import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { withoutPermissions } from "../../../test/builders/verifier/sandbox.ts";
import { millis, seconds } from "../../base/time.ts";
import { CHILD_ENVIRONMENT, type ModelProcess, startModelProcess } from "./model-process.ts";
import type { ProcessEnd } from "./process-end.ts";
import { buildSandbox, type SandboxSession } from "./sandbox.ts";

const MODEL = join(import.meta.dirname, "../../../examples/models/files/digits/1.0.0/model.onnx");
const LOAD = `import ort from "onnxruntime-node"; await ort.InferenceSession.create(${JSON.stringify(MODEL)});`;

async function leftBehind(env: Readonly<Record<string, string>>): Promise<readonly string[]> {
  const directory = await mkdtemp(join(tmpdir(), "edgefleet-test-"));
  try {
    await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", LOAD], {
      cwd: import.meta.dirname,
      env: { ...env, TMPDIR: directory },
    });
    return await readdir(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

test("in the environment of a model's process ONNX Runtime keeps its telemetry to itself and leaves no file", async () => {
  expect(await leftBehind(CHILD_ENVIRONMENT)).toEqual([]);
});

test("without it there are files: the test above can fail", async () => {
  expect(await leftBehind({})).not.toEqual([]);
});

describe("a child that is hostile ends, and the end says why", () => {
  const PROGRAM = join(import.meta.dirname, "../../../test/builders/verifier/hostile-child.ts");
  let directory: string;
  let session: SandboxSession;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "process-test-"));
    await mkdir(join(directory, "verification"));
    session = withoutPermissions(await (await buildSandbox()).prepare(join(directory, "verification")));
  });
  afterAll(() => rm(directory, { recursive: true, force: true }));

  const crashed = (message: RegExp | string) => ({
    kind: "crashed",
    message: typeof message === "string" ? message : expect.stringMatching(message),
  });
  const invalid = "the child's answer is not valid";

  test.concurrent.each<[string, string, unknown]>([
    ["exits in the middle", "exit 0", crashed("its process exited with code 0")],
    ["fails", "exit 7", crashed("its process exited with code 7")],
    ["aborts", "abort x", crashed("its process was ended by SIGABRT")],
    ["runs into a wrong address", "die SIGSEGV", crashed("its process was ended by SIGSEGV")],
    ["runs an instruction that is none", "die SIGILL", crashed("its process was ended by SIGILL")],
    ["touches memory that is not there", "die SIGBUS", crashed("its process was ended by SIGBUS")],
    ["stops itself", "die SIGSTOP", { kind: "timedOut" }],
    ["ignores SIGTERM", "ignore x", { kind: "timedOut" }],
    ["spins", "spin x", { kind: "timedOut" }],
    ["floods its standard error", "errors x", crashed("it wrote more than 1 MiB to its standard error")],
    [
      "says that 4 GiB are to come",
      "bytes ffffffff",
      crashed(`${invalid}: a message of 4294967295 bytes, more than 67108864`),
    ],
    ["sends what is no value", "bytes 00000004deadbeef", crashed(`${invalid}: a message cannot be read`)],
    ["sends half a message", "bytes 0000ffff00", { kind: "timedOut" }],
    ["sends another kind of message", "kind unknown", crashed(/fields are not those of an answer$/)],
    ["sends a text", "kind text", crashed(`${invalid}: it is not an object`)],
    ["sends a list of 4294967295 holes", "kind sparse", crashed(/fields are not those of an answer$/)],
    ["sends a circle", "kind cyclic", crashed(/fields are not those of an answer$/)],
    ["sends a map", "kind getters", crashed(/fields are not those of an answer$/)],
    ["names what every object has", "kind prototype", crashed(/fields are not those of an answer$/)],
    ["sends a text without end", "kind text16k", crashed(/fields are not those of an answer$/)],
  ])("when it %s", async (_what, deed, end) => {
    const child = await start(millis(700));
    expect(await does(child, deed)).toMatchObject(end as ProcessEnd);
    // A question to one that is gone is answered by its end, and its end can be asked for twice.
    expect(await does(child, "user x")).toMatchObject(end as ProcessEnd);
    await Promise.all([child.end(), child.end()]);
    expect(await isThere(child.pid)).toBe(false);
  });

  test("when it answers without being asked, as often as it can", async () => {
    const child = await start();
    expect(await does(child, "flood x")).toBe(null); // the first of its answers
    await expect.poll(() => isThere(child.pid)).toBe(false);
    expect(await does(child, "user x")).toEqual(crashed("the child answered what it was not asked"));
  });

  test("when its verification is cancelled, even while it is stopped", async () => {
    const stop = new AbortController();
    const child = await start(seconds(60), stop.signal);
    const answer = does(child, "die SIGSTOP");
    await expect.poll(() => stateOf(child.pid)).toBe("T");
    stop.abort();
    expect(await answer).toEqual({ kind: "cancelled" });
    expect(await isThere(child.pid)).toBe(false);
  });

  async function start(deadline = seconds(60), signal = new AbortController().signal): Promise<ModelProcess> {
    const limits = { memoryBytes: 2 ** 29, deadline, threads: 1 };
    const started = await startModelProcess(limits, session, signal, PROGRAM);
    if (!started.ok) throw new Error(JSON.stringify(started.error));
    return started.value;
  }

  async function does(child: ModelProcess, path: string): Promise<ProcessEnd | null> {
    const answer = await child.ask({ kind: "load", path, threads: 1 });
    return answer.ok ? null : answer.error;
  }
});

/** No zombie either. */
async function isThere(pid: number): Promise<boolean> {
  return (await stateOf(pid)) !== null;
}

/** One letter, as proc(5) has it. */
async function stateOf(pid: number): Promise<string | null> {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  return /^State:\t(\S)/m.exec(status)?.[1] ?? null;
}
