import { parseArgs } from "node:util";
import { bytesOf } from "../base/quantity.ts";

export type Settings = {
  readonly socket: string;
  readonly workdir: string;
  readonly memoryBytes: number;
};

export type ParsedSettings =
  | { readonly kind: "settings"; readonly settings: Settings }
  | { readonly kind: "help"; readonly text: string }
  | { readonly kind: "mistakes"; readonly mistakes: readonly string[] };

const LEAST_MEMORY = 128 * 2 ** 20;
/** Of a Unix socket's path, on every system that we run on. */
const LONGEST_SOCKET = 100;

const FLAGS = {
  socket: { default: "/run/edgefleet/verifier.sock", help: "Unix socket to serve on" },
  workdir: {
    default: "/var/lib/edgefleet-verifier",
    help: "directory for downloads; what is left in it of an earlier life is removed",
  },
  "memory-limit": {
    default: "2Gi",
    help: "memory that one model may use, such as 512Mi or 2Gi; at least 128Mi",
  },
} as const;

type Flag = keyof typeof FLAGS;

/** Reports every mistake at once. */
export function parseSettings(args: readonly string[]): ParsedSettings {
  const mistakes: string[] = [];
  const { values, tokens } = parseArgs({
    args: [...args],
    options: {
      socket: { type: "string" },
      workdir: { type: "string" },
      "memory-limit": { type: "string" },
      help: { type: "boolean", short: "h" },
    },
    strict: false,
    tokens: true,
  });
  if (values["help"] === true) return { kind: "help", text: helpText() };
  for (const token of tokens) {
    if (token.kind === "positional") mistakes.push(`"${token.value}" is not understood; see --help`);
    else if (token.kind === "option" && !Object.hasOwn(FLAGS, token.name) && token.name !== "help")
      mistakes.push(`--${token.name}: no such setting, see --help`);
    else if (token.kind === "option" && token.value === undefined && token.name !== "help")
      mistakes.push(`--${token.name}: needs a value`);
  }
  const text = (flag: Flag): string => {
    const value = values[flag];
    return typeof value === "string" ? value : FLAGS[flag].default;
  };
  const socket = text("socket");
  if (!socket.startsWith("/") || socket.length > LONGEST_SOCKET)
    mistakes.push(`--socket: "${socket}" is not an absolute path of at most ${LONGEST_SOCKET} characters`);
  const workdir = text("workdir");
  if (!workdir.startsWith("/")) mistakes.push(`--workdir: "${workdir}" is not an absolute path`);
  const memoryBytes = bytesOf(text("memory-limit"));
  if (memoryBytes === null || memoryBytes < LEAST_MEMORY)
    mistakes.push(
      `--memory-limit: "${text("memory-limit")}" is not a size of at least 128Mi, such as 512Mi or 2Gi`,
    );
  if (mistakes.length > 0 || memoryBytes === null) return { kind: "mistakes", mistakes };
  return { kind: "settings", settings: { socket, workdir, memoryBytes } };
}

function helpText(): string {
  const rows = Object.entries(FLAGS).map(
    ([name, { default: fallback, help }]) => `  --${name.padEnd(14)} ${help} (default ${fallback})`,
  );
  return [
    "edgefleet-verifier: runs ONNX models and says whether they are what their release says",
    "",
    ...rows,
    "",
  ].join("\n");
}
