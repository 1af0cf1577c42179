import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import type { Resource } from "./watchdog.ts";

// What we start must not outlive us, even when we are killed with SIGKILL. A watchdog process reads a pipe that we hold:
// when the pipe ends, this process is gone, and the watchdog ends the processes and removes the directories it still has.

let watchdog: ChildProcess | null = null;

/** Ends a process group, or removes a directory, when this process exits in any way; the returned function releases it. */
export function killOnExit(resource: Resource): () => void {
  notify("guard", resource);
  return () => notify("release", resource);
}

function notify(verb: "guard" | "release", resource: Resource): void {
  watchdog ??= startWatchdog();
  watchdog.stdin?.write(`${JSON.stringify({ verb, ...resource })}\n`);
}

function startWatchdog(): ChildProcess {
  const child = spawn(process.execPath, [join(import.meta.dirname, "watchdog.ts")], {
    // Its own group: a Ctrl-C in the terminal is for us, and it has work to do after that.
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
  });
  child.unref();
  // The pipe must not keep us alive; when it breaks, the watchdog is gone.
  if (child.stdin !== null && "unref" in child.stdin)
    (child.stdin as unknown as { unref: () => void }).unref();
  child.stdin?.on("error", () => undefined);
  return child;
}
