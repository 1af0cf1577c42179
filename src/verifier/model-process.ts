import { type ChildProcess, fork } from "node:child_process";
import { existsSync } from "node:fs";
import { platform } from "node:os";
import { fileURLToPath } from "node:url";
import { err, ok, type Result } from "../base/result.ts";
import { type Millis, seconds } from "../base/time.ts";
import { oomKills, preferAsVictim, residentBytes } from "./memory.ts";
import { type Answer, parseAnswer, type Question } from "./model-messages.ts";

// The parent's side of the child process in which a model runs: what it may use, and how it ends.

/** Why a child is gone. The first three are facts about the model; `lost` is one about us. */
export type ProcessEnd =
  | { readonly kind: "timedOut" }
  | { readonly kind: "outOfMemory"; readonly message: string }
  | { readonly kind: "crashed"; readonly message: string }
  | { readonly kind: "lost"; readonly message: string }
  | { readonly kind: "cancelled" };

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

/** Data that Node and ONNX Runtime reserve before there is a model: measured at 575 MiB on Linux, with 2 threads. */
const OWN_DATA = 768 * 2 ** 20;
const DATA_PER_THREAD = 16 * 2 ** 20;
/** A child that outlives the sidecar ends itself: processor seconds beyond those of the deadline. */
const SPARE_CPU_SECONDS = 60;
const START_DEADLINE = seconds(60);
const WATCH_EVERY = platform() === "linux" ? 50 : 250;
const KEPT_STDERR = 4096;
const SHELL = "/bin/sh";
// Limits are set by a shell because Node has no setrlimit; `exec` makes the shell become the child. Sizes in KiB, none
// of it is text from outside. No core file: a crashed model would leave one as large as itself.
const LIMIT_AND_RUN = [
  "ulimit -c 0",
  'ulimit -d "$0" 2>/dev/null',
  // First SIGXCPU, which names itself, then SIGKILL.
  'ulimit -S -t "$1" 2>/dev/null',
  'ulimit -H -t "$(($1 + 5))" 2>/dev/null',
  "shift",
  'exec "$@"',
].join("; ");

/**
 * Nothing of ours. Freed memory goes back to the system; ONNX Runtime neither reports to its makers over the network nor
 * leaves the log files of that behind in the temporary directory.
 */
export const CHILD_ENVIRONMENT = { MALLOC_TRIM_THRESHOLD_: "100000", ORT_DISABLE_TELEMETRY: "1" } as const;

const MODULE = fileURLToPath(
  new URL(import.meta.url.endsWith(".ts") ? "./onnx-child.ts" : "./onnx-child.js", import.meta.url),
);

/** Whether the kernel refuses allocations beyond the limit; elsewhere only the watch over resident memory holds it. */
export function hasDataLimit(): boolean {
  return platform() === "linux" && existsSync(SHELL);
}

/**
 * Starts a child process for one model and waits until it has loaded ONNX Runtime.
 * @param signal ends the child when it aborts.
 */
export async function startModelProcess(
  limits: ProcessLimits,
  signal: AbortSignal,
): Promise<Result<ModelProcess, ProcessEnd>> {
  if (signal.aborted) return err({ kind: "cancelled" });
  const killsBefore = oomKills();
  const child = forkChild(limits);
  const end = Promise.withResolvers<ProcessEnd>();
  let cause: ProcessEnd | null = null;
  let pending: ((answer: Result<Answer, ProcessEnd>) => void) | null = null;
  let stderr = "";

  const stop = (why: ProcessEnd) => {
    cause ??= why;
    child.kill("SIGKILL");
  };
  const nextAnswer = () =>
    new Promise<Result<Answer, ProcessEnd>>((resolve) => {
      pending = resolve;
    });

  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    stderr = (stderr + text).slice(-KEPT_STDERR);
  });
  child.on("message", (message) => {
    const answer = parseAnswer(message);
    if (!answer.ok)
      return stop({ kind: "crashed", message: `the child's answer is not valid: ${answer.error}` });
    pending?.(ok(answer.value));
    pending = null;
  });
  child.on("error", (failure: NodeJS.ErrnoException) => {
    end.resolve(
      cause ?? { kind: "lost", message: `cannot start a child process: ${failure.code ?? "unknown"}` },
    );
  });
  child.on("close", (code, killedBy) => {
    end.resolve(cause ?? endOf({ code, killedBy, stderr, killsBefore }));
  });
  const watch = setInterval(() => {
    if (child.pid === undefined) return;
    residentBytes(child.pid).then(
      (bytes) => {
        if (bytes !== null && bytes > limits.memoryBytes)
          stop({
            kind: "outOfMemory",
            message: `it used ${mebibytes(bytes)} of ${mebibytes(limits.memoryBytes)}`,
          });
      },
      () => undefined,
    );
  }, WATCH_EVERY);
  const cancel = () => stop({ kind: "cancelled" });
  signal.addEventListener("abort", cancel);
  let deadline = setTimeout(
    () => stop({ kind: "lost", message: "the child process did not start" }),
    START_DEADLINE,
  );
  const gone = end.promise.then((why) => {
    clearInterval(watch);
    clearTimeout(deadline);
    signal.removeEventListener("abort", cancel);
    pending?.(err(why));
    return why;
  });

  const ready = await Promise.race([nextAnswer(), gone.then((why) => err(why))]);
  clearTimeout(deadline);
  const { pid } = child;
  if (!ready.ok || ready.value.kind !== "ready" || pid === undefined) {
    stop({ kind: "lost", message: "the child process did not say that it is ready" });
    // Whatever ended it before it had seen the model is about us.
    const why = await gone;
    return err(why.kind === "cancelled" ? why : { kind: "lost", message: lostText(why) });
  }
  preferAsVictim(pid);
  deadline = setTimeout(() => stop({ kind: "timedOut" }), limits.deadline);
  return ok({
    pid,
    runtimeVersion: ready.value.runtimeVersion,
    ask: async (question) => {
      const answer = nextAnswer();
      // A child that is gone is noticed by `gone`.
      child.send(question, () => undefined);
      return Promise.race([answer, gone.then((why) => err(why))]);
    },
    end: async () => {
      stop({ kind: "cancelled" });
      await gone;
    },
  });
}

function forkChild(limits: ProcessLimits): ChildProcess {
  const runtime = [process.execPath, "--disable-warning=ExperimentalWarning"];
  const dataKibibytes = Math.ceil((limits.memoryBytes + OWN_DATA + limits.threads * DATA_PER_THREAD) / 1024);
  const cpuSeconds = Math.ceil((limits.deadline / 1000) * Math.max(2, limits.threads)) + SPARE_CPU_SECONDS;
  const command = hasDataLimit()
    ? [SHELL, "-c", LIMIT_AND_RUN, String(dataKibibytes), String(cpuSeconds), ...runtime]
    : runtime;
  const [execPath = process.execPath, ...execArgv] = command;
  return fork(MODULE, [], {
    execPath,
    execArgv,
    env: CHILD_ENVIRONMENT,
    serialization: "advanced",
    // Its own process group: a Ctrl-C for the sidecar is not one for the model.
    detached: true,
    stdio: ["ignore", "ignore", "pipe", "ipc"],
  });
}

function endOf(exit: {
  readonly code: number | null;
  readonly killedBy: NodeJS.Signals | null;
  readonly stderr: string;
  readonly killsBefore: number | null;
}): ProcessEnd {
  const { code, killedBy, stderr, killsBefore } = exit;
  if (/bad_alloc|out of memory/i.test(stderr))
    return { kind: "outOfMemory", message: `the allocator gave up (${killedBy ?? `exit ${code}`})` };
  switch (killedBy) {
    case "SIGXCPU":
      return { kind: "timedOut" };
    case "SIGKILL":
      return (oomKills() ?? 0) > (killsBefore ?? 0)
        ? { kind: "outOfMemory", message: "the kernel's out-of-memory killer ended it" }
        : { kind: "lost", message: "the child process was killed from outside (SIGKILL)" };
    case "SIGTERM":
    case "SIGINT":
    case "SIGHUP":
      return { kind: "lost", message: `the child process was stopped from outside (${killedBy})` };
    case null:
      return { kind: "crashed", message: `its process exited with code ${code}` };
    default:
      return { kind: "crashed", message: `its process was ended by ${killedBy}` };
  }
}

function lostText(why: ProcessEnd): string {
  return "message" in why
    ? `the child process did not start: ${why.message}`
    : "the child process did not start";
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}
