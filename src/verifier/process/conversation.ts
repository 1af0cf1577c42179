import type { ChildProcess } from "node:child_process";
import type { Socket } from "node:net";
import type { Result } from "../../base/result.ts";
import { seconds } from "../../base/time.ts";
import { frameOf, frameReader } from "../protocol/framing.ts";
import { type Answer, parseAnswer, type Question } from "../protocol/messages.ts";
import { endOf, type ProcessEnd } from "./process-end.ts";

// What becomes of one child process: it starts, waits for a question, answers one, and ends.

type Answering = (answer: Result<Answer, ProcessEnd>) => void;
type State =
  /** It has not yet said that it is ready, which is taken for an answer. */
  | { readonly is: "Starting"; readonly answer: Answering }
  | { readonly is: "Idle" }
  | { readonly is: "Asking"; readonly answer: Answering }
  /** Why is known, and nothing that it still says counts. It may live for as long as its end takes. */
  | { readonly is: "Ended"; readonly why: ProcessEnd };

export type Conversation = {
  /** What it says first. */
  readonly started: Promise<Result<Answer, ProcessEnd>>;
  /** One question at a time. */
  readonly ask: (question: Question) => Promise<Result<Answer, ProcessEnd>>;
  /** Kills it, and all that it has started; the first reason counts. */
  readonly stop: (why: ProcessEnd) => void;
  /** Resolves once it is gone. */
  readonly gone: Promise<ProcessEnd>;
};

const KEPT_STDERR = 4096;
/** ONNX Runtime itself logs what is fatal alone. */
const MOST_STDERR = 2 ** 20;
/** A million classes fit in. */
const LONGEST_ANSWER = 64 * 2 ** 20;
const CLOSE_DEADLINE = seconds(1);

/** @param killsBefore those of the kernel's out-of-memory killer, counted before the child was started. */
export function converse(child: ChildProcess, killsBefore: number | null): Conversation {
  const channel = child.stdio[3] as Socket;
  const end = Promise.withResolvers<ProcessEnd>();
  const first = Promise.withResolvers<Result<Answer, ProcessEnd>>();
  let state: State = { is: "Starting", answer: first.resolve };

  const stop = (why: ProcessEnd) => {
    if (state.is !== "Ended") state = { is: "Ended", why };
    killAll(child);
  };
  /** Its pipes are closed, too. */
  const shut = (message: string) => {
    stop({ kind: "crashed", message });
    closePipes(child, channel);
  };
  const take = (message: unknown) => {
    if (state.is === "Ended") return;
    const answer = parseAnswer(message);
    if (!answer.ok) return shut(`${INVALID}: ${answer.error}`);
    if (state.is === "Idle") return shut("the child answered what it was not asked");
    const { answer: resolve } = state;
    state = { is: "Idle" };
    resolve(answer);
  };
  const ended = (how: ProcessEnd) => {
    if (state.is !== "Ended") state = { is: "Ended", why: how };
    end.resolve(state.why);
  };

  const stderr = lastOfStderr(child, shut);
  readFrames(channel, take, shut);
  child.on("exit", () => {
    killAll(child);
    // Another process may hold its pipes open.
    const closing = setTimeout(() => closePipes(child, channel), CLOSE_DEADLINE);
    child.once("close", () => clearTimeout(closing));
  });
  child.on("error", (failure: NodeJS.ErrnoException) =>
    ended({ kind: "lost", message: `cannot start a child process: ${failure.code ?? "unknown"}` }),
  );
  child.on("close", (code, killedBy) => ended(endOf({ code, killedBy, stderr: stderr(), killsBefore })));

  const orGone = (answer: Promise<Result<Answer, ProcessEnd>>) =>
    Promise.race([answer, end.promise.then((why) => ({ ok: false, error: why }) as const)]);
  return {
    started: orGone(first.promise),
    ask: (question) => {
      const answer = Promise.withResolvers<Result<Answer, ProcessEnd>>();
      if (state.is !== "Ended") state = { is: "Asking", answer: answer.resolve };
      // A child that is gone is noticed by its end.
      channel.write(frameOf(question));
      return orGone(answer.promise);
    },
    stop,
    gone: end.promise,
  };
}

const INVALID = "the child's answer is not valid";

function readFrames(
  channel: Socket,
  take: (message: unknown) => void,
  shut: (message: string) => void,
): void {
  const read = frameReader(LONGEST_ANSWER, take);
  channel.on("data", (piece: Buffer) => {
    const wrong = read(piece);
    if (wrong !== null) shut(`${INVALID}: ${wrong}`);
  });
  // A broken pipe means that the child has ended, which is reported elsewhere.
  channel.on("error", () => undefined);
}

/** Answers with what it wrote last to its standard error. */
function lastOfStderr({ stderr }: ChildProcess, shut: (message: string) => void): () => string {
  let kept = "";
  let written = 0;
  stderr?.setEncoding("utf8").on("data", (text: string) => {
    kept = (kept + text).slice(-KEPT_STDERR);
    written += text.length;
    if (written > MOST_STDERR) shut(`it wrote more than ${MOST_STDERR / 2 ** 20} MiB to its standard error`);
  });
  return () => kept;
}

function closePipes({ stderr }: ChildProcess, channel: Socket): void {
  channel.destroy();
  stderr?.destroy();
}

/** The whole process group, also what is left of it once its first process has ended. */
function killAll({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // No process is left.
  }
}
