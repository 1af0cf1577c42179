import { execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import type { TestHub } from "./test-hub.ts";

const HERE = join(import.meta.dirname, "python");
const REQUIREMENTS = join(HERE, "requirements.txt");

export type PythonEvent = { readonly event: string; readonly data: unknown };

/** A Python that has the SDKs, and that does what it is told in their words. */
export type PythonProcess = {
  /** Resolves with what the SDK answers; rejects with `PythonProblem`. */
  readonly call: (
    command: { readonly do: string; readonly on: string } & Record<string, unknown>,
  ) => Promise<unknown>;
  /** `null` takes the listener away. */
  readonly listen: (client: string, listener: ((event: PythonEvent) => void) | null) => void;
  readonly stop: () => Promise<void>;
};

export type PythonProblem = Error & {
  /** Of the service SDK: what the hub refused. */
  readonly refused: { readonly status: number; readonly code: string } | null;
  readonly unauthorized: boolean;
};

type Line =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly error: Readonly<Record<string, unknown>> }
  | { readonly client: string; readonly event: string; readonly data: unknown };

export async function startPython({ endpoint }: TestHub): Promise<PythonProcess> {
  const python = await preparePython();
  const directory = mkdtempSync(join(tmpdir(), "edgefleet-python-"));
  const caFile = join(directory, "ca.crt");
  writeFileSync(caFile, endpoint.ca);
  const { hostName, connectionString, proxyPort } = endpoint;
  const place = JSON.stringify({ hostName, connectionString, proxyPort, directory });
  const child = spawn(python, [join(HERE, "driver.py"), place], {
    stdio: ["pipe", "pipe", "pipe"],
    env: {
      PATH: process.env["PATH"] ?? "",
      PYTHONDONTWRITEBYTECODE: "1",
      HTTPS_PROXY: `http://127.0.0.1:${proxyPort}`,
      REQUESTS_CA_BUNDLE: caFile,
    },
  });
  const waiting = new Map<
    number,
    { readonly done: (value: unknown) => void; readonly failed: (p: Error) => void }
  >();
  const listeners = new Map<string, (event: PythonEvent) => void>();
  let commands = 0;
  let complaint = "";
  let over: Error | null = null;
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    complaint = `${complaint}${text}`.slice(-2000);
  });
  createInterface({ input: child.stdout }).on("line", (written) => {
    const line = JSON.parse(written) as Line;
    if ("client" in line) {
      listeners.get(line.client)?.(line);
      return;
    }
    const waiter = waiting.get(line.id);
    waiting.delete(line.id);
    if ("error" in line) waiter?.failed(problemOf(line.error));
    else waiter?.done(line.value);
  });
  const ended = new Promise<void>((resolve) => {
    child.once("close", () => {
      over = new Error(`Python has ended: ${complaint}`);
      for (const { failed } of waiting.values()) failed(over);
      rmSync(directory, { recursive: true, force: true });
      resolve();
    });
  });
  return {
    call: (command) =>
      new Promise((done, failed) => {
        if (over !== null) throw over;
        commands += 1;
        waiting.set(commands, { done, failed });
        child.stdin.write(`${JSON.stringify({ id: commands, ...command })}\n`);
      }),
    listen: (client, listener) => {
      if (listener === null) listeners.delete(client);
      else listeners.set(client, listener);
    },
    stop: async () => {
      child.stdin.end();
      await ended;
    },
  };
}

function problemOf({
  status,
  code,
  unauthorized,
  message,
}: Readonly<Record<string, unknown>>): PythonProblem {
  const refused = status === undefined ? null : { status: Number(status), code: String(code) };
  return Object.assign(new Error(String(message ?? code)), { refused, unauthorized: unauthorized === true });
}

/**
 * Answers with the Python of an environment that holds exactly the packages of requirements.txt. It is made once and
 * kept outside of the checkout, under a name that changes with the requirements and with the version of Python.
 */
async function preparePython(): Promise<string> {
  const run = promisify(execFile);
  const attempt = async (command: string, ...args: readonly string[]) => {
    try {
      return (await run(command, args, { maxBuffer: 16 * 1024 * 1024 })).stdout;
    } catch (problem) {
      const said = (problem as { readonly stderr?: string }).stderr?.trim() ?? String(problem);
      throw new Error(
        `The tests of the Python SDKs need python3 (3.9 or later, with venv and pip) and, the first time, PyPI.\n` +
          `This failed: ${[command, ...args].join(" ")}\n${said}\n` +
          `Install python3-venv, or see why pip cannot fetch packages; everything else runs without: make test ARGS="--project unit"`,
      );
    }
  };
  const version = await attempt("python3", "--version");
  const hash = createHash("sha256")
    .update(version)
    .update(readFileSync(REQUIREMENTS))
    .digest("hex")
    .slice(0, 16);
  const cache = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "edge-fleet-operator");
  const home = join(cache, `python-${hash}`);
  const ready = join(home, "ready");
  if (existsSync(ready)) return join(home, "bin/python");
  mkdirSync(cache, { recursive: true });
  rmSync(home, { recursive: true, force: true });
  await attempt("python3", "-m", "venv", home);
  const python = join(home, "bin/python");
  const quiet = ["--quiet", "--disable-pip-version-check", "--no-input"];
  await attempt(python, "-m", "pip", "install", ...quiet, "--require-hashes", "-r", REQUIREMENTS);
  // Last and at once: an environment that is half made is made again.
  writeFileSync(`${ready}.new`, version);
  renameSync(`${ready}.new`, ready);
  return python;
}
