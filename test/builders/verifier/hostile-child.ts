import { spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, readdirSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { connect, Socket } from "node:net";
import { Worker } from "node:worker_threads";
import { frameOf, frameReader } from "../../../src/verifier/protocol/framing.ts";

// A program in place of the one that runs a model: what an attacker could try who has taken it over. It is asked as that
// one is; `path` of the question "load" is a deed and its object, and the answer says what came of it.

const MOST_FORKS = 200;

type Deed = (object: string) => unknown;

const channel = new Socket({ fd: 3 });
const say = (value: unknown) => void channel.write(frameOf(value));
const report = (message: string) => say({ kind: "broken", message });

const DEEDS: Readonly<Record<string, Deed>> = {
  read: (path) => `read ${readFileSync(path, "latin1").length >= 0}`,
  list: (path) => readdirSync(path).join(),
  show: (path) => readFileSync(path, "utf8"),
  create: (path) => writeFileSync(path, ""),
  write: (path) => writeFileSync(path, "x"),
  append: (path) => appendFileSync(path, "x"),
  environment: () => Object.keys(process.env).sort().join(),
  user: () => String(process.getuid?.()),
  cwd: () => process.cwd(),
  connect: async (port) => reached(new Socket().connect(Number(port), "127.0.0.1")),
  socket: async (path) => reached(connect(path)),
  signal: (pid) => process.kill(Number(pid), 0),
  spawn: async (command) => (await spawned(command)).pid,
  worker: async () => once(new Worker("", { eval: true }), "exit"),
  /** Until no more can be had, or there is clearly no limit. */
  forks: async (seconds) => {
    for (let count = 0; count < MOST_FORKS; count += 1) {
      try {
        await spawned(`sleep ${seconds}`);
      } catch (thrown) {
        return `${codeOf(thrown)} after ${count}`;
      }
    }
    return `no end after ${MOST_FORKS}`;
  },
  /** A process in a session of its own that holds the pipes. */
  leave: async (seconds) => {
    await spawned(`sleep ${seconds}`, { detached: true, pipes: true });
    process.exit(0);
  },
  exit: (code) => process.exit(Number(code)),
  abort: () => process.abort(),
  die: async (signal) => {
    process.kill(process.pid, signal as NodeJS.Signals);
    await never();
  },
  ignore: async () => {
    process.on("SIGTERM", () => undefined);
    process.kill(process.pid, "SIGTERM");
    await never();
  },
  spin: () => {
    for (;;);
  },
  errors: () => {
    for (;;) writeSync(2, "x".repeat(65_536));
  },
  /** Answers without end, all of them valid. */
  flood: async () => {
    for (;;) {
      if (!channel.write(frameOf({ kind: "remembered" }))) await once(channel, "drain");
    }
  },
  bytes: async (hexadecimal) => {
    channel.write(Buffer.from(hexadecimal, "hex"));
    await never();
  },
  kind: async (name) => {
    say(Object.hasOwn(ANSWERS, name) ? ANSWERS[name]?.() : { kind: name });
    await never();
  },
};

const ANSWERS: Readonly<Record<string, () => unknown>> = {
  text: () => "ready",
  sparse: () => ({
    kind: "loaded",
    signature: { inputs: new Array(4_294_967_295), outputs: [] },
    file: { irVersion: 1 },
  }),
  cyclic: () => {
    const inputs: unknown[] = [];
    inputs.push(inputs);
    return { kind: "loaded", signature: { inputs, outputs: inputs }, file: inputs };
  },
  getters: () => new Map([["kind", "remembered"]]),
  prototype: () => ({ kind: "__proto__" }),
  text16k: () => ({ kind: "broken", message: "x".repeat(16_385) }),
};

async function spawned(
  command: string,
  more: { readonly detached?: boolean; readonly pipes?: boolean } = {},
) {
  const child = spawn("/bin/sh", ["-c", `exec ${command}`], {
    detached: more.detached === true,
    stdio: more.pipes === true ? ["ignore", "ignore", "inherit", 3] : "ignore",
  });
  await once(child, "spawn");
  return child;
}

async function reached(socket: Socket): Promise<string> {
  await once(socket, "connect");
  socket.destroy();
  return "connected";
}

function never(): Promise<never> {
  return new Promise(() => setInterval(() => undefined, 1000));
}

function codeOf(thrown: unknown): string {
  return thrown instanceof Error && "code" in thrown ? String(thrown.code) : String(thrown);
}

const read = frameReader(Number.MAX_SAFE_INTEGER, (question) => {
  const [deed = "", object = ""] = (question as { readonly path: string }).path.split(/ (.*)/s);
  Promise.resolve()
    .then(() => DEEDS[deed]?.(object))
    .then(
      (came) => report(String(came)),
      (thrown: unknown) => report(codeOf(thrown)),
    );
});
channel.on("data", read).on("error", () => process.exit(0));
say({ kind: "ready", runtimeVersion: "none" });
