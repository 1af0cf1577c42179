import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import type { Bond } from "./watchdog.ts";

// What we start must not outlive us, not even when we are killed with SIGKILL. A watchdog process reads a pipe that we
// hold: when the pipe ends, we are gone, and it ends the processes and removes the directories that are still bound.

let watchdog: ChildProcess | null = null;

/** Binds a process group or a directory to the life of this process; call what it returns when you have let go of it. */
export function bindToLife(bond: Bond): () => void {
  tell("bind", bond);
  return () => tell("free", bond);
}

function tell(verb: "bind" | "free", bond: Bond): void {
  watchdog ??= startWatchdog();
  watchdog.stdin?.write(`${JSON.stringify({ verb, ...bond })}\n`);
}

function startWatchdog(): ChildProcess {
  const child = spawn(process.execPath, [join(import.meta.dirname, "watchdog.ts")], {
    // Its own group: a Ctrl-C in the terminal is for us, and it has work to do after that.
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
  });
  child.unref();
  // The pipe must not keep us alive; when it breaks, there is no one to tell.
  if (child.stdin !== null && "unref" in child.stdin)
    (child.stdin as unknown as { unref: () => void }).unref();
  child.stdin?.on("error", () => undefined);
  return child;
}
