import { row, suggestion } from "../src/base/flags.ts";
import { own } from "../src/base/lookup.ts";
import type { Terminal } from "./terminal.ts";

// The program for people and for CI: a command, its flags, and an exit status that means something.

type Command = (args: readonly string[], terminal: Terminal, signal: AbortSignal) => Promise<number>;

const COMMANDS: Readonly<Record<string, { readonly help: string; readonly load: () => Promise<Command> }>> = {
  verify: {
    help: "make the checks of a release on this machine",
    load: async () => (await import("./verify/command.ts")).verifyCommand,
  },
  release: {
    help: "write the manifest of a release: edgefleet release new",
    load: async () => (await import("./release/command.ts")).releaseCommand,
  },
};

const SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const;
const USAGE = 2;
const BUG = 3;

function helpText(): string {
  return [
    "usage: edgefleet COMMAND [flags]",
    "",
    "ONNX models before they meet a cluster: verified as the operator verifies them, and described as it wants them.",
    "",
    ...Object.entries(COMMANDS).map(([name, { help }]) => row(name, help)),
    "",
    row("COMMAND --help", "flags and examples of a command"),
    row("--version", "print the version and end"),
    row("-h, --help", "print this and end"),
    "",
    "exit status: 0 done, 1 the model failed, 2 a flag or a file that was given is wrong, 3 this machine is at fault",
    "",
  ].join("\n");
}

async function run(args: readonly string[], terminal: Terminal, signal: AbortSignal): Promise<number> {
  const [name, ...rest] = args;
  if (name === "--version") {
    const { productVersion } = await import("../src/verifier/service/installed-version.ts");
    terminal.out(`edgefleet ${await productVersion()}\n`);
    return 0;
  }
  if (name === undefined || name === "--help" || name === "-h" || name === "help") {
    const write = name === undefined ? terminal.err : terminal.out;
    write(helpText());
    return name === undefined ? USAGE : 0;
  }
  const command = own(COMMANDS, name);
  if (command !== undefined) return (await command.load())(rest, terminal, signal);
  terminal.err(`${name} is no command${suggestion(name, Object.keys(COMMANDS))}\nsee edgefleet --help\n`);
  return USAGE;
}

const stopped = new AbortController();
let status: number | null = null;
// Once: what is asked twice is meant.
for (const [name, code] of Object.entries(SIGNALS))
  process.once(name, () => {
    status = code;
    stopped.abort();
  });
for (const stream of [process.stdout, process.stderr])
  stream.on("error", (problem: NodeJS.ErrnoException) => {
    // Whoever read it has read enough.
    if (problem.code !== "EPIPE") throw problem;
  });
const here: Terminal = {
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
  colours: process.stdout.isTTY && (process.env["NO_COLOR"] ?? "") === "" && process.env["TERM"] !== "dumb",
  rewrites: process.stderr.isTTY && process.env["TERM"] !== "dumb",
};
try {
  const ended = await run(process.argv.slice(2), here, stopped.signal);
  process.exitCode = status ?? ended;
} catch (thrown) {
  here.err(
    `edgefleet has a bug: ${thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown)}\n`,
  );
  process.exitCode = status ?? BUG;
}
