import { type ChildProcess, spawn } from "node:child_process";
import { platform } from "node:os";
import { fileURLToPath } from "node:url";
import { err, ok, type Result } from "../../base/result.ts";
import { type Millis, seconds } from "../../base/time.ts";
import type { Answer, Question } from "../protocol/messages.ts";
import { converse } from "./conversation.ts";
import { lostText, type ProcessEnd } from "./process-end.ts";
import { oomKills, preferAsVictim, residentBytes } from "./resident-memory.ts";
import type { SandboxSession } from "./sandbox.ts";

// The parent's side of the child process in which a model runs: what it may use, and how it ends.

export type ProcessLimits = {
  /** Resident memory. */
  readonly memoryBytes: number;
  /** From the moment the child is ready. */
  readonly deadline: Millis;
  readonly threads: number;
};

export type ModelProcess = {
  readonly pid: number;
  readonly runtimeVersion: string;
  /** One question at a time. A child that ends instead of answering is an error. */
  readonly ask: (question: Question) => Promise<Result<Answer, ProcessEnd>>;
  /** Kills it if it lives; resolves once it is gone. */
  readonly end: () => Promise<void>;
};

const START_DEADLINE = seconds(60);
const WATCH_EVERY = platform() === "linux" ? 50 : 250;
/**
 * Nothing of ours. Freed memory goes back to the system; ONNX Runtime neither reports to its makers over the network nor
 * leaves the log files of that behind in the temporary directory.
 */
export const CHILD_ENVIRONMENT = { MALLOC_TRIM_THRESHOLD_: "100000", ORT_DISABLE_TELEMETRY: "1" } as const;

/** As a bundle this file is part of the verifier, and the child's program lies beside it (`tools/build.ts`). */
const MODULE = fileURLToPath(
  new URL(import.meta.url.endsWith(".ts") ? "../child/main.ts" : "./verifier-child.js", import.meta.url),
);

/**
 * Starts a child process for one model and waits until it has loaded ONNX Runtime.
 * @param signal ends the child when it aborts.
 * @param program the module that the child runs.
 */
export async function startModelProcess(
  limits: ProcessLimits,
  session: SandboxSession,
  signal: AbortSignal,
  program = MODULE,
): Promise<Result<ModelProcess, ProcessEnd>> {
  if (signal.aborted) return err({ kind: "cancelled" });
  const killsBefore = oomKills();
  const child = spawnChild(session.command(program, limits), session.cwd);
  const { started, ask, stop, gone } = converse(child, killsBefore);
  const watch = watchMemory(child, limits.memoryBytes, stop);
  const cancel = () => stop({ kind: "cancelled" });
  signal.addEventListener("abort", cancel);
  let deadline = setTimeout(
    () => stop({ kind: "lost", message: "the child process did not start" }),
    START_DEADLINE,
  );
  const over = gone.then((why) => {
    clearInterval(watch);
    clearTimeout(deadline);
    signal.removeEventListener("abort", cancel);
    return why;
  });

  const ready = await started;
  clearTimeout(deadline);
  const { pid } = child;
  if (!ready.ok || ready.value.kind !== "ready" || pid === undefined) {
    stop({ kind: "lost", message: "the child process did not say that it is ready" });
    // Whatever ended it before it had seen the model is about us.
    const why = await over;
    return err(why.kind === "cancelled" ? why : { kind: "lost", message: lostText(why) });
  }
  preferAsVictim(pid);
  deadline = setTimeout(() => stop({ kind: "timedOut" }), limits.deadline);
  return ok({
    pid,
    runtimeVersion: ready.value.runtimeVersion,
    ask,
    end: async () => {
      stop({ kind: "cancelled" });
      await over;
    },
  });
}

function watchMemory(
  { pid }: ChildProcess,
  memoryBytes: number,
  stop: (why: ProcessEnd) => void,
): NodeJS.Timeout {
  return setInterval(() => {
    if (pid === undefined) return;
    residentBytes(pid).then(
      (bytes) => {
        if (bytes !== null && bytes > memoryBytes)
          stop({
            kind: "outOfMemory",
            message: `it used ${mebibytes(bytes)} of ${mebibytes(memoryBytes)}`,
          });
      },
      () => undefined,
    );
  }, WATCH_EVERY);
}

function spawnChild([file, ...args]: readonly [string, ...string[]], cwd: string): ChildProcess {
  return spawn(file, args, {
    cwd,
    env: CHILD_ENVIRONMENT,
    // Its own process group: a Ctrl-C for the sidecar is not one for the model, and what it starts ends with it.
    detached: true,
    stdio: ["ignore", "ignore", "pipe", "pipe"],
  });
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}
