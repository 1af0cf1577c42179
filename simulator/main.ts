import { readFileSync, writeFileSync } from "node:fs";
import { findPackageJSON } from "node:module";
import { parse } from "yaml";
import type { JsonValue } from "./base/json.ts";
import { type Command, helpText, parseCommandLine } from "./command-line.ts";
import { parseBehaviours } from "./devices/behaviour.ts";
import { parseFault } from "./hub/faults/fault-rules.ts";
import { parseAuthorities } from "./mqtt/device-certificates.ts";
import { parseScenario, type Scenario } from "./scenario/parse-scenario.ts";
import { createSimulator, DEFAULT_OPTIONS, type Endpoint, type SimulatorSetup } from "./simulator.ts";

// The simulator as a program: flags in, one line of JSON out when it is ready, then it serves until it is stopped.

const SIGNALS = { SIGINT: 2, SIGTERM: 15 } as const;

function addProblem(problems: readonly string[]): never {
  for (const problem of problems) console.error(problem);
  console.error("see --help");
  process.exit(2);
}

function messageOf(problem: unknown): string {
  return problem instanceof Error ? problem.message : String(problem);
}

function readBehaviours({ behavioursFile: file, options, inline }: Command, problems: string[]): JsonValue {
  try {
    const written = file === null ? inline.behaviours : (parse(readFileSync(file, "utf8")) as JsonValue);
    const parsed = parseBehaviours(written ?? [], options.seed ?? DEFAULT_OPTIONS.seed);
    if (parsed.ok) return written ?? [];
    problems.push(...parsed.problems.map((problem) => (file === null ? problem : `${file}: ${problem}`)));
  } catch (problem) {
    problems.push(`--behaviours ${file}: ${messageOf(problem)}`);
  }
  return [];
}

function readScenario({ scenarioFile: file, options, inline }: Command, problems: string[]): Scenario | null {
  if (file === null && inline.scenario === null) return null;
  try {
    const text = file === null ? JSON.stringify(inline.scenario) : readFileSync(file, "utf8");
    const parsed = parseScenario(text, options.seed ?? DEFAULT_OPTIONS.seed);
    if (parsed.ok) return parsed.scenario;
    problems.push(...parsed.problems.map((problem) => `${file ?? "scenario"}: ${problem}`));
  } catch (problem) {
    problems.push(`--scenario ${file}: ${messageOf(problem)}`);
  }
  return null;
}

function readAuthorities({ deviceCaFiles }: Command, problems: string[]): readonly string[] {
  const before = problems.length;
  const texts = deviceCaFiles.flatMap((file) => {
    try {
      const text = readFileSync(file, "utf8");
      const parsed = parseAuthorities([text], Date.now());
      if (parsed.ok) return [text];
      problems.push(...parsed.problems.map((problem) => `--device-ca ${file}: ${problem}`));
    } catch (problem) {
      problems.push(`--device-ca ${file}: ${messageOf(problem)}`);
    }
    return [];
  });
  if (problems.length > before) return [];
  const together = parseAuthorities(texts, Date.now());
  if (!together.ok) problems.push(...together.problems.map((problem) => `--device-ca: ${problem}`));
  return texts;
}

function checkFaults(faults: readonly JsonValue[], problems: string[]): void {
  for (const [index, fault] of faults.entries()) {
    const parsed = parseFault(fault, { now: Date.now(), id: () => "" });
    if (!parsed.ok) problems.push(...parsed.problems.map((problem) => `faults[${index}]: ${problem}`));
  }
}

/** What a hub of its own makes of the first devices and configurations: mistakes are reported before anything is served. */
function checkFirst(setup: SimulatorSetup, problems: string[]): void {
  try {
    createSimulator({ ...setup, state: null, autoStart: false, clock: "virtual" });
  } catch (problem) {
    problems.push(messageOf(problem));
  }
}

async function run(command: Command): Promise<void> {
  const problems: string[] = [];
  const { devices, configurations, faults } = command.inline;
  const faultList = Array.isArray(faults) ? (faults as readonly JsonValue[]) : [faults];
  const scenario = readScenario(command, problems);
  const setup: SimulatorSetup = {
    ...command.options,
    deviceAuthorities: readAuthorities(command, problems),
    behaviours: readBehaviours(command, problems),
    hubSeed: { devices, configurations },
  };
  checkFaults(faultList, problems);
  if (problems.length === 0) checkFirst(setup, problems);
  if (problems.length > 0) addProblem(problems);
  const simulator = createSimulator({
    ...setup,
    clock: command.virtualClock ? "virtual" : "real",
    state: command.stateFile,
    onStateProblem: (problem) =>
      console.error(problem === null ? "the state can be written again" : `the state ${problem}`),
  });
  for (const [index, fault] of faultList.entries()) {
    const parsed = parseFault(fault, { now: simulator.clock.now(), id: () => `config-${index + 1}` });
    if (parsed.ok) simulator.hub.faults.put(parsed.rule);
  }
  let stopping = false;
  for (const [signal, number] of Object.entries(SIGNALS))
    process.on(signal, () => {
      // Who asks twice does not want to wait.
      if (stopping) process.exit(128 + number);
      stopping = true;
      void simulator.stop().then(() => process.exit(0));
    });
  const { ca, ...endpoint } = await simulator.start();
  const { caFile } = command;
  if (caFile !== null) writeFileSync(caFile, ca);
  console.log(JSON.stringify({ ...endpoint, ...(caFile === null ? { ca } : { caFile }) }));
  if (scenario !== null) simulator.scenarios.start(scenario);
  if (process.stderr.isTTY) console.error(greeting(endpoint, command));
}

/** The readable form; the key stays in the line for programs. */
function greeting(endpoint: Omit<Endpoint, "ca">, { options, caFile, stateFile }: Command): string {
  const address = options.address ?? DEFAULT_OPTIONS.address;
  return [
    "",
    `${endpoint.hostName} is ready; Ctrl-C ends it`,
    `  service API        https://${address}:${endpoint.port}`,
    `  MQTT over TLS      ${address}:${endpoint.mqttPort}`,
    `  authority          ${caFile ?? "ca in the line of JSON"}`,
    `  connection string  connectionString in the line of JSON (policy iothubowner)`,
    `  state              ${stateFile ?? "in memory (--state FILE keeps it)"}`,
    "",
  ].join("\n");
}

/** What a person can do about it. */
function explainStart(problem: unknown): string {
  const {
    code = "",
    address,
    port,
    path,
  } = problem as NodeJS.ErrnoException & {
    readonly address?: string;
    readonly port?: number;
  };
  if (code === "EADDRINUSE")
    return `port ${port} of ${address} is in use: give another one; 0 is any free one`;
  if (code === "EACCES" && port !== undefined)
    return `port ${port} is for the administrator: give one above 1023`;
  if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND") return `--address is none of this machine (${code})`;
  if (path !== undefined) return `--ca-out ${path} cannot be written (${code})`;
  return messageOf(problem);
}

function version(): string {
  const manifest = findPackageJSON(import.meta.url);
  if (manifest === undefined) return "unknown";
  return String((JSON.parse(readFileSync(manifest, "utf8")) as { readonly version?: string }).version);
}

const parsed = parseCommandLine(process.argv.slice(2), (path) => readFileSync(path, "utf8"));
switch (parsed.kind) {
  case "help":
    console.log(helpText());
    break;
  case "version":
    console.log(`edgefleet-simulator ${version()}`);
    break;
  case "printConfig":
    process.stdout.write(parsed.text);
    break;
  case "run":
    try {
      await run(parsed.command);
    } catch (problem) {
      console.error(explainStart(problem));
      process.exit(1);
    }
    break;
  case "wrong":
    addProblem(parsed.problems);
}
