// `make test`: the static checks, then every vitest project; the last line sums the tests of all projects.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { browserInstallation } from "./stack/browser.ts";
import { addCounts, type Counts, countsOf, countsText } from "./test-counts.ts";

const PROJECTS = ["unit", "integration", "models", "conformance", "sdk", "envtest", "chart", "e2e"] as const;
const CHECKS = [
  { name: "types", command: ["tsc", "-p", "."] },
  { name: "lint", command: ["biome", "ci", "--colors=off", "."] },
  { name: "generated files", command: ["node", "tools/generate.ts", "--check"] },
  { name: "unused code", command: ["knip"] },
] as const;
const ROOT = join(import.meta.dirname, "..");

const { values } = parseArgs({
  options: {
    project: { type: "string", multiple: true, default: [...PROJECTS] },
    help: { type: "boolean", short: "h", default: false },
  },
});

if (values.help) {
  console.log(
    `usage: node tools/test.ts [--project ${PROJECTS.join("|")}]…\n\nStatic checks and tests; the last line is "N passed, N failed[, N skipped]". Exit code 1 where a check or a test failed, or a project ran no test.`,
  );
} else {
  const problems: string[] = [];
  for (const { name, command } of CHECKS)
    if ((await run(name, command)) !== 0) problems.push(`check failed: ${name}`);
  // The tests that need a browser say what to do where this did not help.
  for (const command of browserInstallation()) await run("browser", command);
  let total: Counts = { passed: 0, failed: 0, skipped: 0 };
  for (const project of values.project) {
    const { counts, problem } = await runProject(project);
    total = addCounts(total, counts);
    if (problem !== null) problems.push(problem);
  }
  console.log("");
  for (const problem of problems) console.log(problem);
  console.log(countsText(total));
  // Not left to the event loop: a handle that a test has left open must not keep the answer back.
  process.exit(problems.length === 0 && total.failed === 0 ? 0 : 1);
}

async function runProject(
  project: string,
): Promise<{ readonly counts: Counts; readonly problem: string | null }> {
  const directory = mkdtempSync(join(tmpdir(), "edgefleet-tests-"));
  const file = join(directory, "report.json");
  try {
    const command = [
      "vitest",
      "run",
      "--project",
      project,
      "--reporter=default",
      "--reporter=json",
      `--outputFile.json=${file}`,
    ];
    const code = await run(project, command);
    const counts = countsOf(readIfThere(file));
    const ran = counts.passed + counts.failed;
    if (ran === 0) return { counts: { ...counts, failed: 1 }, problem: `project ${project} ran no test` };
    return { counts, problem: code === 0 ? null : `project ${project} failed` };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function run(title: string, [command, ...args]: readonly string[]): Promise<number> {
  console.log(`\n── ${title}`);
  const child = spawn(command ?? "", args, {
    cwd: ROOT,
    stdio: ["ignore", "inherit", "inherit"],
    // Also where this was not started by `npm run`.
    env: { ...process.env, PATH: `${join(ROOT, "node_modules/.bin")}:${process.env["PATH"] ?? ""}` },
  });
  return await new Promise((resolve) => {
    child.once("error", (error) => {
      console.error(`${title}: ${error.message}`);
      resolve(1);
    });
    child.once("exit", (code) => resolve(code ?? 1));
  });
}

function readIfThere(path: string): string | null {
  return existsSync(path) ? readFileSync(path, "utf8") : null;
}
