import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect, test } from "vitest";
import { createVerifierClient } from "./verification/client.ts";

const MAIN = join(import.meta.dirname, "verifier.ts");

function run(...args: readonly string[]): { readonly child: ChildProcess; readonly output: Promise<string> } {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
    });
  return { child, output: once(child, "close").then(() => text) };
}

test("says what is wrong with its settings, all of it, and exits with 2", async () => {
  const { child, output } = run("--socket", "x", "--memory-limit", "lots");
  expect((await output).trim().split("\n")).toHaveLength(2);
  expect(child.exitCode).toBe(2);
});

test("prints its settings", async () => {
  const { child, output } = run("--help");
  expect(await output).toContain("--memory-limit");
  expect(child.exitCode).toBe(0);
});

test("serves until it is asked to stop, then leaves nothing behind", async () => {
  const directory = await mkdtemp(join(tmpdir(), "verifier-main-"));
  const socket = join(directory, "verifier.sock");
  const { child, output } = run("--socket", socket, "--workdir", join(directory, "work"));
  for await (const line of createInterface({ input: child.stdout! }))
    if (line.includes("verifier is ready")) break;
  const client = createVerifierClient({ socketPath: socket });
  expect(await client.version(new AbortController().signal)).toMatchObject({ ok: true });
  child.kill("SIGTERM");
  await output;
  expect([child.exitCode, child.signalCode]).toEqual([0, null]);
  expect(await readdir(directory)).toEqual(["work"]);
  expect(await readdir(join(directory, "work"))).toEqual([]);
  await rm(directory, { recursive: true });
});

test("exits with 1 where it cannot start, and says why", async () => {
  const { child, output } = run("--socket", "/nonexistent/v.sock", "--workdir", join(MAIN, "work"));
  expect(await output).toContain("verifier cannot start");
  expect(child.exitCode).toBe(1);
});
