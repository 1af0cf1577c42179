import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Program, runProgram } from "./stack/program.ts";

// `make run`: the verifier and the operator against the current kubeconfig; arguments go to the operator.

const HELP = `make run (npx node tools/run.ts): the operator and its verifier against the current kubeconfig, until Ctrl-C

Needs the CRDs in the cluster (kubectl apply -f crds/), and a hub and a blob store: EDGEFLEET_HUB_CONNECTION_STRING or
--hub-host, EDGEFLEET_STORAGE_CONNECTION_STRING or --storage-url. There is no leader election: run it once.

  --help  this text
  Other flags go to the operator; npx node src/operator.ts --help lists them.
`;

const ROOT = join(import.meta.dirname, "..");

async function main(): Promise<void> {
  if (process.argv.slice(2).some((arg) => arg === "--help" || arg === "-h"))
    return void process.stdout.write(HELP);
  const directory = await mkdtemp(join(tmpdir(), "edgefleet-run-"));
  const socket = join(directory, "verifier.sock");
  const args = process.argv.slice(2);
  const programs: Program[] = [];
  const env = Object.fromEntries(
    Object.entries(process.env).flatMap(([name, value]) =>
      value !== undefined && (name === "KUBECONFIG" || /^(EDGEFLEET|AZURE)_/.test(name))
        ? [[name, value]]
        : [],
    ),
  );
  const start = (name: string, file: string, programArgs: readonly string[]) => {
    const program = runProgram({
      name,
      args: [join(ROOT, file), ...programArgs],
      env: { ...env, EDGEFLEET_VERIFIER_SOCKET: socket },
      logFile: "/dev/stderr",
    });
    programs.push(program);
    return program;
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const)
    process.once(signal, () => {
      for (const program of programs) program.kill("SIGTERM");
    });
  start("verifier", "src/verifier.ts", ["--socket", socket, "--workdir", join(directory, "work")]);
  start("operator", "src/operator.ts", ["--leader-election", "false", ...args]);
  const first = await Promise.race(programs.map((program) => program.ended));
  await Promise.all(programs.map((program) => program.stop()));
  await rm(directory, { recursive: true, force: true });
  process.exitCode = first === 0 ? 0 : 1;
}

await main();
