import { row, suggestion } from "../src/base/flags.ts";
import { own } from "../src/base/lookup.ts";
import { EXIT } from "./exit-status.ts";
import type { Terminal } from "./terminal.ts";

// The program for users and CI: a command, its flags, and a meaningful exit status.

type Command = (args: readonly string[], terminal: Terminal, signal: AbortSignal) => Promise<number>;

const COMMANDS: Readonly<Record<string, { readonly help: string; readonly load: () => Promise<Command> }>> = {
  verify: {
    help: "run the checks of a release on this machine",
    load: async () => (await import("./verify/command.ts")).verifyCommand,
  },
  release: {
    help: "write the manifest of a release: edgefleet release new",
    load: async () => (await import("./release/command.ts")).releaseCommand,
  },
};

const SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const;

function helpText(): string {
  return [
    "usage: edgefleet COMMAND [flags]",
    "",
    "Verifies ONNX models as the operator does, before they reach a cluster, and writes manifests of releases.",
    "",
    ...Object.entries(COMMANDS).map(([name, { help }]) => row(name, help)),
    "",
    row("COMMAND --help", "flags and examples of a command"),
    row("--version", "print the version and exit"),
    row("-h, --help", "print this and exit"),
    "",
    "exit status: 0 done, 1 the model failed, 2 a flag or an input file is wrong, 3 a problem of this machine",
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
    return name === undefined ? EXIT.usage : 0;
  }
  const command = own(COMMANDS, name);
  if (command !== undefined) return (await command.load())(rest, terminal, signal);
  terminal.err(`${name} is not a command${suggestion(name, Object.keys(COMMANDS))}\nsee edgefleet --help\n`);
  return EXIT.usage;
}

const stopped = new AbortController();
let status: number | null = null;
// Once: a second signal ends the process at once.
for (const [name, code] of Object.entries(SIGNALS))
  process.once(name, () => {
    status = code;
    stopped.abort();
  });
for (const stream of [process.stdout, process.stderr])
  stream.on("error", (problem: NodeJS.ErrnoException) => {
    // The reader closed the pipe: it has read enough.
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
  process.exitCode = status ?? EXIT.environment;
}
