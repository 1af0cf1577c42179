import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { endlessModel, randomPerceptron } from "../test/builders/verifier/onnx-model.ts";

// The program as people start it: a process of its own, in a directory of theirs.

const ROOT = join(import.meta.dirname, "..");
let directory: string;
let command: string;
let version: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "edgefleet-main-test-"));
  await mkdir(join(directory, "tmp"));
  await writeFile(join(directory, "model.onnx"), randomPerceptron([4, 8, 3], 1));
  await writeFile(join(directory, "endless.onnx"), endlessModel());
  const manifest = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8")) as {
    readonly version: string;
    readonly bin: { readonly edgefleet: string };
  };
  command = join(ROOT, manifest.bin.edgefleet);
  version = manifest.version;
});
afterAll(() => rm(directory, { recursive: true, force: true }));

function start(...args: readonly string[]) {
  const child: ChildProcess = spawn(command, args, {
    cwd: directory,
    env: {
      PATH: dirname(process.execPath) + delimiter + process.env["PATH"],
      TMPDIR: join(directory, "tmp"),
      XDG_CACHE_HOME: join(directory, "cache"),
      ORT_DISABLE_TELEMETRY: "1",
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const output = { out: "", err: "" };
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    output.out += text;
  });
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    output.err += text;
  });
  const exit = new Promise<number | null>((resolve) => child.once("close", (code) => resolve(code)));
  const saying = (text: string) =>
    new Promise<void>((resolve, reject) => {
      const look = () => {
        if (output.err.includes(text)) resolve();
      };
      child.stderr?.on("data", look);
      void exit.then(() => reject(new Error(`it ended without saying ${text}: ${output.err}`)));
      look();
    });
  return { child, output, exit, saying };
}

async function run(...args: readonly string[]) {
  const { output, exit } = start(...args);
  const status = await exit;
  return { ...output, status };
}

test("it says its version and what it can do", async () => {
  expect(await run("--version")).toEqual({ out: `edgefleet ${version}\n`, err: "", status: 0 });
  const help = await run("--help");
  expect(help).toMatchObject({
    err: "",
    status: 0,
    out: expect.stringMatching(/^ {2}verify +\S[\s\S]*^ {2}release +\S/m),
  });
  expect(await run()).toEqual({ out: "", err: help.out, status: 2 });
});

test("an unknown command is reported with the one that may be meant", async () => {
  expect(await run("verfiy", "model.onnx")).toEqual({
    out: "",
    err: "verfiy is not a command; did you mean verify?\nsee edgefleet --help\n",
    status: 2,
  });
  expect((await run("constructor")).err).toBe("constructor is not a command\nsee edgefleet --help\n");
});

test("files are those of the directory in which it is started, and nothing is left behind", async () => {
  const { out, err, status } = await run("verify", "model.onnx", "--maximum-memory", "1Gi");
  expect({ err, status }).toEqual({ err: "Digest …\nLoad …\nMemory …\n", status: 0 });
  // No colours where stdout is not a terminal.
  expect(out).not.toContain("\u001b");
  expect(await readdir(join(directory, "tmp"))).toEqual([]);
});

test("Ctrl-C ends it with 130, and the model with it", async () => {
  const { child, output, exit, saying } = start("verify", "endless.onnx", "--p95", "1s");
  await saying("Latency …");
  const children = await childrenOf(child.pid);
  expect(children.length).toBeGreaterThan(0);
  child.kill("SIGINT");
  expect(await exit).toBe(130);
  expect(output).toMatchObject({
    out: "",
    err: expect.stringMatching(/\ninterrupted: there is no verdict\n$/),
  });
  expect(children.filter((pid) => existsSync(`/proc/${pid}`))).toEqual([]);
  expect(await readdir(join(directory, "tmp"))).toEqual([]);
});

test("a model that crashes has failed", async () => {
  const { child, output, exit, saying } = start("verify", "endless.onnx", "--p95", "1s");
  await saying("Latency …");
  for (const pid of await childrenOf(child.pid)) process.kill(Number(pid), "SIGSEGV");
  expect(await exit).toBe(1);
  expect(output.out).toContain("FAILED: Crashed: the model crashed in check Latency");
  expect(await readdir(join(directory, "tmp"))).toEqual([]);
});

test("a reader that closes the pipe early does no harm", async () => {
  const { child, output, exit } = start("verify", "--help");
  child.stdout?.destroy();
  expect(await exit).toBe(0);
  expect(output.err).toBe("");
});

/** From /proc, so on Linux only; elsewhere the endless model would keep the test from ending. */
async function childrenOf(pid: number | undefined): Promise<readonly string[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8");
  return text.split(" ").filter((one) => one !== "");
}
