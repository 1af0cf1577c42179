import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { killOnExit } from "./exit-guard.ts";

export type Program = {
  readonly name: string;
  readonly pid: number;
  /** The first line of standard output: a program says there how it can be reached. */
  readonly firstLine: Promise<string>;
  /** Resolves with the exit code (or the signal's name) once the program has ended. */
  readonly ended: Promise<number | string>;
  readonly kill: (signal: NodeJS.Signals) => void;
  /** SIGTERM, and SIGKILL after ten seconds. */
  readonly stop: () => Promise<void>;
};

/** Runs one of our own programs with this Node; its output goes to `logFile`. */
export function runProgram(options: {
  readonly name: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly logFile: string;
}): Program {
  const child = spawn(process.execPath, options.args, {
    env: { ...inherited(), ...options.env },
    stdio: ["ignore", "pipe", "pipe"],
    // A group of its own: Ctrl-C reaches us alone, and we stop the parts in order.
    detached: true,
  });
  const log = createWriteStream(options.logFile, { flags: "a" });
  child.stderr.pipe(log, { end: false });
  child.stdout.pipe(log, { end: false });
  const ended = endOf(child);
  void ended.then(() => log.end());
  const { pid } = child;
  if (pid === undefined) throw new Error(`${options.name} could not be started`);
  const free = killOnExit({ kind: "group", pid });
  void ended.then(free);
  return {
    name: options.name,
    pid,
    firstLine: firstLineOf(child, options),
    ended,
    kill: (signal) => child.kill(signal),
    stop: async () => {
      child.kill("SIGTERM");
      const quiet = new AbortController();
      const late = sleep(10_000, "late", { signal: quiet.signal }).catch(() => "quiet");
      if ((await Promise.race([ended, late])) === "late") child.kill("SIGKILL");
      quiet.abort();
      await ended;
    },
  };
}

async function endOf(child: ChildProcess): Promise<number | string> {
  if (child.exitCode !== null) return child.exitCode;
  const [code, signal] = (await once(child, "exit")) as [number | null, string | null];
  return code ?? signal ?? "unknown";
}

function firstLineOf(
  child: ChildProcess,
  options: { readonly name: string; readonly logFile: string },
): Promise<string> {
  const line = new Promise<string>((resolve, reject) => {
    let text = "";
    child.stdout?.on("data", (chunk: Buffer) => {
      if (text.includes("\n")) return;
      text += chunk.toString("utf8");
      const end = text.indexOf("\n");
      if (end >= 0) resolve(text.slice(0, end));
    });
    child.once("exit", (code, signal) => {
      reject(
        new Error(`${options.name} ended with ${code ?? signal} before it was ready; see ${options.logFile}`),
      );
    });
  });
  line.catch(() => undefined); // for those who await it; a program without a first line is no unhandled rejection
  return line;
}

function inherited(): Record<string, string> {
  const keep = ["PATH", "HOME", "TMPDIR", "XDG_CACHE_HOME", "LANG"];
  return Object.fromEntries(
    keep.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])),
  );
}
