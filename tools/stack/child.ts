import { spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { killOnExit } from "./exit-guard.ts";

/** A server that runs beside us and never outlives us. */
export type Child = {
  readonly pid: number;
  /** `null` while it runs; afterwards how it ended. */
  readonly ended: () => string | null;
  /** The newest output, both streams, at most 64 KiB. */
  readonly output: () => string;
  /** Ends it and everything it started; resolves when it is gone. Twice is fine. */
  readonly stop: () => Promise<void>;
};

export type ChildOptions = {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd?: string;
  /** Added to our own environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** How long SIGTERM may take before SIGKILL follows, in milliseconds; 0: SIGKILL at once. */
  readonly grace: number;
};

const OUTPUT_LIMIT = 64 * 1024;
const POLL_MILLISECONDS = 25;

/** Starts a server. Neither it nor its output keeps this process alive. Throws where it cannot be started at all. */
export async function startChild(options: ChildOptions): Promise<Child> {
  const started = spawn(options.command, options.args, {
    // A group of its own: Ctrl-C reaches us alone, and its own children can be ended with it.
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: { ...process.env, ...options.env },
  });
  const exited = Promise.withResolvers<void>();
  let ended: string | null = null;
  let output = "";
  const end = (how: string) => {
    ended ??= how;
    exited.resolve();
  };
  started.once("exit", (code, signal) => end(signal === null ? `exit code ${code}` : `signal ${signal}`));
  started.once("error", (error) => end(error.message));
  for (const stream of [started.stdout, started.stderr]) {
    stream.setEncoding("utf8");
    stream.on("data", (chunk: string) => {
      output = (output + chunk).slice(-OUTPUT_LIMIT);
    });
    if ("unref" in stream) (stream as unknown as { unref: () => void }).unref();
  }
  started.unref();
  const { pid } = started;
  if (pid === undefined) {
    await exited.promise;
    throw new Error(`${options.name} could not be started: ${ended}`);
  }
  const free = killOnExit({ kind: "group", pid });
  return {
    pid,
    ended: () => ended,
    output: () => output,
    stop: async () => {
      if (ended === null && options.grace > 0) {
        signalGroup(pid, "SIGTERM");
        for (let waited = 0; waited < options.grace && ended === null; waited += POLL_MILLISECONDS)
          await sleep(POLL_MILLISECONDS);
      }
      signalGroup(pid, "SIGKILL");
      while (ended === null) await sleep(POLL_MILLISECONDS);
      free();
    },
  };
}

/** Waits until `ready` answers something; throws when the child ends first or the time is up, with what it wrote. */
export async function untilReady<T>(
  child: Child,
  details: { readonly name: string; readonly timeout: number },
  ready: () => T | null | Promise<T | null>,
): Promise<T> {
  const deadline = Date.now() + details.timeout;
  while (Date.now() < deadline) {
    const answer = await ready();
    if (answer !== null) return answer;
    const how = child.ended();
    if (how !== null)
      throw new Error(`${details.name} ended before it was ready (${how}):\n${child.output()}`);
    await sleep(POLL_MILLISECONDS);
  }
  await child.stop();
  throw new Error(`${details.name} was not ready within ${details.timeout / 1000} s:\n${child.output()}`);
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch {
    // gone already
  }
}
