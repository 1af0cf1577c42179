import { readFileSync, writeFileSync } from "node:fs";
import { parse } from "yaml";
import type { JsonValue } from "./base/json.ts";
import { type Command, helpText, parseCommandLine } from "./command-line.ts";
import { parseBehaviours } from "./devices/behaviour.ts";
import { parseAuthorities } from "./mqtt/device-certificates.ts";
import { parseScenario, type Scenario } from "./scenario/parse-scenario.ts";
import { createSimulator, DEFAULT_OPTIONS } from "./simulator.ts";

// The simulator as a program: flags in, one line of JSON out when it is ready, then it serves until it is told to stop.

function complain(problems: readonly string[]): never {
  for (const problem of problems) console.error(problem);
  console.error("see --help");
  process.exit(2);
}

function readBehaviours({ behavioursFile, options }: Command): JsonValue {
  if (behavioursFile === null) return [];
  try {
    const written = (parse(readFileSync(behavioursFile, "utf8")) ?? []) as JsonValue;
    const parsed = parseBehaviours(written, options.seed ?? 0);
    return parsed.ok ? written : complain(parsed.problems.map((problem) => `${behavioursFile}: ${problem}`));
  } catch (problem) {
    return complain([
      `--behaviours ${behavioursFile}: ${problem instanceof Error ? problem.message : String(problem)}`,
    ]);
  }
}

function readScenario({ scenarioFile, options }: Command): Scenario | null {
  if (scenarioFile === null) return null;
  try {
    const parsed = parseScenario(readFileSync(scenarioFile, "utf8"), options.seed ?? DEFAULT_OPTIONS.seed);
    return parsed.ok
      ? parsed.scenario
      : complain(parsed.problems.map((problem) => `${scenarioFile}: ${problem}`));
  } catch (problem) {
    return complain([
      `--scenario ${scenarioFile}: ${problem instanceof Error ? problem.message : String(problem)}`,
    ]);
  }
}

function readAuthorities({ deviceCaFiles }: Command): readonly string[] {
  const problems: string[] = [];
  const texts = deviceCaFiles.flatMap((file) => {
    try {
      const text = readFileSync(file, "utf8");
      const parsed = parseAuthorities([text], Date.now());
      if (parsed.ok) return [text];
      problems.push(...parsed.problems.map((problem) => `--device-ca ${file}: ${problem}`));
    } catch (problem) {
      problems.push(`--device-ca ${file}: ${problem instanceof Error ? problem.message : String(problem)}`);
    }
    return [];
  });
  if (problems.length > 0) complain(problems);
  const together = parseAuthorities(texts, Date.now());
  return together.ok ? texts : complain(together.problems.map((problem) => `--device-ca: ${problem}`));
}

async function run(command: Command): Promise<void> {
  const behaviours = readBehaviours(command);
  const scenario = readScenario(command);
  const deviceAuthorities = readAuthorities(command);
  const clock = command.virtualClock ? "virtual" : "real";
  const simulator = createSimulator({
    ...command.options,
    deviceAuthorities,
    behaviours,
    clock,
    state: command.stateFile,
    onStateTrouble: (problem) =>
      console.error(problem === null ? "the state can be written again" : `the state ${problem}`),
  });
  const { ca, ...endpoint } = await simulator.start();
  const { caFile } = command;
  if (caFile !== null) writeFileSync(caFile, ca);
  console.log(JSON.stringify({ ...endpoint, ...(caFile === null ? { ca } : { caFile }) }));
  if (scenario !== null) simulator.scenarios.start(scenario);
  let stopping = false;
  for (const signal of ["SIGTERM", "SIGINT"] as const)
    process.on(signal, () => {
      if (stopping) process.exit(1);
      stopping = true;
      void simulator.stop().then(() => process.exit(0));
    });
}

const parsed = parseCommandLine(process.argv.slice(2));
if (parsed.kind === "wrong") complain(parsed.problems);
if (parsed.kind === "help") console.log(helpText());
else
  try {
    await run(parsed.command);
  } catch (problem) {
    console.error(problem instanceof Error ? problem.message : problem);
    process.exit(1);
  }
