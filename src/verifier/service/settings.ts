import { join } from "node:path";
import { parseAddress } from "../../base/address.ts";
import { type Flags, HELP, readFlags } from "../../base/flags.ts";
import { bytesOf } from "../../base/quantity.ts";

export type Settings = {
  readonly socket: string;
  readonly workdir: string;
  readonly memoryBytes: number;
  readonly cacheDir: string;
  /** 0: nothing is kept. */
  readonly cacheBytes: number;
  /** Where probes and metrics are served over TCP; `null`: nowhere. */
  readonly probes: { readonly host: string; readonly port: number } | null;
};

export type ParsedSettings =
  | { readonly kind: "settings"; readonly settings: Settings }
  | { readonly kind: "help"; readonly text: string }
  | { readonly kind: "mistakes"; readonly mistakes: readonly string[] };

const LEAST_MEMORY = 128 * 2 ** 20;
/** In the workdir. */
const CACHE = "blobs";
/** Of a Unix socket's path, on every system that we run on. */
const LONGEST_SOCKET = 100;

const FLAGS = {
  socket: { default: "/run/edgefleet/verifier.sock", help: "Unix socket to serve on" },
  workdir: {
    default: "/var/lib/edgefleet-verifier",
    help: "directory for downloads and verdicts; unfinished work from a previous run is removed",
  },
  "memory-limit": {
    default: "2Gi",
    help: "memory that one model may use, such as 512Mi or 2Gi; at least 128Mi",
  },
  "cache-size": {
    default: "4Gi",
    help: "disk for files that were downloaded before, such as 512Mi or 8Gi; 0 keeps none",
  },
  "cache-dir": { default: "", help: "directory for them; left out: blobs in the workdir" },
  "probe-address": {
    default: "",
    help: "host:port to serve /healthz, /readyz and /metrics on, such as :8081 (all addresses); left out: the socket only",
  },
} as const;

type Flag = keyof typeof FLAGS;

const KNOWN: Flags = {
  ...Object.fromEntries(Object.entries(FLAGS).map(([name, { help }]) => [name, { value: "VALUE", help }])),
  help: HELP,
};

/** Reports every mistake at once. */
export function parseSettings(args: readonly string[]): ParsedSettings {
  const { values, positionals, problems } = readFlags(args, KNOWN, "server");
  if (values.has("help")) return { kind: "help", text: helpText() };
  const mistakes = [...problems, ...positionals.map((arg) => `"${arg}" is not understood; see --help`)];
  const text = (flag: Flag): string => values.get(flag)?.at(-1) ?? FLAGS[flag].default;
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
  const cacheBytes = text("cache-size") === "0" ? 0 : bytesOf(text("cache-size"));
  if (cacheBytes === null)
    mistakes.push(`--cache-size: "${text("cache-size")}" is not a size, such as 512Mi or 8Gi, or 0`);
  const cacheDir = text("cache-dir") === "" ? join(workdir, CACHE) : text("cache-dir");
  if (text("cache-dir") !== "" && !cacheDir.startsWith("/"))
    mistakes.push(`--cache-dir: "${cacheDir}" is not an absolute path`);
  if (cacheDir === workdir)
    mistakes.push(`--cache-dir: "${cacheDir}" is the workdir; give it one of its own`);
  const address = text("probe-address");
  const probes = address === "" ? null : parseAddress(address);
  if (probes?.ok === false) mistakes.push(`--probe-address: ${probes.error}`);
  if (mistakes.length > 0 || memoryBytes === null || cacheBytes === null)
    return { kind: "mistakes", mistakes };
  return {
    kind: "settings",
    settings: {
      ...{ socket, workdir, memoryBytes, cacheDir, cacheBytes },
      probes: probes?.ok === true ? probes.value : null,
    },
  };
}

function helpText(): string {
  const rows = Object.entries(FLAGS).map(
    ([name, { default: fallback, help }]) =>
      `  --${name.padEnd(14)} ${help}${fallback === "" ? "" : ` (default ${fallback})`}`,
  );
  return [
    "edgefleet-verifier: runs ONNX models and says whether they are what their release says",
    "",
    ...rows,
    "",
  ].join("\n");
}
