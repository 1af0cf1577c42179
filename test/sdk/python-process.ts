import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { preparePython } from "../python/environment.ts";
import type { TestHub } from "./test-hub.ts";

const HERE = join(import.meta.dirname, "python");
const SDKS = { requirements: join(HERE, "requirements.txt"), whose: "the Python SDKs" };

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
  const { python } = await preparePython(SDKS);
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
