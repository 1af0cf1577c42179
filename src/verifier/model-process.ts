import { type ChildProcess, spawn } from "node:child_process";
import type { Socket } from "node:net";
import { platform } from "node:os";
import { fileURLToPath } from "node:url";
import { err, ok, type Result } from "../base/result.ts";
import { type Millis, seconds } from "../base/time.ts";
import { frameOf, frameReader } from "./channel.ts";
import { oomKills, preferAsVictim, residentBytes } from "./memory.ts";
import { type Answer, parseAnswer, type Question } from "./model-messages.ts";
import type { Cell } from "./sandbox.ts";

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

const START_DEADLINE = seconds(60);
const WATCH_EVERY = platform() === "linux" ? 50 : 250;
const KEPT_STDERR = 4096;
/** ONNX Runtime itself logs what is fatal alone. */
const MOST_STDERR = 2 ** 20;
/** A million classes fit in. */
const LONGEST_ANSWER = 64 * 2 ** 20;
const CLOSE_DEADLINE = seconds(1);
/**
 * Nothing of ours. Freed memory goes back to the system; ONNX Runtime neither reports to its makers over the network nor
 * leaves the log files of that behind in the temporary directory.
 */
export const CHILD_ENVIRONMENT = { MALLOC_TRIM_THRESHOLD_: "100000", ORT_DISABLE_TELEMETRY: "1" } as const;

const MODULE = fileURLToPath(
  new URL(import.meta.url.endsWith(".ts") ? "./onnx-child.ts" : "./onnx-child.js", import.meta.url),
);

/**
 * Starts a child process for one model and waits until it has loaded ONNX Runtime.
 * @param signal ends the child when it aborts.
 * @param program the module that the child runs.
 */
export async function startModelProcess(
  limits: ProcessLimits,
  cell: Cell,
  signal: AbortSignal,
  program = MODULE,
): Promise<Result<ModelProcess, ProcessEnd>> {
  if (signal.aborted) return err({ kind: "cancelled" });
  const killsBefore = oomKills();
  const child = spawnChild(cell.command(program, limits), cell.cwd);
  const channel = child.stdio[3] as Socket;
  const end = Promise.withResolvers<ProcessEnd>();
  let cause: ProcessEnd | null = null;
  let pending: ((answer: Result<Answer, ProcessEnd>) => void) | null = null;
  let stderr = "";
  let written = 0;

  const stop = (why: ProcessEnd) => {
    cause ??= why;
    killAll(child);
  };
  /** Nothing that it still says is listened to. */
  const shut = (message: string) => {
    stop({ kind: "crashed", message });
    channel.destroy();
    child.stderr?.destroy();
  };
  const nextAnswer = () =>
    new Promise<Result<Answer, ProcessEnd>>((resolve) => {
      pending = resolve;
    });

  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    stderr = (stderr + text).slice(-KEPT_STDERR);
    written += text.length;
    if (written > MOST_STDERR) shut(`it wrote more than ${mebibytes(MOST_STDERR)} to its standard error`);
  });
  const read = frameReader(LONGEST_ANSWER, (message) => {
    if (cause !== null) return;
    const answer = parseAnswer(message);
    if (!answer.ok) return shut(`the child's answer is not valid: ${answer.error}`);
    if (pending === null) return shut("the child answered what it was not asked");
    pending(answer);
    pending = null;
  });
  channel.on("data", (piece: Buffer) => {
    const wrong = read(piece);
    if (wrong !== null) shut(`the child's answer is not valid: ${wrong}`);
  });
  // A pipe that breaks is told by the end of the child.
  channel.on("error", () => undefined);
  child.on("exit", () => {
    killAll(child);
    // Somebody else may hold its pipes open.
    const closing = setTimeout(() => {
      channel.destroy();
      child.stderr?.destroy();
    }, CLOSE_DEADLINE);
    child.once("close", () => clearTimeout(closing));
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
      channel.write(frameOf(question));
      return Promise.race([answer, gone.then((why) => err(why))]);
    },
    end: async () => {
      stop({ kind: "cancelled" });
      await gone;
    },
  });
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

/** Of the whole group; whoever is left of it when the first process has ended, too. */
function killAll({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // Nobody is left.
  }
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
