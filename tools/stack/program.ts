import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { killOnExit } from "./exit-guard.ts";

/** A program that runs beside this process and never outlives it. */
export type Program = {
  readonly name: string;
  readonly pid: number;
  /** The first line of standard output, in which our own programs say how they can be reached. */
  readonly firstLine: Promise<string>;
  /** The newest output, both streams, at most 64 KiB. */
  readonly output: () => string;
  /** The exit code or the signal's name; `null` while it runs. */
  readonly exit: () => number | string | null;
  /** Resolves with the exit code or the signal's name. */
  readonly ended: Promise<number | string>;
  readonly kill: (signal: NodeJS.Signals) => void;
  /** SIGTERM, after the grace period SIGKILL, also to everything that it has started; resolves when it is gone. Idempotent. */
  readonly stop: () => Promise<void>;
};

export type ProgramOptions = {
  readonly name: string;
  /** Left out: this Node. */
  readonly command?: string;
  readonly args: readonly string[];
  readonly cwd?: string;
  /** Added to `PATH`, `HOME` and the few others that any program needs. */
  readonly env?: Readonly<Record<string, string>>;
  /** Its output is appended to this file. */
  readonly logFile?: string;
  /** How long SIGTERM may take before SIGKILL follows, in milliseconds (default ten seconds); 0: SIGKILL at once. */
  readonly grace?: number;
  /** It does not keep this process alive. */
  readonly background?: true;
};

const OUTPUT_LIMIT = 64 * 1024;
const POLL_MILLISECONDS = 25;
const GRACE_MILLISECONDS = 10_000;
const INHERITED = ["PATH", "HOME", "TMPDIR", "XDG_CACHE_HOME", "LANG"];

export function runProgram(options: ProgramOptions): Program {
  const { name, command = process.execPath, args, cwd, env, logFile, grace = GRACE_MILLISECONDS } = options;
  const child = spawn(command, args, {
    ...(cwd === undefined ? {} : { cwd }),
    env: { ...inherited(), ...env },
    stdio: ["ignore", "pipe", "pipe"],
    // A group of its own: Ctrl-C reaches this process alone, which stops the parts in order.
    detached: true,
  });
  let output = "";
  const log = logFile === undefined ? null : createWriteStream(logFile, { flags: "a" });
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (chunk: string) => {
      output = (output + chunk).slice(-OUTPUT_LIMIT);
      log?.write(chunk);
    });
    if (options.background === true && "unref" in stream)
      (stream as unknown as { unref: () => void }).unref();
  }
  if (options.background === true) child.unref();
  let exit: number | string | null = null;
  const { promise: ended, resolve } = Promise.withResolvers<number | string>();
  const end = (how: number | string) => {
    exit ??= how;
    resolve(exit);
  };
  child.once("error", (error) => end(error.message));
  child.once("exit", (code, signal) => end(code ?? signal ?? "unknown"));
  const { pid } = child;
  if (pid === undefined) throw new Error(`${name} could not be started: there is no program ${command}`);
  const release = killOnExit({ kind: "group", pid });
  void ended.then(() => log?.end());
  return {
    name,
    pid,
    firstLine: firstLineOf(
      child,
      `${name} ended before it was ready${logFile === undefined ? "" : `; see ${logFile}`}`,
    ),
    output: () => output,
    exit: () => exit,
    ended,
    kill: (signal) => child.kill(signal),
    stop: async () => {
      child.ref(); // or a process with nothing else to do would exit while it waits
      if (grace > 0) {
        child.kill("SIGTERM");
        const waiting = new AbortController();
        await Promise.race([ended, sleep(grace, null, { signal: waiting.signal }).catch(() => null)]);
        waiting.abort();
      }
      killGroup(pid);
      await ended;
      release();
    },
  };
}

/** Waits until `ready` returns something; throws when the program ends first or the time is up, with what it wrote. */
export async function untilReady<T>(
  program: Program,
  timeout: number,
  ready: () => T | null | Promise<T | null>,
): Promise<T> {
  const deadline = Date.now() + timeout;
  while (Date.now() < deadline) {
    const answer = await ready();
    if (answer !== null) return answer;
    const exit = program.exit();
    if (exit !== null)
      throw new Error(`${program.name} ended before it was ready (${exit}):\n${program.output()}`);
    await sleep(POLL_MILLISECONDS);
  }
  await program.stop();
  throw new Error(`${program.name} was not ready within ${timeout / 1000} s:\n${program.output()}`);
}

function firstLineOf(child: ChildProcess, otherwise: string): Promise<string> {
  const line = new Promise<string>((resolve, reject) => {
    let text = "";
    child.stdout?.on("data", (chunk: string) => {
      if (text.includes("\n")) return;
      text += chunk;
      const end = text.indexOf("\n");
      if (end >= 0) resolve(text.slice(0, end));
    });
    child.once("exit", (code, signal) => reject(new Error(`${otherwise} (${code ?? signal})`)));
  });
  line.catch(() => undefined); // a program that is not asked for its first line may end without one
  return line;
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // all of it has ended
  }
}

function inherited(): Record<string, string> {
  return Object.fromEntries(
    INHERITED.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])),
  );
}
