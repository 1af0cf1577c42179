import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parseCommandLine } from "./command-line.ts";
import { connectRegistry } from "./testing/service-client.ts";

let directory = "";
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "simulator-"));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

function run(...args: readonly string[]) {
  const child: ChildProcess = spawn(process.execPath, [join(import.meta.dirname, "main.ts"), ...args], {
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
  return { child, output, exit };
}

test("it says in one line where it is, serves, and ends when it is asked to", async () => {
  const caFile = join(directory, "ca.crt");
  const behaviours = join(directory, "behaviours.yaml");
  await writeFile(behaviours, "- match: {site: plant-a}\n  effects: {slowDownload: 5s}\n");
  const { child, output, exit } = run(
    "--port",
    "0",
    "--tier=S3",
    "--ca-out",
    caFile,
    "--behaviours",
    behaviours,
  );
  if (child.stdout === null) throw new Error("no output");
  const line = await new Promise<string>((resolve) =>
    createInterface({ input: child.stdout! }).once("line", resolve),
  );
  const ready = JSON.parse(line) as {
    port: number;
    hostName: string;
    caFile: string;
    connectionString: string;
  };
  expect(ready).toMatchObject({ hostName: "simhub.azure-devices.net", caFile });
  const registry = connectRegistry({ ...ready, ca: await readFile(caFile, "utf8") });
  expect((await registry.create({ deviceId: "cam-1" })).responseBody.deviceId).toBe("cam-1");
  child.kill("SIGTERM");
  expect(await exit).toBe(0);
  expect(output.out.trim().split("\n")).toEqual([line]);
});

test("all mistakes of a command line are told at once, with status 2", async () => {
  const { output, exit } = run("--port", "x", "--foo", "--tier", "S9", "--virtual-clock=yes", "--seed");
  expect(await exit).toBe(2);
  expect(output.out).toBe("");
  for (const part of [
    "--port must",
    "--foo is not known",
    "--tier must",
    "--virtual-clock takes no value",
    "--seed needs a value",
  ])
    expect(output.err).toContain(part);
});

test("flags become options", () => {
  const parsed = parseCommandLine(
    "--report-interval 2s --state-delay=0s --untargeted-layer keep --real-downloads all --no-devices --virtual-clock --agent-modules a,b --download skip --device-ca a.pem --device-ca=b.pem --session-subscriptions cloud-to-device".split(
      " ",
    ),
  );
  expect(parsed).toEqual({
    kind: "run",
    command: {
      virtualClock: true,
      behavioursFile: null,
      scenarioFile: null,
      caFile: null,
      deviceCaFiles: ["a.pem", "b.pem"],
      stateFile: null,
      options: {
        reportInterval: 2000,
        stateDelay: 0,
        untargetedLayer: "keep",
        realDownloads: null,
        autoStart: false,
        agentModules: ["a", "b"],
        download: "skip",
        sessionSubscriptions: "cloud-to-device",
      },
    },
  });
  expect(parseCommandLine(["--help"])).toEqual({ kind: "help" });
});
