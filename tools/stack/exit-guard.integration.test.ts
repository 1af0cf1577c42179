import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";

// A parent that starts a child (with a grandchild, deaf to SIGTERM) and a directory, says so, and waits to be killed.
const PARENT = `
  import { mkdtempSync } from "node:fs";
  import { tmpdir } from "node:os";
  import { runProgram } from ${JSON.stringify(join(import.meta.dirname, "program.ts"))};
  import { killOnExit } from ${JSON.stringify(join(import.meta.dirname, "exit-guard.ts"))};
  const directory = mkdtempSync(tmpdir() + "/edgefleet-lifeline-");
  killOnExit({ kind: "directory", path: directory });
  const child = runProgram({
    name: "sh", command: "sh", args: ["-c", "trap '' TERM; sleep 600 & echo $!; wait; sleep 600"], grace: 0,
  });
  while (!child.output().includes("\\n")) await new Promise((resolve) => setTimeout(resolve, 10));
  console.log(JSON.stringify({ directory, pids: [child.pid, Number(child.output())] }));
  if (process.argv[1] === "stop") await child.stop();
  else setInterval(() => {}, 1000);
`;

type Started = { readonly directory: string; readonly pids: readonly number[] };

async function startParent(...args: readonly string[]) {
  const parent = spawn(process.execPath, ["--input-type=module-typescript", "--eval", PARENT, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const line = await new Promise<string>((resolve) => {
    parent.stdout.setEncoding("utf8").once("data", resolve);
  });
  return { parent, started: JSON.parse(line) as Started };
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** Real processes end in real time: there is no clock to hand in. */
async function eventually(holds: () => boolean): Promise<boolean> {
  for (let tries = 0; tries < 500; tries += 1) {
    if (holds()) return true;
    await sleep(20);
  }
  return false;
}

test("what was started dies with a parent that is killed, and its directory goes too", async () => {
  const { parent, started } = await startParent();
  expect(started.pids.map(isAlive)).toEqual([true, true]);
  expect(existsSync(started.directory)).toBe(true);
  parent.kill("SIGKILL");
  expect(await eventually(() => !started.pids.some(isAlive))).toBe(true);
  expect(await eventually(() => !existsSync(started.directory))).toBe(true);
});

test("a program is stopped with what it has started, and lets its parent end", async () => {
  const { parent, started } = await startParent("stop");
  expect(await eventually(() => parent.exitCode === 0)).toBe(true);
  expect(await eventually(() => !started.pids.some(isAlive))).toBe(true);
  expect(await eventually(() => !existsSync(started.directory))).toBe(true);
});
