import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { say } from "./shared/command.ts";
import { type Section, tableOf } from "./shared/figures.ts";

const PROGRAMS = [
  "plan",
  "verifier-latency",
  "verifier-memory",
  "verifier-liquid",
  "verify-start",
  "hub-writes",
  "cold-start",
  "steady-state",
  "simulator",
] as const;
const HELP = `make bench (node bench/all.ts)        every benchmark with its default sizes, one after the other: one table

  --only NAME   one of ${PROGRAMS.join(", ")}; may be given several times
  --help        this text

Exit code 1 where one of them failed. bench/README.md says what each measures.`;

const { values } = parseArgs({
  options: {
    only: { type: "string", multiple: true },
    help: { type: "boolean", short: "h", default: false },
  },
});
const only: readonly string[] = values.only ?? PROGRAMS;
const unknown = only.filter((name) => !PROGRAMS.some((known) => known === name));
if (values.help) console.log(HELP);
else if (unknown.length > 0) {
  console.error(`--only: ${unknown.join(", ")} is not one of ${PROGRAMS.join(", ")}`);
  process.exitCode = 2;
} else process.exitCode = await runAll(only);

async function runAll(names: readonly string[]): Promise<number> {
  const directory = mkdtempSync(join(tmpdir(), "edgefleet-bench-"));
  const figures = join(directory, "figures");
  const failed: string[] = [];
  try {
    for (const name of names) {
      say(`── ${name}`);
      const code = await run(name, figures);
      if (code !== 0) failed.push(`${name} failed (${code})`);
    }
    console.log(`\n${tableOf(sectionsIn(figures))}\n`);
    for (const line of failed) console.log(line);
    return failed.length === 0 ? 0 : 1;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** What a program prints is shown as it comes, on standard error: standard output holds the one table. */
async function run(name: string, figures: string): Promise<number | string> {
  const child = spawn(process.execPath, [join(import.meta.dirname, `${name}.ts`)], {
    stdio: ["ignore", 2, 2],
    env: { ...process.env, EDGEFLEET_BENCH_FIGURES: figures },
  });
  return await new Promise((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("exit", (code, signal) => resolve(code ?? signal ?? "unknown"));
  });
}

function sectionsIn(file: string): readonly Section[] {
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, "utf8").trimEnd().split("\n");
  return lines.map((line) => JSON.parse(line) as Section);
}
